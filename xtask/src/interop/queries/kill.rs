//! A gateway that is killed again and again while its queries work: each final
//! row and each alert is there once, as an undisturbed run would have it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{LOOK, PATIENCE, running, spec};
use crate::failure::{During, Failure, Outcome};
use crate::interop::Stage;
use crate::node::{Node, Spec};
use crate::tumbling::{self, Windows};
use crate::wire::batch::Record;
use crate::wire::kafka;
use crate::wire::mqtt::{Client, Packet};

/// How often the gateway is killed.
const KILLS: u32 = 8;
/// Readings between two kills at least, so that a slow machine has snapshots to
/// lose, too.
const READINGS: u64 = 5_000;
/// Between two kills at least, in milliseconds.
const PERIOD_MS: std::ops::Range<u64> = 300..2_200;

const MACHINES: u64 = 8;
/// Keys of the query with a large state.
const PARTS: u64 = 20_000;
/// Filling of a reading, so that what is read grows faster than the state and
/// snapshots are taken.
const FILLING: usize = 300;

/// Event time from one reading to the next.
const STEP_MS: i64 = 4;
const DELAY_MS: i64 = 2_000;
/// Readings come out of order by less than the delay.
const DISORDER_MS: i64 = 1_900;
/// One reading in this many is this late.
const LATE_EVERY: u64 = 200;
const LATE_MS: i64 = 60_000;
/// How far the first reading lies back: event time runs faster than the clock
/// and must not come near it.
const PAST_MS: i64 = 12 * 3_600_000;

const BY_MACHINE_MS: i64 = 10_000;
const BY_PART_MS: i64 = 120_000;

/// Publishes in flight.
const IN_FLIGHT: usize = 256;
/// A pause that keeps the rate at some 10,000 readings per second.
const PACE: Duration = Duration::from_millis(10);
const SILENCE: Duration = Duration::from_millis(200);

const INPUT: &str = "plant";

/// A query that sums readings by a column.
fn query(name: &str, column: &str, size_ms: i64) -> String {
    format!(
        "CREATE STREAM readings (value bigint, ts timestamp, part text)
           FROM 'plant/{{machine}}/vibration' TOPIC '{INPUT}'
           TIMESTAMP BY ts WATERMARK DELAY '{DELAY_MS} ms' IDLE AFTER '1 h';
         CREATE QUERY {name} AS
         SELECT {column}, count(*) AS n, sum(value) AS total, window_start, window_end
         FROM TUMBLE(readings, '{size_ms} ms') GROUP BY {column}"
    )
}

pub fn eight_times(stage: &Stage) -> Outcome {
    let machines = query("machines", "machine", BY_MACHINE_MS)
        + "; CREATE ALERT even WHEN n % 2 = 0 SEVERITY warning";
    let parts = query("parts", "part", BY_PART_MS);
    let files = [("machines.sql", &*machines), ("parts.sql", &parts)];
    let mut spec = spec(stage, "query-kill", &files)?;
    spec.sections.push_str(&format!(
        "[[route]]\nfilter = \"plant/#\"\ntopic = \"{INPUT}\"\npartitions = 1\n"
    ));
    let mut node = Node::start(&spec)?;
    let address = Mutex::new(node.mqtt()?);
    let stop = AtomicBool::new(false);
    let mut publisher = Publisher::new()?;
    let sent = Arc::clone(&publisher.sent);
    let mut with_blob = 0;
    thread::scope(|scope| {
        scope.spawn(|| publisher.publish(&address, &stop));
        let mut disturb = || -> Outcome {
            for _ in 0..KILLS {
                let readings = sent.load(Ordering::Relaxed) + READINGS;
                let started = Instant::now();
                thread::sleep(Duration::from_millis(fastrand::u64(PERIOD_MS)));
                while sent.load(Ordering::Relaxed) < readings && started.elapsed() < PATIENCE {
                    thread::sleep(LOOK);
                }
                node.kill();
                with_blob += u32::from(has_blob(&spec));
                node = Node::start(&spec)?;
                *address.lock().unwrap_or_else(PoisonError::into_inner) = node.mqtt()?;
            }
            Ok(())
        };
        let result = disturb();
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    publisher.finish(node.mqtt()?)?;
    if with_blob == 0 {
        return Err(Failure::new("no kill found a snapshot in a blob"));
    }
    let input = Input::read(&node)?;
    let rows = input.check(&node, "machines", BY_MACHINE_MS)?;
    let by_part = input.check(&node, "parts", BY_PART_MS)?;
    let alerts = input.check_alerts(&node)?;
    for name in ["machines", "parts"] {
        running(&node, name, |query| {
            query["alarms"] == serde_json::json!([])
        })?;
    }
    println!(
        "       {KILLS} kills, {with_blob} with a large snapshot, {} readings: {rows} rows by machine, \
         {by_part} by part, {alerts} alerts",
        input.readings.len()
    );
    Ok(())
}

/// Whether a snapshot lies in a blob.
fn has_blob(spec: &Spec) -> bool {
    let found = std::fs::read_dir(spec.data_dir.join("blobs"));
    found.is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".state"))
        })
    })
}

/// Publishes at QoS 1 and sends again what was not acknowledged.
struct Publisher {
    base_ms: i64,
    next: u64,
    /// The same as `next`, for others to see.
    sent: Arc<AtomicU64>,
    pending: VecDeque<(u16, String, Vec<u8>)>,
}

impl Publisher {
    fn new() -> Outcome<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .during("clock")?;
        let now_ms = i64::try_from(now.as_millis()).during("clock")?;
        Ok(Self {
            base_ms: now_ms - PAST_MS,
            next: 0,
            sent: Arc::default(),
            pending: VecDeque::new(),
        })
    }

    /// Publishes to whatever gateway lives at the moment.
    fn publish(&mut self, address: &Mutex<SocketAddr>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let address = *address.lock().unwrap_or_else(PoisonError::into_inner);
            // The connection is meant to fail.
            let _ = self.drive(address, stop);
            thread::sleep(LOOK);
        }
    }

    fn drive(&mut self, address: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let mut client = self.resume(address)?;
        while !stop.load(Ordering::Relaxed) {
            while self.pending.len() < IN_FLIGHT {
                let (path, payload) = self.reading();
                self.send(&mut client, path, payload);
            }
            client.flush()?;
            self.collect(&mut client)?;
            thread::sleep(PACE);
        }
        Ok(())
    }

    /// Waits for what is in flight, and publishes one reading that closes all
    /// windows.
    fn finish(&mut self, address: SocketAddr) -> Outcome {
        let mut end = || -> io::Result<()> {
            let mut client = self.resume(address)?;
            let last = self.base_ms + self.next.cast_signed() * STEP_MS + 10 * BY_PART_MS;
            let payload = format!("{{\"value\":1,\"ts\":{last},\"part\":\"end\"}}");
            self.send(
                &mut client,
                "plant/end/vibration".to_owned(),
                payload.into_bytes(),
            );
            client.flush()?;
            let started = Instant::now();
            while !self.pending.is_empty() {
                if started.elapsed() > PATIENCE {
                    return Err(io::Error::other("publishes are not acknowledged"));
                }
                self.collect(&mut client)?;
            }
            Ok(())
        };
        end().during("the last publishes")
    }

    fn resume(&self, address: SocketAddr) -> io::Result<Client> {
        let (mut client, _) = Client::connect(address, "publisher", false)?;
        client.stream().set_read_timeout(Some(SILENCE))?;
        for (id, path, payload) in &self.pending {
            client.publish(path, *id, 1, true, payload);
        }
        client.flush()?;
        Ok(client)
    }

    fn send(&mut self, client: &mut Client, path: String, payload: Vec<u8>) {
        // Identifiers repeat after 60,000 publishes, long after their end.
        let id = u16::try_from(self.next % 60_000).unwrap_or_default() + 1;
        self.next += 1;
        self.sent.store(self.next, Ordering::Relaxed);
        client.publish(&path, id, 1, false, &payload);
        self.pending.push_back((id, path, payload));
    }

    fn reading(&self) -> (String, Vec<u8>) {
        let number = self.next;
        let mut time = self.base_ms + number.cast_signed() * STEP_MS;
        time -= match number % LATE_EVERY {
            0 => LATE_MS,
            _ => fastrand::i64(0..DISORDER_MS),
        };
        let payload = format!(
            "{{\"value\":{},\"ts\":{time},\"part\":\"p{}\",\"filling\":\"{:FILLING$}\"}}",
            fastrand::u32(0..1_000),
            number * 7_919 % PARTS,
            ""
        );
        let machine = fastrand::u64(0..MACHINES);
        (format!("plant/m{machine}/vibration"), payload.into_bytes())
    }

    fn collect(&mut self, client: &mut Client) -> io::Result<()> {
        if !client.poll()? {
            return Ok(());
        }
        loop {
            if let Packet::PubAck(id) = client.read()?
                && let Some(at) = self.pending.iter().position(|(own, _, _)| *own == id)
            {
                self.pending.remove(at);
            }
            if !client.has_buffered() {
                return Ok(());
            }
        }
    }
}

/// One reading of the input log.
struct Reading {
    offset: i64,
    machine: String,
    part: String,
    time_ms: i64,
    value: i64,
    payload: Vec<u8>,
}

/// The input log.
struct Input {
    readings: Vec<Reading>,
}

impl Input {
    fn read(node: &Node) -> Outcome<Self> {
        let readings = partition(node, INPUT)?.into_iter().map(|record| {
            let path = String::from_utf8_lossy(&record.key).into_owned();
            let value: Value = serde_json::from_slice(&record.value).during("a reading")?;
            Ok(Reading {
                offset: record.offset,
                machine: path.split('/').nth(1).unwrap_or_default().to_owned(),
                part: value["part"].as_str().unwrap_or_default().to_owned(),
                time_ms: value["ts"].as_i64().unwrap_or_default(),
                value: value["value"].as_i64().unwrap_or_default(),
                payload: record.value,
            })
        });
        Ok(Self {
            readings: readings.collect::<Outcome<_>>()?,
        })
    }

    fn windows(&self, name: &str, size_ms: i64) -> Windows {
        let mut windows = Windows::new(size_ms, DELAY_MS);
        for reading in &self.readings {
            let key = match name {
                "machines" => &reading.machine,
                _ => &reading.part,
            };
            windows.take(key, reading.time_ms, reading.value, reading.offset);
        }
        windows
    }

    /// Compares rows and late readings of a query with what must be there.
    fn check(&self, node: &Node, name: &str, size_ms: i64) -> Outcome<usize> {
        let windows = self.windows(name, size_ms);
        let expected = windows.closed(windows.newest_ms() - DELAY_MS);
        let payloads = settled(node, name, expected.len())?;
        let column = name.trim_end_matches('s');
        let rows = tumbling::rows(&payloads, column).map_err(Failure::new)?;
        tumbling::compare(name, &rows, &expected).map_err(Failure::new)?;
        // Copies of late readings are in the order of the log.
        let topic = format!("{name}.late");
        let late = settled(node, &topic, windows.late.len())?;
        let by_offset: BTreeMap<i64, &[u8]> = self
            .readings
            .iter()
            .map(|reading| (reading.offset, &*reading.payload))
            .collect();
        let must: Vec<&[u8]> = windows
            .late
            .iter()
            .map(|offset| by_offset[offset])
            .collect();
        if late != must {
            let (must, late) = (must.len(), late.len());
            return Err(Failure::new(format!(
                "{topic}: {must} readings expected, {late} found, or others"
            )));
        }
        Ok(rows.len())
    }

    fn check_alerts(&self, node: &Node) -> Outcome<usize> {
        let windows = self.windows("machines", BY_MACHINE_MS);
        let expected = tumbling::alerts(&windows.closed(windows.newest_ms() - DELAY_MS));
        let payloads = settled(node, "alerts", expected.len())?;
        let found = tumbling::changes(&payloads, "machines", "machine").map_err(Failure::new)?;
        if found == expected {
            return Ok(found.len());
        }
        let differs = found
            .iter()
            .zip(&expected)
            .find(|(found, expected)| found != expected);
        Err(Failure::new(format!(
            "alerts: {} expected, {} found, first difference {differs:?}",
            expected.len(),
            found.len()
        )))
    }
}

/// The values of a topic once there are at least so many.
fn settled(node: &Node, topic: &str, count: usize) -> Outcome<Vec<Vec<u8>>> {
    let started = Instant::now();
    loop {
        let records = partition(node, topic)?;
        if records.len() >= count || started.elapsed() > PATIENCE {
            return Ok(records.into_iter().map(|record| record.value).collect());
        }
        thread::sleep(LOOK);
    }
}

fn partition(node: &Node, topic: &str) -> Outcome<Vec<Record>> {
    let mut client = kafka::Client::connect(node.ports.kafka).during("Kafka connection")?;
    client.partitions(topic).during(topic)?;
    client.read_partition(topic, 0).during(topic)
}
