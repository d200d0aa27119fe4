//! What a session is to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::deadband::Deadband;
use crate::node::NodeRef;
use crate::pattern::Pattern;
use crate::run::Pace;
use crate::sample::Timestamp;
use crate::security::Security;

/// The port of `opc.tcp` URLs without one (IANA).
const PORT: u16 = 4840;

/// Keep-alive periods of a subscription that the server waits for a publish
/// request before it deletes the subscription. The session expires first.
const LIFETIME_PERIODS: u32 = 10;

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("endpoint is {text:?}, expected opc.tcp://HOST:PORT/PATH")]
pub struct UrlError {
    text: String,
}

/// `opc.tcp://HOST:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    host: String,
    port: u16,
}

impl Url {
    /// Reads an endpoint URL. IPv6 addresses stand in brackets.
    ///
    /// # Errors
    /// [`UrlError`] when it is none.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let error = || UrlError {
            text: text.to_owned(),
        };
        let rest = text.strip_prefix("opc.tcp://").ok_or_else(error)?;
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(error)?;
                (
                    host,
                    port.strip_prefix(':').or(port.is_empty().then_some("")),
                )
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port.ok_or_else(error)? {
            "" if !authority.ends_with(':') => PORT,
            port => port.parse().map_err(|_| error())?,
        };
        let is_sane = |c: char| !c.is_whitespace() && !c.is_control() && c != '@';
        if host.is_empty() || port == 0 || !text.chars().all(is_sane) {
            return Err(error());
        }
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port,
        })
    }

    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Who the session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody.
    Anonymous,
    /// A user. The file is read at every start of a session, so that a changed
    /// password needs no restart.
    User {
        /// The name.
        name: String,
        /// The file whose first line is the password.
        password_file: PathBuf,
    },
    /// The holder of a certificate.
    Certificate {
        /// The certificate, `.der` or `.pem`.
        certificate: PathBuf,
        /// The private key, PEM.
        key: PathBuf,
    },
}

/// How values of a node are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// How often the server looks. `None`: as often as it publishes.
    pub interval: Option<Duration>,
    /// Values that the server keeps between two publishes, per node.
    pub queue_size: u32,
    /// Changes that are too small to be reported.
    pub deadband: Deadband,
}

/// A node by its id.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// Its name, one or several levels.
    pub name: String,
    /// Which one it is.
    pub id: NodeRef,
    /// How it is taken.
    pub sampling: Sampling,
}

/// Everything about a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The session's name at the server, and of its pinned certificate.
    pub name: String,
    /// Where the server is.
    pub url: Url,
    /// How messages are protected.
    pub security: Security,
    /// Whether the server's certificate must be for the host in the URL.
    pub check_hostname: bool,
    /// Who it is for.
    pub identity: Identity,
    /// How often the server reports.
    pub publishing_interval: Duration,
    /// The longest silence of a server that is well.
    pub keep_alive: Duration,
    /// Time for one request.
    pub request_timeout: Duration,
    /// How long the server keeps a session without a connection.
    pub session_timeout: Duration,
    /// Items of one request.
    pub batch: usize,
    /// Whose clock counts.
    pub timestamp: Timestamp,
    /// Nodes by id.
    pub nodes: Vec<NodeSettings>,
    /// Nodes by browse path.
    pub browse: Vec<Pattern>,
    /// Of those, not these.
    pub exclude: Vec<Pattern>,
    /// Browsed nodes at most.
    pub max_nodes: usize,
    /// Levels below Objects at most.
    pub max_depth: usize,
    /// How browsed nodes are taken.
    pub sampling: Sampling,
    /// Whether the server is asked to leave changes within an absolute deadband
    /// out. Some do it wrong, see [`deadband`](crate::deadband).
    pub server_deadband: bool,
    /// The folder of certificates.
    pub pki: PathBuf,
}

impl Settings {
    /// The times of the session's runs.
    pub fn pace(&self) -> Pace {
        Pace {
            // A few thousand nodes are browsed and subscribed in some seconds;
            // small controllers take a second per batch.
            start_timeout: self.request_timeout * 30,
            keep_alive: self.keep_alive.max(self.publishing_interval),
            away_max: self.session_timeout,
            resume_timeout: self.request_timeout * 6,
            reread_after: self.publishing_interval * 2,
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
        }
    }

    /// Publishing intervals of one keep-alive period.
    pub fn keep_alive_count(&self) -> u32 {
        let intervals = self.keep_alive.as_millis() / self.publishing_interval.as_millis().max(1);
        u32::try_from(intervals)
            .unwrap_or(u32::MAX / LIFETIME_PERIODS)
            .clamp(1, u32::MAX / LIFETIME_PERIODS)
    }

    /// Publishing intervals of a subscription without publish requests.
    pub fn lifetime_count(&self) -> u32 {
        self.keep_alive_count() * LIFETIME_PERIODS
    }

    /// Whether a session with `other` can go on with these: only nodes differ.
    pub fn keeps_session_of(&self, other: &Self) -> bool {
        let session = |settings: &Self| Self {
            nodes: Vec::new(),
            browse: Vec::new(),
            exclude: Vec::new(),
            max_nodes: 0,
            max_depth: 0,
            sampling: self.sampling,
            timestamp: self.timestamp,
            batch: 0,
            ..settings.clone()
        };
        session(self) == session(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let cases = [
            ("opc.tcp://10.0.0.9", "10.0.0.9", 4840),
            ("opc.tcp://plc:4841/ua/server", "plc", 4841),
            ("opc.tcp://[fe80::1]:4842", "fe80::1", 4842),
            ("opc.tcp://[fe80::1]/x:1", "fe80::1", 4840),
        ];
        for (text, host, port) in cases {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
        }
        for text in [
            "",
            "10.0.0.9:4840",
            "opc.https://plc",
            "opc.tcp://",
            "opc.tcp://:4840",
            "opc.tcp://plc:",
            "opc.tcp://plc:0",
            "opc.tcp://plc:70000",
            "opc.tcp://user@plc",
            "opc.tcp://a b",
            "opc.tcp://[fe80::1",
            "opc.tcp://[fe80::1]x",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
