//! How a command reaches a node: plain, or over TLS when the address says so.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use forebay_access::scram::Mechanism;

use crate::client::Endpoint;
use crate::config::{ClientTls as Settings, HostPort, names};
use crate::sasl::{Sasl, SaslMechanism};
use crate::tls::ClientTls;

/// The Kafka port of a node.
const KAFKA_PORT: u16 = 9092;
/// The Kafka port of a node for TLS.
const KAFKA_TLS_PORT: u16 = 9093;
/// The HTTP port of a node.
const HTTP_PORT: u16 = 8080;
/// The HTTP port of a node for TLS.
const HTTP_TLS_PORT: u16 = 8443;

/// An address as it stands on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host_port: HostPort,
    is_tls: bool,
}

/// What a command shows and believes over TLS.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Reaching a node that wants TLS (tls://HOST:PORT) or a login")]
pub struct ReachArgs {
    /// The authorities that are believed; those of the system if not given
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// The certificate to show
    #[arg(long, value_name = "FILE", global = true, requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, value_name = "FILE", global = true, requires = "cert")]
    key: Option<PathBuf>,
    /// The user to log in as
    #[arg(long, value_name = "NAME", global = true, requires = "password_file")]
    user: Option<String>,
    /// The file whose first line is the user's password
    #[arg(long, value_name = "FILE", global = true, requires = "user")]
    password_file: Option<PathBuf>,
}

impl ReachArgs {
    fn login(&self) -> Option<Sasl> {
        let (user, file) = (self.user.as_ref()?, self.password_file.as_ref()?);
        Some(Sasl {
            mechanism: SaslMechanism::Scram(Mechanism::Sha512),
            user: user.clone(),
            password_file: file.clone(),
        })
    }

    /// Where and how to connect.
    pub fn endpoint(&self, address: &Address) -> Endpoint {
        let settings = || Settings {
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
            server_name: None,
        };
        Endpoint {
            address: address.host_port.clone(),
            tls: address.is_tls.then(|| ClientTls::new(settings())),
            token: None,
            login: self.login(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls://" } else { "" };
        write!(f, "{scheme}{}", self.host_port)
    }
}

/// Parses the address of a Kafka listener; a bare host gets its port.
///
/// # Errors
/// What was expected.
pub fn parse_kafka(text: &str) -> Result<Address, String> {
    let expected = "expected host:port or tls://host:port, such as 127.0.0.1:9092";
    parse(text, &["tls://"], [KAFKA_PORT, KAFKA_TLS_PORT]).ok_or_else(|| expected.to_owned())
}

/// Parses the address of an HTTP listener; a bare host gets its port.
///
/// # Errors
/// What was expected.
pub fn parse_http(text: &str) -> Result<Address, String> {
    let expected = "expected host:port or tls://host:port, such as 127.0.0.1:8080";
    let schemes = ["tls://", "https://"];
    parse(text, &schemes, [HTTP_PORT, HTTP_TLS_PORT]).ok_or_else(|| expected.to_owned())
}

fn parse(text: &str, schemes: &[&str], [plain, tls]: [u16; 2]) -> Option<Address> {
    let inner = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_tls = inner.is_some();
    let port = if is_tls { tls } else { plain };
    let text = inner.unwrap_or(text).trim_end_matches('/');
    let host_port =
        names::host_port(text).or_else(|| names::host_port(&format!("{text}:{port}")))?;
    Some(Address { host_port, is_tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_and_the_port_are_optional() {
        let shown = |parsed: Result<Address, String>| parsed.unwrap().to_string();
        assert_eq!(shown(parse_kafka("hub")), "hub:9092");
        assert_eq!(shown(parse_kafka("tls://hub")), "tls://hub:9093");
        assert_eq!(shown(parse_kafka("tls://[::1]:7")), "tls://[::1]:7");
        assert_eq!(shown(parse_http("https://hub/")), "tls://hub:8443");
        assert_eq!(shown(parse_http("hub:1")), "hub:1");
        assert!(parse_kafka("https://hub").is_err());
    }
}
