//! Frames: how a protocol data unit travels.
//!
//! Over TCP a header carries a transaction id and a length (*TCP* section 3.1),
//! so an answer names its request. On a serial line, and where such a line is
//! carried through a TCP connection as it is, a frame is the unit, the data and
//! a checksum (*Serial* section 2.3): nothing in an answer says which request
//! it belongs to, and nothing but the request says where it ends.

pub mod rtu;
pub mod tcp;
