//! Topics, producers, consumer groups and Kafka request handling over the log.

#![forbid(unsafe_code)]

pub mod group;
pub mod producer_state;
pub mod topic_config;
pub mod topic_name;
