//! Who may do what, without I/O, clock or randomness.
//!
//! - [`users`]: the file of users: names, what is kept of their passwords, tokens.
//! - [`password`]: Argon2id for passwords that come in the clear.
//! - [`scram`]: both sides of SCRAM-SHA-256 and SCRAM-SHA-512.
//! - [`rules`]: permissions on paths and topics, and the decision.
//! - [`acls`]: permissions that Kafka clients list and change.
//! - [`permissions`]: the decision from both.
//! - [`limiter`]: failed logins per address.
//!
//! Nothing that is secret is in a `Debug` text or an error.
#![forbid(unsafe_code)]

pub mod acls;
pub mod limiter;
pub mod password;
pub mod permissions;
pub mod rules;
pub mod scram;
pub mod users;
