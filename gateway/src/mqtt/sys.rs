//! `$SYS`: what monitoring tools read from a broker over MQTT itself.
//!
//! There is no specification; the names and forms are those of mosquitto, which
//! the tools were written against. The values are made from the statistics
//! every interval, kept in memory only, sent to subscribers when they change,
//! and greet a new subscription as retained messages do. They have QoS 0 and
//! never reach the log, and clients cannot publish below `$SYS/`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_mqtt::{TopicFilter, TopicName};
use parking_lot::Mutex;

use super::message::Message;
use super::node::{Node, now_ms};
use super::stats::StatsSnapshot;

/// What the names begin with, and what clients may not publish to.
pub const PREFIX: &str = "$SYS/";

/// The averages that are kept: name and time constant.
const AVERAGES: [(&str, Duration); 3] = [
    ("1min", Duration::from_secs(60)),
    ("5min", Duration::from_secs(300)),
    ("15min", Duration::from_secs(900)),
];

/// The present values.
#[derive(Debug, Default)]
pub struct Sys {
    values: Mutex<BTreeMap<TopicName, Bytes>>,
}

impl Sys {
    /// The names that match.
    pub fn matching(&self, filter: &TopicFilter) -> Vec<TopicName> {
        if !filter.as_str().starts_with("$SYS") {
            return Vec::new();
        }
        let values = self.values.lock();
        values
            .keys()
            .filter(|name| filter.matches(name))
            .cloned()
            .collect()
    }

    /// The message of a name.
    pub fn read(&self, name: &TopicName) -> Option<Message> {
        let payload = self.values.lock().get(name)?.clone();
        Some(message(name, payload))
    }

    /// Takes new values and returns the messages of those that changed.
    fn update(&self, values: Vec<(String, String)>) -> Vec<Message> {
        let mut known = self.values.lock();
        let mut changed = Vec::new();
        for (name, value) in values {
            let Ok(name) = TopicName::try_from(format!("$SYS/broker/{name}").as_str()) else {
                continue;
            };
            let value = Bytes::from(value);
            if known.get(&name) != Some(&value) {
                changed.push(message(&name, value.clone()));
                known.insert(name, value);
            }
        }
        changed
    }
}

fn message(name: &TopicName, payload: Bytes) -> Message {
    Message {
        path: name.clone(),
        payload,
        qos: 0,
        retain: true,
        timestamp_ms: now_ms(),
        properties: None,
    }
}

/// Makes the values.
pub struct Publisher {
    node: Arc<Node>,
    started: Instant,
    loads: Loads,
}

impl Publisher {
    /// Makes the first values, which greet the first client.
    pub fn start(node: Arc<Node>) -> Self {
        let now = Instant::now();
        let mut publisher = Self {
            started: now,
            loads: Loads::new(&node.stats.snapshot(), now),
            node,
        };
        publisher.publish(now);
        publisher
    }

    /// Publishes every `interval` until the future is dropped.
    pub async fn run(mut self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.tick().await;
        loop {
            let now = ticks.tick().await.into_std();
            self.publish(now);
        }
    }

    fn publish(&mut self, now: Instant) {
        let stats = self.node.stats.snapshot();
        let uptime = now.saturating_duration_since(self.started);
        let mut values = values(&stats, uptime);
        values.extend(self.loads.update(&stats, now));
        values.extend(memory());
        for message in self.node.sys.update(values) {
            self.node.dispatch.broadcast(&message);
        }
    }
}

fn values(stats: &StatsSnapshot, uptime: Duration) -> Vec<(String, String)> {
    let text = |name: &str, value: String| (name.to_owned(), value);
    let number = |name: &str, value: u64| (name.to_owned(), value.to_string());
    let disconnected = stats.sessions.saturating_sub(stats.clients);
    let refused = stats.refused;
    let dropped = refused.total() + stats.deliveries_lost;
    vec![
        text(
            "version",
            format!("forebay version {}", env!("CARGO_PKG_VERSION")),
        ),
        text("uptime", format!("{} seconds", uptime.as_secs())),
        number("clients/connected", stats.clients),
        number("clients/active", stats.clients),
        number("clients/disconnected", disconnected),
        number("clients/inactive", disconnected),
        number("clients/total", stats.sessions),
        number("clients/maximum", stats.clients_maximum),
        number("messages/received", stats.packets_in),
        number("messages/sent", stats.packets_out),
        number("publish/messages/received", stats.publishes_in.iter().sum()),
        number("publish/messages/sent", stats.deliveries_out.iter().sum()),
        number("publish/messages/dropped", dropped),
        number("publish/bytes/received", stats.payload_in),
        number("publish/bytes/sent", stats.payload_out),
        number("bytes/received", stats.bytes_in),
        number("bytes/sent", stats.bytes_out),
        number("subscriptions/count", stats.subscriptions),
        number("retained messages/count", stats.retained),
    ]
}

/// Resident memory now and at most. Tools know it as the heap.
fn memory() -> Vec<(String, String)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    [("VmRSS:", "heap/current"), ("VmHWM:", "heap/maximum")]
        .into_iter()
        .filter_map(|(field, name)| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
            Some((name.to_owned(), (kib * 1024).to_string()))
        })
        .collect()
}

/// Rates per minute, damped as a load average is: an interval of length `t`
/// weighs `1 - exp(-t / time constant)`.
#[derive(Debug)]
struct Loads {
    at: Instant,
    before: [u64; LOADS.len()],
    averages: [[f64; AVERAGES.len()]; LOADS.len()],
}

/// What has an average: its name and its counter.
type Load = (&'static str, fn(&StatsSnapshot) -> u64);

const LOADS: [Load; 7] = [
    ("messages/received", |stats| stats.packets_in),
    ("messages/sent", |stats| stats.packets_out),
    ("publish/received", |stats| stats.publishes_in.iter().sum()),
    ("publish/sent", |stats| stats.deliveries_out.iter().sum()),
    ("bytes/received", |stats| stats.bytes_in),
    ("bytes/sent", |stats| stats.bytes_out),
    ("connections", |stats| stats.connections_total),
];

impl Loads {
    fn new(stats: &StatsSnapshot, now: Instant) -> Self {
        Self {
            at: now,
            before: LOADS.map(|(_, counter)| counter(stats)),
            averages: Default::default(),
        }
    }

    fn update(&mut self, stats: &StatsSnapshot, now: Instant) -> Vec<(String, String)> {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let mut values = Vec::new();
        for (index, (name, counter)) in LOADS.iter().enumerate() {
            let count = counter(stats);
            let added = count.saturating_sub(self.before[index]);
            self.before[index] = count;
            for (average, (span, constant)) in self.averages[index].iter_mut().zip(AVERAGES) {
                if elapsed > 0.0 {
                    let per_minute = added as f64 * 60.0 / elapsed;
                    let weight = 1.0 - (-elapsed / constant.as_secs_f64()).exp();
                    *average += weight * (per_minute - *average);
                }
                values.push((format!("load/{name}/{span}"), format!("{average:.2}")));
            }
        }
        self.at = now;
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_approach_the_rate_as_fast_as_their_span() {
        let start = Instant::now();
        let mut stats = StatsSnapshot::default();
        let mut loads = Loads::new(&stats, start);
        let mut values = Vec::new();
        for tick in 1..=60_u32 {
            stats.packets_in += 10;
            values = loads.update(&stats, start + Duration::from_secs(10) * tick);
        }
        let value = |name: &str| -> f64 {
            let (_, value) = values.iter().find(|(n, _)| n == name).unwrap();
            value.parse().unwrap()
        };
        // Sixty messages a minute for ten minutes.
        assert!((value("load/messages/received/1min") - 60.0).abs() < 0.01);
        let five = 60.0 * (1.0 - (-2.0_f64).exp());
        assert!((value("load/messages/received/5min") - five).abs() < 0.01);
        assert!(value("load/messages/received/15min") < five);
        assert!(value("load/messages/sent/1min").abs() < 0.01);
    }

    #[test]
    fn only_what_changed_is_sent_and_all_of_it_greets() {
        let sys = Sys::default();
        let value = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let first = sys.update(vec![value("version", "1"), value("uptime", "0 seconds")]);
        assert_eq!(first.len(), 2);
        let second = sys.update(vec![value("version", "1"), value("uptime", "9 seconds")]);
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].path.as_str(), "$SYS/broker/uptime");
        let matching = |filter: &str| {
            let filter = TopicFilter::try_from(filter).unwrap();
            sys.matching(&filter).len()
        };
        assert_eq!(matching("$SYS/#"), 2);
        assert_eq!(matching("$SYS/+/uptime"), 1);
        assert_eq!(matching("#"), 0);
        assert_eq!(matching("+/broker/uptime"), 0);
    }
}
