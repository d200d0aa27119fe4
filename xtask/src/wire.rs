//! Small blocking MQTT and Kafka clients, written from the specifications.
//!
//! They exist to say exactly what went over the wire and when: a library that
//! retries or reconnects by itself would hide what the tests look for.

pub mod batch;
pub mod kafka;
pub mod mqtt;
