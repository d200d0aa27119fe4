//! Sparkplug B: payloads, births with their aliases, sequence numbers; no I/O.

#![forbid(unsafe_code)]
