//! One script per row of the failure table in `docs/uplink.md`.

use super::*;
use bytes::Bytes;
use forebay_kafka::append_condition::REFUSED_OFFSET;
use forebay_kafka::error_code;
use std::time::Duration;

mod gaps;

const ME: [u8; 16] = [1; 16];
const TOPIC: [u8; 16] = [2; 16];

fn config() -> LinkConfig {
    LinkConfig {
        incarnation: ME,
        source_topic_id: TOPIC,
        batch_bytes: 1000,
    }
}

fn destination() -> Destination {
    Destination {
        cluster_id: "hub".into(),
        topic_id: [3; 16],
    }
}

fn lineage(offset: u64) -> u32 {
    lineage_of(offset, 0, None, Some(&offset.to_be_bytes()))
}

/// A tail whose newest record is source record `offset`, at `delta`.
fn tail(offset: u64, delta: i64) -> Tail {
    let at = offset as i64 + delta;
    Tail {
        log_start: 0,
        log_end: at + 1,
        last: Some(TailRecord {
            offset: at,
            timestamp: 0,
            key: None,
            value: Some(Bytes::copy_from_slice(&offset.to_be_bytes())),
        }),
    }
}

fn empty() -> Tail {
    Tail {
        log_start: 0,
        log_end: 0,
        last: None,
    }
}

/// A link with the clock, so that scripts read as a list of events.
struct Script {
    link: Link<&'static str>,
    now: Instant,
    log_start: u64,
    log_end: u64,
}

impl Script {
    fn new(stored: Option<PartitionState>) -> Script {
        let link = Link::new(config(), stored, fastrand::Rng::with_seed(1));
        Script {
            link,
            now: Instant::now(),
            log_start: 0,
            log_end: 100,
        }
    }

    /// A link that sends, with everything below `acked` delivered.
    fn streaming(acked: u64) -> Script {
        let mut state = PartitionState::new(ME, TOPIC, destination());
        state.producer = Some(Producer {
            id: 7,
            epoch: 0,
            sequence_base: 0,
        });
        state.acked = acked;
        state.acked_lineage = acked.checked_sub(1).map(lineage);
        let mut script = Script::new(Some(state));
        script.connect();
        let at_destination = acked.checked_sub(1).map_or(empty(), |last| tail(last, 0));
        script.tail(at_destination);
        script
    }

    fn connect(&mut self) {
        self.link.handle_connected(destination(), false);
    }

    fn tail(&mut self, tail: Tail) {
        let bounds = SourceBounds {
            log_start: self.log_start,
            log_end: self.log_end,
        };
        self.link.handle_tail(self.now, tail, bounds);
    }

    fn read(&mut self, start: u64, end: u64) {
        let request = self.link.wants_source(self.log_end).unwrap();
        self.link.begin_read();
        let span = SourceSpan {
            start,
            end,
            lineage_last: lineage(end - 1),
            payload: "records",
        };
        self.link.handle_source(request.from, Some(span));
    }

    fn persisted(&mut self) {
        let (version, _) = self.link.submitted.unwrap();
        self.link.handle_persisted(version);
    }

    fn refused(&mut self, start: u64, code: i16, message: Option<&str>) {
        let message = message.map(str::to_owned);
        let refusal = Refusal { code, message };
        self.link.handle_produced(self.now, start, Err(refusal));
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_secs(60);
        self.link.handle_timeout(self.now);
    }

    /// The effects since the last call, shortened to what a script compares.
    fn effects(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(effect) = self.link.next_effect() {
            out.push(match effect {
                Effect::PersistPlan { .. } => "persist".into(),
                Effect::SendProduce(send) => {
                    let (batch, producer) = (send.batch, send.producer);
                    let gap = send.condition.gap_to;
                    let gap = gap.map_or(String::new(), |to| format!(" gap to {to}"));
                    format!(
                        "send {}..{} producer {}/{} sequence {} expecting {}{gap}",
                        batch.start,
                        batch.end,
                        producer.id,
                        producer.epoch,
                        send.sequence,
                        send.condition.expected_offset,
                    )
                }
                Effect::Hold { offset } => format!("hold {offset}"),
                Effect::ReadSource { from, end } => format!("reread {from}..{end}"),
                Effect::ReadLineage { offset } => format!("lineage {offset}"),
                Effect::Stop { .. } => "stop".into(),
                other => format!("{other:?}"),
            });
        }
        out
    }

    fn stopped(&self) -> &StopReason {
        self.link.stop_reason().unwrap()
    }
}

#[test]
fn a_fresh_link_persists_its_plan_before_it_sends() {
    let mut script = Script::new(None);
    assert_eq!(script.effects(), ["hold 0"]);
    script.connect();
    assert_eq!(script.effects(), ["FetchTail"]);
    script.tail(empty());
    assert_eq!(script.effects(), ["InitProducerId"]);
    script.link.handle_producer_id(7, 0);
    assert_eq!(script.effects(), ["persist"]);
    script.read(0, 10);
    script.persisted();
    assert_eq!(script.effects(), ["hold 0", "persist"]);
    script.persisted();
    assert_eq!(
        script.effects(),
        ["hold 0", "send 0..10 producer 7/0 sequence 0 expecting 0"]
    );
    script.link.handle_produced(script.now, 0, Ok(0));
    assert_eq!(script.effects(), ["persist"]);
    script.persisted();
    assert_eq!(script.effects(), ["hold 10"]);
    assert_eq!(script.link.acked(), 10);
}

#[test]
fn at_most_five_batches_are_planned_and_one_travels_until_the_first_answer() {
    let mut script = Script::streaming(0);
    for n in 0..5 {
        script.read(n * 10, n * 10 + 10);
    }
    assert_eq!(script.link.wants_source(script.log_end), None);
    script.persisted();
    script.persisted();
    let sent = script.effects();
    let sent = sent.iter().filter(|effect| effect.starts_with("send"));
    assert_eq!(sent.count(), 1);
    script.link.handle_produced(script.now, 0, Ok(0));
    let sent = script.effects();
    let sent: Vec<_> = sent.iter().filter(|e| e.starts_with("send")).collect();
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[3], "send 40..50 producer 7/0 sequence 40 expecting 40");
}

#[test]
fn a_lost_answer_leads_to_the_same_batch_under_the_same_sequence() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    let sent = "send 5..9 producer 7/0 sequence 5 expecting 5";
    assert_eq!(script.effects().last().unwrap(), sent);
    // A restart from the durable state.
    let stored = PartitionState::decode(&script.link.state().encode()).unwrap();
    let mut script = Script::new(Some(stored));
    script.connect();
    script.tail(tail(4, 0));
    assert_eq!(script.effects(), ["hold 5", "FetchTail", "reread 5..9"]);
    script.link.handle_reread(script.now, 5, 9, Some("records"));
    assert_eq!(script.effects(), [sent]);
}

#[test]
fn a_batch_that_the_tail_shows_is_not_sent_again() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.link.handle_disconnected();
    script.connect();
    script.tail(tail(8, 0));
    assert_eq!(script.link.acked(), 9);
    assert!(!script.effects().iter().any(|e| e.starts_with("reread")));
}

#[test]
fn a_late_copy_is_found_by_a_refusal_and_a_look_at_the_tail() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.effects();
    script.refused(5, error_code::OUT_OF_ORDER_SEQUENCE_NUMBER, None);
    script.pass_time();
    assert_eq!(script.effects(), ["FetchTail"]);
    script.tail(tail(8, 0));
    assert_eq!(script.link.acked(), 9);
}

#[test]
fn an_acknowledgement_at_another_offset_stops() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.link.handle_produced(script.now, 5, Ok(6));
    assert_eq!(
        *script.stopped(),
        StopReason::OffsetMismatch {
            offset: 5,
            found: 6,
            expected: 5
        }
    );
}

#[test]
fn another_cluster_behind_the_name_stops() {
    let mut script = Script::streaming(5);
    script.link.handle_disconnected();
    let other = Destination {
        cluster_id: "other".into(),
        ..destination()
    };
    script.link.handle_connected(other, false);
    assert!(matches!(
        script.stopped(),
        StopReason::ClusterChanged { .. }
    ));
}

#[test]
fn a_recreated_destination_topic_stops() {
    let mut script = Script::streaming(5);
    script.link.handle_disconnected();
    let other = Destination {
        topic_id: [9; 16],
        ..destination()
    };
    script.link.handle_connected(other, false);
    assert!(matches!(
        script.stopped(),
        StopReason::TopicRecreated { .. }
    ));
}

#[test]
fn a_foreign_newest_record_stops() {
    let mut script = Script::streaming(5);
    script.link.handle_disconnected();
    script.connect();
    let mut foreign = tail(4, 0);
    if let Some(record) = &mut foreign.last {
        record.value = Some(Bytes::from_static(b"somebody else's"));
    }
    script.tail(foreign);
    let diverged = StopReason::Diverged {
        offset: 4,
        destination_offset: 4,
    };
    assert_eq!(*script.stopped(), diverged);
}

#[test]
fn a_destination_ahead_of_the_source_stops() {
    let mut script = Script::streaming(5);
    script.link.handle_disconnected();
    script.connect();
    script.log_end = 5;
    script.tail(tail(7, 0));
    let behind = StopReason::SourceBehind {
        destination: 8,
        source_end: 5,
    };
    assert_eq!(*script.stopped(), behind);
}

#[test]
fn a_destination_that_was_not_empty_stops_a_fresh_link() {
    let mut script = Script::new(None);
    script.connect();
    script.tail(tail(700, 0));
    assert_eq!(
        *script.stopped(),
        StopReason::Unverifiable {
            destination_end: 701
        }
    );
}

#[test]
fn a_lost_cursor_is_found_again_at_the_destination() {
    let mut script = Script::new(None);
    script.connect();
    script.tail(tail(41, 0));
    assert_eq!(script.effects().last().unwrap(), "lineage 41");
    script
        .link
        .handle_lineage(script.now, 41, Some(lineage(41)));
    assert_eq!(script.link.acked(), 42);
    assert_eq!(script.effects().last().unwrap(), "InitProducerId");
}

#[test]
fn what_the_destination_lost_is_sent_again_to_the_same_offsets() {
    let mut script = Script::streaming(50);
    script.link.handle_disconnected();
    script.connect();
    script.effects();
    script.tail(tail(39, 0));
    assert_eq!(script.effects(), ["lineage 39"]);
    script
        .link
        .handle_lineage(script.now, 39, Some(lineage(39)));
    assert_eq!(script.link.acked(), 40);
    script.persisted();
    script.read(40, 45);
    script.persisted();
    let sent = "send 40..45 producer 7/0 sequence 40 expecting 40";
    assert_eq!(script.effects().last().unwrap(), sent);
}

#[test]
fn what_both_sides_lost_stops() {
    let mut script = Script::streaming(50);
    script.link.handle_disconnected();
    script.connect();
    script.log_start = 45;
    script.tail(tail(39, 0));
    let lost = StopReason::LostAtDestination {
        destination: 40,
        acked: 50,
        log_start: 45,
    };
    assert_eq!(*script.stopped(), lost);
}

#[test]
fn a_persistent_refusal_of_a_verified_sequence_stops() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    for _ in 0..MAX_REFUSED_IN_A_ROW {
        assert_eq!(script.link.stop_reason(), None);
        script.refused(5, error_code::INVALID_RECORD, Some(REFUSED_OFFSET));
        script.pass_time();
        script.tail(tail(4, 0));
    }
    assert!(matches!(
        script.stopped(),
        StopReason::SequenceRefused { .. }
    ));
}

#[test]
fn a_newer_epoch_at_the_destination_stops() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.refused(5, error_code::INVALID_PRODUCER_EPOCH, None);
    assert_eq!(*script.stopped(), StopReason::Fenced { code: 47 });
}

#[test]
fn a_cloned_or_moved_data_directory_stops_at_once() {
    let mut state = PartitionState::new([8; 16], TOPIC, destination());
    state.acked = 3;
    let script = Script::new(Some(state));
    assert!(matches!(
        script.stopped(),
        StopReason::IncarnationChanged { .. }
    ));
}

#[test]
fn a_recreated_source_topic_stops_at_once() {
    let script = Script::new(Some(PartitionState::new(ME, [8; 16], destination())));
    assert!(matches!(
        script.stopped(),
        StopReason::SourceRecreated { .. }
    ));
}

#[test]
fn a_forgotten_producer_is_replaced_after_the_tail_is_verified() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.refused(5, error_code::UNKNOWN_PRODUCER_ID, None);
    script.pass_time();
    script.effects();
    script.tail(tail(4, 0));
    assert_eq!(script.effects(), ["InitProducerId"]);
    script.link.handle_producer_id(8, 0);
    script.persisted();
    let sent = "send 5..9 producer 8/0 sequence 0 expecting 5";
    assert_eq!(script.effects().last().unwrap(), sent);
}

#[test]
fn a_batch_too_large_is_halved_and_a_record_too_large_stops() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.refused(5, error_code::MESSAGE_TOO_LARGE, None);
    script.pass_time();
    script.tail(tail(4, 0));
    assert_eq!(script.link.wants_source(100).unwrap().max_records, 2);
    script.read(5, 6);
    script.persisted();
    script.refused(5, error_code::MESSAGE_TOO_LARGE, None);
    assert_eq!(*script.stopped(), StopReason::RecordTooLarge { offset: 5 });
}

#[test]
fn a_timestamp_that_is_never_accepted_stops() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.refused(5, error_code::INVALID_TIMESTAMP, None);
    assert!(matches!(
        script.stopped(),
        StopReason::Refused { code: 32, .. }
    ));
}

#[test]
fn a_busy_destination_is_asked_again_after_a_pause() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.effects();
    script.refused(5, error_code::NOT_ENOUGH_REPLICAS, None);
    assert_eq!(script.effects(), [""; 0]);
    script.pass_time();
    script.tail(tail(4, 0));
    let sent = "send 5..9 producer 7/0 sequence 5 expecting 5";
    assert_eq!(script.effects(), ["FetchTail", sent]);
}
