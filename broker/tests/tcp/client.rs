//! A minimal client: frames out, frames in, and batches to send.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::messages::{
    CreatableTopic, CreateTopicsRequest, FetchRequest, FetchResponse, ListOffsetsRequest,
    PartitionData, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    TopicProduceData,
};
use forebay_kafka::messages::{fetch_request, list_offsets_request};
use forebay_kafka::{Request, decode_response, encode_request};
use forebay_records::{BatchBuilder, Compression, RecordRef, records, split_batches};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Guards against a test that hangs; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub stream: TcpStream,
    next_correlation: i32,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            next_correlation: 0,
        }
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (correlation, response) = self.receive::<R>(version).await;
        assert_eq!(correlation, sent);
        response
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.next_correlation += 1;
        let frame = encode_request(request, version, self.next_correlation, Some("test")).unwrap();
        self.stream.write_all(&frame).await.unwrap();
        self.next_correlation
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.frame().await.expect("the broker answers");
        decode_response::<R>(frame, version).unwrap()
    }

    /// The next response frame, or `None` when the broker closed.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let read = async {
            let len = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; len as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        timeout(PATIENCE, read)
            .await
            .expect("the broker answers or closes")
    }

    pub async fn create_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..CreateTopicsRequest::default()
        };
        let response = self.call(7, &request).await;
        assert_eq!(
            response.topics[0].error_code, 0,
            "{:?}",
            response.topics[0].error_message
        );
    }

    pub async fn produce(&mut self, topic: &str, batch: Bytes) -> PartitionProduceResponse {
        let response = self.call(9, &produce_request(topic, -1, batch)).await;
        response.responses[0].partition_responses[0].clone()
    }

    pub async fn fetch(&mut self, topic: &str, offset: i64) -> PartitionData {
        let response = self.call(12, &fetch_request(topic, offset)).await;
        only_partition(response)
    }

    pub async fn list_offset(&mut self, topic: &str, timestamp: i64) -> (i64, i64) {
        let partition = list_offsets_request::ListOffsetsPartition {
            timestamp,
            ..list_offsets_request::ListOffsetsPartition::default()
        };
        let topic = list_offsets_request::ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![partition],
            ..list_offsets_request::ListOffsetsTopic::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..ListOffsetsRequest::default()
        };
        let response = self.call(7, &request).await;
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.error_code, 0);
        (found.offset, found.timestamp)
    }
}

pub fn only_partition(response: FetchResponse) -> PartitionData {
    assert_eq!(response.error_code, 0);
    response.responses[0].partitions[0].clone()
}

pub fn produce_request(topic: &str, acks: i16, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData {
        index: 0,
        records: Some(batch),
        ..PartitionProduceData::default()
    };
    let topic = TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    }
}

pub fn fetch_request(topic: &str, offset: i64) -> FetchRequest {
    let partition = fetch_request::FetchPartition {
        fetch_offset: offset,
        partition_max_bytes: 1024 * 1024,
        ..fetch_request::FetchPartition::default()
    };
    let topic = fetch_request::FetchTopic {
        topic: topic.into(),
        partitions: vec![partition],
        ..fetch_request::FetchTopic::default()
    };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

pub fn batch(values: &[&str]) -> Bytes {
    batch_with(values, Compression::None, None)
}

/// A batch; `producer` is id, epoch and first sequence.
pub fn batch_with(
    values: &[&str],
    compression: Compression,
    producer: Option<(i64, i16, i32)>,
) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (n, value) in values.iter().enumerate() {
        builder.push(&RecordRef {
            timestamp: 1_700_000_000_000 + n as i64,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    if let Some((id, epoch, sequence)) = producer {
        builder.producer(id, epoch, sequence);
    }
    builder.finish(compression).unwrap()
}

/// Offsets and values of fetched batches.
pub fn values(fetched: &PartitionData) -> Vec<(i64, String)> {
    assert_eq!(fetched.error_code, 0);
    let mut found = Vec::new();
    for batch in split_batches(&fetched.records.clone().unwrap_or_default()) {
        for record in records(&batch.unwrap(), 1 << 20).unwrap() {
            let record = record.unwrap();
            found.push((
                record.offset,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
            ));
        }
    }
    found
}
