//! One task per connection: socket, protocol machine, tickets, deliveries.
//!
//! A turn of the loop, in this order:
//!
//! 1. carry out the machine's effects (appends give tickets);
//! 2. release everything whose ticket is durable, so that all
//!    acknowledgements of a commit leave in one write;
//! 3. take messages for the client while it has room for them;
//! 4. write without waiting;
//! 5. sleep until there is input, room to write, a commit that something waits
//!    for, a message, a timeout, or the end.
//!
//! What bounds a connection: it is not read while the storage pushes back,
//! while its output is not taken, and while the machine has as many
//! unanswered publishes as it may. So a client that sends faster than the disk
//! or reads slower than its subscriptions is slowed down by TCP, and nobody
//! else is.

mod admission;
mod closing;
mod inbound;
mod opening;
mod outbound;
mod output;
mod recording;
mod retaining;
mod sharing;
mod subscribing;

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::BytesMut;
use forebay_mqtt::session::{CloseReason, Input, Outcome, SessionExpiry, Token};
use forebay_mqtt::{Connection as Machine, Effect, ReasonCode};
use forebay_storage::Ticket;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};

use super::commits::{Commits, Registration};
use super::dispatch::Delivery;
use super::limits::{Slot, Throttle};
use super::node::Node;
use super::stats::{Traffic, count};
use super::stream::{ByteStream, Ready, ready};
use crate::tls::ClientCertificate;
use admission::Admission;
use opening::Opened;
use outbound::{Outbound, arrives};
use output::Output;

/// Bytes asked of the socket in one read. It takes some hundred readings, and
/// the buffer goes away when they are decoded.
const READ_LEN: usize = 16 << 10;

/// Bytes asked for before the session is open. The machine keeps the client
/// identifier as a slice of this buffer for as long as the connection lives.
const CONNECT_READ_LEN: usize = 512;

/// Retry of an append that the storage pushed back, if no commit comes first.
const RETRY_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

/// Serves one connection until it ends, then gives back its slot.
///
/// The future is spawned as it is: each async function around it would hold it
/// a second time, and its size is what an idle connection costs.
pub async fn run<S: ByteStream>(
    node: Arc<Node>,
    stream: S,
    certificate: Option<Arc<ClientCertificate>>,
    shutdown: watch::Receiver<bool>,
    slot: Slot,
) {
    count(&node.stats.connections_total);
    count(&node.stats.connections);
    let machine = Machine::new(Instant::now(), Arc::clone(&node.protocol));
    let mut connection = Box::new(Connection {
        committed: node.committed.clone(),
        registration: Registration::default(),
        alarm: None,
        now: Instant::now(),
        output: Output::new(node.config.write_timeout),
        admission: Admission::new(&node.access, slot.address()),
        machine,
        stream,
        certificate,
        shutdown,
        input: BytesMut::new(),
        is_incomplete: true,
        waiting: VecDeque::new(),
        last_append: Ticket::default(),
        blocked: None,
        is_repeated: false,
        opened: None,
        outbound: Outbound::default(),
        close: None,
        is_client: false,
        throttle: Throttle::new(&node.config.limits, Instant::now()),
        traffic: Traffic::default(),
        node,
    });
    connection.run().await;
    let stats = &connection.node.stats;
    connection.traffic.flush(stats);
    stats.connections.fetch_sub(1, Ordering::Relaxed);
    if connection.is_client {
        stats.clients.fetch_sub(1, Ordering::Relaxed);
    }
    drop(slot);
}

/// Something that waits for a ticket.
enum Waiting {
    /// A publish, a release or a receipt.
    Acknowledge(Token),
    /// A SUBSCRIBE with its reason codes.
    Subscribed(Token, Vec<ReasonCode>),
    /// An UNSUBSCRIBE with its reason codes.
    Unsubscribed(Token, Vec<ReasonCode>),
    /// A CONNECT whose session is being written.
    Open,
    /// Retained messages that were read from the state.
    Retained(Vec<Delivery>),
}

struct Connection<S> {
    node: Arc<Node>,
    machine: Machine,
    stream: S,
    /// What it may do.
    admission: Admission,
    /// Who the client is, if its transport checked that.
    certificate: Option<Arc<ClientCertificate>>,
    shutdown: watch::Receiver<bool>,
    /// Any commit, for an append that was pushed back.
    committed: watch::Receiver<Ticket>,
    /// That of the commit which the oldest in `waiting` needs.
    registration: Registration,
    /// Set to the next timeout or an earlier one.
    alarm: Option<Pin<Box<Sleep>>>,
    /// When this turn of the loop began.
    now: Instant,
    input: BytesMut,
    /// Whether `input` holds no complete packet.
    is_incomplete: bool,
    output: Output,
    /// In the order of their tickets.
    waiting: VecDeque<(Ticket, Waiting)>,
    /// The ticket of the last publish.
    last_append: Ticket,
    /// An effect that the storage pushed back; nothing follows before it.
    blocked: Option<Effect>,
    /// Whether the next publish was tried before.
    is_repeated: bool,
    opened: Option<Opened>,
    outbound: Outbound,
    close: Option<(CloseReason, SessionExpiry)>,
    /// Whether it counts as a client: its CONNACK said success.
    is_client: bool,
    throttle: Option<Box<Throttle>>,
    traffic: Traffic,
}

enum Event {
    Ready(io::Result<Ready>),
    Committed,
    Arrived(Option<Delivery>),
    Behind,
    /// There is room in the output again for what waits in front of it.
    GoesOn,
    TakenOver,
    /// Users or rules have changed.
    Access,
    Timeout,
    Shutdown,
}

impl<S: ByteStream> Connection<S> {
    async fn run(&mut self) {
        loop {
            self.settle().await;
            if self.close.is_some() {
                break;
            }
            let was_full = self.output.is_full();
            match self.output.write(&mut self.stream, Instant::now()) {
                Ok(written) => self.traffic.bytes_out += written as u64,
                Err(error) => {
                    tracing::debug!(%error, "write failed");
                    self.machine.handle_connection_lost(Instant::now());
                    continue;
                }
            }
            self.traffic.flush(&self.node.stats);
            let has_room_again = was_full && !self.output.is_full();
            let event = self.next_event(has_room_again).await;
            self.now = Instant::now();
            match event {
                Event::Ready(Ok(Ready::Read)) => self.read(),
                Event::Ready(Err(_)) => self.machine.handle_connection_lost(Instant::now()),
                Event::Ready(Ok(Ready::Write))
                | Event::Committed
                | Event::Behind
                | Event::GoesOn => {}
                Event::Arrived(delivery) => self.outbound.arrived(delivery),
                Event::TakenOver => self.machine.take_over(Instant::now()),
                Event::Access => self.admit_again(),
                Event::Timeout => self.timeout(self.now),
                Event::Shutdown => self.machine.shut_down(Instant::now()),
            }
        }
        Box::pin(self.finish()).await;
    }

    /// Steps 1 to 3, until none of them has anything left to do.
    async fn settle(&mut self) {
        loop {
            let mut progress = self.carry_out().await;
            progress |= self.release();
            if self.close.is_some() {
                return;
            }
            progress |= self.deliver().await;
            if !progress {
                return;
            }
        }
    }

    async fn carry_out(&mut self) -> bool {
        let mut progress = false;
        // A commit from here on is a reason to try again.
        self.committed.mark_unchanged();
        // What a closed connection had not appended was not acknowledged.
        let blocked = self.blocked.take().filter(|_| !self.machine.is_closed());
        if let Some(effect) = blocked {
            progress |= self.effect(effect).await;
        }
        while self.blocked.is_none() && self.close.is_none() {
            if let Some(effect) = self.machine.poll_effect() {
                progress |= self.effect(effect).await;
            } else if !self.decode() {
                break;
            }
        }
        if self.machine.is_closed() {
            self.blocked = None;
        }
        progress
    }

    /// Carries out one effect. False when it has to be tried again.
    async fn effect(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::SendPacket(packet) => self.send(packet),
            // Boxed, like what else is rare: a future has the size of its
            // largest wait, and most connections are idle.
            Effect::OpenSession(open) => Box::pin(self.open(*open)).await,
            Effect::Publish { token, publish } => return self.publish(token, publish).await,
            Effect::ReleaseQos2 { token, packet_id } => return self.release_qos2(token, packet_id),
            Effect::Subscribe {
                token,
                subscriptions,
                identifier,
            } => return self.subscribe(token, subscriptions, identifier),
            Effect::Unsubscribe { token, filters } => return self.unsubscribe(token, filters),
            Effect::RecordQos2Received {
                token,
                cursor,
                packet_id,
            } => return self.record_received(token, cursor, packet_id),
            Effect::CompleteDelivery {
                cursor, packet_id, ..
            } => self.completed(cursor, packet_id),
            Effect::DropDelivery { cursor, reason } => {
                count(&self.node.stats.deliveries_dropped);
                self.finish_shared(cursor);
                self.outbound.retained.finish(cursor);
                tracing::debug!(?reason, "delivery dropped");
            }
            Effect::PublishWill { will, delay } => {
                Box::pin(self.publish_will(will, delay)).await;
            }
            Effect::DiscardWill => Box::pin(self.discard_will()).await,
            Effect::Close {
                reason,
                session_expiry,
            } => self.close = Some((reason, session_expiry)),
        }
        true
    }

    /// Releases what is durable.
    fn release(&mut self) -> bool {
        let committed = self.node.commits.durable();
        let mut progress = self.output.open_gate(committed);
        while self
            .waiting
            .front()
            .is_some_and(|(ticket, _)| *ticket <= committed)
        {
            let Some((_, waiting)) = self.waiting.pop_front() else {
                break;
            };
            progress = true;
            self.answer(waiting);
        }
        progress
    }

    /// Remembers to do something when `ticket` is durable.
    fn wait_for(&mut self, ticket: Ticket, waiting: Waiting) {
        self.waiting.push_back((ticket, waiting));
    }

    fn read(&mut self) {
        let is_open = self.machine.is_open();
        self.input
            .reserve(if is_open { READ_LEN } else { CONNECT_READ_LEN });
        match self.stream.try_read(&mut self.input) {
            Ok(0) => self.machine.handle_connection_lost(Instant::now()),
            Ok(len) => {
                self.traffic.bytes_in += len as u64;
                self.is_incomplete = false;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // What a layer below MQTT does not take as its own.
                if error.kind() == io::ErrorKind::InvalidData {
                    count(&self.node.stats.violations);
                }
                tracing::debug!(%error, "read failed");
                self.machine.handle_connection_lost(Instant::now());
            }
        }
    }

    /// Takes the next packet off the input. False when there is none to take.
    fn decode(&mut self) -> bool {
        if self.is_incomplete || self.throttled_until().is_some() {
            return false;
        }
        let input = self.machine.handle_input(self.now, &mut self.input);
        self.is_incomplete = input == Input::Incomplete;
        self.traffic.packets_in += u64::from(input == Input::Handled);
        if self.input.is_empty() {
            // An idle connection keeps no buffer.
            self.input = BytesMut::new();
            self.is_incomplete = true;
        }
        input == Input::Handled
    }

    /// Says that the cause of a token is durable.
    fn acknowledge(&mut self, token: Token) {
        self.machine.acknowledge(self.now, token, Outcome::Durable);
    }

    fn timeout(&mut self, now: Instant) {
        if self.output.is_stalled(now) {
            tracing::debug!("client does not read");
            self.machine.handle_connection_lost(now);
            return;
        }
        if let Some(throttle) = &mut self.throttle
            && throttle.end(now)
        {
            self.machine.rested(now);
        }
        if self.next_machine_timeout().is_some_and(|at| at <= now) {
            self.machine.handle_timeout(now);
        }
        if self.outbound.checkpoint_due(now) {
            self.checkpoint(now);
        }
    }

    /// Until when a publisher over its rate is not read.
    fn throttled_until(&self) -> Option<Instant> {
        self.throttle.as_ref()?.until()
    }

    /// The machine's timeout. The keep alive rests while the client is not
    /// read, because its packets are waiting.
    fn next_machine_timeout(&self) -> Option<Instant> {
        match self.throttled_until() {
            Some(_) => None,
            None => self.machine.next_timeout(),
        }
    }

    /// Waits for what the next turn is about. `goes_on` says that there may be
    /// more to do already; everything else gets its chance before.
    async fn next_event(&mut self, goes_on: bool) -> Event {
        let reads = self.blocked.is_none()
            && !self.output.is_full()
            && self.is_incomplete
            && self.throttled_until().is_none()
            && self.machine.accepts_input();
        let writes = !self.output.is_empty() || self.stream.wants_write();
        let gate = self.output.next_gate();
        let front = self.waiting.front().map(|(ticket, _)| *ticket);
        let ticket = gate.into_iter().chain(front).min();
        let takes = self.outbound.has_room() && !self.output.is_full();
        let mut until = self.next_machine_timeout();
        let deadlines = [
            self.output.deadline(),
            self.outbound.next_checkpoint(),
            self.throttled_until(),
        ];
        for deadline in deadlines.into_iter().flatten() {
            until = Some(until.map_or(deadline, |at| at.min(deadline)));
        }
        if self.blocked.is_some() {
            let retry = Instant::now() + RETRY_INTERVAL;
            until = Some(until.map_or(retry, |at| at.min(retry)));
        }
        let claim = self.opened.as_mut().map(|opened| &mut opened.claim);
        let subscriber = self.outbound.subscriber.as_mut();
        let sharing = self.outbound.sharing.as_deref_mut();
        let stream = &mut self.stream;
        let admission = &mut self.admission;
        tokio::select! {
            _ = self.shutdown.wait_for(|stop| *stop) => Event::Shutdown,
            Ok(()) = self.committed.changed(), if self.blocked.is_some() => Event::Committed,
            () = durable(&self.node.commits, ticket, &mut self.registration) => Event::Committed,
            result = ready(stream, reads, writes), if reads || writes => Event::Ready(result),
            event = arrives(subscriber, sharing, takes) => event,
            () = yield_now(), if goes_on => Event::GoesOn,
            () = opening::taken_over(claim) => Event::TakenOver,
            () = admission.changed() => Event::Access,
            () = rings(&mut self.alarm, until) => Event::Timeout,
        }
    }
}

/// Completes when `ticket` is durable; never without one.
async fn durable(commits: &Commits, ticket: Option<Ticket>, registration: &mut Registration) {
    match ticket {
        Some(ticket) => poll_fn(|cx| commits.poll_durable(cx, ticket, registration)).await,
        None => pending().await,
    }
}

/// Completes at `deadline` or before it; never without one.
///
/// A busy connection moves its deadline with each packet, mostly to a later
/// time. The timer stays where it is then and rings once too early, which is
/// cheaper than setting it again for each packet.
async fn rings(alarm: &mut Option<Pin<Box<Sleep>>>, deadline: Option<Instant>) {
    let Some(deadline) = deadline else {
        return pending().await;
    };
    let deadline = deadline.into();
    let set = match alarm.take() {
        Some(mut set) => {
            if set.deadline() > deadline || set.is_elapsed() {
                set.as_mut().reset(deadline);
            }
            set
        }
        None => Box::pin(sleep_until(deadline)),
    };
    alarm.insert(set).as_mut().await;
}
