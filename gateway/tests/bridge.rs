//! Bridges: against a broker that does what a test says, and against another
//! Forebay as a whole broker that goes down and comes back.

#![allow(clippy::unwrap_used)]

#[path = "bridge/broker.rs"]
mod broker;
#[path = "bridge/carrying.rs"]
mod carrying;
#[path = "mqtt/client.rs"]
#[allow(dead_code, reason = "the tests of bridges use only a part of it")]
mod client;
#[path = "bridge/faults.rs"]
mod faults;
#[path = "mqtt/server.rs"]
#[allow(dead_code, reason = "the tests of bridges use only a part of it")]
mod server;
