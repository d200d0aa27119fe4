//! The messages of every API, generated from `definitions/`.
//!
//! Each message has a module with its structures. Names that occur in one
//! message only are also found here, so `messages::ProduceRequest` works;
//! `LeaderIdAndEpoch`, say, is in `produce_response` and in `fetch_response`.

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
