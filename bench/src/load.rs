//! Generators of load: MQTT publishers and a Kafka producer.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use xtask::failure::{During, Failure, Outcome};
use xtask::wire::batch::{Producer, encode};
use xtask::wire::kafka;
use xtask::wire::mqtt::{Client, Packet};

/// Connections of the MQTT load.
pub const CONNECTIONS: u32 = 64;

/// Bytes of one reading.
pub const READING_SIZE: usize = 100;

/// Publishes in flight per connection at full load. Mosquitto's default Receive
/// Maximum for its clients is 20; the sender decides here, the same for both.
pub const WINDOW: usize = 20;

/// Time before a measurement counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Produce requests in flight on one connection.
const KAFKA_WINDOW: usize = 5;

/// What a load reached.
#[derive(Debug, Default)]
pub struct Reached {
    /// Acknowledgements per second.
    pub rate: f64,
    /// From sending to PUBACK, of each publish that counts.
    pub latencies: Vec<Duration>,
}

/// Publishes at QoS 1 from [`CONNECTIONS`] connections, as fast as they are
/// acknowledged or at `rate` altogether.
pub fn publish(address: SocketAddr, rate: Option<f64>, length: Duration) -> Outcome<Reached> {
    let counting = AtomicBool::new(false);
    let stop = AtomicBool::new(false);
    let interval = rate.map(|rate| Duration::from_secs_f64(f64::from(CONNECTIONS) / rate));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (counting, stop) = (&counting, &stop);
                scope.spawn(move || one(address, number, interval, counting, stop))
            })
            .collect();
        thread::sleep(WARM_UP);
        counting.store(true, Ordering::Relaxed);
        let started = Instant::now();
        thread::sleep(length);
        counting.store(false, Ordering::Relaxed);
        let elapsed = started.elapsed();
        stop.store(true, Ordering::Relaxed);
        let mut reached = Reached::default();
        for thread in threads {
            let latencies = thread
                .join()
                .map_err(|_| Failure::new("a publisher panicked"))?
                .during("publisher")?;
            reached.latencies.extend(latencies);
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 publishes")]
        let count = reached.latencies.len() as f64;
        reached.rate = count / elapsed.as_secs_f64();
        Ok(reached)
    })
}

fn one(
    address: SocketAddr,
    number: u32,
    interval: Option<Duration>,
    counting: &AtomicBool,
    stop: &AtomicBool,
) -> io::Result<Vec<Duration>> {
    let (mut client, _) = Client::connect(address, &format!("load-{number}"), true)?;
    client
        .stream()
        .set_read_timeout(Some(Duration::from_millis(1)))?;
    let topic = format!("plant/line-{number}/vibration");
    let payload = [b'x'; READING_SIZE];
    let mut pending: VecDeque<(u16, Instant)> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut id = 0u16;
    // Senders are spread over the interval, as sensors are.
    let mut due = Instant::now()
        + interval
            .unwrap_or_default()
            .mul_f64(f64::from(number) / 64.0);
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while interval.map_or(pending.len() < WINDOW, |_| due <= now) {
            id = id % 60_000 + 1;
            client.publish(&topic, id, 1, false, &payload);
            pending.push_back((id, Instant::now()));
            due += interval.unwrap_or_default();
        }
        client.flush()?;
        if !client.poll()? {
            continue;
        }
        loop {
            if let Packet::PubAck(id) = client.read()?
                && let Some(at) = pending.iter().position(|(sent, _)| *sent == id)
                && let Some((_, sent)) = pending.remove(at)
                && counting.load(Ordering::Relaxed)
            {
                latencies.push(sent.elapsed());
            }
            if !client.has_buffered() {
                break;
            }
        }
    }
    Ok(latencies)
}

/// Produces `total` bytes of `record_size` records, `batch_records` to a
/// batch, on one connection with acks=all; returns bytes per second.
pub fn produce(
    address: SocketAddr,
    topic: &str,
    total: u64,
    record_size: usize,
    batch_records: usize,
) -> Outcome<f64> {
    let mut client = kafka::Client::connect(address).during("Kafka connection")?;
    client.partitions(topic).during(topic)?;
    let values = vec![vec![b'x'; record_size]; batch_records];
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let batch = encode(
        Producer::NONE,
        i64::try_from(now.as_millis()).unwrap_or(0),
        &values,
    );
    let batches = total / (record_size * batch_records) as u64;
    let started = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < batches {
        while sent < batches && sent - done < KAFKA_WINDOW as u64 {
            client.send_produce(topic, 0, &batch).during("produce")?;
            sent += 1;
        }
        let produced = client.read_produced().during("produce")?;
        if produced.error == 56 || produced.error == 7 {
            // Back pressure: the same batch again after a moment.
            thread::sleep(Duration::from_millis(5));
            sent -= 1;
            continue;
        }
        if produced.error != 0 {
            return Err(Failure::new(format!("Produce error {}", produced.error)));
        }
        done += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let bytes = (batches * (record_size * batch_records) as u64) as f64;
    Ok(bytes / started.elapsed().as_secs_f64())
}

/// Publishes `rate` readings per second at QoS 1 on one connection until
/// `stop`; returns how many were acknowledged.
pub fn trickle(
    address: SocketAddr,
    rate: f64,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> io::Result<()> {
    let (mut client, _) = Client::connect(address, "trickle", true)?;
    client
        .stream()
        .set_read_timeout(Some(Duration::from_millis(1)))?;
    let interval = Duration::from_secs_f64(1.0 / rate);
    let payload = [b'x'; READING_SIZE];
    let mut due = Instant::now();
    let mut id = 0u16;
    while !stop.load(Ordering::Relaxed) {
        while due <= Instant::now() {
            id = id % 60_000 + 1;
            client.publish("plant/press/vibration", id, 1, false, &payload);
            due += interval;
        }
        client.flush()?;
        if client.poll()? {
            loop {
                if let Packet::PubAck(_) = client.read()? {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if !client.has_buffered() {
                    break;
                }
            }
        }
    }
    Ok(())
}
