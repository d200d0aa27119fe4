//! Windows from one condition to another, per key, in the order of arrival.

use super::{Common, Cutter, Results};
use crate::eval::Evaluator;
use crate::operators::arena::Arena;
use crate::operators::{Chunk, Context};
use crate::plan::{AggregateCall, Expr};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::Value;

const VERSION: u8 = 1;

/// One open window.
#[derive(Debug, Clone)]
struct Open {
    slot: u32,
    first: i64,
    last: i64,
    /// The value that all rows of the window have, if values delimit windows.
    value: Value,
}

/// Windows between conditions of all keys.
pub struct StateWindows {
    open: Evaluator,
    close: Option<Evaluator>,
    arena: Arena,
    /// By number of the key.
    windows: Vec<Option<Open>>,
}

impl StateWindows {
    pub fn new(open: &Expr, close: Option<&Expr>, aggregates: &[AggregateCall]) -> Self {
        Self {
            open: Evaluator::new(open),
            close: close.map(Evaluator::new),
            arena: Arena::new(aggregates),
            windows: Vec::new(),
        }
    }

    fn emit(&mut self, common: &mut Common, key: u32, time: i64, out: &mut Vec<Chunk>) {
        let Some(window) = self.windows[key as usize].take() else {
            return;
        };
        let mut results = Results::default();
        results.push(key, window.first, window.last, time);
        out.push(common.results(results, self.arena.finish(&[window.slot])));
        self.arena.release(&[window.slot]);
    }

    fn begin(&mut self, key: u32, time: i64, value: Value) {
        let slot = self.arena.alloc();
        self.windows[key as usize] = Some(Open {
            slot,
            first: time,
            last: time,
            value,
        });
    }
}

impl Cutter for StateWindows {
    const BY_TIME: bool = false;

    fn take(
        &mut self,
        common: &mut Common,
        _: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        out: &mut Vec<Chunk>,
    ) {
        let numbers = common.keys.numbers_end().max(self.windows.len());
        self.windows.resize(numbers, None);
        let opens = self.open.column(&chunk.batch);
        let closes = self.close.as_mut().map(|close| close.column(&chunk.batch));
        for (row, key) in keys.iter().enumerate() {
            let time = chunk.times[row];
            let value = opens.value(row);
            match &closes {
                None => {
                    let current = self.windows[*key as usize].as_ref();
                    if current.is_some_and(|window| window.value != value) {
                        self.emit(common, *key, time, out);
                    }
                    if self.windows[*key as usize].is_none() && !value.is_null() {
                        self.begin(*key, time, value);
                    }
                }
                Some(_) => {
                    if self.windows[*key as usize].is_none() && value == Value::Bool(true) {
                        self.begin(*key, time, Value::Null);
                    }
                }
            }
            let Some(window) = &mut self.windows[*key as usize] else {
                continue;
            };
            window.first = window.first.min(time);
            window.last = window.last.max(time);
            let slot = window.slot;
            let one = chunk.batch.take(&[row as u32]);
            let arguments = common.arguments(&one);
            self.arena.update(&[slot], &[time], &arguments);
            if closes
                .as_ref()
                .is_some_and(|closes| closes.bool(row) == Some(true))
            {
                self.emit(common, *key, time, out);
            }
        }
    }

    fn close(&mut self, _: &mut Common, _: i64, _: &mut Vec<Chunk>) {}

    fn encode(&self, common: &Common, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_count(self.windows.iter().flatten().count());
            for (key, window) in self.windows.iter().enumerate() {
                let Some(window) = window else {
                    continue;
                };
                out.put_bytes(common.keys.key(key as u32));
                out.put_i64(window.first);
                out.put_i64(window.last);
                window.value.encode(out);
                self.arena.encode(window.slot, out);
            }
        });
    }

    fn decode(&mut self, common: &mut Common, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("state windows", VERSION, |input| {
            for _ in 0..input.take_count(21)? {
                let key = common.keys.decode_key(input)?;
                let numbers = self.windows.len().max(key as usize + 1);
                self.windows.resize(numbers, None);
                let (first, last) = (input.take_i64()?, input.take_i64()?);
                let value = Value::decode(input)?;
                let slot = self.arena.alloc();
                self.arena.decode(slot, input)?;
                self.windows[key as usize] = Some(Open {
                    slot,
                    first,
                    last,
                    value,
                });
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes() + self.windows.len() * size_of::<Option<Open>>()
    }

    fn horizon(&self) -> i64 {
        i64::MIN
    }

    fn due(&self) -> i64 {
        i64::MAX
    }

    fn shed(&mut self, common: &mut Common, out: &mut Vec<Chunk>) -> u64 {
        let times = (0..).zip(&self.windows);
        let times = times.filter_map(|(key, window)| Some((window.as_ref()?.first, key)));
        let ended = super::oldest(&common.keys, times.collect());
        for key in &ended {
            let last = self.windows[*key as usize].as_ref().map(|open| open.last);
            self.emit(common, *key, last.unwrap_or(i64::MIN), out);
        }
        let windows = &self.windows;
        common
            .keys
            .retain(|key| windows.get(key as usize).is_some_and(Option::is_some));
        self.windows.truncate(common.keys.numbers_end());
        ended.len() as u64
    }
}
