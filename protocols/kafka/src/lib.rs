//! Bounded Kafka wire codec, generated from definitions; no I/O
