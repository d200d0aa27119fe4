//! The MQTT server over loopback, against a real log in a scratch directory.
//!
//! Where a test asserts that something does *not* happen, it asks for something
//! that happens after it (a PINGRESP, another message) instead of waiting.

#![allow(clippy::unwrap_used)]

#[path = "mqtt/aliases.rs"]
mod aliases;
#[path = "mqtt/client.rs"]
mod client;
#[path = "mqtt/commanding.rs"]
mod commanding;
#[path = "mqtt/delivering.rs"]
mod delivering;
#[path = "mqtt/hostile.rs"]
mod hostile;
#[path = "mqtt/limits.rs"]
mod limits;
#[path = "mqtt/memory.rs"]
mod memory;
#[path = "mqtt/options.rs"]
mod options;
#[path = "mqtt/properties.rs"]
mod properties;
#[path = "mqtt/publishing.rs"]
mod publishing;
#[path = "mqtt/server.rs"]
mod server;
#[path = "mqtt/sessions.rs"]
mod sessions;
#[path = "mqtt/shares.rs"]
mod shares;
#[path = "mqtt/sparkplug.rs"]
mod sparkplug;
#[path = "mqtt/statements.rs"]
mod statements;
#[path = "mqtt/sys.rs"]
mod sys;
#[path = "mqtt/websocket.rs"]
mod websocket;
#[path = "mqtt/wills.rs"]
mod wills;
