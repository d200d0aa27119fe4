//! OPC UA client: one supervised session per server.
//!
//! [`client::Client`] keeps a session with a server, subscribes to nodes and
//! yields [`sample::Sample`]s. It finds nodes by namespace URI on every run,
//! verifies certificates itself, notices a server that hangs, and rebuilds what
//! a server lost. The protocol stack below it is `async-opcua`; what is wrong
//! with its reconnect, and how this crate works around it, is written in
//! `docs/decisions/0011-opcua-recovery-and-trust.md`.
//!
//! It does not know the log, the configuration file or paths beyond the names
//! it is given, it has no server, and it neither reads history nor receives
//! events. Start with [`run`], the state machine of a session without I/O, then
//! [`client`], the part that talks.

#![forbid(unsafe_code)]

pub mod batch;
pub mod certificates;
pub mod client;
pub mod deadband;
pub mod items;
pub mod names;
pub mod node;
pub mod pattern;
pub mod probe;
pub mod run;
pub mod sample;
pub mod security;
pub mod sequence;
pub mod settings;
pub mod value;
