//! What comes back from sockets and blocking threads.

use std::time::{Instant, SystemTime};

use forebay_kafka::error_code;

use super::{Established, Event, Key, RETRY, Refused, Runner, describe};
use crate::driver::connection::{ConnectionError, Wire};
use crate::driver::handshake::Prepared;
use crate::driver::session::{Answer, Session};
use crate::driver::source::{Found, SourceError};
use crate::link::SourceBounds;

impl Runner {
    pub(super) fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Established(result) => self.established(now, *result),
            Event::Prepared(generation, result) => {
                self.preparing = false;
                match (result, &mut self.session) {
                    (Ok(prepared), Some(session)) if session.generation == generation => {
                        session.targets.extend(prepared.targets.clone());
                        self.note_refused(now, prepared);
                    }
                    (Err(error), _) => {
                        self.retry_at = now + RETRY;
                        self.last_error = Some(describe(&error));
                    }
                    _ => {}
                }
            }
            Event::Read(key, from, result) => {
                self.reads -= 1;
                let found = self.settle(now, &key, result);
                if let Some(Found::Records(span)) = &found {
                    self.schedule.charge(&key, span.payload.len() as u64);
                }
                let link = self.entries.get_mut(&key).map(|entry| &mut entry.link);
                match (link, found) {
                    (None, _) => {}
                    (Some(link), Some(Found::Records(span))) => {
                        link.handle_source(from, Some(span));
                    }
                    (Some(link), Some(Found::Gap(upto))) => link.handle_source_gap(from, upto),
                    (Some(link), None) => link.handle_source(from, None),
                }
            }
            Event::Reread(key, from, end, result) => {
                let failed = result.is_err();
                let payload = self.settle(now, &key, result).flatten();
                if failed {
                    // The records may still be there; the connection starts
                    // over rather than counting them as lost.
                    return self.disconnect(now, "a planned batch cannot be read".into());
                }
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.link.handle_reread(now, from, end, payload);
                }
            }
            Event::Lineage(key, offset, result) => {
                let failure = result.as_ref().err().map(|error| describe(error));
                let lineage = self.settle(now, &key, result).flatten();
                if let Some(entry) = self.entries.get_mut(&key) {
                    match failure {
                        Some(failure) => entry.link.handle_failure(now, failure),
                        None => entry.link.handle_lineage(now, offset, lineage),
                    }
                }
            }
        }
    }

    /// Notes a failed read and lets the partition rest.
    fn settle<T>(&mut self, now: Instant, key: &Key, result: Result<T, SourceError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let words = describe(&error);
                tracing::error!(
                    topic = key.0,
                    partition = key.1,
                    error = words,
                    "read failed"
                );
                self.last_error = Some(words);
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.read_after = Some(now + RETRY);
                }
                None
            }
        }
    }

    fn established(&mut self, now: Instant, result: Result<Established, ConnectionError>) {
        self.establishing = false;
        match result {
            Err(error) => {
                self.last_error = Some(describe(&error));
                self.retry_at = now + self.backoff.fail(self.rng.u64(..));
            }
            Ok(Established {
                calls,
                versions,
                prepared,
            }) => {
                self.generation += 1;
                let address = calls.address.clone();
                tracing::info!(address, compares = versions.compares, "uplink connected");
                let pipeline = calls.into_pipeline(self.generation, self.wire.clone());
                let targets = prepared.targets.clone();
                let session = Session::new(self.generation, pipeline, versions, address, targets);
                self.session = Some(session);
                self.connected_since = Some(SystemTime::now());
                self.last_error = None;
                self.note_refused(now, prepared);
            }
        }
    }

    /// Remembers which topics the destination does not take, and since when
    /// they may be asked for again. The others go on.
    fn note_refused(&mut self, now: Instant, prepared: Prepared) {
        for name in prepared.targets.keys() {
            if !prepared.refused.contains_key(name) {
                self.refused.remove(name);
            }
        }
        for (name, words) in prepared.refused {
            let before = self.refused.remove(&name);
            if before.as_ref().is_none_or(|before| before.words != words) {
                tracing::warn!("{words}");
            }
            let mut backoff = before.map(|before| before.backoff).unwrap_or_default();
            let retry_at = now + backoff.fail(self.rng.u64(..));
            let refused = Refused {
                words,
                backoff,
                retry_at,
            };
            self.refused.insert(name, refused);
        }
    }

    pub(super) fn handle_wire(&mut self, now: Instant, wire: Wire) {
        let current = self.session.as_ref().map(|session| session.generation);
        match wire {
            Wire::Closed { generation, error } if current == Some(generation) => {
                self.disconnect(now, error);
            }
            Wire::Frame { generation, frame } if current == Some(generation) => {
                let Some(session) = &mut self.session else {
                    return;
                };
                match session.answer(now, frame) {
                    Ok(answer) => self.apply(now, answer),
                    Err(error) => self.disconnect(now, describe(&error)),
                }
            }
            Wire::Closed { .. } | Wire::Frame { .. } => {}
        }
    }

    fn apply(&mut self, now: Instant, answer: Answer) {
        match answer {
            Answer::Nothing => {}
            Answer::Tail(key, result) => {
                let Some(entry) = self.entries.get_mut(&key) else {
                    return;
                };
                let offsets = entry.partition.offsets();
                let source = SourceBounds {
                    log_start: offsets.log_start,
                    log_end: offsets.high_watermark,
                };
                match result {
                    Ok(tail) => {
                        self.backoff.reset();
                        entry.link.handle_tail(now, tail, source);
                    }
                    // The topic may be gone or led elsewhere; the handshake of
                    // a new connection finds out.
                    Err(refusal) if leads_elsewhere(refusal.code) => {
                        self.disconnect(now, refusal.words);
                    }
                    Err(refusal) => entry.link.handle_failure(now, refusal.words),
                }
            }
            Answer::ProducerId(key, result) => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    match result {
                        Ok((id, epoch)) => entry.link.handle_producer_id(id, epoch),
                        Err(code) => {
                            let words = error_code::name(code);
                            let error = format!("no producer id: {words} ({code})");
                            entry.link.handle_failure(now, error);
                        }
                    }
                }
            }
            Answer::Produced(answers) => {
                let mut moved = None;
                for (key, start, answer) in answers {
                    let code = answer.as_ref().err().map(|refusal| refusal.code);
                    moved = moved.or(code.filter(|code| leads_elsewhere(*code)));
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.link.handle_produced(now, start, answer);
                    }
                }
                if let Some(code) = moved {
                    let name = error_code::name(code);
                    self.disconnect(now, format!("the destination moved: {name} ({code})"));
                }
            }
        }
    }
}

/// Codes that call for fresh metadata.
fn leads_elsewhere(code: i16) -> bool {
    matches!(
        code,
        error_code::UNKNOWN_TOPIC_OR_PARTITION
            | error_code::LEADER_NOT_AVAILABLE
            | error_code::NOT_LEADER_OR_FOLLOWER
            | error_code::UNKNOWN_TOPIC_ID
    )
}
