//! The host over a real log: what is published on Sparkplug topics goes in as
//! the MQTT server puts it, readings come out.

use std::path::Path;
use std::time::Instant;

use forebay_records::records;
use forebay_sparkplug::{DataType, Metric, RawValue};
use forebay_storage::disk::RealDisk;
use forebay_storage::{Preallocation, Storage};
use tokio::task::JoinHandle;

use super::*;
use crate::commands::Commands;
use crate::config::Config;
use crate::devices::Health;
use crate::ingest::routes::{RouteSpec, Routes};
use crate::queries::board::Board;
use crate::readings::Publisher;

struct Site {
    storage: Storage,
    publisher: Publisher,
    health: Health,
    config: watch::Sender<Arc<config::Sparkplug>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// Path and JSON of a reading, without its timestamp.
type Seen = (String, String);

impl Site {
    async fn start(directory: &Path, section: &str) -> Self {
        let mut settings = forebay_storage::Config::new(directory);
        settings.preallocation = Preallocation::None;
        settings.retention.keep_free = 0;
        settings.ballast_bytes = 0;
        let opening =
            tokio::task::spawn_blocking(move || Storage::open(settings, Arc::new(RealDisk::new())));
        let (storage, _) = opening.await.unwrap().unwrap();
        let config = parse(section);
        let specs: Vec<RouteSpec> = config
            .routes
            .iter()
            .map(|route| RouteSpec {
                filter: route.filter.clone(),
                topic: route.topic.clone(),
                key: route.key.clone(),
                partitions: route.partitions,
                durability: route.durability,
            })
            .collect();
        let routes = Arc::new(Routes::new(&specs).unwrap());
        let opened = storage.clone();
        let publisher = tokio::task::spawn_blocking(move || Publisher::open(opened, routes));
        let publisher = publisher.await.unwrap();
        let (config, watched) = watch::channel(Arc::new(config.sparkplug.unwrap()));
        let (stop, stopped) = watch::channel(false);
        let context = DeviceContext {
            publisher: publisher.clone(),
            commands: Commands::default(),
            queries: Board::open(&publisher),
            health: Health::new("sparkplug", "sparkplug"),
            data_dir: Arc::from(directory),
            config_dir: Arc::from(directory),
        };
        Self {
            storage,
            publisher,
            health: context.health.clone(),
            config,
            stop,
            serving: tokio::spawn(run(watched, context, stopped)),
        }
    }

    async fn publish(&self, topic: &str, payload: &Payload<'_>) {
        self.publish_bytes(topic, payload.encode().into(), false)
            .await;
    }

    async fn publish_bytes(&self, topic: &str, payload: Bytes, retain: bool) {
        let message = Message {
            path: topic_name(topic).unwrap(),
            payload,
            qos: 0,
            retain,
            timestamp_ms: now_ms(),
            properties: None,
        };
        let ticket = self.publisher.publish_message(&message).await.unwrap();
        self.publisher.durable(ticket).await;
    }

    /// All messages of a log topic.
    fn log(&self, topic: &str) -> Vec<Message> {
        let Some(topic) = self.storage.topic(topic) else {
            return Vec::new();
        };
        let partition = topic.partition(0).unwrap();
        let (mut from, end) = {
            let offsets = partition.offsets();
            (offsets.log_start, offsets.high_watermark)
        };
        let mut found = Vec::new();
        while from < end {
            let chunk = partition.read(from, 1 << 20, true).unwrap();
            for batch in &chunk.batches {
                for record in records(batch, 1 << 20).unwrap().map(Result::unwrap) {
                    from = u64::try_from(record.offset).unwrap() + 1;
                    found.extend(Message::from_record(&record));
                }
            }
        }
        found
    }

    fn readings(&self) -> Vec<Seen> {
        let seen = |message: Message| {
            let mut json: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let at = json["timestamp"].take();
            assert_eq!(at.as_i64(), Some(message.timestamp_ms));
            json.as_object_mut().unwrap().remove("timestamp");
            (message.path.as_str().to_owned(), json.to_string())
        };
        self.log("readings").into_iter().map(seen).collect()
    }

    /// Waits until the log says what is asked for.
    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is_so(self) {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{what}: {:?}",
                self.readings()
            );
            tokio::task::yield_now().await;
        }
    }

    async fn until_count(&self, count: usize) -> Vec<Seen> {
        self.until("readings", |site| site.readings().len() >= count)
            .await;
        let readings = self.readings();
        assert_eq!(readings.len(), count, "{readings:?}");
        readings
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
        let (storage, publisher) = (self.storage, self.publisher);
        tokio::task::spawn_blocking(move || {
            storage.close();
            drop(publisher);
        })
        .await
        .unwrap();
    }
}

fn parse(section: &str) -> Config {
    let text = format!(
        "[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n[sparkplug]\nenabled = true\n{section}"
    );
    Config::parse(Path::new("f.toml"), &text).unwrap()
}

fn metric<'a>(name: &'a str, alias: u64, value: f64) -> Metric<'a> {
    Metric {
        name: Some(name),
        alias: Some(alias),
        datatype: Some(DataType::Double as u32),
        value: Some(RawValue::Double(value)),
        ..Metric::default()
    }
}

fn birth(bd_seq: u64) -> Payload<'static> {
    let bd_seq = Metric {
        name: Some("bdSeq"),
        datatype: Some(DataType::Int64 as u32),
        value: Some(RawValue::Long(bd_seq)),
        ..Metric::default()
    };
    Payload {
        timestamp: Some(1_000),
        seq: Some(0),
        metrics: vec![bd_seq, metric("line/temp", 1, 20.5)],
        ..Payload::default()
    }
}

fn data(seq: u64, alias: u64, value: f64) -> Payload<'static> {
    Payload {
        timestamp: Some(2_000 + seq),
        seq: Some(seq),
        metrics: vec![Metric {
            name: None,
            datatype: None,
            ..metric("", alias, value)
        }],
        ..Payload::default()
    }
}

fn death(bd_seq: u64) -> Payload<'static> {
    Payload {
        seq: None,
        metrics: birth(bd_seq).metrics[..1].to_vec(),
        ..Payload::default()
    }
}

fn good(path: &str, value: &str) -> Seen {
    (
        format!("sparkplug/G/E/{path}"),
        format!(r#"{{"quality":"good","value":{value}}}"#),
    )
}

fn stale(path: &str) -> Seen {
    (
        format!("sparkplug/G/E/{path}"),
        r#"{"quality":"bad","status":"stale","value":null}"#.to_owned(),
    )
}

#[tokio::test]
async fn metrics_become_readings_and_a_death_makes_them_bad() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "").await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
    let device = Payload {
        seq: Some(1),
        metrics: vec![metric("rpm", 1, 900.0)],
        ..Payload::default()
    };
    site.publish("spBv1.0/G/DBIRTH/E/D", &device).await;
    site.publish("spBv1.0/G/NDATA/E", &data(2, 1, 21.0)).await;
    site.publish("spBv1.0/G/DDATA/E/D", &data(3, 1, 901.0))
        .await;
    site.publish("spBv1.0/G/NDEATH/E", &death(0)).await;
    let seen = site.until_count(6).await;
    assert_eq!(
        seen,
        [
            good("line/temp", "20.5"),
            good("D/rpm", "900.0"),
            good("line/temp", "21.0"),
            good("D/rpm", "901.0"),
            stale("line/temp"),
            stale("D/rpm"),
        ]
    );
    assert_eq!(site.log("readings")[2].timestamp_ms, 2_002);
    assert_eq!(site.health.snapshot().readings, 6);
    site.stop().await;
}

#[tokio::test]
async fn births_are_retained_as_certificates_and_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "").await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
    let device = Payload {
        seq: Some(1),
        ..Payload::default()
    };
    site.publish("spBv1.0/G/DBIRTH/E/D", &device).await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(1)).await;
    site.until_count(2).await;
    site.stop().await;
    let site = Site::start(directory.path(), "").await;
    for (topic, payload) in [
        ("spBv1.0/G/NBIRTH/E", birth(1)),
        ("spBv1.0/G/DBIRTH/E/D", device),
    ] {
        let path = topic_name(&format!("$sparkplug/certificates/{topic}")).unwrap();
        let kept = site.publisher.retained().read(&path).unwrap();
        assert!(kept.retain);
        assert_eq!(kept.payload, payload.encode());
        assert!(
            site.log("sparkplug")
                .iter()
                .any(|m| m.path == path && m.retain)
        );
    }
    site.stop().await;
}

#[tokio::test]
async fn readings_come_once_and_aliases_hold_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "").await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
    site.until_count(1).await;
    let mut expected = vec![good("line/temp", "20.5")];
    let mut site = site;
    for seq in 1..5u64 {
        // The host is gone when this comes, or stops while it is there.
        site.stop.send_replace(true);
        site.publish("spBv1.0/G/NDATA/E", &data(seq, 1, seq as f64))
            .await;
        site.stop().await;
        site = Site::start(directory.path(), "").await;
        expected.push(good("line/temp", &format!("{seq}.0")));
        assert_eq!(site.until_count(1 + seq as usize).await, expected);
    }
    site.stop().await;
}

#[tokio::test]
async fn a_held_message_waits_over_a_restart_and_comes_once() {
    let directory = tempfile::tempdir().unwrap();
    let section = "reorder_timeout = \"1m\"";
    let site = Site::start(directory.path(), section).await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
    site.publish("spBv1.0/G/NDATA/E", &data(2, 1, 2.0)).await;
    // What is behind it is read when this is there.
    let other = Payload {
        metrics: vec![metric("x", 1, 0.0)],
        ..birth(0)
    };
    site.publish("spBv1.0/H/NBIRTH/E", &other).await;
    site.until_count(2).await;
    site.stop().await;
    let site = Site::start(directory.path(), section).await;
    site.publish("spBv1.0/G/NDATA/E", &data(1, 1, 1.0)).await;
    let seen = site.until_count(4).await;
    assert_eq!(
        seen[2..],
        [good("line/temp", "1.0"), good("line/temp", "2.0")]
    );
    site.stop().await;
}

#[tokio::test]
async fn a_gap_asks_for_a_rebirth_only_where_it_is_allowed() {
    for asks in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let section = format!("rebirth = {asks}\nreorder_timeout = \"0s\"");
        let site = Site::start(directory.path(), &section).await;
        site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
        site.publish("spBv1.0/G/NDATA/E", &data(5, 1, 5.0)).await;
        site.until_count(2).await;
        let requests = |site: &Site| {
            let log = site.log("sparkplug").into_iter();
            log.filter(|m| m.path.as_str() == "spBv1.0/G/NCMD/E")
                .collect::<Vec<_>>()
        };
        if asks {
            site.until("request", |site| !requests(site).is_empty())
                .await;
            let request = requests(&site).remove(0);
            let payload = Payload::decode(&request.payload).unwrap();
            let metric = payload.metric("Node Control/Rebirth").unwrap();
            assert_eq!(metric.value, Some(RawValue::Boolean(true)));
            assert!(payload.timestamp.is_some());
            assert_eq!((request.qos, request.retain), (0, false));
        } else {
            let alarm = "births G/E";
            site.until("alarm", |site| {
                site.health.snapshot().alarms.contains_key(alarm)
            })
            .await;
            site.publish("spBv1.0/G/NBIRTH/E", &birth(1)).await;
            site.until("no alarm", |site| site.health.snapshot().alarms.is_empty())
                .await;
            assert!(requests(&site).is_empty());
        }
        assert_eq!(site.health.snapshot().errors, 4);
        site.stop().await;
    }
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_read_from_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "").await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
    site.until_count(1).await;
    let storage = site.storage.clone();
    let deleted = tokio::task::spawn_blocking(move || storage.delete_topic("sparkplug"));
    deleted.await.unwrap().unwrap();
    site.publish("spBv1.0/G/NBIRTH/E", &birth(1)).await;
    site.until_count(2).await;
    site.stop().await;
}

#[tokio::test]
async fn only_the_groups_that_are_asked_for_become_readings() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "groups = [\"G\"]\nprefix = \"plant/sp\"").await;
    site.publish("spBv1.0/H/NBIRTH/E", &birth(0)).await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
    let seen = site.until_count(1).await;
    assert_eq!(seen[0].0, "plant/sp/G/E/line/temp");
    // The server keeps births of all groups.
    let path = topic_name("$sparkplug/certificates/spBv1.0/H/NBIRTH/E").unwrap();
    assert!(site.publisher.retained().read(&path).is_some());
    site.stop().await;
}

#[tokio::test]
async fn a_changed_section_is_taken_over_without_losing_the_edge_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "").await;
    site.publish("spBv1.0/G/NBIRTH/E", &birth(0)).await;
    site.until_count(1).await;
    let changed = parse("prefix = \"other\"").sparkplug.unwrap();
    site.config.send_replace(Arc::new(changed));
    site.publish("spBv1.0/G/NDATA/E", &data(1, 1, 1.0)).await;
    let seen = site.until_count(2).await;
    assert!(seen[1].0.ends_with("/G/E/line/temp"), "{seen:?}");
    site.stop().await;
}

#[tokio::test]
async fn the_host_says_that_it_is_there_and_contradicts_others() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "host_id = \"hall-3\"").await;
    let path = topic_name("spBv1.0/STATE/hall-3").unwrap();
    let states = |site: &Site| -> Vec<StateMessage> {
        let log = site.log("sparkplug").into_iter();
        log.filter(|message| message.path == path)
            .inspect(|message| assert!(message.retain))
            .filter_map(|message| StateMessage::parse(&message.payload))
            .collect()
    };
    site.until("birth", |site| !states(site).is_empty()).await;
    let born = states(&site)[0];
    assert!(born.online);
    let offline = StateMessage {
        online: false,
        timestamp: born.timestamp + 1,
    };
    site.publish_bytes(path.as_str(), offline.to_json().into(), true)
        .await;
    site.until("contradiction", |site| states(site).len() == 3)
        .await;
    assert_eq!(states(&site), [born, offline, born]);
    site.stop.send_replace(true);
    let gone = StateMessage {
        online: false,
        ..born
    };
    site.until("death", |site| states(site).len() == 4).await;
    assert_eq!(states(&site)[3], gone);
    site.stop().await;
    // The next session is younger, whatever the clock says.
    let site = Site::start(directory.path(), "host_id = \"hall-3\"").await;
    site.until("birth", |site| states(site).len() == 5).await;
    assert!(states(&site)[4].timestamp > born.timestamp);
    site.stop().await;
}

#[test]
fn a_death_gets_the_time_of_its_publication_and_nothing_else_does() {
    let written = Payload {
        timestamp: Some(1),
        ..death(7)
    };
    let message = |topic| Message {
        path: topic_name(topic).unwrap(),
        payload: written.encode().into(),
        timestamp_ms: 99,
        ..Message::default()
    };
    let mut stamped = message("spBv1.0/G/NDEATH/E");
    stamp_death(&mut stamped);
    let payload = Payload::decode(&stamped.payload).unwrap();
    assert_eq!((payload.timestamp, payload.bd_seq()), (Some(99), Some(7)));
    for topic in ["spBv1.0/G/DDEATH/E/D", "spBv1.0/STATE/NDEATH", "a"] {
        let mut other = message(topic);
        stamp_death(&mut other);
        assert_eq!(other, message(topic));
    }
}
