//! A session with a server, kept alive.
//!
//! [`Client`] runs a task that carries out what [`run::Run`](crate::run::Run)
//! decides. Values come out of [`Client::next`], in the order in which the
//! server sent them, together with what the operator should know. Nothing waits
//! for whoever reads them: see `receiving` for what happens to values that are
//! not fetched.

mod active;
mod browsing;
mod connector;
mod driver;
mod opening;
mod outlet;
mod receiving;
mod steps;
mod subscribing;
mod trust_list;
mod waiting;
mod writing;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::run::Standing;
use crate::sample::Sample;
use crate::settings::Settings;
use crate::value::Value;
pub(crate) use browsing::{Walk, walk};
pub use opening::{OpenError, Whose};
pub(crate) use opening::{endpoints, own};
use receiving::{Decoder, Flow, PARCELS_MAX, Parcel};
pub(crate) use steps::{LINKED_MAX, Link, Linked, link, namespaces};
pub(crate) use subscribing::{attribute_of, read};
pub use writing::WriteError;
pub(crate) use writing::{CURRENT_WRITE, built_in};

/// Writes that wait for the session at most. They come from people and from
/// controllers that are slower than a session.
const WRITES_MAX: usize = 64;

/// What a session says.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Values, in order.
    Samples(Vec<Sample>),
    /// Something for the operator.
    Notice(Notice),
}

/// Something that the operator should know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// How the session is.
    Standing(Standing),
    /// What was chosen.
    Endpoint {
        /// The policy's name.
        policy: &'static str,
        /// The mode's name.
        mode: &'static str,
    },
    /// The endpoint has no protection; nobody knows whom it belongs to.
    NoServerCertificate,
    /// How long a certificate lasts.
    Certificate {
        /// Whose.
        whose: Whose,
        /// Days until it ends, negative when it has ended.
        days_left: i64,
    },
    /// The server's certificate is not trusted.
    Untrusted {
        /// SHA-256, in hexadecimal digits.
        fingerprint: String,
        /// Whom it is for.
        subject: String,
        /// Everything that is wrong with it.
        text: String,
    },
    /// The nodes of the subscription.
    Nodes {
        /// Their names.
        names: Vec<Arc<str>>,
        /// How many the server refuses.
        refused: usize,
        /// Whether browsing ended at a limit.
        is_cut: bool,
    },
    /// The server refuses nodes that it did not refuse before.
    Refused {
        /// Name and status of the first of them.
        first: (Arc<str>, String),
        /// How many.
        count: usize,
        /// How many it refuses in all.
        total: usize,
    },
    /// Notification messages that were lost on the way could not be had again.
    Lost {
        /// How many.
        messages: u32,
    },
    /// Values were dropped because nobody fetched them; all are read again.
    Dropped {
        /// How many since the start.
        total: u64,
    },
}

/// A write on its way.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    name: Arc<str>,
    value: Value,
    reply: oneshot::Sender<Result<Value, WriteError>>,
}

/// A session, kept alive by a task that ends with this.
#[derive(Debug)]
pub struct Client {
    parcels: mpsc::Receiver<Parcel>,
    decoder: Decoder,
    writes: mpsc::Sender<WriteRequest>,
    settings: watch::Sender<Arc<Settings>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Client {
    /// Starts a session. `seed` spreads the retries of gateways that lost the
    /// same server. Must be called within a tokio runtime.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let flow = Arc::<Flow>::default();
        let (parcel_sender, parcels) = mpsc::channel(PARCELS_MAX);
        let (writes, write_receiver) = mpsc::channel(WRITES_MAX);
        let (settings, watched) = watch::channel(Arc::new(settings));
        let (stop, stopped) = watch::channel(false);
        let driver = driver::Driver::new(watched, parcel_sender, Arc::clone(&flow), seed);
        Self {
            parcels,
            decoder: Decoder::new(flow),
            writes,
            settings,
            stop,
            task: tokio::spawn(driver.run(write_receiver, stopped)),
        }
    }

    /// The next event. `None` when the task has ended, which it does only after
    /// a panic. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let parcel = self.parcels.recv().await?;
            if let Some(event) = self.decoder.decode(parcel) {
                return Some(event);
            }
        }
    }

    /// Writes a value to the node of a name, and reads it back. Dropping the
    /// receiver does not stop the write.
    pub fn write(
        &self,
        name: Arc<str>,
        value: Value,
    ) -> oneshot::Receiver<Result<Value, WriteError>> {
        let (reply, receiver) = oneshot::channel();
        let request = WriteRequest { name, value, reply };
        if let Err(refused) = self.writes.try_send(request) {
            let request = refused.into_inner();
            // The receiver is in our hands.
            let _ = request.reply.send(Err(WriteError::NotConnected));
        }
        receiver
    }

    /// Takes other settings. The session stays when only nodes differ; their
    /// subscription is replaced without a gap.
    pub fn reconfigure(&self, settings: Settings) {
        self.settings.send_replace(Arc::new(settings));
    }

    /// Closes the session at the server and ends.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        // Whoever closes does not want what is still in the queue; draining it
        // keeps the task from waiting for room.
        while self.parcels.recv().await.is_some() {}
        let _ = (&mut self.task).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
