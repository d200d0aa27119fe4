//! What comes back from sockets and blocking threads.

use std::time::Instant;

use forebay_kafka::error_code;

use super::{Established, Event, Key, RETRY, Refused, Runner, describe};
use crate::driver::connection::{ConnectionError, Wire};
use crate::driver::handshake::Prepared;
use crate::driver::session::Answer;
use crate::driver::source::{Found, SourceError};
use crate::link::SourceBounds;

impl Runner {
    pub(super) fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Established(result) => self.established(now, *result),
            Event::Prepared(epoch, result) => {
                self.preparing = false;
                match result {
                    Ok(prepared) => self.renew_cluster(now, epoch, prepared),
                    Err(error) => {
                        self.retry_at = now + RETRY;
                        self.last_error = Some(describe(&error));
                    }
                }
            }
            Event::Opened(epoch, node, result) => self.opened(now, epoch, node, *result),
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
                    let node = self.entries.get(&key).and_then(|entry| entry.node);
                    if let Some(node) = node {
                        self.disconnect(now, node, "a planned batch cannot be read".into());
                    }
                    return;
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
            Ok(established) => self.join_cluster(now, established),
        }
    }

    /// Remembers which topics the destination does not take, and since when
    /// they may be asked for again. The others go on.
    pub(super) fn note_refused(&mut self, now: Instant, prepared: Prepared) {
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
        let (Wire::Closed { generation, .. } | Wire::Frame { generation, .. }) = &wire;
        let mut sessions = self.sessions.iter_mut();
        let Some((node, session)) = sessions.find(|(_, s)| s.generation == *generation) else {
            return;
        };
        let node = *node;
        match wire {
            Wire::Closed { error, .. } => self.disconnect(now, node, error),
            Wire::Frame { frame, .. } => match session.answer(now, frame) {
                Ok(answer) => self.apply(now, node, answer),
                Err(error) => self.disconnect(now, node, describe(&error)),
            },
        }
    }

    fn apply(&mut self, now: Instant, node: i32, answer: Answer) {
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
                        self.disconnect(now, node, refusal.words);
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
                    self.disconnect(now, node, format!("the destination moved: {name} ({code})"));
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
