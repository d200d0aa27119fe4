//! Cuts, lost answers and killed nodes, with readings flowing all the time.

use std::collections::{BTreeMap, BTreeSet};

use super::publisher::Publisher;
use super::relay::Weather;
use super::site::{Site, end, records, until};

/// Acknowledged readings of one run.
const READINGS: usize = 5_000;

/// The topic here, and at the hub.
const TOPIC: &str = "vibration";
const COPY: &str = "test.vibration";

type Fault = fn(&mut Site);

/// What happens in the midst of each part of the readings.
const FAULTS: [Fault; 10] = [
    |site| site.set(Weather::Cut),
    |site| site.set(Weather::Fair),
    lose_an_answer,
    Site::kill_hub,
    Site::kill_gateway,
    |site| {
        site.set(Weather::Cut);
        site.kill_gateway();
    },
    |site| {
        site.kill_hub();
        site.set(Weather::Fair);
    },
    lose_an_answer,
    |site| {
        lose_an_answer(site);
        site.kill_gateway();
    },
    |site| {
        site.set(Weather::Cut);
        site.set(Weather::Fair);
    },
];

/// A request arrives at the hub, its answer does not come back.
fn lose_an_answer(site: &mut Site) {
    let before = site.relay.lost_answers();
    site.set(Weather::AnswersLost);
    until("an answer is lost", || {
        (site.relay.lost_answers() > before).then_some(())
    });
    site.set(Weather::Fair);
}

#[test]
fn every_acknowledged_reading_arrives_once_in_spite_of_cuts_and_kills() {
    let mut site = Site::start();
    let mut acknowledged = BTreeSet::new();
    for (part, fault) in FAULTS.into_iter().enumerate() {
        let goal = READINGS / FAULTS.len();
        let first = part as u64 * 1_000_000;
        let publisher = Publisher::start(site.mqtt.clone(), "plant/press", first, goal);
        until("half of the part is acknowledged", || {
            (publisher.acknowledged() >= goal / 2).then_some(())
        });
        fault(&mut site);
        acknowledged.extend(publisher.finish());
        if site.relay.weather() != Weather::Cut {
            let before = end(site.hub(), COPY);
            let pending = end(site.gateway(), TOPIC) > before;
            until("the hub gets something", || {
                (!pending || end(site.hub(), COPY) > before).then_some(())
            });
        }
    }
    assert_eq!(acknowledged.len(), READINGS);
    assert!(site.relay.lost_answers() >= 3);

    let audit = site.drained(READINGS as u64);
    assert_eq!(audit["clean"], true, "{audit}");

    let here = records(site.gateway(), TOPIC);
    let there = records(site.hub(), COPY);
    // Offset, timestamp, key, value and headers, partition by partition.
    assert_eq!(here, there);
    for partition in &there {
        for (index, record) in partition.iter().enumerate() {
            assert_eq!(record.offset, index as i64);
        }
    }
    let mut arrived: BTreeMap<u64, u32> = BTreeMap::new();
    for record in there.iter().flatten() {
        let value = record.value.as_deref().expect("readings have a value");
        let reading = std::str::from_utf8(value).expect("digits").parse();
        *arrived.entry(reading.expect("digits")).or_default() += 1;
    }
    let repeated: Vec<_> = arrived.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(repeated, []);
    let arrived: BTreeSet<u64> = arrived.into_keys().collect();
    let missing: Vec<_> = acknowledged.difference(&arrived).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
