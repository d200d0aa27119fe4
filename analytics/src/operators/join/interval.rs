//! Rows of two streams whose times are close.

use std::collections::{BTreeMap, BTreeSet};

use super::{Joined, Matcher, Refusal, Row, Taken};
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

/// Time and number of arrival.
type Place = (i64, u64);

/// The rows of one side, by time and by key.
#[derive(Default)]
struct Side {
    rows: BTreeMap<Place, (Row, bool)>,
    keys: BTreeMap<Box<[u8]>, BTreeSet<Place>>,
    bytes: usize,
}

impl Side {
    fn insert(&mut self, place: Place, row: Row, matched: bool) {
        self.bytes += row.memory_bytes();
        if let Some(key) = row.key.clone() {
            self.keys.entry(key).or_default().insert(place);
        }
        self.rows.insert(place, (row, matched));
    }

    /// Takes the rows older than `limit` out, oldest first.
    fn expire(&mut self, limit: i64) -> Vec<(Row, bool)> {
        let kept = self.rows.split_off(&(limit, 0));
        let gone = std::mem::replace(&mut self.rows, kept);
        for (place, (row, _)) in &gone {
            self.bytes -= row.memory_bytes();
            if let Some(key) = &row.key
                && let Some(places) = self.keys.get_mut(key)
            {
                places.remove(place);
                if places.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
        gone.into_values().collect()
    }

    /// The rows of a key from one time to another, in that order.
    fn near(&self, key: &[u8], from: i64, to: i64) -> Vec<Place> {
        self.keys.get(key).map_or_else(Vec::new, |places| {
            places.range((from, 0)..=(to, u64::MAX)).copied().collect()
        })
    }
}

/// Rows of both sides for as long as a match may come.
pub struct Interval {
    /// Right time minus left time is at least this, in milliseconds.
    lower: i64,
    /// And at most this.
    upper: i64,
    outer: bool,
    left: Side,
    right: Side,
    arrivals: u64,
}

impl Interval {
    pub fn new(lower: i64, upper: i64, outer: bool) -> Self {
        Self {
            lower,
            upper,
            outer,
            left: Side::default(),
            right: Side::default(),
            arrivals: 0,
        }
    }
}

impl Matcher for Interval {
    fn left(&mut self, row: Row, full: bool, out: &mut Joined) -> Taken {
        if row.time < row.mark {
            return Taken::Refused(Refusal::Late);
        }
        if full {
            return Taken::Refused(Refusal::Memory);
        }
        let mut matched = false;
        if let Some(key) = &row.key {
            let (from, to) = (
                row.time.saturating_add(self.lower),
                row.time.saturating_add(self.upper),
            );
            for place in self.right.near(key, from, to) {
                if let Some((found, _)) = self.right.rows.get(&place) {
                    matched = true;
                    out.push(&row.values, Some(&found.values), row.time.max(found.time));
                }
            }
        }
        self.arrivals += 1;
        self.left.insert((row.time, self.arrivals), row, matched);
        Taken::Yes
    }

    fn right(&mut self, row: Row, full: bool, out: &mut Joined) -> Taken {
        if row.time < row.mark {
            return Taken::Refused(Refusal::Late);
        }
        let Some(key) = &row.key else {
            return Taken::Yes;
        };
        if full {
            return Taken::Refused(Refusal::Memory);
        }
        let (from, to) = (
            row.time.saturating_sub(self.upper),
            row.time.saturating_sub(self.lower),
        );
        for place in self.left.near(key, from, to) {
            if let Some((found, matched)) = self.left.rows.get_mut(&place) {
                *matched = true;
                out.push(&found.values, Some(&row.values), row.time.max(found.time));
            }
        }
        self.arrivals += 1;
        self.right.insert((row.time, self.arrivals), row, false);
        Taken::Yes
    }

    fn advance(&mut self, left: i64, right: i64, out: &mut Joined) -> i64 {
        // A left row to come is not older than the left watermark, and the right
        // rows that it can match are not older than that plus the lower bound.
        self.right.expire(left.saturating_add(self.lower));
        for (row, matched) in self.left.expire(right.saturating_sub(self.upper)) {
            if self.outer && !matched {
                out.push(&row.values, None, row.time);
            }
        }
        if self.outer {
            left.min(right.saturating_sub(self.upper.max(0)))
        } else {
            left.min(right)
        }
    }

    fn encode(&self, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_u64(self.arrivals);
            for side in [&self.left, &self.right] {
                out.put_count(side.rows.len());
                for ((_, arrival), (row, matched)) in &side.rows {
                    out.put_u64(*arrival);
                    out.put_bool(*matched);
                    row.encode(out);
                }
            }
        });
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("interval join", VERSION, |input| {
            self.arrivals = input.take_u64()?;
            for side in [&mut self.left, &mut self.right] {
                for _ in 0..input.take_count(26)? {
                    let arrival = input.take_u64()?;
                    let matched = input.take_bool()?;
                    let row = Row::decode(input)?;
                    side.insert((row.time, arrival), row, matched);
                }
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.left.bytes + self.right.bytes
    }

    fn due(&self) -> i64 {
        if !self.outer {
            return i64::MAX;
        }
        let first = self.left.rows.keys().next();
        first.map_or(i64::MAX, |(time, _)| {
            time.saturating_add(self.upper).saturating_add(1)
        })
    }
}
