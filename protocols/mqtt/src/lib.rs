//! MQTT 3.1.1 and MQTT 5: packets, topics and the server's session machine.
//!
//! The crate has three parts, from the wire upwards:
//!
//! - [`packet`] is a strict codec for both versions and both directions. The
//!   version is data, every refusal names its MQTT 5 reason code, and payloads
//!   are slices of the input.
//! - [`topic`] validates and matches topic names and filters, and holds the
//!   [`topic::SubscriptionTree`] that finds the subscribers of a name.
//! - [`session`] is the state machine of one network connection. It decides
//!   what is answered and when; an acknowledgement leaves only after the
//!   application said that its cause is durable.
//!
//! It does not open sockets, read clocks, keep messages or decide who may do
//! what. Time is an argument, effects are values, and the application is
//! asked. Start at [`session::Connection`].
//!
//! Section numbers in the documentation are those of the OASIS standard MQTT
//! Version 5.0; "3.1.1 section" marks those of MQTT Version 3.1.1.

#![forbid(unsafe_code)]

pub mod packet;
pub mod reason;
pub mod session;
pub mod text;
pub mod topic;

pub use packet::{DecodeError, EncodeError, Packet, PacketId, Qos, Version};
pub use reason::ReasonCode;
pub use session::{Config, Connection, Effect};
pub use text::Text;
pub use topic::{SubscriptionTree, TopicFilter, TopicName};
