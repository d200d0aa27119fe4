//! Store-and-forward from a gateway's log to a hub, each record once.
//!
//! The uplink is a Kafka producer of its own kind. Per source partition it
//! keeps a durable producer id, and the sequence number of a record is a
//! function of its source offset. The boundaries of the batches in flight are
//! durable before the batches are sent, and a retry sends the same batches, so
//! the destination itself refuses a gap or a duplicate. After a reconnect the
//! newest record at the destination is compared with this log before anything
//! else is sent. `docs/uplink.md` holds the argument and the failure table.
//!
//! What it deliberately does not do: no transactions, no consumer groups, no
//! hashing of keys (partition n goes to partition n), no reading back of data
//! other than the newest record.
//!
//! Where to start: [`link::Link`] is the state machine of one partition,
//! without I/O; [`state::PartitionState`] is what it keeps on disk;
//! [`schedule`] decides whose turn it is; [`driver::Uplink`] is the only part
//! that knows tokio, sockets and the clock.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backoff;
pub mod driver;
pub mod link;
pub mod planner;
pub mod rules;
pub mod schedule;
pub mod state;
pub mod status;

pub use driver::{StoredLink, Uplink, UplinkConfig, UplinkError, reset_link, stored_links};
pub use rules::TopicRule;
pub use status::{PartitionStatus, UplinkStatus};
