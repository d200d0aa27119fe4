//! Rules on result rows: duration, hysteresis, suppression.

use std::collections::BTreeMap;

use crate::eval::Evaluator;
use crate::operators::Chunk;
use crate::plan::{AlertPlan, Field};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::Value;

const VERSION: u8 = 1;

/// Whether an alert begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The condition held for its duration.
    Raised,
    /// The clearing condition held for its duration.
    Cleared,
}

/// The rows of the log behind an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The partition of the first rows.
    pub partition: i64,
    /// The smallest offset of the rows of the window.
    pub first_offset: i64,
    /// The largest one.
    pub last_offset: i64,
}

/// An alert that begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertEvent {
    /// The name of the rule.
    pub alert: String,
    /// Begins or ends.
    pub transition: Transition,
    /// The severity of the rule.
    pub severity: String,
    /// The columns of the key with their values.
    pub key: Vec<(String, Value)>,
    /// The event time of the row that decided, in milliseconds.
    pub time_ms: i64,
    /// The event time at which the condition began to hold, in milliseconds;
    /// with alert and key it identifies the alert from raising to clearing.
    pub since_ms: i64,
    /// The window of that row, if the query selects its bounds.
    pub window: Option<(i64, i64)>,
    /// The value that is reported.
    pub value: Value,
    /// What it was compared with.
    pub threshold: Value,
    /// The text of the rule.
    pub message: Option<String>,
    /// The rows of the log behind it.
    pub evidence: Option<Evidence>,
}

/// What is known of one key of one rule. Times are event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Standing {
    /// Since when the condition holds.
    pending: Option<i64>,
    /// Since when the alert is active.
    active: Option<i64>,
    /// Since when the clearing condition holds.
    clearing: Option<i64>,
    /// Until when no alert may begin.
    quiet_until: Option<i64>,
}

/// A rule with the standing of its keys.
pub struct AlertRule {
    plan: AlertPlan,
    names: Vec<String>,
    bounds: Option<(usize, usize)>,
    when: Evaluator,
    clear: Evaluator,
    value: Option<Evaluator>,
    keys: BTreeMap<Box<[u8]>, Standing>,
    bytes: usize,
    full: bool,
    untracked: u64,
}

/// What a key takes beside its bytes.
const KEY_BYTES: usize = size_of::<Standing>() + 48;

impl AlertRule {
    /// A rule over result rows with these columns.
    pub fn new(plan: &AlertPlan, fields: &[Field]) -> Self {
        let named = |name: &str| fields.iter().position(|field| field.name == name);
        Self {
            names: fields.iter().map(|field| field.name.clone()).collect(),
            bounds: named("window_start").zip(named("window_end")),
            when: Evaluator::new(&plan.when),
            clear: Evaluator::new(&plan.clear),
            value: plan.value.as_ref().map(Evaluator::new),
            plan: plan.clone(),
            keys: BTreeMap::new(),
            bytes: 0,
            full: false,
            untracked: 0,
        }
    }

    /// Says whether the memory budget is used up, so that no key may be added.
    pub fn limit(&mut self, full: bool) {
        self.full = full;
    }

    /// Rows whose condition held and whose key could not be added.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// Takes result rows in their order.
    pub fn rows(&mut self, chunk: &Chunk, events: &mut Vec<AlertEvent>) {
        let when = self.when.column(&chunk.batch);
        let clear = self.clear.column(&chunk.batch);
        let value = self.value.as_mut().map(|value| value.column(&chunk.batch));
        for (row, time) in chunk.times.iter().enumerate() {
            let mut key = Encoder::new();
            for column in &self.plan.key {
                chunk.batch.column(*column).value(row).encode(&mut key);
            }
            let holds = when.bool(row) == Some(true);
            let clears = clear.bool(row) == Some(true);
            let known = self.keys.get(key.bytes());
            if known.is_none() && !holds {
                continue;
            }
            if known.is_none() && self.full {
                self.untracked += 1;
                continue;
            }
            let mut standing = known.copied().unwrap_or_default();
            let passed = self.plan.step(&mut standing, *time, holds, clears);
            if let Some((transition, since)) = passed {
                let value = value.as_ref().map_or(Value::Null, |value| value.value(row));
                events.push(self.event(chunk, row, transition, since, value));
            }
            let size = key.bytes().len() + KEY_BYTES;
            if standing == Standing::default() {
                if self.keys.remove(key.bytes()).is_some() {
                    self.bytes -= size;
                }
            } else if self
                .keys
                .insert(key.into_bytes().into(), standing)
                .is_none()
            {
                self.bytes += size;
            }
        }
    }

    fn event(
        &self,
        chunk: &Chunk,
        row: usize,
        transition: Transition,
        since_ms: i64,
        value: Value,
    ) -> AlertEvent {
        let batch = &chunk.batch;
        let int = |column: usize| batch.column(column).int(row);
        AlertEvent {
            alert: self.plan.name.clone(),
            transition,
            severity: self.plan.severity.clone(),
            key: self
                .plan
                .key
                .iter()
                .map(|column| {
                    (
                        self.names[*column].clone(),
                        batch.column(*column).value(row),
                    )
                })
                .collect(),
            time_ms: chunk.times[row],
            since_ms,
            window: self
                .bounds
                .and_then(|(start, end)| Some((int(start)?, int(end)?))),
            value,
            threshold: self.plan.threshold.clone().unwrap_or(Value::Null),
            message: self.plan.message.clone(),
            evidence: self.plan.evidence.and_then(|[partition, first, last]| {
                Some(Evidence {
                    partition: int(partition)?,
                    first_offset: int(first)?,
                    last_offset: int(last)?,
                })
            }),
        }
    }

    /// The number of alerts that are active.
    pub fn active(&self) -> usize {
        self.keys
            .values()
            .filter(|standing| standing.active.is_some())
            .count()
    }

    /// Whether no key is being watched.
    pub fn is_idle(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the state.
    pub fn encode(&self, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_count(self.keys.len());
            for (key, standing) in &self.keys {
                out.put_bytes(key);
                for time in [
                    standing.pending,
                    standing.active,
                    standing.clearing,
                    standing.quiet_until,
                ] {
                    out.put_bool(time.is_some());
                    out.put_i64(time.unwrap_or(0));
                }
            }
        });
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let (keys, bytes) = (&mut self.keys, &mut self.bytes);
        input.section("alerts", VERSION, |input| {
            for _ in 0..input.take_count(40)? {
                let key = input.take_bytes()?;
                let mut time = || {
                    let there = input.take_bool()?;
                    let time = input.take_i64()?;
                    Ok::<_, StateError>(there.then_some(time))
                };
                let standing = Standing {
                    pending: time()?,
                    active: time()?,
                    clearing: time()?,
                    quiet_until: time()?,
                };
                *bytes += key.len() + KEY_BYTES;
                keys.insert(key.into(), standing);
            }
            Ok(())
        })
    }
}

impl AlertPlan {
    /// One row of one key. Returns what it makes of the alert, and since when
    /// the alert stands.
    fn step(
        &self,
        standing: &mut Standing,
        time: i64,
        holds: bool,
        clears: bool,
    ) -> Option<(Transition, i64)> {
        if let Some(since) = standing.active {
            if !clears {
                standing.clearing = None;
                return None;
            }
            let from = *standing.clearing.get_or_insert(time);
            if time.saturating_sub(from) < self.clear_hold_ms {
                return None;
            }
            *standing = Standing::default();
            if self.suppress_ms > 0 {
                standing.quiet_until = Some(time.saturating_add(self.suppress_ms));
            }
            return Some((Transition::Cleared, since));
        }
        if standing.quiet_until.is_some_and(|until| time >= until) {
            standing.quiet_until = None;
        }
        if !holds {
            standing.pending = None;
            return None;
        }
        let since = *standing.pending.get_or_insert(time);
        if standing.quiet_until.is_some() || time.saturating_sub(since) < self.hold_ms {
            return None;
        }
        *standing = Standing {
            active: Some(since),
            ..Standing::default()
        };
        Some((Transition::Raised, since))
    }
}
