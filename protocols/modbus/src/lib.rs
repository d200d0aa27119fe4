//! Modbus TCP and RTU: frames, poll plan, values, and the client of a bus.

#![forbid(unsafe_code)]
