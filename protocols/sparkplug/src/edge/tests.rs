mod values;

use super::*;
use crate::payload::{Metric, RawValue};
use crate::value::{DataType, Value};

const SETTINGS: EdgeSettings = EdgeSettings {
    reorder_timeout_ms: 2_000,
    rebirth_interval_ms: 1_000,
    rebirth_interval_max_ms: 60_000,
};

/// An edge node's machine with the messages it was given and virtual time.
struct Script {
    machine: EdgeNode,
    log: Vec<(MessageKind, Option<&'static str>, Vec<u8>, i64)>,
    now_ms: i64,
}

/// A sample as the tests write it: path, value, time, quality.
type Seen = (String, Value, i64, SampleQuality);

impl Script {
    fn new() -> Self {
        Self {
            machine: EdgeNode::new("G", "E", SETTINGS),
            log: Vec::new(),
            now_ms: 10_000,
        }
    }

    fn send(
        &mut self,
        kind: MessageKind,
        device: Option<&'static str>,
        payload: Payload<'_>,
    ) -> Vec<Seen> {
        let bytes = payload.encode();
        let place = self.log.len() as u64;
        self.log.push((kind, device, bytes.clone(), self.now_ms));
        let mut samples = Vec::new();
        let incoming = Incoming {
            kind,
            device,
            payload: &bytes,
            received_ms: self.now_ms,
            place,
        };
        self.machine.handle(incoming, &mut samples);
        seen(samples)
    }

    fn advance(&mut self, by_ms: i64) -> Vec<Seen> {
        self.now_ms += by_ms;
        let mut samples = Vec::new();
        self.machine.handle_timeout(self.now_ms, &mut samples);
        seen(samples)
    }

    fn restart(&mut self) {
        let snapshot = self.machine.snapshot().unwrap();
        let json = serde_json::to_string(&snapshot).unwrap();
        let devices = serde_json::to_string(&snapshot.devices).unwrap();
        let mut snapshot: EdgeSnapshot = serde_json::from_str(&json).unwrap();
        snapshot.devices = serde_json::from_str(&devices).unwrap();
        let log = &self.log;
        let read = |wanted: Wanted<'_>| {
            let (Wanted::NodeBirth { place }
            | Wanted::DeviceBirth { place, .. }
            | Wanted::Held { place }) = wanted;
            let (kind, device, payload, received_ms) = &log[place as usize];
            Held::read(&Incoming {
                kind: *kind,
                device: *device,
                payload,
                received_ms: *received_ms,
                place,
            })
        };
        self.machine = EdgeNode::restore(
            "G",
            "E",
            SETTINGS,
            &snapshot,
            Some(self.now_ms + RESTART_GRACE_MS),
            read,
        );
        assert_eq!(self.machine.snapshot(), Some(snapshot));
    }

    /// A node with `temp` (alias 1) and `on` (alias 2), number 0.
    fn node_birth(&mut self, bd_seq: u64) -> Vec<Seen> {
        let timestamp = self.now_ms as u64;
        self.send(
            MessageKind::NodeBirth,
            None,
            Payload {
                timestamp: Some(timestamp),
                seq: Some(0),
                metrics: vec![
                    long("bdSeq", bd_seq),
                    named(REBIRTH_METRIC, DataType::Boolean, RawValue::Boolean(false)),
                    Metric {
                        alias: Some(1),
                        ..named("temp", DataType::Double, RawValue::Double(20.0))
                    },
                    Metric {
                        alias: Some(2),
                        ..named("on", DataType::Boolean, RawValue::Boolean(true))
                    },
                ],
                ..Payload::default()
            },
        )
    }

    fn death(&mut self, bd_seq: u64) -> Vec<Seen> {
        let payload = Payload {
            metrics: vec![long("bdSeq", bd_seq)],
            ..Payload::default()
        };
        self.send(MessageKind::NodeDeath, None, payload)
    }

    /// A device with `rpm` (alias 7).
    fn device_birth(&mut self, device: &'static str, seq: u64) -> Vec<Seen> {
        let payload = Payload {
            timestamp: Some(self.now_ms as u64),
            seq: Some(seq),
            metrics: vec![Metric {
                alias: Some(7),
                ..named("rpm", DataType::Int32, RawValue::Int(900))
            }],
            ..Payload::default()
        };
        self.send(MessageKind::DeviceBirth, Some(device), payload)
    }

    /// `temp` by its alias.
    fn temp(&mut self, seq: u64, value: f64) -> Vec<Seen> {
        let payload = data(seq, vec![by_alias(1, RawValue::Double(value))]);
        self.send(MessageKind::NodeData, None, payload)
    }

    fn rpm(&mut self, device: &'static str, seq: u64, value: u32) -> Vec<Seen> {
        let payload = data(seq, vec![by_alias(7, RawValue::Int(value))]);
        self.send(MessageKind::DeviceData, Some(device), payload)
    }
}

fn seen(samples: Vec<Sample>) -> Vec<Seen> {
    samples
        .into_iter()
        .map(|s| {
            (
                s.definition.path.clone(),
                s.value,
                s.timestamp_ms,
                s.quality,
            )
        })
        .collect()
}

fn good(path: &str, value: Value, at: i64) -> Seen {
    (path.to_owned(), value, at, SampleQuality::Good)
}

fn gone(path: &str, at: i64) -> Seen {
    (path.to_owned(), Value::Null, at, SampleQuality::Stale)
}

fn named<'a>(name: &'a str, datatype: DataType, value: RawValue<'a>) -> Metric<'a> {
    Metric {
        name: Some(name),
        datatype: Some(datatype as u32),
        value: Some(value),
        ..Metric::default()
    }
}

fn long(name: &str, value: u64) -> Metric<'_> {
    named(name, DataType::Int64, RawValue::Long(value))
}

fn by_alias(alias: u64, value: RawValue<'_>) -> Metric<'_> {
    Metric {
        alias: Some(alias),
        value: Some(value),
        ..Metric::default()
    }
}

fn data(seq: u64, metrics: Vec<Metric<'_>>) -> Payload<'_> {
    Payload {
        timestamp: Some(1_000 + seq),
        seq: Some(seq),
        metrics,
        ..Payload::default()
    }
}

#[test]
fn a_birth_gives_values_and_its_aliases_resolve_data() {
    let mut script = Script::new();
    assert_eq!(
        script.node_birth(0),
        [
            good("G/E/temp", Value::Double(20.0), 10_000),
            good("G/E/on", Value::Boolean(true), 10_000),
        ]
    );
    assert_eq!(
        script.temp(1, 21.5),
        [good("G/E/temp", Value::Double(21.5), 1_001)]
    );
    assert_eq!(
        script.device_birth("D", 2),
        [good("G/E/D/rpm", Value::Signed(900), 10_000)]
    );
    assert_eq!(
        script.rpm("D", 3, u32::MAX),
        [good("G/E/D/rpm", Value::Signed(-1), 1_003)]
    );
    assert!(!script.machine.wants_rebirth());
}

#[test]
fn swapped_messages_are_applied_in_the_order_of_their_numbers() {
    let mut script = Script::new();
    script.node_birth(0);
    assert_eq!(script.temp(2, 2.0), []);
    assert_eq!(script.machine.poll_timeout(), Some(12_000));
    assert_eq!(
        script.temp(1, 1.0),
        [
            good("G/E/temp", Value::Double(1.0), 1_001),
            good("G/E/temp", Value::Double(2.0), 1_002),
        ]
    );
    assert_eq!(script.machine.poll_timeout(), None);
    assert_eq!(script.machine.counts().missing, 0);
    assert!(!script.machine.wants_rebirth());
}

#[test]
fn a_missing_number_is_given_up_after_the_reorder_timeout() {
    let mut script = Script::new();
    script.node_birth(0);
    script.machine.take_events();
    assert_eq!(script.temp(3, 3.0), []);
    assert_eq!(script.advance(1_999), []);
    assert_eq!(
        script.advance(1),
        [good("G/E/temp", Value::Double(3.0), 1_003)]
    );
    assert_eq!(script.machine.take_events(), [Event::Gap { missing: 2 }]);
    assert_eq!(script.machine.counts().missing, 2);
    assert!(script.machine.poll_rebirth(script.now_ms));
    // What was given up and comes late after all is still a value of its time.
    assert_eq!(
        script.temp(1, 1.0),
        [good("G/E/temp", Value::Double(1.0), 1_001)]
    );
    // Only once.
    assert_eq!(script.temp(1, 1.0), []);
    assert_eq!(script.machine.counts().duplicates, 1);
    assert_eq!(script.temp(4, 4.0).len(), 1);
}

#[test]
fn the_wait_begins_anew_when_one_of_two_gaps_closes() {
    let mut script = Script::new();
    script.node_birth(0);
    script.temp(2, 2.0);
    script.advance(1_500);
    script.temp(4, 4.0);
    script.temp(1, 1.0);
    assert_eq!(script.machine.poll_timeout(), Some(13_500));
    script.temp(3, 3.0);
    assert_eq!(script.machine.poll_timeout(), None);
}

#[test]
fn numbers_go_from_255_to_0_without_a_gap() {
    let mut script = Script::new();
    script.node_birth(0);
    for seq in 1..=600u64 {
        assert_eq!(script.temp(seq % 256, 1.0).len(), 1, "{seq}");
    }
    assert_eq!(script.machine.counts().missing, 0);
}

#[test]
fn more_than_can_be_held_ends_the_wait() {
    let mut script = Script::new();
    script.node_birth(0);
    for seq in 0..HELD_MAX as u64 - 1 {
        assert_eq!(script.temp(2 + seq, 1.0), []);
    }
    assert_eq!(script.temp(2 + HELD_MAX as u64 - 1, 1.0).len(), HELD_MAX);
    assert_eq!(script.machine.counts().missing, 1);
}

#[test]
fn a_clock_that_is_set_back_does_not_prolong_the_wait() {
    let mut script = Script::new();
    script.node_birth(0);
    script.temp(2, 2.0);
    assert_eq!(script.advance(-9_000).len(), 1);
}

#[test]
fn a_death_makes_all_metrics_of_node_and_devices_stale_at_its_arrival() {
    let mut script = Script::new();
    script.node_birth(3);
    script.device_birth("D", 1);
    script.now_ms = 50_000;
    assert_eq!(
        script.death(3),
        [
            gone("G/E/on", 50_000),
            gone("G/E/temp", 50_000),
            gone("G/E/D/rpm", 50_000),
        ]
    );
    assert!(!script.machine.is_online());
    assert_eq!(script.death(3), []);
}

#[test]
fn a_death_of_an_earlier_session_changes_nothing() {
    let mut script = Script::new();
    script.node_birth(3);
    script.node_birth(4);
    assert_eq!(script.death(3), []);
    assert!(script.machine.is_online());
    assert_eq!(script.machine.counts().stale_deaths, 1);
    assert_eq!(script.death(4).len(), 2);
}

#[test]
fn a_device_death_makes_its_metrics_stale_at_the_time_of_its_payload() {
    let mut script = Script::new();
    script.node_birth(0);
    script.device_birth("D", 1);
    let death = data(2, Vec::new());
    assert_eq!(
        script.send(MessageKind::DeviceDeath, Some("D"), death),
        [gone("G/E/D/rpm", 1_002)]
    );
    assert_eq!(script.rpm("D", 3, 1), []);
    assert_eq!(script.machine.counts().unborn, 1);
    assert!(script.machine.wants_rebirth());
}

#[test]
fn data_before_a_birth_is_dropped_and_wants_one() {
    let mut script = Script::new();
    assert_eq!(script.temp(5, 1.0), []);
    assert_eq!(script.machine.counts().unborn, 1);
    assert!(script.machine.poll_rebirth(script.now_ms));
    script.node_birth(0);
    assert!(!script.machine.wants_rebirth());
}

#[test]
fn a_device_birth_before_the_node_birth_is_dropped_and_wants_one() {
    let mut script = Script::new();
    assert_eq!(script.device_birth("D", 1), []);
    assert!(script.machine.wants_rebirth());
    script.node_birth(0);
    assert_eq!(script.rpm("D", 1, 1), []);
    assert!(script.machine.wants_rebirth());
}

#[test]
fn requests_for_a_rebirth_are_spaced_and_back_off() {
    let mut script = Script::new();
    script.temp(5, 1.0);
    let mut sent = Vec::new();
    for second in 0..40 {
        if script.machine.poll_rebirth(script.now_ms + second * 1_000) {
            sent.push(second);
        }
    }
    assert_eq!(sent, [0, 1, 3, 7, 15, 31]);
}

#[test]
fn births_that_do_not_help_do_not_bring_the_requests_back_to_their_pace() {
    let mut script = Script::new();
    let mut sent = Vec::new();
    for second in 0..20 {
        script.now_ms = 10_000 + second * 1_000;
        script.node_birth(second as u64);
        script.rpm("D", 1, 1);
        if script.machine.poll_rebirth(script.now_ms) {
            sent.push(second);
        }
    }
    assert_eq!(sent, [0, 1, 3, 7, 15]);
    script.now_ms += 120_000;
    script.rpm("D", 2, 1);
    assert!(script.machine.poll_rebirth(script.now_ms));
}

#[test]
fn the_same_birth_twice_counts_once() {
    let mut script = Script::new();
    assert_eq!(script.node_birth(0).len(), 2);
    script.temp(1, 1.0);
    assert_eq!(script.node_birth(0), []);
    assert_eq!(script.machine.counts().duplicates, 1);
    assert_eq!(script.temp(2, 2.0).len(), 1);
}

#[test]
fn a_rebirth_begins_the_numbers_anew_and_awaits_the_devices() {
    let mut script = Script::new();
    script.node_birth(0);
    script.device_birth("D", 1);
    script.device_birth("X", 2);
    script.advance(1_000);
    assert_eq!(script.node_birth(0).len(), 2);
    // Its alias counts again with its own birth.
    assert_eq!(script.rpm("D", 1, 5), []);
    assert_eq!(script.device_birth("D", 2).len(), 1);
    assert_eq!(script.rpm("D", 3, 5).len(), 1);
    // The other one did not come back.
    assert_eq!(script.machine.poll_timeout(), Some(41_000));
    assert_eq!(script.advance(30_000), [gone("G/E/X/rpm", 41_000)]);
}

#[test]
fn a_metric_that_a_new_birth_leaves_out_becomes_stale() {
    let mut script = Script::new();
    script.node_birth(0);
    let birth = Payload {
        timestamp: Some(9),
        seq: Some(0),
        metrics: vec![
            long("bdSeq", 0),
            named("temp", DataType::Double, RawValue::Double(1.0)),
        ],
        ..Payload::default()
    };
    assert_eq!(
        script.send(MessageKind::NodeBirth, None, birth),
        [
            good("G/E/temp", Value::Double(1.0), 9),
            gone("G/E/on", 10_000)
        ]
    );
    // The birth gave no alias, so the one before does not count.
    assert_eq!(script.temp(1, 2.0), []);
    assert_eq!(script.machine.counts().unknown_metrics, 1);
}

#[test]
fn aliases_numbers_and_held_messages_outlive_a_restart() {
    let mut script = Script::new();
    script.node_birth(0);
    script.device_birth("D", 1);
    assert_eq!(script.temp(3, 3.0), []);
    script.restart();
    assert_eq!(
        script.rpm("D", 2, 5),
        [
            good("G/E/D/rpm", Value::Signed(5), 1_002),
            good("G/E/temp", Value::Double(3.0), 1_003),
        ]
    );
    assert_eq!(script.death(0).len(), 3);
}

#[test]
fn who_stays_silent_after_a_restart_is_given_up() {
    let mut script = Script::new();
    script.node_birth(0);
    script.restart();
    assert_eq!(script.machine.poll_timeout(), Some(70_000));
    assert_eq!(script.advance(59_999), []);
    assert_eq!(script.advance(1).len(), 2);
    assert!(!script.machine.is_online());
}

#[test]
fn who_is_heard_after_a_restart_is_kept() {
    let mut script = Script::new();
    script.node_birth(0);
    script.restart();
    script.temp(1, 1.0);
    assert_eq!(script.machine.poll_timeout(), None);
}

#[test]
fn bytes_that_are_no_payload_change_nothing() {
    let mut script = Script::new();
    script.node_birth(0);
    let mut samples = Vec::new();
    let incoming = Incoming {
        kind: MessageKind::NodeData,
        device: None,
        payload: &[0x12, 0xff],
        received_ms: 0,
        place: 9,
    };
    script.machine.handle(incoming, &mut samples);
    assert_eq!(samples, []);
    assert_eq!(script.machine.counts().malformed, 1);
    assert_eq!(script.temp(1, 1.0).len(), 1);
}
