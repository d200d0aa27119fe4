//! Compares the logs with the ledgers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::ledger::{Guarantee, Ledger, Position, parse};
use crate::failure::{During, Outcome};
use crate::wire::kafka::Client;

/// Violations listed in full; the rest is counted.
const LISTED_MAX: usize = 20;

/// One message as it lies in a log.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    sequence: u64,
    position: Position,
}

/// What was read back.
#[derive(Debug, Default)]
pub struct Reading {
    /// Sightings of each writer, in log order.
    writers: BTreeMap<String, Vec<Sighting>>,
    /// Payload by topic, partition and offset.
    pub payloads: BTreeMap<(String, i32, i64), Vec<u8>>,
    /// Records that no writer wrote.
    strangers: u64,
}

impl Reading {
    /// Reads `topics` from start to end.
    ///
    /// # Errors
    /// The node does not answer, or a batch does not decode.
    pub fn take(address: SocketAddr, topics: &[&str], keep_payloads: bool) -> Outcome<Self> {
        let mut reading = Self::default();
        let mut client = Client::connect(address).during("Kafka connection")?;
        for topic in topics {
            let partitions = client.partitions(topic).during(topic)?;
            for partition in 0..partitions {
                let records = client
                    .read_partition(topic, partition)
                    .during(format!("reading {topic}-{partition}"))?;
                for record in records {
                    let position = (partition, record.offset);
                    reading.note(&record.value, position);
                    if keep_payloads {
                        let key = ((*topic).to_owned(), partition, record.offset);
                        reading.payloads.insert(key, record.value);
                    }
                }
            }
        }
        Ok(reading)
    }

    /// Records of all writers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.writers.values().map(|seen| seen.len() as u64).sum()
    }

    fn note(&mut self, payload: &[u8], position: Position) {
        match parse(payload) {
            Some((name, sequence)) => {
                let sighting = Sighting { sequence, position };
                self.writers
                    .entry(name.to_owned())
                    .or_default()
                    .push(sighting);
            }
            None => self.strangers += 1,
        }
    }

    /// Every broken promise, one sentence each.
    #[must_use]
    pub fn violations<'a>(&self, ledgers: impl Iterator<Item = &'a Ledger>) -> Vec<String> {
        let mut found = Vec::new();
        if self.strangers > 0 {
            found.push(format!("{} records that nobody wrote", self.strangers));
        }
        for ledger in ledgers {
            let seen = self
                .writers
                .get(&ledger.name)
                .map_or(&[][..], Vec::as_slice);
            judge(ledger, seen, &mut found);
            found.extend(ledger.violations.iter().cloned());
        }
        let more = found.len().saturating_sub(LISTED_MAX);
        if more > 0 {
            found.truncate(LISTED_MAX);
            found.push(format!("and {more} more"));
        }
        found
    }
}

fn judge(ledger: &Ledger, seen: &[Sighting], found: &mut Vec<String>) {
    let name = &ledger.name;
    let mut first: BTreeMap<u64, Position> = BTreeMap::new();
    let mut highest = None;
    for sighting in seen {
        let Sighting { sequence, position } = *sighting;
        if sequence >= ledger.sent() {
            found.push(format!("{name}: {sequence} was never sent"));
        }
        if first.contains_key(&sequence) {
            let may_repeat =
                ledger.guarantee == Guarantee::AtLeastOnce && ledger.resent.contains(&sequence);
            if !may_repeat {
                found.push(format!("{name}: {sequence} is there again at {position:?}"));
            }
            continue;
        }
        first.insert(sequence, position);
        if highest.is_some_and(|highest| sequence < highest) {
            found.push(format!(
                "{name}: {sequence} comes after {highest:?} at {position:?}"
            ));
        }
        highest = highest.max(Some(sequence));
    }
    for (sequence, promised) in &ledger.acknowledged {
        match (first.get(sequence), promised) {
            (None, _) => found.push(format!("{name}: {sequence} was acknowledged and is gone")),
            (Some(actual), Some(promised)) if actual != promised => found.push(format!(
                "{name}: {sequence} was acknowledged at {promised:?} and lies at {actual:?}"
            )),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Guarantee, Ledger, Reading};

    /// Judges a log of sequence numbers against a writer that sent five, was
    /// acknowledged 0, 1 and 2, and sent 2 again.
    fn violations(guarantee: Guarantee, log: &[u64]) -> usize {
        let mut ledger = Ledger::new("w".to_owned(), guarantee);
        for _ in 0..5 {
            ledger.next_payload(10);
        }
        for sequence in 0..3 {
            ledger.acknowledge(sequence, None);
        }
        ledger.resent.insert(2);
        let mut reading = Reading::default();
        for (offset, sequence) in (0..).zip(log) {
            reading.note(&ledger.payload(*sequence, 10), (0, offset));
        }
        reading.violations(std::iter::once(&ledger)).len()
    }

    #[test]
    fn each_broken_promise_is_found() {
        use Guarantee::{AtLeastOnce, ExactlyOnce};
        assert_eq!(violations(ExactlyOnce, &[0, 1, 2]), 0);
        assert_eq!(
            violations(ExactlyOnce, &[0, 1, 2, 4]),
            0,
            "3 was not acknowledged"
        );
        assert_eq!(violations(ExactlyOnce, &[0, 2]), 1, "1 is gone");
        assert_eq!(
            violations(ExactlyOnce, &[0, 1, 2, 2]),
            1,
            "2 is there twice"
        );
        assert_eq!(
            violations(AtLeastOnce, &[0, 1, 2, 2]),
            0,
            "2 was sent twice"
        );
        assert_eq!(violations(AtLeastOnce, &[0, 1, 1, 2]), 1, "1 was sent once");
        assert_eq!(violations(ExactlyOnce, &[1, 0, 2]), 1, "out of order");
        assert_eq!(
            violations(ExactlyOnce, &[0, 1, 2, 5]),
            1,
            "5 was never sent"
        );
    }

    #[test]
    fn a_position_that_moved_is_found() {
        let mut ledger = Ledger::new("w".to_owned(), Guarantee::ExactlyOnce);
        let (sequence, payload) = ledger.next_payload(10);
        ledger.acknowledge(sequence, Some((0, 7)));
        let mut reading = Reading::default();
        reading.note(&payload, (0, 8));
        assert_eq!(reading.violations(std::iter::once(&ledger)).len(), 1);
    }
}
