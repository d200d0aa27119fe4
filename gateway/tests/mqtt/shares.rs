//! Shared subscriptions (section 4.8.2).

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use forebay_mqtt::packet::{Connect, Disconnect, Publish, Unsubscribe};
use forebay_mqtt::{Packet, Qos, ReasonCode, TopicFilter, Version};

use super::client::{Client, id, options, pair, publish, retained, success, text, words};
use super::server::Server;

const GROUP: &str = "$share/crew/job/#";

async fn member(server: &Server, name: &str, qos: Qos) -> Client {
    let mut client = Client::clean(server.address, Version::V5, name).await;
    client.subscribe(GROUP, qos).await;
    client
}

async fn persistent_member(server: &Server, name: &str, qos: Qos) -> Client {
    let (mut client, present) = Client::persistent(server.address, Version::V5, name).await;
    if !present {
        client.subscribe(GROUP, qos).await;
    }
    client
}

async fn acknowledge(client: &mut Client, message: &Publish) {
    let id = message.packet_id.unwrap();
    client.send(Packet::PubAck(success(id))).await;
}

/// Each message goes to one member, about as many to each of two that are
/// alike, and an ordinary subscriber gets all of them.
#[tokio::test]
async fn a_group_shares_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut members = [
        member(&server, "a", Qos::AtLeastOnce).await,
        member(&server, "b", Qos::AtLeastOnce).await,
    ];
    let mut all = Client::clean(server.address, Version::V5, "all").await;
    all.subscribe("job/#", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for number in 0..20 {
        sender.publish("job/x", &number.to_string()).await;
        assert_eq!(all.take().await, pair("job/x", &number.to_string()));
    }
    let mut got = [BTreeSet::new(), BTreeSet::new()];
    while got.iter().map(BTreeSet::len).sum::<usize>() < 20 {
        for (client, got) in members.iter_mut().zip(&mut got) {
            client.send(Packet::PingReq).await;
            client.acknowledged(Packet::PingResp).await;
            got.extend(client.arrived().iter().map(|message| words(message).1));
        }
    }
    assert!(got[0].is_disjoint(&got[1]), "{got:?}");
    assert!(got.iter().all(|got| got.len() >= 7), "{got:?}");
    server.stop().await;
}

/// A member whose receive maximum is used up is passed over.
#[tokio::test]
async fn a_member_without_room_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut slow = Client::open(server.address, Version::V5).await;
    let mut connect = Connect::new(Version::V5, text("slow"));
    connect.properties.receive_maximum = NonZeroU16::new(1);
    slow.connect(connect).await;
    slow.subscribe(GROUP, Qos::AtLeastOnce).await;
    let mut fast = member(&server, "fast", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    let mut got = BTreeSet::new();
    for number in 0..10 {
        sender.publish("job/x", &number.to_string()).await;
    }
    let held = slow.message().await;
    for _ in 0..9 {
        got.insert(fast.take().await.1);
    }
    assert!(!got.contains(&words(&held).1));
    assert_eq!(got.len(), 9);
    server.stop().await;
}

/// Section 4.8.2: QoS 1 messages that a member has not acknowledged go to
/// another one when its connection ends.
#[tokio::test]
async fn what_a_leaving_member_did_not_acknowledge_goes_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut leaving = persistent_member(&server, "leaving", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for payload in ["0", "1", "2"] {
        sender.publish("job/x", payload).await;
    }
    let first = leaving.message().await;
    acknowledge(&mut leaving, &first).await;
    leaving.message().await;
    leaving.message().await;
    leaving.ping().await;
    let mut staying = member(&server, "staying", Qos::AtLeastOnce).await;
    drop(leaving);
    for payload in ["1", "2"] {
        let message = staying.message().await;
        assert_eq!(
            (message.dup, words(&message)),
            (false, pair("job/x", payload))
        );
        acknowledge(&mut staying, &message).await;
    }
    // Nor does the one that left get them again.
    let (mut back, present) = Client::persistent(server.address, Version::V5, "leaving").await;
    assert!(present);
    back.ping().await;
    server.stop().await;
}

/// \[MQTT-4.8.2-4\]: a QoS 2 delivery that was begun is completed with the
/// client that it was begun with, also after a crash, and \[MQTT-4.8.2-5\]:
/// given to no other one.
#[tokio::test]
async fn a_qos_2_message_stays_with_its_member_across_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut first = persistent_member(&server, "first", Qos::ExactlyOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender
        .send(publish("job/x", "1", Qos::ExactlyOnce, 1))
        .await;
    assert_eq!(sender.receive().await, Packet::PubRec(success(id(1))));
    let begun = first.message().await;
    let mut second = persistent_member(&server, "second", Qos::ExactlyOnce).await;
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let (mut again, _) = Client::persistent(server.address, Version::V5, "second").await;
    std::mem::swap(&mut second, &mut again);
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("job/x", "2").await;
    assert_eq!(second.take().await, pair("job/x", "2"));
    second.ping().await;
    let (mut first, present) = Client::persistent(server.address, Version::V5, "first").await;
    assert!(present);
    let repeated = first.message().await;
    assert!(repeated.dup);
    assert_eq!(
        (repeated.packet_id, words(&repeated)),
        (begun.packet_id, pair("job/x", "1"))
    );
    first.ping().await;
    server.stop().await;
}

/// A group with a persistent member goes on where it was, without any
/// connected member and across restarts. QoS 0 is not kept.
#[tokio::test]
async fn a_group_survives_while_a_persistent_member_exists() {
    for crashes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path()).await;
        let client = persistent_member(&server, "p", Qos::AtLeastOnce).await;
        client.disconnect().await;
        let mut sender = Client::clean(server.address, Version::V5, "s").await;
        sender.publish("job/x", "1").await;
        sender
            .send(publish("job/x", "lost", Qos::AtMostOnce, 0))
            .await;
        sender.publish("job/y", "2").await;
        if crashes {
            server.crash().await;
        } else {
            server.stop().await;
        }
        let server = Server::start(dir.path()).await;
        let mut sender = Client::clean(server.address, Version::V5, "s").await;
        sender.publish("job/x", "3").await;
        // Any member gets what waits for the group.
        let mut other = member(&server, "other", Qos::AtLeastOnce).await;
        for expected in [pair("job/x", "1"), pair("job/y", "2"), pair("job/x", "3")] {
            assert_eq!(other.take().await, expected);
        }
        other.disconnect().await;
        let (mut client, present) = Client::persistent(server.address, Version::V5, "p").await;
        assert!(present);
        sender.publish("job/x", "4").await;
        assert_eq!(client.take().await, pair("job/x", "4"));
        server.stop().await;
    }
}

/// What members did not acknowledge when the server stopped is delivered
/// after the restart.
#[tokio::test]
async fn unacknowledged_messages_of_a_group_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = persistent_member(&server, "p", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    for payload in ["1", "2"] {
        sender.publish("job/x", payload).await;
    }
    let message = client.message().await;
    client.message().await;
    acknowledge(&mut client, &message).await;
    client.ping().await;
    server.stop().await;
    let server = Server::start(dir.path()).await;
    let (mut client, _) = Client::persistent(server.address, Version::V5, "p").await;
    assert_eq!(client.take().await, pair("job/x", "2"));
    client.ping().await;
    server.stop().await;
}

/// A group without members ends: who subscribes later gets what is published
/// later. Retained messages are not sent to shared subscriptions.
#[tokio::test]
async fn a_group_ends_with_its_last_member() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.send(retained("job/kept", "r", 2)).await;
    sender.receive().await;
    let mut client = persistent_member(&server, "p", Qos::AtLeastOnce).await;
    let packet = Unsubscribe {
        packet_id: id(9),
        properties: Default::default(),
        filters: vec![TopicFilter::try_from(GROUP).unwrap()],
    };
    client.send(Packet::Unsubscribe(packet)).await;
    let Packet::UnsubAck(ack) = client.receive().await else {
        panic!("expected UNSUBACK");
    };
    assert_eq!(ack.reasons, [ReasonCode::Success]);
    sender.publish("job/x", "nobody").await;
    client.ping().await;
    // The session that ends takes its membership along.
    client.subscribe(GROUP, Qos::AtLeastOnce).await;
    client.disconnect().await;
    Client::clean(server.address, Version::V5, "p")
        .await
        .disconnect()
        .await;
    sender.publish("job/x", "nobody").await;
    let mut later = member(&server, "later", Qos::AtLeastOnce).await;
    sender.publish("job/x", "1").await;
    assert_eq!(later.take().await, pair("job/x", "1"));
    assert_eq!(server.storage.get(format!("m/g/{GROUP}").as_bytes()), None);
    server.stop().await;
}

/// \[MQTT-4.8.2-6\]: a message that a member refuses is discarded.
#[tokio::test]
async fn a_refused_message_goes_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut a = member(&server, "a", Qos::AtLeastOnce).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("job/x", "refused").await;
    let message = a.message().await;
    let mut ack = success(message.packet_id.unwrap());
    ack.reason = ReasonCode::NotAuthorized;
    a.send(Packet::PubAck(ack)).await;
    a.ping().await;
    let mut b = member(&server, "b", Qos::AtLeastOnce).await;
    a.send(Packet::Disconnect(Disconnect::new(ReasonCode::Success)))
        .await;
    assert_eq!(a.receive_or_end().await, None);
    sender.publish("job/x", "next").await;
    assert_eq!(b.take().await, pair("job/x", "next"));
    server.stop().await;
}

/// \[MQTT-3.8.3-4\]
#[tokio::test]
async fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    let mut wrong = options(Qos::AtMostOnce);
    wrong.no_local = true;
    client.send_subscribe(GROUP, wrong).await;
    let Packet::Disconnect(goodbye) = client.receive().await else {
        panic!("expected DISCONNECT");
    };
    assert_eq!(goodbye.reason, ReasonCode::ProtocolError);
    server.stop().await;
}
