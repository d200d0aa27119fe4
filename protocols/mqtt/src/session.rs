//! The state machine of one network connection with its session (chapter 4).
//!
//! [`Connection`] is driven in four verbs:
//!
//! 1. *Input*: [`Connection::handle_input`] with received bytes (or
//!    [`Connection::handle_packet`]), [`Connection::handle_timeout`],
//!    [`Connection::handle_connection_lost`].
//! 2. *Commands* of the application, most of them answers to effects:
//!    [`Connection::accept_session`], [`Connection::acknowledge`],
//!    [`Connection::deliver`] and others.
//! 3. *Effects*: [`Connection::poll_effect`] until it returns `None`, after
//!    each input and each command. Effects are in the order in which they must
//!    take place.
//! 4. *Getters*: [`Connection::next_timeout`], [`Connection::can_deliver`],
//!    [`Connection::inflight`] and others.
//!
//! An acknowledgement is a promise, so the machine gives none of its own
//! accord: PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK leave after
//! the application said [`Outcome::Durable`] for the [`Token`] of their cause,
//! and in the order of their causes (section 4.6), however the answers come
//! in.

mod aliases;
mod answers;
mod config;
mod connection;
mod effect;
mod inbound;
mod opening;
mod outbound;

pub use config::Config;
pub use connection::{Connection, Input};
pub use effect::{
    AcceptSession, CloseReason, Cursor, DeliverError, Delivery, DropReason, Effect, Inflight,
    InflightStage, OpenSession, Outcome, ResumedDelivery, ResumedStage, SessionExpiry, Token,
};
