//! The latest row of a table per key.

use std::collections::BTreeMap;

use super::{Joined, Matcher, Refusal, Row, Taken};
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

/// The latest right row of each key, in the order of arrival.
pub struct Latest {
    outer: bool,
    rows: BTreeMap<Box<[u8]>, Row>,
    bytes: usize,
}

impl Latest {
    pub fn new(outer: bool) -> Self {
        Self {
            outer,
            rows: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl Matcher for Latest {
    fn left(&mut self, row: Row, _: bool, out: &mut Joined) -> Taken {
        let found = row.key.as_ref().and_then(|key| self.rows.get(key));
        if found.is_some() || self.outer {
            out.push(
                &row.values,
                found.map(|found| found.values.as_slice()),
                row.time,
            );
        }
        Taken::Yes
    }

    fn right(&mut self, row: Row, full: bool, _: &mut Joined) -> Taken {
        let Some(key) = row.key.clone() else {
            return Taken::Yes;
        };
        if full && !self.rows.contains_key(&key) {
            return Taken::Refused(Refusal::Memory);
        }
        self.bytes += row.memory_bytes();
        if let Some(before) = self.rows.insert(key, row) {
            self.bytes -= before.memory_bytes();
        }
        Taken::Yes
    }

    fn advance(&mut self, left: i64, _: i64, _: &mut Joined) -> i64 {
        left
    }

    fn encode(&self, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_count(self.rows.len());
            self.rows.values().for_each(|row| row.encode(out));
        });
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("table", VERSION, |input| {
            for _ in 0..input.take_count(17)? {
                let row = Row::decode(input)?;
                self.bytes += row.memory_bytes();
                self.rows.insert(row.key.clone().unwrap_or_default(), row);
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn due(&self) -> i64 {
        i64::MAX
    }
}
