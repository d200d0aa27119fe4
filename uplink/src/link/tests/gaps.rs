//! Records that the source lost before they were delivered.

use super::*;

#[test]
fn a_source_gap_travels_with_the_next_batch_under_a_new_epoch() {
    let mut script = Script::streaming(5);
    script.read(20, 25);
    script.persisted();
    let sent = "send 20..25 producer 7/1 sequence 0 expecting 5 gap to 20";
    assert_eq!(script.effects().last().unwrap(), sent);
    assert_eq!(script.link.state().gaps, [(5, 20)]);
    assert_eq!(script.link.wants_source(100), None);
    // A hub leaves the gap in its offsets.
    script.link.handle_produced(script.now, 20, Ok(20));
    assert_eq!((script.link.acked(), script.link.state().delta), (25, 0));
}

#[test]
fn a_hub_gets_a_gap_alone_while_the_source_is_quiet() {
    let mut script = Script::streaming(5);
    script.link.compares = true;
    script.link.begin_read();
    script.link.handle_source_gap(5, 100);
    script.persisted();
    let sent = "send 100..100 producer 7/1 sequence 0 expecting 5 gap to 100";
    assert_eq!(script.effects().last().unwrap(), sent);
    // The answer is lost with the connection; the tail shows the gap.
    script.link.handle_disconnected();
    script.link.handle_connected(destination(), true);
    let gap_at_end = Tail {
        log_start: 0,
        log_end: 100,
        last: None,
    };
    script.tail(gap_at_end);
    assert_eq!((script.link.acked(), script.link.state().delta), (100, 0));
    assert_eq!(script.link.state().gaps, [(5, 100)]);
    // The next record begins the sequence of the raised epoch.
    script.log_end = 103;
    script.effects();
    script.persisted();
    script.read(100, 103);
    script.persisted();
    let sent = "send 100..103 producer 7/1 sequence 0 expecting 100";
    assert_eq!(script.effects().last().unwrap(), sent);
}

#[test]
fn a_gap_alone_is_repeated_after_a_restart_and_acknowledged() {
    let mut script = Script::streaming(5);
    script.link.compares = true;
    script.link.begin_read();
    script.link.handle_source_gap(5, 100);
    let stored = PartitionState::decode(&script.link.state().encode()).unwrap();
    let mut script = Script::new(Some(stored));
    script.link.handle_connected(destination(), true);
    script.tail(tail(4, 0));
    let sent = "send 100..100 producer 7/1 sequence 0 expecting 5 gap to 100";
    assert_eq!(script.effects().last().unwrap(), sent);
    script.link.handle_produced(script.now, 100, Ok(100));
    assert_eq!((script.link.acked(), script.link.state().delta), (100, 0));
}

#[test]
fn towards_apache_kafka_a_gap_waits_for_the_next_record() {
    let mut script = Script::streaming(5);
    script.link.begin_read();
    script.link.handle_source_gap(5, 100);
    assert_eq!(script.link.wants_source(100), None);
    script.log_end = 101;
    script.read(100, 101);
    script.persisted();
    let sent = "send 100..101 producer 7/1 sequence 0 expecting 5 gap to 100";
    assert_eq!(script.effects().last().unwrap(), sent);
}

#[test]
fn apache_kafka_closes_a_gap_up_and_the_difference_is_kept() {
    let mut script = Script::streaming(5);
    script.read(20, 25);
    script.persisted();
    script.link.handle_produced(script.now, 20, Ok(5));
    assert_eq!((script.link.acked(), script.link.state().delta), (25, -15));
    script.persisted();
    script.read(25, 26);
    script.persisted();
    let sent = "send 25..26 producer 7/1 sequence 5 expecting 10";
    assert_eq!(script.effects().last().unwrap(), sent);
}

#[test]
fn a_planned_batch_that_retention_took_becomes_a_gap() {
    let mut script = Script::streaming(5);
    script.read(5, 9);
    script.persisted();
    script.link.handle_disconnected();
    script.connect();
    script.tail(tail(4, 0));
    script.link.handle_reread(script.now, 5, 9, None);
    script.pass_time();
    script.log_start = 7;
    script.tail(tail(4, 0));
    // The copy may still arrive at Apache Kafka, so nothing of it is repeated.
    script.read(7, 12);
    assert_eq!(script.link.wants_source(100).unwrap().from, 9);
    script.read(9, 12);
    script.persisted();
    let sent = "send 9..12 producer 7/1 sequence 0 expecting 5 gap to 9";
    assert_eq!(script.effects().last().unwrap(), sent);
}

#[test]
fn a_late_copy_that_fills_a_part_of_a_gap_narrows_it_and_changes_nothing_else() {
    let mut script = Script::streaming(5);
    script.read(5, 7);
    script.read(7, 9);
    script.persisted();
    script.persisted();
    script.link.handle_disconnected();
    script.connect();
    script.tail(tail(4, 0));
    script.link.handle_reread(script.now, 5, 7, None);
    script.pass_time();
    script.log_start = 7;
    script.tail(tail(4, 0));
    script.read(7, 12);
    script.read(9, 12);
    script.persisted();
    let sent = "send 9..12 producer 7/1 sequence 0 expecting 5 gap to 9";
    assert_eq!(script.effects().last().unwrap(), sent);
    // A copy of 5..7 arrives before it, and one of 7..9 may still come. Sending
    // record 7 again under a raised epoch would repeat it.
    script.link.handle_disconnected();
    script.connect();
    script.tail(tail(6, 0));
    script.link.handle_lineage(script.now, 6, Some(lineage(6)));
    script
        .link
        .handle_reread(script.now, 9, 12, Some("records"));
    script.persisted();
    let sent = "send 9..12 producer 7/1 sequence 0 expecting 7 gap to 9";
    assert_eq!(script.effects().last().unwrap(), sent);
    // The copy of 7..9 came first after all, so the gap is none.
    script.link.handle_produced(script.now, 9, Ok(9));
    assert_eq!((script.link.acked(), script.link.state().delta), (12, 0));
}
