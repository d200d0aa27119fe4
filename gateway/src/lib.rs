//! The forebay program: configuration, command line, roles, ingest, HTTP.
//!
//! This crate composes the others and owns what only a whole program has: the
//! one configuration file ([`config`]), the commands ([`cli`]), the two roles
//! and their start and stop ([`roles`]), the MQTT server and the routes into
//! the log, the HTTP endpoints ([`http`]) and the client that the commands use
//! ([`client`]). It does not define protocols, the log or replication.
//!
//! Start reading at [`roles::run`].
// One system call, in `clock/kernel.rs`, with its reasoning.
#![deny(unsafe_code)]

pub mod access;
pub mod bridge;
mod chunks;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod console;
mod demo;
pub mod devices;
pub mod http;
pub mod ingest;
mod ledger;
pub mod logs;
mod memory;
pub mod modbus;
pub mod mqtt;
pub mod opcua;
pub mod queries;
pub mod readings;
pub mod roles;
pub mod sasl;
pub mod sparkplug;
pub mod status;
pub mod tls;
