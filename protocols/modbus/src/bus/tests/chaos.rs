//! Random faults of all kinds at once: whatever happens, a value that is
//! reported is the value of its tag.

use std::time::Duration;

use super::world::{Act, Asked, SECOND, World, config, framed, register, right_pdu};
use crate::bus::{Framing, Moment, Tag};

/// Tags of three units with answers of few different shapes.
fn tags() -> Vec<Tag> {
    let mut tags = Vec::new();
    for unit in 1..=3 {
        for index in 0..6 {
            let mut tag = register(unit, 100 + index * 40);
            tag.interval = SECOND * (1 + u32::from(index) % 3);
            tags.push(tag);
        }
        tags.push(register(unit, 901));
        tags.push(register(unit, 902));
    }
    tags
}

/// A device that fails in every way that was seen in the field, one request in
/// `one_in`. Its answers leave in the order of the requests.
fn unreliable(
    framing: Framing,
    seed: u64,
    one_in: u32,
) -> impl FnMut(&Asked) -> Vec<(Duration, Act)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut last: Moment = Moment::ZERO;
    move |asked| {
        let mut delay = Duration::from_millis(rng.u64(1..60));
        let mut pdu = right_pdu(asked);
        let mut from = asked.clone();
        let mut close = false;
        let mut cut = None;
        let mut twice = false;
        if rng.u32(0..one_in) == 0 {
            match rng.u32(0..11) {
                0 => return Vec::new(),
                1..=3 => delay = Duration::from_millis(rng.u64(400..4_500)),
                4 => from.unit = rng.u8(0..5),
                5 => from.transaction = asked.transaction.wrapping_sub(rng.u16(1..3)),
                6 => pdu = vec![asked.pdu[0] | 0x80, rng.u8(1..12)],
                7 => pdu.truncate(rng.usize(2..=pdu.len())),
                8 => close = true,
                9 => cut = Some(rng.usize(0..6)),
                _ => twice = true,
            }
        }
        // A device works on one request after the other.
        let at = last.max(asked.at + delay);
        last = at;
        let delay = at - asked.at;
        let mut frame = framed(framing, &from, &pdu);
        if twice {
            frame = [frame.clone(), frame].concat();
        }
        if let Some(cut) = cut {
            let (half, rest) = frame.split_at(cut);
            let later = delay + Duration::from_millis(rng.u64(1..900));
            last = last.max(asked.at + later);
            return vec![
                (delay, Act::ToAnyone(half.to_vec())),
                (later, Act::ToAnyone(rest.to_vec())),
            ];
        }
        let act = if framing == Framing::Tcp {
            Act::Bytes(frame)
        } else {
            Act::ToAnyone(frame)
        };
        let mut acts = vec![(delay, act)];
        if close {
            acts.push((delay / 2, Act::Close));
        }
        acts
    }
}

#[test]
fn no_value_goes_to_the_wrong_tag_whatever_fails() {
    let serial = Framing::Rtu {
        silence: Duration::from_millis(2),
    };
    // Each of how many seeds is run (CONTRIBUTING.md).
    let stride = std::env::var("FOREBAY_TEST_STRIDE");
    let stride = stride.map_or(1, |text| text.parse().unwrap());
    for framing in [Framing::Tcp, Framing::RtuOverTcp, serial] {
        for seed in (0..12).step_by(stride) {
            for one_in in [4, 20] {
                let tags = tags();
                let mut configuration = config(framing, tags.clone());
                configuration.devices[0].retries = u32::from(seed % 3 == 0);
                let mut world = World::new(configuration, unreliable(framing, seed, one_in));
                world.run_until(SECOND * 1_800);
                world.assert_right(&tags);
                let least = if one_in == 4 { 300 } else { 2_000 };
                let good = world.good();
                assert!(good > least, "{framing:?} {seed}: {good} good");
                assert!(world.connects.len() < 1_200, "{}", world.connects.len());
            }
        }
    }
}
