//! The tokio shell around the links: sockets, timers, reads and commits.
//!
//! One task owns all links. Its loop has three steps in this order: execute
//! the effects of the links, give reads to the partitions whose turn it is,
//! wait for the next input. Reading and compressing run on blocking threads;
//! everything that comes back is an event of one queue.

mod connection;
mod exchange;
mod handshake;
mod login;
mod report;
mod runner;
mod secure;
mod session;
mod source;

use std::sync::Arc;

use forebay_records::Compression;
use forebay_storage::{AppendError, Storage, Ticket, Transaction};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

pub use login::{Begun, Credentials, Exchange};
pub use secure::{Secure, Securing, Stream};

use crate::rules::TopicRule;
use crate::state::{self, PartitionState};
use crate::status::UplinkStatus;

/// Largest batch before compression by default: the size up to which every
/// Kafka takes a batch without being configured for it (1,048,588 bytes).
pub const DEFAULT_BATCH_BYTES: usize = 1 << 20;

/// The name under which the uplink holds records against retention.
pub const HOLD: &str = "uplink";

/// Where to send what, and how fast.
#[derive(Debug, Clone)]
pub struct UplinkConfig {
    /// `host:port` of the hub; more than one are tried in turn.
    pub bootstrap: Vec<String>,
    /// Name of this gateway; topics arrive as `<site>.<topic>`.
    pub site: String,
    /// Topics to send and their priorities; the first match decides.
    pub topics: Vec<TopicRule>,
    /// Most bytes per second, as sent, or no cap.
    pub max_rate: Option<u64>,
    /// Compression of the batches.
    pub compression: Compression,
    /// Largest batch before compression, in bytes.
    pub batch_bytes: usize,
    /// Random identity of this gateway's data directory.
    pub incarnation: [u8; 16],
    /// Bytes that retention lets the log grow to, if it is limited; used to
    /// estimate how long the buffer lasts.
    pub retention_bytes: Option<u64>,
    /// Bytes of the disk that the log leaves free, for the same estimate.
    pub keep_free: u64,
    /// What lies between TCP and the Kafka protocol; `None` is nothing.
    pub secure: Option<Arc<dyn Secure>>,
    /// Who the uplink is; `None` does not log in.
    pub credentials: Option<Arc<dyn Credentials>>,
}

/// Why an [`UplinkConfig`] is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UplinkError {
    /// No address to connect to.
    #[error("uplink bootstrap is empty, expected at least one host:port")]
    NoBootstrap,
    /// An address without a port.
    #[error("uplink bootstrap address is {address}, expected host:port")]
    Address {
        /// The address.
        address: String,
    },
    /// A site name that cannot be part of a topic name.
    #[error("uplink site is {site:?}, expected 1 to 100 of a-z A-Z 0-9 . _ -")]
    Site {
        /// The name.
        site: String,
    },
}

/// Longest site name: a topic name has at most 249 characters, and the local
/// topic name needs its part.
const MAX_SITE_LEN: usize = 100;

/// The uplink of one gateway. Share it in an `Arc`: one task runs it, others
/// ask for its status.
pub struct Uplink {
    storage: Storage,
    config: UplinkConfig,
    status: Arc<Mutex<UplinkStatus>>,
}

impl Uplink {
    /// Checks the configuration; nothing is sent before [`Self::run`].
    ///
    /// # Errors
    /// [`UplinkError`] for a configuration that cannot work.
    pub fn new(storage: Storage, config: UplinkConfig) -> Result<Uplink, UplinkError> {
        if config.bootstrap.is_empty() {
            return Err(UplinkError::NoBootstrap);
        }
        for address in &config.bootstrap {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(UplinkError::Address {
                    address: address.clone(),
                });
            }
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let site = &config.site;
        if site.is_empty() || site.len() > MAX_SITE_LEN || !site.chars().all(allowed) {
            return Err(UplinkError::Site { site: site.clone() });
        }
        Ok(Uplink {
            storage,
            config,
            status: Arc::default(),
        })
    }

    /// Sends until `shutdown` turns true or its sender is gone. Reconnects for
    /// ever. What was planned and not acknowledged is repeated by the next run.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        let status = Arc::clone(&self.status);
        let runner = runner::Runner::new(self.storage.clone(), self.config.clone(), status);
        runner.run(shutdown).await;
    }

    /// A snapshot that is at most about a second old.
    pub fn status(&self) -> UplinkStatus {
        self.status.lock().clone()
    }
}

/// A link that the state of the storage remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLink {
    /// Source topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Every record below this source offset is delivered; `None` when the
    /// cursor cannot be read.
    pub acked: Option<u64>,
}

/// The links of a site that have a cursor, by topic and partition. Links of
/// topics that no longer exist are among them.
pub fn stored_links(storage: &Storage, site: &str) -> Vec<StoredLink> {
    let cursors = storage.scan_prefix(&state::prefix(site));
    let link = |(key, bytes): (Vec<u8>, Vec<u8>)| {
        let (topic, partition) = state::parse_key(&key)?;
        let state = PartitionState::decode(&bytes).ok();
        Some(StoredLink {
            topic,
            partition,
            acked: state.map(|state| state.acked),
        })
    };
    let mut links: Vec<_> = cursors.into_iter().filter_map(link).collect();
    links.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    links
}

/// Forgets the cursor of one link, after an operator decided that it starts
/// over. Takes effect with the next start of the uplink; durable when the
/// ticket is.
///
/// # Errors
/// When the storage takes no commit.
pub fn reset_link(
    storage: &Storage,
    site: &str,
    topic: &str,
    partition: u32,
) -> Result<Ticket, AppendError> {
    let mut transaction = Transaction::new();
    transaction.delete(&state::key(site, topic, partition));
    Ok(storage.commit(transaction)?.ticket)
}
