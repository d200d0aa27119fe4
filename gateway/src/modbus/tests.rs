//! A bus from the socket to the log, against a small device of registers.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_modbus::frame::tcp;
use forebay_records::records;
use forebay_storage::disk::RealDisk;
use forebay_storage::{Preallocation, Storage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::commands::{CommandOutcome, CommandRequest, Commands};
use crate::config::Config;
use crate::devices::Health;
use crate::ingest::routes::Routes;
use crate::queries::board::Board;
use crate::readings::Publisher;

/// Holding registers of a device; reads and single writes.
struct Device {
    address: std::net::SocketAddr,
    connections: Arc<AtomicU32>,
    serving: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Device {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicU32>::default();
        let count = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let mut registers: Vec<u16> = (0..1_000).collect();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                answer(stream, &mut registers).await;
            }
        });
        Self {
            address,
            connections,
            serving,
        }
    }
}

/// Answers until the connection ends. Register 500 and above do not exist.
async fn answer(mut stream: TcpStream, registers: &mut [u16]) {
    let mut frame = [0; 12];
    while stream.read_exact(&mut frame).await.is_ok() {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (function, address, argument) = (frame[7], usize::from(word(8)), word(10));
        let mut pdu = frame[7..].to_vec();
        if address >= 500 {
            pdu = vec![function | 0x80, 2];
        } else if function == 3 {
            let count = usize::from(argument);
            pdu = vec![3, u8::try_from(count * 2).unwrap()];
            let read = &registers[address..address + count];
            pdu.extend(read.iter().flat_map(|value| value.to_be_bytes()));
        } else {
            registers[address] = argument;
        }
        let mut out = Vec::new();
        tcp::encode(word(0), frame[6], &pdu, &mut out);
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// A running bus over a log in a scratch directory.
struct Site {
    storage: Storage,
    commands: Commands,
    health: Health,
    config: watch::Sender<Arc<Vec<config::Modbus>>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

fn sections(device: &Device, tags: &str) -> Arc<Vec<config::Modbus>> {
    let text = format!(
        "[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n[[modbus]]\nname = \"press\"\nendpoint = \"tcp://{}\"\ninterval = \"20ms\"\ntags = [ {tags} ]\n",
        device.address
    );
    let config = Config::parse(Path::new("f.toml"), &text);
    Arc::new(config.expect("the sections are valid").modbus)
}

impl Site {
    async fn start(directory: &Path, sections: Arc<Vec<config::Modbus>>) -> Self {
        let mut settings = forebay_storage::Config::new(directory);
        settings.preallocation = Preallocation::None;
        settings.retention.keep_free = 0;
        settings.ballast_bytes = 0;
        let opening =
            tokio::task::spawn_blocking(move || Storage::open(settings, Arc::new(RealDisk::new())));
        let (storage, _) = opening.await.unwrap().unwrap();
        let routes = Arc::new(Routes::new(&[]).unwrap());
        let publisher = Publisher::open(storage.clone(), routes);
        let context = DeviceContext {
            publisher: publisher.clone(),
            commands: Commands::default(),
            queries: Board::open(&publisher),
            health: Health::new("press", "modbus"),
            data_dir: Arc::from(directory),
            config_dir: Arc::from(directory),
        };
        let (config, watched) = watch::channel(sections);
        let (stop, stopped) = watch::channel(false);
        Self {
            storage,
            commands: context.commands.clone(),
            health: context.health.clone(),
            config,
            stop,
            serving: tokio::spawn(run(watched, context, stopped)),
        }
    }

    /// Waits until a record of `path` satisfies `wanted`.
    async fn wait_for(&self, path: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        let started = std::time::Instant::now();
        while !self
            .records()
            .iter()
            .any(|(key, value)| key == path && wanted(value))
        {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{:?}",
                self.records()
            );
            tokio::task::yield_now().await;
        }
    }

    fn records(&self) -> Vec<(String, serde_json::Value)> {
        let Some(topic) = self.storage.topic("readings") else {
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
                    let key = record.key.unwrap_or_default();
                    let key = String::from_utf8_lossy(&key);
                    let value = serde_json::from_slice(&record.value.unwrap_or_default());
                    found.push((key.into_owned(), value.unwrap()));
                }
            }
        }
        found
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.serving.await.unwrap();
        let storage = self.storage;
        tokio::task::spawn_blocking(move || storage.close())
            .await
            .unwrap();
    }
}

const SPEED: &str = "{ name = \"speed\", register = \"holding\", address = 10, type = \"UINT16\", scale = 0.1, unit = \"1/min\" }";
const SETPOINT: &str =
    "{ name = \"setpoint\", address = 20, type = \"INT16\", write = { min = 0, max = 99 } }";
const MISSING: &str = "{ name = \"missing\", address = 600, type = \"INT16\" }";

#[tokio::test]
async fn registers_become_readings_in_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let device = Device::start().await;
    let sections = sections(&device, &format!("{SPEED}, {MISSING}"));
    let before = Clock::trusted().now_ms();
    let site = Site::start(directory.path(), sections).await;
    site.wait_for("press/speed", |value| {
        let at = value["timestamp"].as_i64().unwrap();
        value["value"] == 1.0
            && value["quality"] == "good"
            && value["unit"] == "1/min"
            && (before..=Clock::trusted().now_ms()).contains(&at)
    })
    .await;
    site.wait_for("press/missing", |value| {
        value["value"].is_null()
            && value["quality"] == "bad"
            && value["status"] == "illegal-data-address"
    })
    .await;
    let health = site.health.snapshot();
    assert_eq!(health.state, DeviceState::Connected);
    assert_eq!(health.tags, 2);
    assert!(health.readings > 0 && health.requests > 0 && health.errors > 0);
    site.stop().await;
}

#[tokio::test]
async fn a_command_is_written_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let device = Device::start().await;
    let site = Site::start(directory.path(), sections(&device, SETPOINT)).await;
    let queue = loop {
        if let Some((rule, queue)) = site.commands.writable("press/setpoint") {
            assert_eq!((rule.min, rule.max), (Some(0.0), Some(99.0)));
            break queue;
        }
        tokio::task::yield_now().await;
    };
    let command = async |value| {
        let (reply, outcome) = tokio::sync::oneshot::channel();
        let request = CommandRequest {
            value,
            id: "1".to_owned(),
            reply,
        };
        queue.send(request).await.unwrap();
        outcome.await.unwrap()
    };
    let done = command(Value::Signed(-7)).await;
    let read_back = Value::Signed(-7);
    assert_eq!(done, CommandOutcome::Done { read_back });
    site.wait_for("press/setpoint", |value| value["value"] == -7)
        .await;
    let refused = command(Value::Signed(40_000)).await;
    let reason = "40000 does not fit into INT16".to_owned();
    assert_eq!(refused, CommandOutcome::Refused { reason });
    let refused = command(Value::List(Vec::new())).await;
    assert!(matches!(refused, CommandOutcome::Refused { .. }));
    site.stop().await;
}

#[tokio::test]
async fn a_changed_configuration_keeps_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let device = Device::start().await;
    let site = Site::start(directory.path(), sections(&device, SPEED)).await;
    site.wait_for("press/speed", |_| true).await;
    let more = sections(&device, &format!("{SETPOINT}, {SPEED}"));
    site.config.send(more).unwrap();
    site.wait_for("press/setpoint", |value| value["value"] == 20)
        .await;
    assert!(site.commands.writable("press/setpoint").is_some());
    // Positions moved; the values did not.
    for (path, value) in site.records() {
        let expected = if path == "press/speed" { 1.0 } else { 20.0 };
        assert_eq!(value["value"].as_f64(), Some(expected), "{path}");
    }
    assert_eq!(device.connections.load(Ordering::SeqCst), 1);
    site.config.send(sections(&device, SPEED)).unwrap();
    while site.commands.writable("press/setpoint").is_some() {
        tokio::task::yield_now().await;
    }
    // Another endpoint is another connection.
    let other = Device::start().await;
    site.config.send(sections(&other, SPEED)).unwrap();
    while other.connections.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    site.stop().await;
}

#[tokio::test]
async fn a_device_that_goes_away_is_bad_and_down() {
    let directory = tempfile::tempdir().unwrap();
    let device = Device::start().await;
    let site = Site::start(directory.path(), sections(&device, SPEED)).await;
    site.wait_for("press/speed", |value| value["quality"] == "good")
        .await;
    drop(device);
    site.wait_for("press/speed", |value| {
        value["quality"] == "bad" && value["status"] == "disconnected"
    })
    .await;
    assert_eq!(site.health.snapshot().state, DeviceState::Down);
    site.stop().await;
}
