//! Sessions: rows of a key without a longer silence between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Common, Cutter, Results};
use crate::operators::arena::Arena;
use crate::operators::{Chunk, Context, Refusal};
use crate::plan::AggregateCall;
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

/// One open session.
#[derive(Debug, Clone, Copy)]
struct Session {
    first: i64,
    last: i64,
    slot: u32,
    /// Whether rows came since it was reported.
    touched: bool,
}

/// Open sessions of all keys.
pub struct Sessions {
    gap: i64,
    max: Option<i64>,
    arena: Arena,
    /// Where sessions that become one are merged.
    merge_arena: Arena,
    /// By number of the key, ordered by time.
    open: Vec<Vec<Session>>,
    /// When to look at a key again: no later than its first session ends.
    due: BinaryHeap<Reverse<(i64, u32)>>,
    sessions: usize,
    mark: i64,
    changes: bool,
}

/// Rows whose slots are known and which are not in the arena yet.
#[derive(Default)]
struct Pending {
    rows: Vec<u32>,
    slots: Vec<u32>,
}

impl Sessions {
    pub fn new(gap: i64, max: Option<i64>, aggregates: &[AggregateCall], changes: bool) -> Self {
        let arena = Arena::new(aggregates);
        Self {
            gap,
            max,
            merge_arena: arena.fresh(),
            arena,
            open: Vec::new(),
            due: BinaryHeap::new(),
            sessions: 0,
            mark: i64::MIN,
            changes,
        }
    }

    fn flush(&mut self, common: &mut Common, chunk: &Chunk, pending: &mut Pending) {
        if pending.rows.is_empty() {
            return;
        }
        let part = chunk.take(&pending.rows);
        let arguments = common.arguments(&part.batch);
        self.arena.update(&pending.slots, &part.times, &arguments);
        *pending = Pending::default();
    }

    /// The sessions of a key that a row at `time` belongs to: a range.
    fn touching(&self, key: u32, time: i64) -> (usize, usize) {
        let sessions = &self.open[key as usize];
        let fits = |session: &Session| {
            let near = time < session.last.saturating_add(self.gap)
                && time > session.first.saturating_sub(self.gap);
            near && self.max.is_none_or(|max| {
                session
                    .last
                    .max(time)
                    .saturating_sub(session.first.min(time))
                    <= max
            })
        };
        let from = sessions.iter().position(fits).unwrap_or(sessions.len());
        let mut to = from;
        while to < sessions.len() && fits(&sessions[to]) {
            let whole = sessions[to].last.max(time) - sessions[from].first.min(time);
            if self.max.is_some_and(|max| whole > max) {
                break;
            }
            to += 1;
        }
        (from, to)
    }

    /// Makes one session of neighbours.
    fn unite(&mut self, key: u32, from: usize, to: usize) {
        let parts: Vec<Session> = self.open[key as usize].drain(from + 1..to).collect();
        let kept = self.open[key as usize][from].slot;
        for part in parts {
            let slot = self.merge_arena.alloc();
            self.merge_arena.merge(&self.arena, &[(part.slot, slot)]);
            self.arena.merge(&self.merge_arena, &[(slot, kept)]);
            self.merge_arena.release(&[slot]);
            self.arena.release(&[part.slot]);
            let session = &mut self.open[key as usize][from];
            session.last = session.last.max(part.last);
            self.sessions -= 1;
        }
    }

    fn emit(&mut self, common: &mut Common, mut ended: Vec<(u32, Session)>, out: &mut Vec<Chunk>) {
        if ended.is_empty() {
            return;
        }
        // An order that does not depend on when the watermark was told.
        ended.sort_by(|(left_key, left), (right_key, right)| {
            (left.last, left.first)
                .cmp(&(right.last, right.first))
                .then_with(|| common.keys.key(*left_key).cmp(common.keys.key(*right_key)))
        });
        let mut results = Results::default();
        for (key, session) in &ended {
            let end = session.last.saturating_add(self.gap);
            results.push(*key, session.first, end, end - 1);
        }
        let slots: Vec<u32> = ended.iter().map(|(_, session)| session.slot).collect();
        out.push(common.results(results, self.arena.finish(&slots)));
    }

    /// Frees keys without a session.
    fn forget(&mut self, common: &mut Common) {
        let open = &self.open;
        common
            .keys
            .retain(|key| open.get(key as usize).is_some_and(|open| !open.is_empty()));
        self.open.truncate(common.keys.numbers_end());
        for sessions in self.open.iter_mut().filter(|sessions| sessions.is_empty()) {
            *sessions = Vec::new();
        }
        if self.open.capacity() > 4 * self.open.len() {
            self.open.shrink_to_fit();
        }
        // No number of a freed key may be left in it.
        let gap = self.gap;
        self.due = self
            .open
            .iter()
            .enumerate()
            .filter_map(|(key, sessions)| {
                let last = sessions.iter().map(|session| session.last).min()?;
                Some(Reverse((last.saturating_add(gap), key as u32)))
            })
            .collect();
    }

    fn end(&mut self, common: &mut Common, ended: Vec<(u32, Session)>, out: &mut Vec<Chunk>) {
        let slots: Vec<u32> = ended.iter().map(|(_, session)| session.slot).collect();
        self.sessions -= ended.len();
        let shown = if self.changes {
            ended
                .into_iter()
                .filter(|(_, session)| session.touched)
                .collect()
        } else {
            ended
        };
        self.emit(common, shown, out);
        self.arena.release(&slots);
    }
}

impl Cutter for Sessions {
    const BY_TIME: bool = true;

    fn take(
        &mut self,
        common: &mut Common,
        context: &mut Context,
        chunk: &Chunk,
        keys: &[u32],
        _: &mut Vec<Chunk>,
    ) {
        let numbers = common.keys.numbers_end().max(self.open.len());
        self.open.resize(numbers, Vec::new());
        let mut pending = Pending::default();
        for (row, key) in keys.iter().enumerate() {
            let time = chunk.times[row];
            let (from, to) = self.touching(*key, time);
            if from == to {
                if time.saturating_add(self.gap) <= self.mark {
                    context.refuse(chunk, row, Refusal::Late);
                    continue;
                }
                let session = Session {
                    first: time,
                    last: time,
                    slot: self.arena.alloc(),
                    touched: true,
                };
                let sessions = &mut self.open[*key as usize];
                if sessions.is_empty() {
                    // Most keys have one session at a time.
                    sessions.reserve_exact(1);
                }
                let place = sessions.partition_point(|known| known.first < time);
                sessions.insert(place, session);
                self.sessions += 1;
                self.due
                    .push(Reverse((time.saturating_add(self.gap), *key)));
                pending.slots.push(session.slot);
            } else {
                if to - from > 1 {
                    self.flush(common, chunk, &mut pending);
                    self.unite(*key, from, to);
                }
                let session = &mut self.open[*key as usize][from];
                session.first = session.first.min(time);
                session.last = session.last.max(time);
                session.touched = true;
                pending.slots.push(session.slot);
            }
            pending.rows.push(row as u32);
        }
        self.flush(common, chunk, &mut pending);
    }

    fn close(&mut self, common: &mut Common, mark: i64, out: &mut Vec<Chunk>) {
        self.mark = self.mark.max(mark);
        let mut ended = Vec::new();
        while let Some(Reverse((due, key))) = self
            .due
            .peek()
            .copied()
            .filter(|Reverse((due, _))| *due <= mark)
        {
            self.due.pop();
            let _ = due;
            let gap = self.gap;
            let sessions = &mut self.open[key as usize];
            sessions.retain(|session| {
                let over = session.last.saturating_add(gap) <= mark;
                if over {
                    ended.push((key, *session));
                }
                !over
            });
            let next = sessions
                .iter()
                .map(|session| session.last.saturating_add(gap))
                .min();
            self.due.extend(next.map(|next| Reverse((next, key))));
        }
        self.end(common, ended, out);
        if common.keys.is_crowded(self.sessions) {
            self.forget(common);
        }
    }

    fn changes(&mut self, common: &mut Common, out: &mut Vec<Chunk>) {
        if !self.changes {
            return;
        }
        let mut touched = Vec::new();
        for (key, sessions) in self.open.iter_mut().enumerate() {
            for session in sessions.iter_mut().filter(|session| session.touched) {
                session.touched = false;
                touched.push((key as u32, *session));
            }
        }
        self.emit(common, touched, out);
    }

    fn encode(&self, common: &Common, out: &mut Encoder) {
        out.section(VERSION, |out| {
            out.put_i64(self.mark);
            out.put_count(self.sessions);
            for (key, sessions) in self.open.iter().enumerate() {
                for session in sessions {
                    out.put_bytes(common.keys.key(key as u32));
                    out.put_i64(session.first);
                    out.put_i64(session.last);
                    self.arena.encode(session.slot, out);
                }
            }
        });
    }

    fn decode(&mut self, common: &mut Common, input: &mut Decoder<'_>) -> Result<(), StateError> {
        input.section("sessions", VERSION, |input| {
            self.mark = input.take_i64()?;
            for _ in 0..input.take_count(20)? {
                let key = common.keys.decode_key(input)?;
                let numbers = self.open.len().max(key as usize + 1);
                self.open.resize(numbers, Vec::new());
                let (first, last) = (input.take_i64()?, input.take_i64()?);
                let slot = self.arena.alloc();
                self.arena.decode(slot, input)?;
                self.open[key as usize].push(Session {
                    first,
                    last,
                    slot,
                    touched: false,
                });
                self.sessions += 1;
                self.due.push(Reverse((last.saturating_add(self.gap), key)));
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes()
            + self.open.len() * size_of::<Vec<Session>>()
            + self.sessions * (size_of::<Session>() + 16)
            + self.due.len() * 16
    }

    fn due(&self) -> i64 {
        self.due.peek().map_or(i64::MAX, |Reverse((due, _))| *due)
    }

    fn horizon(&self) -> i64 {
        // A row in the middle of a session does not tell where it began.
        i64::MIN
    }

    /// Ends the oldest sixteenth of the sessions.
    fn shed(&mut self, common: &mut Common, out: &mut Vec<Chunk>) -> u64 {
        let mut starts: Vec<i64> = self
            .open
            .iter()
            .flatten()
            .map(|session| session.first)
            .collect();
        if starts.is_empty() {
            return 0;
        }
        let place = (starts.len() / 16).min(starts.len() - 1);
        let (_, limit, _) = starts.select_nth_unstable(place);
        let limit = *limit;
        let mut ended = Vec::new();
        for (key, sessions) in self.open.iter_mut().enumerate() {
            sessions.retain(|session| {
                let over = session.first <= limit;
                if over {
                    ended.push((key as u32, *session));
                }
                !over
            });
        }
        let count = ended.len() as u64;
        self.end(common, ended, out);
        self.forget(common);
        count
    }
}
