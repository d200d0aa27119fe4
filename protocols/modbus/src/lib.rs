//! Modbus TCP and RTU: frames, poll plan, values, and the client of a bus.
//!
//! A *bus* is one connection with one or many units behind it: a TCP device, a
//! gateway to a serial line, a serial port. [`bus::Bus`] is the whole client as
//! a state machine: bytes and the time go in, effects come out. It polls by a
//! [`plan`], takes writes first, matches every answer to the one request that
//! is under way, and says which value belongs to which tag.
//!
//! What it does not do: it opens no socket and reads no clock (the [`client`]
//! does, with tokio), and it knows nothing of paths, topics or commands.
//!
//! Start with [`request`], then [`plan`], then [`bus`].
//!
//! The specifications are "MODBUS Application Protocol Specification V1.1b3"
//! (cited as *App*), "MODBUS Messaging on TCP/IP Implementation Guide V1.0b"
//! (*TCP*) and "MODBUS over Serial Line V1.02" (*Serial*).

#![forbid(unsafe_code)]

pub mod address;
pub mod bus;
pub mod client;
pub mod endpoint;
pub mod exception;
pub mod frame;
pub mod plan;
pub mod report;
pub mod request;
pub mod value;
