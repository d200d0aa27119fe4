//! The client with sockets and ports, against servers that are not ours.

#![allow(clippy::unwrap_used)]

mod devices;
mod pty;
mod serial;
mod tokio_modbus_peer;
