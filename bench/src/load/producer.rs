//! A Kafka producer that pipelines on one connection.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use xtask::failure::{During, Failure, Outcome};
use xtask::wire::batch::{Producer, encode};
use xtask::wire::kafka;

/// Bytes of one record's value.
pub const RECORD_SIZE: usize = 1000;

/// Produce requests in flight on one connection, as Kafka's clients do.
const IN_FLIGHT_MAX: u64 = 5;

/// Errors of a node that asks for a pause: timed out (7), storage error (56).
const PAUSE: [i16; 2] = [7, 56];

/// Values that no compression shortens, so that the uplink, which compresses,
/// moves as many bytes as it is credited with (xorshift64, Marsaglia 2003).
fn incompressible(count: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    };
    let value = |_| (0..RECORD_SIZE / 8).flat_map(|_| word()).collect();
    (0..count).map(value).collect()
}

/// Produces `total` bytes in batches of about `batch_bytes` with acks=all;
/// returns bytes of payload per second.
pub fn produce(address: SocketAddr, topic: &str, total: u64, batch_bytes: usize) -> Outcome<f64> {
    let mut client = kafka::Client::connect(address).during("Kafka connection")?;
    client.partitions(topic).during(topic)?;
    let count = (batch_bytes / RECORD_SIZE).max(1);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let values = incompressible(count);
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(0);
    let batch = encode(Producer::NONE, now_ms, &values);
    let payload = (RECORD_SIZE * count) as u64;
    let batches = total.div_ceil(payload);
    let started = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < batches {
        while sent < batches && sent - done < IN_FLIGHT_MAX {
            client.send_produce(topic, 0, &batch).during("produce")?;
            sent += 1;
        }
        let produced = client.read_produced().during("produce")?;
        if PAUSE.contains(&produced.error) {
            // The same batch again after a moment.
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
    let bytes = (batches * payload) as f64;
    Ok(bytes / started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{RECORD_SIZE, incompressible};

    #[test]
    fn values_have_the_size_and_differ() {
        let values = incompressible(2);
        assert_eq!(values[0].len(), RECORD_SIZE);
        assert_ne!(values[0], values[1]);
    }
}
