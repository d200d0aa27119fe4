//! What is to be sent: encoded packets, and packets that wait for a commit.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use forebay_storage::Ticket;

use crate::mqtt::stream::ByteStream;

/// Encoded bytes at which nothing more is taken from the client or for it. A
/// socket's send buffer is of the same order.
const FULL_LEN: usize = 64 << 10;

/// Bytes written out and waiting. A client that does not take any for the
/// write timeout is given up.
pub struct Output {
    bytes: BytesMut,
    /// PUBLISH packets of QoS 2 whose packet id is not durable yet, and those
    /// behind them, which must not overtake.
    gate: VecDeque<(Ticket, BytesMut)>,
    gated_len: usize,
    write_timeout: Duration,
    /// When bytes were taken last; `None` while there are none.
    progress: Option<Instant>,
}

impl Output {
    /// Nothing to send.
    pub fn new(write_timeout: Duration) -> Self {
        Self {
            bytes: BytesMut::new(),
            gate: VecDeque::new(),
            gated_len: 0,
            write_timeout,
            progress: None,
        }
    }

    /// The buffer to append packets to that need not wait.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Adds a PUBLISH that waits for a ticket.
    pub fn gate(&mut self, ticket: Ticket, packet: BytesMut) {
        self.gated_len += packet.len();
        self.gate.push_back((ticket, packet));
    }

    /// The ticket that a PUBLISH has to wait for so as not to overtake one.
    pub fn last_gate(&self) -> Option<Ticket> {
        self.gate.back().map(|(ticket, _)| *ticket)
    }

    /// Lets through what `committed` makes durable.
    pub fn open_gate(&mut self, committed: Ticket) -> bool {
        let mut opened = false;
        while self
            .gate
            .front()
            .is_some_and(|(ticket, _)| *ticket <= committed)
        {
            if let Some((_, packet)) = self.gate.pop_front() {
                self.gated_len -= packet.len();
                self.bytes.extend_from_slice(&packet);
                opened = true;
            }
        }
        opened
    }

    /// Writes as much as the socket takes without waiting. Returns how much.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn write(&mut self, stream: &mut impl ByteStream, now: Instant) -> io::Result<usize> {
        let mut total = 0;
        while !self.bytes.is_empty() {
            match stream.try_write(&self.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.bytes.advance(written);
                    total += written;
                    self.progress = Some(now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.progress.get_or_insert(now);
                    return Ok(total);
                }
                Err(error) => return Err(error),
            }
        }
        // An idle connection keeps no buffer.
        self.bytes = BytesMut::new();
        match stream.try_flush() {
            Ok(()) => self.progress = None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.progress.get_or_insert(now);
            }
            Err(error) => return Err(error),
        }
        Ok(total)
    }

    /// True when nothing is ready to be written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The commit that the first of the waiting packets needs.
    pub fn next_gate(&self) -> Option<Ticket> {
        self.gate.front().map(|(ticket, _)| *ticket)
    }

    /// True when so much waits that nothing more is to be produced.
    pub fn is_full(&self) -> bool {
        self.bytes.len() + self.gated_len >= FULL_LEN
    }

    /// When the client is given up if it takes nothing.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.progress? + self.write_timeout)
    }

    /// True when the client has been given enough time.
    pub fn is_stalled(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}
