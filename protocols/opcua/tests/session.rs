//! Sessions against a server of `async-opcua` on loopback, with a proxy between
//! them that cuts and holds back.

#![allow(clippy::unwrap_used)]

#[path = "session/faults.rs"]
mod faults;
#[path = "session/plant.rs"]
mod plant;
#[path = "session/probing.rs"]
mod probing;
#[path = "session/proxy.rs"]
mod proxy;
#[path = "session/security.rs"]
mod security;
#[path = "session/values.rs"]
mod values;
#[path = "session/watcher.rs"]
mod watcher;
