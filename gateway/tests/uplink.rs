//! Gateway to hub, end to end: the binary twice, a TCP relay between them, and
//! faults from outside. What is asserted about readings is read back over the
//! Kafka protocol, record by record, on both sides.

mod running;

#[path = "uplink/audit.rs"]
mod audit;
#[path = "uplink/cluster.rs"]
mod cluster;
#[path = "uplink/gaps.rs"]
mod gaps;
#[path = "uplink/publisher.rs"]
mod publisher;
#[path = "uplink/relay.rs"]
mod relay;
#[path = "uplink/reset.rs"]
mod reset;
#[path = "uplink/site.rs"]
mod site;
#[path = "uplink/stops.rs"]
mod stops;
#[path = "uplink/survives.rs"]
mod survives;
