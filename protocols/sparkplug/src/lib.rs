//! Sparkplug B 3.0: payloads, topics, and what a host application keeps about
//! each edge node; no I/O.
//!
//! [`Payload`] reads and writes the protobuf form with a reader of its own,
//! which checks every length against the bytes that are there and bounds
//! counts and nesting. [`Topic`] reads topic names. [`EdgeNode`] is the state
//! machine of one edge node as a host application sees it: births with their
//! aliases, sequence numbers, deaths. [`state::HostState`] is the STATE message
//! of the host itself.
//!
//! What is not here: MQTT, the namespace of the gateway, clocks. Times are
//! arguments, in milliseconds since the Unix epoch. Sections are those of the
//! Sparkplug specification 3.0.0.

#![forbid(unsafe_code)]

mod decode;
mod edge;
mod encode;
mod payload;
pub mod state;
mod topic;
mod value;
mod wire;

pub use decode::DecodeError;
pub use edge::{
    Counts, Definition, DeviceSnapshot, EdgeNode, EdgeSettings, EdgeSnapshot, Event, HELD_MAX,
    Held, Incoming, RESTART_GRACE_MS, Sample, SampleQuality, Wanted,
};
pub use encode::with_timestamp;
pub use payload::{
    DataSet, Metric, Parameter, Payload, Property, PropertyValue, RawValue, Template,
};
pub use topic::{EDGE_ID_LEN_MAX, MessageKind, NAMESPACE, Topic, TopicError, is_valid_id};
pub use value::{DataType, Value, ValueError};
