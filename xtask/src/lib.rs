//! Developer commands of Forebay, run as `cargo xtask COMMAND`.
//!
//! Everything here drives the built program from outside: through its command
//! line, its sockets and its data directory. The MQTT and Kafka clients in
//! [`wire`] are written by hand from the specifications and share no code with
//! the program, so that a mistake in a codec cannot cancel itself out. Only
//! [`bench`] calls a library of ours: it scores and times analytic functions.
//!
//! Start reading in [`cli`]; each command is a module of its own. [`node`],
//! [`wire`] and [`loopfs`] are public because the benchmarks use them too.
#![deny(unsafe_code)]

pub mod args;
pub mod bench;
pub mod cli;
pub mod containers;
pub mod failure;
pub mod fuzz;
pub mod image;
pub mod interop;
pub mod loopfs;
pub mod node;
pub mod package;
pub mod powercut;
pub mod proxy;
pub mod service;
pub mod tidy;
pub mod tumbling;
pub mod wire;
