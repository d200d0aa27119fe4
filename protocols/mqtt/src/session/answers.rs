//! Answers that wait for the application and leave in the order of their
//! causes.

use std::collections::VecDeque;

use super::effect::Token;
use crate::packet::Packet;

/// A queue of packets to be sent, each of which may still wait for its cause
/// to become durable (section 4.6: acknowledgements keep the order of what
/// they acknowledge).
///
/// Tokens are handed in ascending order, so the queue is sorted by them.
#[derive(Debug)]
pub(super) struct Answers<K> {
    waiting: VecDeque<Answer<K>>,
}

#[derive(Debug)]
struct Answer<K> {
    token: Token,
    state: State<K>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box per acknowledgement costs more than the room of a few waiting ones"
)]
enum State<K> {
    /// The application has not answered; `K` is what the answer needs.
    Waiting(K),
    /// The packet may leave when it is at the front. `frees_quota` says
    /// whether it returns one of the client's receive maximum.
    Ready { packet: Packet, frees_quota: bool },
}

impl<K> Answers<K> {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn wait(&mut self, token: Token, kind: K) {
        let state = State::Waiting(kind);
        self.waiting.push_back(Answer { token, state });
    }

    pub(super) fn push_ready(&mut self, token: Token, packet: Packet) {
        let state = State::Ready {
            packet,
            frees_quota: false,
        };
        self.waiting.push_back(Answer { token, state });
    }

    /// Returns what is waiting under a token; an answer is given once.
    pub(super) fn waiting_mut(&mut self, token: Token) -> Option<&mut K> {
        let index = self.index_of(token)?;
        match &mut self.waiting[index].state {
            State::Waiting(kind) => Some(kind),
            State::Ready { .. } => None,
        }
    }

    pub(super) fn settle(&mut self, token: Token, packet: Packet, frees_quota: bool) {
        if let Some(index) = self.index_of(token) {
            self.waiting[index].state = State::Ready {
                packet,
                frees_quota,
            };
        }
    }

    /// Takes the packet at the front if it may leave, and whether it frees
    /// quota.
    pub(super) fn pop_ready(&mut self) -> Option<(Packet, bool)> {
        if !matches!(self.waiting.front()?.state, State::Ready { .. }) {
            return None;
        }
        match self.waiting.pop_front()?.state {
            State::Ready {
                packet,
                frees_quota,
            } => Some((packet, frees_quota)),
            State::Waiting(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn index_of(&self, token: Token) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&token, |answer| answer.token)
            .ok()
    }
}
