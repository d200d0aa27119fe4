//! A clock that is wrong, then right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::{Clock, Mark, Stamp, TimeSource};

/// A system whose wall clock is set by the test.
#[derive(Clone, Default)]
pub(crate) struct Sample {
    monotonic_ms: Arc<AtomicI64>,
    offset_ms: Arc<AtomicI64>,
    is_synchronised: Arc<AtomicBool>,
}

impl TimeSource for Sample {
    fn wall_ms(&self) -> i64 {
        self.monotonic_ms() + self.offset_ms.load(Ordering::Relaxed)
    }

    fn monotonic_ms(&self) -> i64 {
        self.monotonic_ms.load(Ordering::Relaxed)
    }

    fn is_synchronised(&self) -> bool {
        self.is_synchronised.load(Ordering::Relaxed)
    }
}

impl Sample {
    pub(crate) fn clock(&self, boot: &str) -> Clock {
        Clock::new(Box::new(self.clone()), boot)
    }

    fn pass(&self, ms: i64) {
        self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn set_wall(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    pub(crate) fn synchronise(&self, offset_ms: i64) {
        self.set_wall(offset_ms);
        self.is_synchronised.store(true, Ordering::Relaxed);
    }
}

const NOW: i64 = 1_763_856_000_000;

fn mark(stamp: &Stamp) -> Option<Mark> {
    Mark::parse(stamp.header.as_ref()?.as_bytes())
}

#[test]
fn a_synchronised_clock_leaves_times_alone() {
    let system = Sample::default();
    system.synchronise(NOW);
    let clock = system.clock("boot-1");
    assert!(clock.is_trusted());
    assert_eq!(clock.stamp(5), Stamp::plain(5));
    assert_eq!(clock.look(), None);
}

#[test]
fn until_the_synchronisation_records_carry_the_boot_and_its_milliseconds() {
    let system = Sample::default();
    let clock = system.clock("boot-1");
    system.pass(4_000);
    let stamp = clock.stamp(clock.now_ms() - 30);
    let expected = Mark {
        boot: "boot-1".into(),
        monotonic_ms: 3_970,
    };
    assert_eq!(mark(&stamp), Some(expected));
    assert_eq!(stamp.timestamp_ms, 3_970);
}

#[test]
fn the_correction_leads_from_every_mark_to_the_right_time() {
    let system = Sample::default();
    let clock = system.clock("boot-1");
    system.pass(4_000);
    let early = mark(&clock.stamp(clock.now_ms())).unwrap();
    system.pass(6_000);
    system.synchronise(NOW - 10_000);
    let correction = clock.look().unwrap();
    assert_eq!(
        (correction.jump_ms, correction.synchronised),
        (NOW - 10_000, true)
    );
    assert_eq!(early.monotonic_ms + correction.offset_ms, NOW - 6_000);
    assert!(clock.is_trusted());
    assert_eq!(clock.look(), None, "one correction is enough");
}

#[test]
fn a_reading_that_waited_in_memory_is_stamped_anew_and_says_so() {
    let system = Sample::default();
    let clock = system.clock("boot-1");
    system.pass(4_000);
    let waiting = clock.now_ms();
    system.synchronise(NOW);
    clock.look().unwrap();
    system.pass(2_000);
    let stamp = clock.stamp(waiting);
    assert_eq!(stamp.timestamp_ms, NOW + 4_000);
    assert_eq!(stamp.header.as_deref(), Some("corrected"));
    let fresh = clock.now_ms();
    assert_eq!(clock.stamp(fresh), Stamp::plain(fresh));
    system.pass(super::LATE_MS_MAX);
    let old = clock.stamp(waiting);
    assert_eq!(old, Stamp::plain(waiting), "nothing waits that long");
}

#[test]
fn a_step_between_two_looks_does_not_spoil_the_monotonic_time() {
    let system = Sample::default();
    let clock = system.clock("boot-1");
    system.pass(4_000);
    system.set_wall(NOW);
    let stamp = clock.stamp(clock.now_ms());
    assert_eq!(mark(&stamp).unwrap().monotonic_ms, 4_000);
}

#[test]
fn a_clock_set_by_hand_is_a_correction_and_stays_marked() {
    let system = Sample::default();
    let clock = system.clock("boot-1");
    system.set_wall(400);
    assert_eq!(clock.look(), None, "that is a slew");
    system.set_wall(NOW);
    let correction = clock.look().unwrap();
    assert!(!correction.synchronised);
    assert_eq!(correction.offset_ms, NOW);
    assert!(mark(&clock.stamp(clock.now_ms())).is_some());
}

#[test]
fn only_a_mark_reads_as_a_mark() {
    for text in [
        "corrected",
        "unsynchronised",
        "unsynchronised boot=a monotonic_ms=x",
    ] {
        assert_eq!(Mark::parse(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn the_kernel_answers() {
    let clock = Clock::trusted();
    assert!(clock.is_trusted());
    assert!(clock.now_ms() > 0 && clock.monotonic_ms() > 0);
    // Whatever it says, asking must work on every system.
    let _ = Clock::system().is_trusted();
}
