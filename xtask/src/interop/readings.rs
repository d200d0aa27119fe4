//! What a gateway made of its devices, read over the Kafka protocol.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{During, Failure, Outcome};
use crate::node::Node;
use crate::wire::batch::Record;
use crate::wire::kafka::Client;

/// The time until every tag was read: a second until the first poll, and a
/// drained serial line; an OPC UA server that is tried again after a minute.
pub const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How far a number may be from the expected one: the last digit of a scaled
/// or printed binary fraction.
const TOLERANCE: f64 = 1e-6;

/// The newest reading of a path.
pub fn last<'a>(all: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    let mut newest = all.iter().rev();
    newest
        .find(|(key, _)| key == name)
        .map(|(_, reading)| reading)
}

/// Waits until the readings are as they should be.
///
/// # Errors
/// They are not in time.
pub fn wait_for(
    node: &Node,
    what: &str,
    mut is_there: impl FnMut(&[(String, Value)]) -> bool,
) -> Outcome {
    let started = Instant::now();
    loop {
        let found = all(node)?;
        if is_there(&found) {
            return Ok(());
        }
        if started.elapsed() > READ_TIMEOUT {
            let seen: Vec<_> = found.iter().rev().take(3).collect();
            return Err(Failure::new(format!(
                "no {what} within {READ_TIMEOUT:?}; newest of {}: {seen:?}",
                found.len()
            )));
        }
        thread::sleep(LOOK);
    }
}

/// Everything in the default topic: path and reading.
pub fn all(node: &Node) -> Outcome<Vec<(String, Value)>> {
    let mut client = Client::connect(node.ports.kafka).during("Kafka connection")?;
    let Ok(records) = client.read_partition("readings", 0) else {
        // The first reading makes the topic.
        return Ok(Vec::new());
    };
    let reading = |record: Record| {
        let key = String::from_utf8_lossy(&record.key).into_owned();
        let value = serde_json::from_slice(&record.value).during("a reading")?;
        Ok((key, value))
    };
    records.into_iter().map(reading).collect()
}

/// Whether a value is the expected one.
pub fn is_value(got: &Value, expected: &Value) -> bool {
    match (got.as_f64(), expected.as_f64()) {
        _ if got == expected => true,
        (Some(got), Some(expected)) => (got - expected).abs() <= TOLERANCE,
        _ => false,
    }
}
