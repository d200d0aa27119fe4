//! Will messages: delay, take-over, and a server that dies (sections 3.1.2.5
//! and 3.1.3.2.2).

use forebay_mqtt::packet::{Connect, Disconnect};
use forebay_mqtt::{Packet, Qos, ReasonCode, Version};

use super::client::{Client, pair, persistent_connect, text, will};
use super::server::Server;

/// Long enough that no test waits for it.
const NEVER: u32 = 3000;

fn with_will(mut connect: Connect, delay: u32) -> Connect {
    let mut message = will("state/c", "gone");
    message.properties.will_delay_interval = Some(delay);
    connect.will = Some(message);
    connect
}

async fn open(server: &Server, connect: Connect) -> (Client, bool) {
    let mut client = Client::open(server.address, Version::V5).await;
    let ack = client.connect(connect).await;
    (client, ack.session_present)
}

async fn watcher(server: &Server) -> Client {
    let (mut watcher, present) = Client::persistent(server.address, Version::V5, "w").await;
    if !present {
        watcher.subscribe("#", Qos::AtLeastOnce).await;
    }
    watcher
}

fn persistent() -> Connect {
    persistent_connect(Version::V5, "c")
}

/// \[MQTT-3.1.2-8\]: the will of a client that was connected when the server
/// died is published after the restart, and once.
#[tokio::test]
async fn a_will_survives_a_crash_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let watching = watcher(&server).await;
    for version in [Version::V5, Version::V311] {
        let mut client = Client::open(server.address, version).await;
        let mut connect = Connect::new(version, text(&format!("c{version:?}")));
        connect.will = Some(will(&format!("state/{version:?}"), "gone"));
        client.connect(connect).await;
        std::mem::forget(client);
    }
    drop(watching);
    server.crash().await;

    let server = Server::start(dir.path()).await;
    let mut watching = watcher(&server).await;
    let mut got = [watching.take().await, watching.take().await];
    got.sort();
    assert_eq!(got, [pair("state/V311", "gone"), pair("state/V5", "gone")]);
    watching.ping().await;
    server.stop().await;

    let server = Server::start(dir.path()).await;
    let mut watching = watcher(&server).await;
    let mut sender = Client::clean(server.address, Version::V5, "s").await;
    sender.publish("state/next", "1").await;
    assert_eq!(watching.take().await, pair("state/next", "1"));
    server.stop().await;
}

/// \[MQTT-3.1.3-9\]: a session that is resumed within the delay has no will any
/// more, also when the server died in between. \[MQTT-3.14.4-3\]: nor has one
/// that disconnected.
#[tokio::test]
async fn a_resumed_session_has_no_will() {
    for crashes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start(dir.path()).await;
        let mut watching = watcher(&server).await;
        let (client, _) = open(&server, with_will(persistent(), 1)).await;
        if crashes {
            drop(watching);
            server.crash().await;
            server = Server::start(dir.path()).await;
            watching = watcher(&server).await;
        }
        drop(client);
        let (mut again, present) = open(&server, with_will(persistent(), NEVER)).await;
        assert!(present);
        // Both seconds pass: the delay of the first connection, and a tick.
        let (mut other, _) = open(
            &server,
            with_will(persistent_connect(Version::V5, "other"), 2),
        )
        .await;
        let goodbye = Disconnect::new(ReasonCode::DisconnectWithWill);
        other.send(Packet::Disconnect(goodbye)).await;
        assert_eq!(watching.take().await, pair("state/c", "gone"));
        again.publish("state/alive", "1").await;
        assert_eq!(watching.take().await, pair("state/alive", "1"));
        again.disconnect().await;
        server.stop().await;
    }
}

/// Section 3.1.3.2.2: a delay that began before a restart goes on after it.
#[tokio::test]
async fn a_delayed_will_is_published_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let watching = watcher(&server).await;
    let (client, _) = open(&server, with_will(persistent(), 1)).await;
    drop(client);
    watching.disconnect().await;
    server.stop().await;
    let server = Server::start(dir.path()).await;
    let mut watching = watcher(&server).await;
    assert_eq!(watching.take().await, pair("state/c", "gone"));
    assert_eq!(server.storage.get(b"m/w/c"), None);
    server.stop().await;
}

/// Section 3.1.2.5: the will is published when its session ends before the
/// delay has passed, here by a clean start.
#[tokio::test]
async fn a_clean_start_publishes_the_will_that_waited() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut watching = watcher(&server).await;
    let (client, _) = open(&server, with_will(persistent(), NEVER)).await;
    drop(client);
    let mut clean = Client::clean(server.address, Version::V5, "c").await;
    clean.publish("state/next", "1").await;
    assert_eq!(watching.take().await, pair("state/c", "gone"));
    assert_eq!(watching.take().await, pair("state/next", "1"));
    server.stop().await;
}

/// \[MQTT-3.1.4-3\]: a connection that is taken over is told so; its will is
/// published unless the session goes on within its delay.
#[tokio::test]
async fn a_taken_over_connection_leaves_its_will_unless_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut watching = watcher(&server).await;
    for (delay, is_published) in [(0, true), (NEVER, false)] {
        let (mut first, _) = open(&server, with_will(persistent(), delay)).await;
        let (mut second, present) = open(&server, persistent()).await;
        assert!(present);
        let Packet::Disconnect(goodbye) = first.receive().await else {
            panic!("expected DISCONNECT");
        };
        assert_eq!(goodbye.reason, ReasonCode::SessionTakenOver);
        if is_published {
            assert_eq!(watching.take().await, pair("state/c", "gone"));
        }
        second.publish("state/next", "1").await;
        assert_eq!(watching.take().await, pair("state/next", "1"));
        second.disconnect().await;
    }
    server.stop().await;
}
