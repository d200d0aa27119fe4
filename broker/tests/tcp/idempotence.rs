use forebay_kafka::error_code;
use forebay_kafka::messages::InitProducerIdRequest;
use forebay_records::Compression;

use crate::client::{Client, batch, batch_with};
use crate::hub::Hub;

async fn producer_id(client: &mut Client) -> i64 {
    let response = client.call(4, &InitProducerIdRequest::default()).await;
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    response.producer_id
}

async fn send(
    client: &mut Client,
    id: i64,
    epoch: i16,
    sequence: i32,
    values: &[&str],
) -> (i16, i64) {
    let sent = batch_with(values, Compression::None, Some((id, epoch, sequence)));
    let response = client.produce("t", sent).await;
    (response.error_code, response.base_offset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_get_their_first_offset_even_after_restarts() {
    let mut hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let id = producer_id(&mut client).await;
    for n in 0..6 {
        assert_eq!(
            send(&mut client, id, 0, 2 * n, &["a", "b"]).await,
            (0, i64::from(2 * n))
        );
    }
    for _ in 0..3 {
        let mut client = hub.client().await;
        for n in 1..6 {
            assert_eq!(
                send(&mut client, id, 0, 2 * n, &["a", "b"]).await,
                (0, i64::from(2 * n))
            );
        }
        let outside = send(&mut client, id, 0, 0, &["a", "b"]).await;
        assert_eq!(outside, (error_code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
        assert_eq!(client.list_offset("t", -1).await.0, 12);
        hub = hub.restart().await;
    }
    let mut client = hub.client().await;
    assert_eq!(send(&mut client, id, 0, 12, &["c"]).await, (0, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_and_stale_epochs_are_refused() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let id = producer_id(&mut client).await;
    assert_eq!(send(&mut client, id, 0, 0, &["a"]).await, (0, 0));
    assert_eq!(
        send(&mut client, id, 0, 2, &["c"]).await,
        (error_code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    );
    assert_eq!(send(&mut client, id, 1, 0, &["b"]).await, (0, 1));
    assert_eq!(
        send(&mut client, id, 0, 1, &["b"]).await,
        (error_code::INVALID_PRODUCER_EPOCH, -1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_are_never_given_twice() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    let first = producer_id(&mut client).await;
    assert_eq!(producer_id(&mut client).await, first + 1);
    let hub = hub.restart().await;
    assert!(producer_id(&mut hub.client().await).await > first + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_refused() {
    let hub = Hub::start().await;
    let mut client = hub.client().await;
    client.create_topic("t", 1).await;
    let request = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        ..InitProducerIdRequest::default()
    };
    assert_eq!(
        client.call(4, &request).await.error_code,
        error_code::INVALID_REQUEST
    );
    let mut produce = crate::client::produce_request("t", -1, batch(&["x"]));
    produce.transactional_id = Some("tx".into());
    let response = client.call(9, &produce).await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        error_code::INVALID_REQUEST
    );
}
