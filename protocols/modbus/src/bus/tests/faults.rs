use std::time::Duration;

use super::world::{
    Act, Asked, SECOND, TIMEOUT, World, answer, config, framed, honest, register, right_pdu,
};
use crate::bus::{Framing, Notice, Status, Tag};
use crate::value::Value;

const SERIAL: Framing = Framing::Rtu {
    silence: Duration::from_millis(4),
};
const FRAMINGS: [Framing; 3] = [Framing::Tcp, Framing::RtuOverTcp, SERIAL];
const SOON: Duration = Duration::from_millis(5);

/// Single registers far apart, so that every answer has the same shape.
fn same_shape() -> Vec<Tag> {
    (0..5).map(|n| register(1, 100 + n * 50)).collect()
}

/// Plays a device that treats its third request in a special way and answers
/// all others correctly, and checks that no value went astray and that the bus
/// recovered. Returns what was reported instead of values.
fn third_request(
    framing: Framing,
    mut special: impl FnMut(&Asked) -> Vec<(Duration, Act)> + 'static,
) -> Vec<Status> {
    let tags = same_shape();
    let mut count = 0;
    let mut world = World::new(config(framing, tags.clone()), move |asked| {
        count += 1;
        if count == 3 {
            return special(asked);
        }
        vec![answer(framing, asked, SOON)]
    });
    world.run_until(SECOND * 20);
    world.assert_right(&tags);
    let late = world.readings.iter().filter(|(at, _)| *at > SECOND * 10);
    let late: Vec<_> = late.map(|(_, reading)| reading.result.is_ok()).collect();
    assert!(late.len() >= 45 && late.iter().all(|ok| *ok), "{framing:?}");
    let failed = world
        .readings
        .iter()
        .filter_map(|(_, r)| r.result.as_ref().err());
    failed.copied().collect()
}

#[test]
fn a_late_answer_is_nobodys_value() {
    for framing in FRAMINGS {
        for late_ms in [540, 600, 900, 1_100, 2_400, 4_000] {
            let late = Duration::from_millis(late_ms);
            let failed = third_request(framing, move |asked| vec![answer(framing, asked, late)]);
            assert_eq!(failed, [Status::Timeout], "{framing:?} {late_ms} ms");
        }
    }
}

#[test]
fn a_serial_converter_hands_late_answers_to_the_next_connection() {
    for late_ms in [501, 510, 700, 1_002, 1_010, 1_500, 3_000, 4_900] {
        let tags = same_shape();
        let mut count = 0;
        let mut last = Duration::ZERO;
        let mut world = World::new(config(Framing::RtuOverTcp, tags.clone()), move |asked| {
            count += 1;
            let is_late = count == 3;
            let delay = Duration::from_millis(if is_late { late_ms } else { 5 });
            // The line behind a converter carries one answer after the other.
            last = last.max(asked.at + delay) + SOON;
            let frame = framed(Framing::RtuOverTcp, asked, &right_pdu(asked));
            vec![(last - asked.at, Act::ToAnyone(frame))]
        });
        world.run_until(SECOND * 20);
        world.assert_right(&tags);
        let good = world.good();
        assert!(good >= 50, "{late_ms} ms: {good} good");
        assert!(good < world.readings.len());
    }
}

#[test]
fn a_slow_line_is_given_the_time_that_its_bytes_need() {
    // At 1200 baud a character takes 9.2 ms, and 125 registers 2.4 s.
    let framing = Framing::Rtu {
        silence: crate::frame::rtu::silence(1_200),
    };
    let tags: Vec<_> = (0..125).map(|number| register(1, number)).collect();
    let mut world = World::new(config(framing, tags.clone()), move |asked| {
        vec![answer(framing, asked, Duration::from_millis(2_500))]
    });
    world.run_until(SECOND * 20);
    world.assert_right(&tags);
    assert_eq!(world.good(), world.readings.len());
    assert!(world.good() >= 125 * 5);
}

#[test]
fn a_wrong_transaction_is_nobodys_value() {
    for step in [1u16, 2, 0xFFFF] {
        let failed = third_request(Framing::Tcp, move |asked| {
            let mut wrong = asked.clone();
            wrong.transaction = asked.transaction.wrapping_add(step);
            vec![answer(Framing::Tcp, &wrong, SOON)]
        });
        assert_eq!(failed, [Status::Timeout]);
    }
}

#[test]
fn an_answer_from_another_unit_is_nobodys_value() {
    for framing in FRAMINGS {
        let failed = third_request(framing, move |asked| {
            let mut wrong = asked.clone();
            wrong.unit = 9;
            vec![answer(framing, &wrong, SOON)]
        });
        assert_eq!(failed, [Status::WrongAnswer], "{framing:?}");
    }
}

#[test]
fn an_answer_to_another_function_is_nobodys_value() {
    for framing in FRAMINGS {
        let failed = third_request(framing, move |asked| {
            let mut pdu = right_pdu(asked);
            pdu[0] = 4;
            vec![(SOON, Act::Bytes(framed(framing, asked, &pdu)))]
        });
        assert_eq!(failed, [Status::WrongAnswer], "{framing:?}");
    }
}

#[test]
fn too_many_or_too_few_registers_are_nobodys_value() {
    for framing in FRAMINGS {
        for registers in [0u8, 2, 3] {
            let failed = third_request(framing, move |asked| {
                let mut pdu = vec![asked.pdu[0], registers * 2];
                pdu.resize(2 + usize::from(registers) * 2, 1);
                vec![(SOON, Act::Bytes(framed(framing, asked, &pdu)))]
            });
            assert_eq!(failed, [Status::WrongAnswer], "{framing:?} {registers}");
        }
    }
}

#[test]
fn a_frame_in_pieces_is_one_frame() {
    for framing in FRAMINGS {
        let failed = third_request(framing, move |asked| {
            let frame = framed(framing, asked, &right_pdu(asked));
            let piece = |(index, byte): (usize, &u8)| {
                let after = Duration::from_millis(10 * u64::try_from(index).unwrap());
                (after, Act::Bytes(vec![*byte]))
            };
            frame.iter().enumerate().map(piece).collect()
        });
        assert_eq!(failed, [], "{framing:?}");
    }
}

#[test]
fn half_a_frame_is_no_value_and_its_other_half_neither() {
    for framing in FRAMINGS {
        for rest_ms in [None, Some(520), Some(700), Some(1_200)] {
            for cut in 1..7 {
                let failed = third_request(framing, move |asked| {
                    let frame = framed(framing, asked, &right_pdu(asked));
                    let (half, rest) = frame.split_at(cut);
                    let mut acts = vec![(SOON, Act::Bytes(half.to_vec()))];
                    acts.extend(
                        rest_ms.map(|ms| (Duration::from_millis(ms), Act::ToAnyone(rest.to_vec()))),
                    );
                    acts
                });
                assert!(!failed.is_empty(), "{framing:?} {rest_ms:?} {cut}");
            }
        }
    }
}

#[test]
fn a_wrong_checksum_is_no_value() {
    for framing in [Framing::RtuOverTcp, SERIAL] {
        let failed = third_request(framing, move |asked| {
            let mut frame = framed(framing, asked, &right_pdu(asked));
            frame[3] ^= 1;
            vec![(SOON, Act::Bytes(frame))]
        });
        assert_eq!(failed, [Status::Garbled], "{framing:?}");
    }
}

#[test]
fn a_stray_byte_behind_an_answer_is_noise_and_a_second_answer_is_not() {
    for framing in [Framing::RtuOverTcp, SERIAL] {
        let failed = third_request(framing, move |asked| {
            let mut frame = framed(framing, asked, &right_pdu(asked));
            frame.push(0);
            vec![(SOON, Act::Bytes(frame))]
        });
        assert_eq!(failed, []);
        let failed = third_request(framing, move |asked| {
            let frame = framed(framing, asked, &right_pdu(asked));
            vec![(SOON, Act::Bytes([frame.clone(), frame].concat()))]
        });
        assert_eq!(failed, [Status::Garbled]);
    }
}

#[test]
fn a_peer_that_is_no_modbus_device_is_left() {
    let mut world = World::new(config(Framing::Tcp, same_shape()), |_| {
        vec![(
            SOON,
            Act::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        )]
    });
    world.run_until(SECOND * 600);
    assert_eq!(world.good(), 0);
    assert!(world.connects.len() < 40, "{}", world.connects.len());
    let reason = Notice::Down("the peer does not speak Modbus TCP".into());
    assert!(world.notices.contains(&reason));
}

#[test]
fn a_connection_that_breaks_in_mid_answer_is_made_again() {
    for framing in FRAMINGS {
        let failed = third_request(framing, move |asked| {
            let frame = framed(framing, asked, &right_pdu(asked));
            vec![
                (SOON, Act::Bytes(frame[..4].to_vec())),
                (SOON * 2, Act::Close),
            ]
        });
        assert_eq!(failed, [Status::Disconnected], "{framing:?}");
    }
}

#[test]
fn a_device_that_lost_power_is_connected_to_again() {
    let tags = vec![register(1, 10)];
    let mut world = World::new(config(Framing::Tcp, tags), |asked| {
        // The old connection stays silent for ever; nothing is closed.
        if (SECOND * 10..SECOND * 40).contains(&asked.at) {
            return Vec::new();
        }
        vec![answer(Framing::Tcp, asked, SOON)]
    });
    world.run_until(SECOND * 150);
    let reason = Notice::Down("requests are not answered".into());
    assert!(world.notices.contains(&reason));
    assert!(world.connects.len() >= 2);
    assert_eq!(world.results(0).last(), Some(&Ok(Value::Unsigned(5_010))));
}

#[test]
fn what_another_master_says_is_nobodys_value() {
    let tags = same_shape();
    let mut world = World::new(config(SERIAL, tags.clone()), |asked| {
        let mut foreign = asked.clone();
        foreign.pdu[2] = foreign.pdu[2].wrapping_add(1);
        vec![
            answer(SERIAL, asked, SOON),
            answer(SERIAL, &foreign, SOON + Duration::from_millis(1)),
        ]
    });
    world.run_until(SECOND * 60);
    world.assert_right(&tags);
    assert!(world.good() > 20, "{}", world.good());
}

#[test]
fn without_a_connection_each_failed_attempt_is_one_bad_reading() {
    let tags = same_shape();
    let mut world = World::new(config(Framing::Tcp, tags), honest(Framing::Tcp));
    world.accepts = None;
    world.run_until(SECOND * 600);
    let attempts = world.connects.len();
    assert!((12..=30).contains(&attempts), "{attempts} attempts");
    assert_eq!(world.results(0), vec![Err(Status::Disconnected); attempts]);
    world.accepts = Some(SOON);
    world.run_until(SECOND * 662);
    assert!(world.results(0).last().unwrap().is_ok());
}

#[test]
fn a_device_that_closes_idle_connections_loses_nothing() {
    let mut tag = register(1, 10);
    tag.interval = SECOND * 10;
    let mut world = World::new(config(Framing::Tcp, vec![tag]), |asked| {
        vec![answer(Framing::Tcp, asked, SOON), (SECOND * 3, Act::Close)]
    });
    world.run_until(SECOND * 300);
    assert!(world.results(0).len() >= 30);
    assert!(world.results(0).iter().all(Result::is_ok));
    assert!(!world.notices.iter().any(|n| matches!(n, Notice::Down(_))));
}

#[test]
fn thirty_minutes_of_flapping_make_few_connections() {
    for framing in FRAMINGS {
        let tags = same_shape();
        let mut count = 0u64;
        let mut world = World::new(config(framing, tags.clone()), move |asked| {
            count += 1;
            // It answers a few requests after each connection and breaks.
            if count.is_multiple_of(4) {
                return vec![(SOON, Act::Close)];
            }
            vec![answer(framing, asked, SOON)]
        });
        world.run_until(SECOND * 1_800);
        world.assert_right(&tags);
        assert!(world.good() > 50, "{framing:?}: {}", world.good());
        assert!(world.connects.len() < 70, "{}", world.connects.len());
        let gaps: Vec<_> = world.connects.windows(2).map(|p| p[1] - p[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= TIMEOUT), "{gaps:?}");
        // Jitter: no two long pauses are alike.
        let mut long: Vec<_> = gaps.iter().filter(|gap| **gap > SECOND * 25).collect();
        let all = long.len();
        long.sort_unstable();
        long.dedup();
        assert!(all > 10 && long.len() == all);
    }
}
