//! The newest right row that is not newer than the left one.
//!
//! Left rows wait until the watermarks of both sides have passed them: only then
//! is it known which right row is the newest before them.

use std::collections::BTreeMap;

use super::{Joined, Matcher, Refusal, Row, Taken};
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

/// Rows of one key by time and arrival.
type Rows = BTreeMap<(i64, u64), Row>;

/// Left rows that wait, right rows by key.
pub struct AsOf {
    waiting: Rows,
    right: BTreeMap<Box<[u8]>, Rows>,
    arrivals: u64,
    left_mark: i64,
    bytes: usize,
}

impl AsOf {
    pub fn new() -> Self {
        Self {
            waiting: Rows::new(),
            right: BTreeMap::new(),
            arrivals: 0,
            left_mark: i64::MIN,
            bytes: 0,
        }
    }
}

impl Matcher for AsOf {
    fn left(&mut self, row: Row, full: bool, _: &mut Joined) -> Taken {
        if row.time < row.mark {
            return Taken::Refused(Refusal::Late);
        }
        if full {
            return Taken::Refused(Refusal::Memory);
        }
        self.arrivals += 1;
        self.bytes += row.memory_bytes();
        self.waiting.insert((row.time, self.arrivals), row);
        Taken::Yes
    }

    fn right(&mut self, row: Row, full: bool, _: &mut Joined) -> Taken {
        if row.time < row.mark {
            return Taken::Refused(Refusal::Late);
        }
        let Some(key) = row.key.clone() else {
            return Taken::Yes;
        };
        // One row more per key takes the place of the one that it outdates.
        if full && self.right.get(&key).is_none_or(|rows| rows.len() > 1) {
            return Taken::Refused(Refusal::Memory);
        }
        self.arrivals += 1;
        self.bytes += row.memory_bytes();
        let rows = self.right.entry(key).or_default();
        rows.insert((row.time, self.arrivals), row);
        // No left row to come is older than the watermark: of the right rows up
        // to it the newest one is enough. Left rows that wait may need more.
        let oldest = self
            .waiting
            .keys()
            .next()
            .map_or(i64::MAX, |(time, _)| *time);
        let limit = self.left_mark.min(oldest);
        while let Some((second, _)) = rows.keys().nth(1)
            && *second <= limit
            && let Some((_, gone)) = rows.pop_first()
        {
            self.bytes -= gone.memory_bytes();
        }
        Taken::Yes
    }

    fn advance(&mut self, left: i64, right: i64, out: &mut Joined) -> i64 {
        self.left_mark = left;
        let mark = left.min(right);
        while let Some(entry) = self
            .waiting
            .first_entry()
            .filter(|entry| entry.key().0 < mark)
        {
            let row = entry.remove();
            self.bytes -= row.memory_bytes();
            let found = row
                .key
                .as_ref()
                .and_then(|key| self.right.get(key))
                .and_then(|rows| rows.range(..=(row.time, u64::MAX)).next_back());
            out.push(
                &row.values,
                found.map(|(_, found)| found.values.as_slice()),
                row.time,
            );
        }
        mark
    }

    fn encode(&self, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_u64(self.arrivals);
            out.put_i64(self.left_mark);
            let right = self.right.values().flatten();
            let waiting = self.waiting.iter();
            out.put_count(right.clone().count());
            out.put_count(waiting.clone().count());
            for ((_, arrival), row) in right.chain(waiting) {
                out.put_u64(*arrival);
                row.encode(out);
            }
        });
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("asof join", VERSION, |input| {
            self.arrivals = input.take_u64()?;
            self.left_mark = input.take_i64()?;
            let right = input.take_u32()?;
            let waiting = input.take_u32()?;
            for index in 0..u64::from(right) + u64::from(waiting) {
                let arrival = input.take_u64()?;
                let row = Row::decode(input)?;
                self.bytes += row.memory_bytes();
                let rows = if index < u64::from(right) {
                    self.right
                        .entry(row.key.clone().unwrap_or_default())
                        .or_default()
                } else {
                    &mut self.waiting
                };
                rows.insert((row.time, arrival), row);
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn due(&self) -> i64 {
        let first = self.waiting.keys().next();
        first.map_or(i64::MAX, |(time, _)| time.saturating_add(1))
    }
}
