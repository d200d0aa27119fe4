//! A one-node Kafka broker over the log.
//!
//! Requests become appends, reads and state changes of `forebay_storage`; a
//! response that promises durability leaves when its commit window is on disk.
//! Consumer groups and idempotent producers are pure state machines
//! ([`group`], [`producer_state`]); the handlers around them never block, they
//! return a [`Reply`] that says what has to happen first. Only `server` knows
//! sockets and tokio.
//!
//! The crate does not replicate, has no transactions, decides nothing about users
//! (it asks an [`Authority`]), and does not know MQTT or the uplink; it serves the
//! uplink's append condition like any other client's.
//!
//! Start at [`Broker::new`] and [`serve`]; error codes are assigned in
//! `errors`. `docs/kafka-compatibility.md` describes the behaviour for users.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod book;
mod broker;
mod call;
mod certificate;
mod clock;
mod config;
mod errors;
pub mod group;
mod handlers;
mod offsets;
pub mod producer_state;
mod reply;
mod server;
mod stats;
pub mod topic_config;
pub mod topic_name;

pub use authority::{
    AclRefusal, Authority, Login, LoginStep, LoginStepLater, Operation, Principal, Resource,
    Selected, Session,
};
pub use broker::Broker;
pub use call::ConnectionContext;
pub use certificate::ClientCertificate;
pub use config::{
    BrokerConfig, DEFAULT_MAX_CONNECTIONS, DEFAULT_OFFSETS_RETENTION, DEFAULT_PARTITIONS,
    MAX_PARTITIONS_PER_TOPIC,
};
pub use errors::{KafkaCode, Refusal};
pub use handlers::fetch::{FetchWait, MAX_FETCH_BYTES};
pub use handlers::overview::{GroupOffset, GroupOverview};
pub use reply::{Answer, CloseReason, Pending, Reply, Work};
pub use server::{Advertised, Arriving, Listeners, Opened, Opening, SecureListener, Stream, serve};
pub use stats::Stats;
