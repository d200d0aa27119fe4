//! What the server itself does about Sparkplug topics.

use forebay_gateway::mqtt::MqttConfig;
use forebay_mqtt::packet::{Connect, Will};
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use super::client::{Client, publish, text, will};
use super::server::Server;

#[tokio::test]
async fn clients_cannot_publish_to_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let path = "$sparkplug/certificates/spBv1.0/G/NBIRTH/E";
    let mut client = Client::clean(server.address, Version::V5, "c").await;
    client.send(publish(path, "x", Qos::AtLeastOnce, 1)).await;
    let Packet::PubAck(refused) = client.receive().await else {
        panic!("expected PUBACK");
    };
    assert_eq!(refused.reason, ReasonCode::NotAuthorized);
    server.stop().await;
}

/// tck-id-conformance-mqtt-aware-ndeath-timestamp.
#[tokio::test]
async fn a_death_gets_the_time_of_its_delivery_where_it_is_asked_for() {
    for stamps in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = MqttConfig {
            ndeath_timestamp: stamps,
            ..MqttConfig::default()
        };
        let server = Server::with(dir.path(), true, config).await;
        let mut host = Client::clean(server.address, Version::V5, "host").await;
        host.subscribe("spBv1.0/#", Qos::AtLeastOnce).await;
        // Payload { timestamp: 1, seq: 5 }
        let written = [0x08, 0x01, 0x18, 0x05];
        let mut connect = Connect::new(Version::V5, text("edge"));
        connect.clean_start = true;
        connect.will = Some(Will {
            payload: written.to_vec().into(),
            ..will("spBv1.0/G/NDEATH/E", "")
        });
        let mut edge = Client::open(server.address, Version::V5).await;
        edge.connect(connect).await;
        drop(edge);
        let death = host.message().await;
        assert_eq!(death.payload == written[..], !stamps);
        assert!(death.payload.ends_with(&[0x18, 0x05]));
        server.stop().await;
    }
}
