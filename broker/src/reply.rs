//! What becomes of a request, as a value.
//!
//! [`Broker::handle`](crate::Broker::handle) never waits. It appends and looks
//! things up at once and returns a [`Reply`] that says what has to happen
//! before the response may leave. A connection handles its requests in order
//! and sends their responses in order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use forebay_storage::Ticket;
use parking_lot::Mutex;

use crate::handlers::fetch::FetchWait;

/// The fate of one request.
pub enum Reply {
    /// The response may leave in its turn.
    Ready(Bytes),
    /// The response may leave once the ticket is durable.
    AfterCommit {
        /// Commit window to wait for.
        ticket: Ticket,
        /// The response frame.
        response: Bytes,
    },
    /// The rest of the work reads or syncs files: run it where blocking is
    /// allowed, before the next request of the connection.
    Blocking(Work),
    /// The rest of the work is awaited before the next request of the connection.
    Pending(Pending),
    /// The log takes no more bytes for the moment: run the work after the next
    /// commit, before the next request of the connection.
    Stalled(Work),
    /// A Fetch that waits for records.
    LongPoll(Box<FetchWait>),
    /// A group request that waits for other members.
    Later(Answer),
    /// No response (acks=0).
    None,
    /// The connection has to be closed.
    Close(CloseReason),
}

/// Work that finishes a request.
pub type Work = Box<dyn FnOnce() -> Reply + Send>;

/// Work that finishes a request and waits for others.
pub type Pending = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Why a connection is closed without a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The API key is not served.
    #[error("api key {0} is not served")]
    UnknownApi(i16),
    /// The API is served, but not in this version.
    #[error("version {version} of api key {key} is not served")]
    UnsupportedVersion {
        /// API key.
        key: i16,
        /// Version asked for.
        version: i16,
    },
    /// The request cannot be decoded.
    #[error("request cannot be decoded: {0}")]
    Malformed(String),
    /// The response cannot be encoded in the request's version.
    #[error("response cannot be encoded: {0}")]
    Encode(String),
    /// A request came that needs a login, or whose login means nothing any more.
    #[error("a login is needed")]
    NotLoggedIn,
    /// A Produce with acks=0 was refused; closing is the only way to say so.
    #[error("produce with acks=0 was refused: {0}")]
    UnacknowledgedRefused(String),
}

/// The response of a request that waits for other members.
pub struct Answer(Arc<Mutex<Slot>>);

/// The sending side of an [`Answer`]. Dropping it unanswered leaves the answer
/// waiting, which only happens when the broker itself goes away.
pub struct Answerer(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    response: Option<Bytes>,
    waker: Option<Waker>,
}

/// Makes the two ends of a later response.
pub fn later() -> (Answerer, Answer) {
    let slot = Arc::new(Mutex::new(Slot::default()));
    (Answerer(Arc::clone(&slot)), Answer(slot))
}

impl Answerer {
    /// Hands the response over.
    pub fn answer(self, response: Bytes) {
        let mut slot = self.0.lock();
        slot.response = Some(response);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Answer {
    type Output = Bytes;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Bytes> {
        let mut slot = self.0.lock();
        match slot.response.take() {
            Some(response) => Poll::Ready(response),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready(response) => f.debug_tuple("Ready").field(&response.len()).finish(),
            Self::AfterCommit { ticket, .. } => f.debug_tuple("AfterCommit").field(ticket).finish(),
            Self::Blocking(_) => f.write_str("Blocking"),
            Self::Pending(_) => f.write_str("Pending"),
            Self::Stalled(_) => f.write_str("Stalled"),
            Self::LongPoll(_) => f.write_str("LongPoll"),
            Self::Later(_) => f.write_str("Later"),
            Self::None => f.write_str("None"),
            Self::Close(reason) => f.debug_tuple("Close").field(reason).finish(),
        }
    }
}
