use std::time::Duration;

use super::world::{Asked, SECOND, World, answer, config, honest, refusal, register};
use crate::bus::{Framing, Moment, Notice, Status};
use crate::exception::Exception;
use crate::value::Value;

const ADDRESS: Status = Status::Refused(Exception::IllegalDataAddress);

fn starts(asked: &[Asked]) -> Vec<(u8, u16, u16)> {
    let word = |asked: &Asked, at: usize| u16::from_be_bytes([asked.pdu[at], asked.pdu[at + 1]]);
    asked
        .iter()
        .map(|asked| (asked.unit, word(asked, 1), word(asked, 3)))
        .collect()
}

#[test]
fn tags_are_read_once_per_interval_from_the_first_second_on() {
    let tags = vec![register(1, 10), register(1, 12), register(1, 90)];
    let mut world = World::new(config(Framing::Tcp, tags.clone()), honest(Framing::Tcp));
    world.run_until(SECOND * 10);
    world.assert_right(&tags);
    assert_eq!(world.results(0).len(), 10);
    assert_eq!(world.asked.len(), 20);
    assert_eq!(starts(&world.asked[..2]), [(1, 10, 3), (1, 90, 1)]);
    let asked_at: Vec<Moment> = world.asked.iter().step_by(2).map(|a| a.at).collect();
    assert!(asked_at[0] < SECOND);
    for pair in asked_at.windows(2).skip(1) {
        assert_eq!(pair[1] - pair[0], SECOND);
    }
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn a_reading_is_reported_at_the_moment_of_its_answer() {
    let tags = vec![register(1, 10)];
    let mut world = World::new(config(Framing::Tcp, tags), |asked| {
        vec![answer(Framing::Tcp, asked, Duration::from_millis(123))]
    });
    world.run_until(SECOND * 3);
    for ((at, _), asked) in world.readings.iter().zip(&world.asked) {
        assert_eq!(*at - asked.at, Duration::from_millis(123));
    }
    assert!(!world.readings.is_empty());
}

#[test]
fn a_slow_bus_leaves_cycles_out_and_counts_them() {
    let mut tags = vec![register(1, 10), register(1, 100), register(1, 200)];
    for tag in &mut tags {
        tag.interval = Duration::from_millis(100);
    }
    let mut world = World::new(config(Framing::Tcp, tags.clone()), |asked| {
        vec![answer(Framing::Tcp, asked, Duration::from_millis(90))]
    });
    world.run_until(SECOND * 30);
    world.assert_right(&tags);
    // One cycle takes 270 ms, so two of three are left out.
    let cycles = world.results(0).len();
    assert!((90..=101).contains(&cycles), "{cycles}");
    let skipped = usize::try_from(world.bus.counters().skipped_cycles).unwrap();
    assert!((298..=301).contains(&(cycles + skipped)), "{skipped}");
}

#[test]
fn a_large_group_does_not_hold_up_a_small_one() {
    let mut tags: Vec<_> = (0..50).map(|n| register(1, n * 20)).collect();
    let mut fast = register(2, 5);
    fast.interval = Duration::from_millis(100);
    tags.push(fast);
    let mut world = World::new(config(Framing::Tcp, tags.clone()), |asked| {
        vec![answer(Framing::Tcp, asked, Duration::from_millis(10))]
    });
    world.run_until(SECOND * 20);
    world.assert_right(&tags);
    assert!(
        world.results(50).len() >= 195,
        "{}",
        world.results(50).len()
    );
    assert!(world.results(0).len() >= 19);
}

#[test]
fn a_refused_hole_splits_the_request_and_is_remembered() {
    let tags = vec![register(1, 10), register(1, 11), register(1, 15)];
    let mut world = World::new(config(Framing::Tcp, tags.clone()), |asked| {
        let [start, count] =
            [1, 3].map(|at| u16::from_be_bytes([asked.pdu[at], asked.pdu[at + 1]]));
        if (start..start + count).contains(&13) {
            return refusal(Framing::Tcp, asked, 2);
        }
        vec![answer(Framing::Tcp, asked, Duration::from_millis(1))]
    });
    world.run_until(SECOND * 3);
    world.assert_right(&tags);
    assert_eq!(world.good(), 9);
    assert_eq!(world.readings.len(), 9, "no bad reading for a hole");
    assert_eq!(
        starts(&world.asked)[..5],
        [(1, 10, 6), (1, 10, 2), (1, 15, 1), (1, 10, 2), (1, 15, 1)]
    );
    let splits = world
        .notices
        .iter()
        .filter(|notice| matches!(notice, Notice::RequestSplit { .. }));
    assert_eq!(splits.count(), 1);
}

#[test]
fn one_address_that_the_device_lacks_does_not_take_its_neighbours_along() {
    let tags: Vec<_> = (10..26).map(|n| register(1, n)).collect();
    let mut world = World::new(config(Framing::Tcp, tags.clone()), |asked| {
        let [start, count] =
            [1, 3].map(|at| u16::from_be_bytes([asked.pdu[at], asked.pdu[at + 1]]));
        if (start..start + count).contains(&17) {
            return refusal(Framing::Tcp, asked, 2);
        }
        vec![answer(Framing::Tcp, asked, Duration::from_millis(1))]
    });
    world.run_until(SECOND * 5);
    world.assert_right(&tags);
    assert_eq!(world.results(7), vec![Err(ADDRESS); 5]);
    assert_eq!(world.good(), 15 * 5);
}

#[test]
fn a_busy_device_is_asked_again() {
    let tags = vec![register(1, 10)];
    let mut configuration = config(Framing::Tcp, tags);
    configuration.devices[0].retries = 2;
    let mut count = 0;
    let mut world = World::new(configuration, move |asked| {
        count += 1;
        if count % 3 == 0 {
            vec![answer(Framing::Tcp, asked, Duration::from_millis(1))]
        } else {
            refusal(Framing::Tcp, asked, 6)
        }
    });
    world.run_until(SECOND * 4);
    assert_eq!(world.good(), 4);
    assert_eq!(world.readings.len(), 4);
}

#[test]
fn a_dead_unit_is_degraded_probed_rarely_and_comes_back() {
    let tags = vec![register(1, 10), register(2, 10), register(2, 500)];
    let mut world = World::new(config(Framing::Tcp, tags.clone()), |asked| {
        let is_dead = asked.unit == 2 && asked.at < SECOND * 600;
        if is_dead {
            return Vec::new();
        }
        vec![answer(Framing::Tcp, asked, Duration::from_millis(5))]
    });
    world.run_until(SECOND * 600);
    world.assert_right(&tags);
    let probes = world.asked.iter().filter(|asked| asked.unit == 2).count();
    // 2, 4, 8, 16, 32 and then 60 seconds apart.
    assert!((10..=22).contains(&probes), "{probes} probes");
    let neighbour = world.results(0);
    assert!(neighbour.iter().all(Result::is_ok));
    assert!(neighbour.len() > 580, "{} of 600", neighbour.len());
    // The dead unit's tags are bad once per failed probe, never good.
    assert!(world.results(1).iter().all(|r| *r == Err(Status::Timeout)));
    assert!(world.results(1).len() <= probes);
    let degraded = Notice::UnitDegraded(2, Status::Timeout);
    assert!(world.notices.contains(&degraded));
    // Within a minute and a quarter of its return it is read every second.
    world.run_until(SECOND * 700);
    assert!(world.notices.contains(&Notice::UnitRecovered(2)));
    let good = world.results(2).iter().filter(|r| r.is_ok()).count();
    assert!(good >= 20, "{good}");
}

#[test]
fn a_unit_behind_a_gateway_that_says_so_is_degraded_without_a_time_out() {
    let tags = vec![register(1, 10), register(2, 10)];
    let mut world = World::new(config(Framing::Tcp, tags.clone()), |asked| {
        if asked.unit == 2 {
            return refusal(Framing::Tcp, asked, 11);
        }
        vec![answer(Framing::Tcp, asked, Duration::from_millis(5))]
    });
    world.run_until(SECOND * 60);
    assert!(world.results(0).len() >= 59);
    assert!(world.asked.iter().filter(|a| a.unit == 2).count() < 10);
    let away = Status::Refused(Exception::GatewayTargetFailed);
    assert!(world.results(1).iter().all(|r| *r == Err(away)));
}

#[test]
fn the_connection_is_closed_after_the_reads_of_a_device_that_wants_it() {
    let mut tags = vec![register(1, 10), register(1, 90)];
    for tag in &mut tags {
        tag.interval = SECOND * 10;
    }
    let mut configuration = config(Framing::Tcp, tags.clone());
    configuration.close_after_read = true;
    configuration.pause_after_connect = Duration::from_millis(300);
    configuration.devices[0].pause = Duration::from_millis(50);
    let mut world = World::new(configuration, honest(Framing::Tcp));
    world.run_until(SECOND * 60);
    world.assert_right(&tags);
    let cycles = world.results(0).len();
    assert!((6..=7).contains(&cycles));
    assert_eq!((world.connects.len(), world.disconnects), (cycles, cycles));
    for (connect, pair) in world.connects.iter().zip(world.asked.chunks(2)) {
        let first = pair[0].at - *connect;
        assert_eq!(first, Duration::from_millis(301));
        assert_eq!(pair[1].at - pair[0].at, Duration::from_millis(55));
    }
}

#[test]
fn serial_requests_keep_the_silence() {
    let silence = Duration::from_millis(4);
    let framing = Framing::Rtu { silence };
    let tags = vec![register(1, 10), register(1, 90), register(1, 200)];
    let mut world = World::new(config(framing, tags.clone()), move |asked| {
        vec![answer(framing, asked, Duration::from_millis(20))]
    });
    world.run_until(SECOND * 5);
    world.assert_right(&tags);
    assert!(world.good() >= 9);
    for pair in world.asked.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(24));
    }
}

#[test]
fn a_new_configuration_keeps_the_connection_and_discards_the_answer_under_way() {
    let before = vec![register(1, 10)];
    let mut world = World::new(config(Framing::Tcp, before), |asked| {
        vec![answer(Framing::Tcp, asked, Duration::from_millis(100))]
    });
    while world.asked.is_empty() {
        let next = world.now + Duration::from_millis(1);
        world.run_until(next);
    }
    // The same position holds another register from here on.
    let after = vec![register(1, 77), register(1, 10)];
    let now = world.now;
    world
        .bus
        .reconfigure(now, config(Framing::Tcp, after.clone()));
    world.run_until(SECOND * 10);
    world.assert_right(&after);
    assert!(world.results(0).len() >= 9);
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn many_buses_that_start_together_do_not_act_together() {
    let first = |seed| {
        let mut world = World::new(
            config(Framing::Tcp, vec![register(1, 1)]),
            honest(Framing::Tcp),
        );
        world.bus = crate::bus::Bus::new(
            config(Framing::Tcp, vec![register(1, 1)]),
            Moment::ZERO,
            seed,
        );
        world.run_until(SECOND);
        world.connects[0].as_millis()
    };
    let mut tenths: Vec<u128> = (0..100).map(|seed| first(seed) / 100).collect();
    tenths.sort_unstable();
    tenths.dedup();
    assert_eq!(
        tenths.len(),
        10,
        "connects fall into every tenth: {tenths:?}"
    );
}

#[test]
fn a_coil_and_a_register_find_their_bits() {
    let mut coil = register(1, 3);
    coil.address.table = crate::address::Table::Coil;
    coil.encoding = crate::value::Encoding::plain(crate::value::DataType::Bool);
    let mut next = coil.clone();
    next.address.number = 4;
    let mut world = World::new(config(Framing::Tcp, vec![coil, next]), honest(Framing::Tcp));
    world.run_until(SECOND * 2);
    // Unit 1 holds 5003 and 5004.
    assert_eq!(world.results(0), vec![Ok(Value::Bool(true)); 2]);
    assert_eq!(world.results(1), vec![Ok(Value::Bool(false)); 2]);
}
