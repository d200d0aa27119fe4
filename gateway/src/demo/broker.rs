//! The MQTT broker that the plant had before: press-6 publishes to it in its own
//! words, and the gateway's bridge brings the readings in. Another process of
//! this binary plays it, as a stand-alone broker without a hub.

use std::net::SocketAddr;
use std::path::Path;

use super::nodes::quoted;

/// The machine that knows only the old broker.
pub const MACHINE: &str = "press-6";
/// The bridge's name in the status.
pub const BRIDGE: &str = "old-broker";
/// What the machine's topics begin with at the old broker.
pub const REMOTE_PREFIX: &str = "hall-2/";
/// What they begin with at the gateway.
pub const LOCAL_PREFIX: &str = "plant/";

/// The broker's configuration.
pub fn config(dir: &Path) -> String {
    format!(
        "[node]\nname = \"{BRIDGE}\"\nrole = \"gateway\"\ndata_dir = {}\n\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n\n\
         [kafka]\nlisten = \"127.0.0.1:0\"\n\n\
         [http]\nlisten = \"127.0.0.1:0\"\n",
        quoted(&dir.join(BRIDGE)),
    )
}

/// The bridge, as a section of the gateway's configuration. It speaks MQTT
/// 3.1.1, as old brokers do.
pub fn section(address: SocketAddr) -> String {
    format!(
        "[[bridge]]\nname = \"{BRIDGE}\"\naddress = \"{address}\"\nversion = \"3.1.1\"\n\
         topics = [ {{ filter = \"{MACHINE}/#\", direction = \"in\", \
         remote_prefix = \"{REMOTE_PREFIX}\", local_prefix = \"{LOCAL_PREFIX}\" }} ]\n\n"
    )
}
