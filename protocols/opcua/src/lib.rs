//! OPC UA client: supervised sessions, browse, subscriptions, trust.

#![forbid(unsafe_code)]
