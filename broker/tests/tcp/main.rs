//! The broker over loopback TCP, with `forebay_kafka` as the client.

#![allow(clippy::unwrap_used)]

mod admin;
mod append_condition;
mod authority;
mod client;
mod connections;
mod fetch;
mod groups;
mod hub;
mod idempotence;
mod produce;
