//! The partitioned log of Forebay.
//!
//! Topics are split into partitions; a partition is a sequence of segment
//! files of frames around Kafka v2 record batches. One commit thread per node
//! writes and syncs what all partitions gathered (group commit), so an append
//! costs a short lock and a [`Ticket`]; an acknowledgement waits for the ticket.
//! A key-value state rides in the same commits as an internal journal, with a
//! disposable view over it.
//!
//! The crate does not know Kafka requests, MQTT sessions, sockets or tokio; it
//! owns its threads and reaches files only through the [`disk::Disk`] seam. The
//! bytes on disk are described in `docs/log-format.md`.
//!
//! Start at [`Storage::open`], then [`Partition::append_batch`],
//! [`Partition::read`] and [`Transaction`].
#![forbid(unsafe_code)]

mod blobs;
mod commit;
mod config;
mod core;
pub mod disk;
mod error;
mod frame;
mod gap;
mod index;
mod keys;
mod maintenance;
mod partition;
mod preallocate;
mod recovery;
mod retention;
mod scrub;
mod segment;
mod state;
mod stats;
mod storage;
mod sync_pool;
mod ticket;
mod topic;
mod transaction;
mod view;

pub use config::{Config, Preallocation, Retention, WhenFull};
pub use error::{
    AlterTopicError, AppendError, CreateTopicError, DeleteTopicError, OpenError, ReadError,
};
pub use gap::{Gap, GapReason};
pub use partition::{AppendOptions, Appended, Chunk, Offsets, Partition};
pub use recovery::{DamagedRange, RecoveryReport, TornTail};
pub use stats::{LatencyHistogram, Stats};
pub use storage::Storage;
pub use ticket::Ticket;
pub use topic::{Topic, TopicConfig};
pub use transaction::{Committed, Transaction};
