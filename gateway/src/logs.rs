//! What the program writes about itself, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, defaults};

/// What the OPC UA library says of a lost connection is said by the device's
/// state as well, once and with the name of the device. A level in the
/// configuration that names the library is stronger.
const LIBRARIES: &str = "opcua_client=off,opcua_core=off,opcua_crypto=off";

/// Starts logging for the process. A second call changes nothing.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_new(format!("{LIBRARIES},{}", log.level))
        .unwrap_or_else(|_| EnvFilter::new(defaults::LOG_LEVEL));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // Only a second subscriber in the same process is an error here.
    let _ = match log.format {
        LogFormat::Human => builder.finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
}
