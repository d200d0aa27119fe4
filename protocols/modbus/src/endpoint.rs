//! Where a bus is: the URL of a configuration.
//!
//! | | |
//! |---|---|
//! | `tcp://10.0.0.7` | Modbus TCP, port 502 unless given |
//! | `rtu+tcp://10.0.0.7:4001` | RTU frames through TCP, as serial converters do |
//! | `rtu:///dev/ttyUSB0?baud=9600&parity=even&data_bits=8&stop_bits=1` | a serial port |

use std::fmt;
use std::path::PathBuf;

use crate::bus::Framing;
use crate::frame::rtu;

/// The port that IANA registered for Modbus TCP.
pub const TCP_PORT: u16 = 502;

/// The rate of the specification (*Serial* section 3.2).
const BAUD: u32 = 19_200;

/// Rates of the ports that exist; a rate outside is a mistyped one.
const BAUDS: std::ops::RangeInclusive<u32> = 300..=4_000_000;

/// A bus.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// Modbus TCP.
    Tcp(Host),
    /// RTU frames through a TCP connection.
    RtuOverTcp(Host),
    /// A serial port.
    Serial(SerialPort),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub name: String,
    /// The TCP port.
    pub port: u16,
}

/// A serial port and its settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialPort {
    /// The device file.
    pub path: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// Bits of a character, 7 or 8. RTU needs 8; some converters lie.
    pub data_bits: u8,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

/// The parity bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Parity {
    /// None.
    None,
    /// Even, the default of the specification.
    Even,
    /// Odd.
    Odd,
}

/// What is wrong with the text of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It begins with nothing known.
    #[error(
        "expected tcp://HOST[:PORT], rtu+tcp://HOST:PORT or rtu:///dev/DEVICE?baud=19200&parity=even"
    )]
    Scheme,
    /// The host or port is not one.
    #[error("expected a host and a port behind ://, got {0:?}")]
    Host(String),
    /// The device is no absolute path.
    #[error("expected the absolute path of a serial port behind rtu://, got {0:?}")]
    Path(String),
    /// A setting is unknown.
    #[error("unknown setting {0:?}; known are baud, parity, data_bits and stop_bits")]
    Setting(String),
    /// A setting has an impossible value.
    #[error("{key} = {value:?}, expected {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl Endpoint {
    /// Reads the URL of a bus.
    ///
    /// # Errors
    /// It is not one; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = text.split_once("://").ok_or(EndpointError::Scheme)?;
        match scheme {
            "tcp" => Ok(Self::Tcp(host(rest, Some(TCP_PORT))?)),
            "rtu+tcp" => Ok(Self::RtuOverTcp(host(rest, None)?)),
            "rtu" => Ok(Self::Serial(serial(rest)?)),
            _ => Err(EndpointError::Scheme),
        }
    }

    /// How frames travel there.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match self {
            Self::Tcp(_) => Framing::Tcp,
            Self::RtuOverTcp(_) => Framing::RtuOverTcp,
            Self::Serial(port) => Framing::Rtu {
                silence: rtu::silence(port.baud),
            },
        }
    }
}

fn host(text: &str, default_port: Option<u16>) -> Result<Host, EndpointError> {
    let wrong = || EndpointError::Host(text.to_owned());
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or_else(wrong)?;
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':').ok_or_else(wrong)?),
            };
            name.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (name, port)
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(wrong());
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None => default_port,
    };
    Ok(Host {
        name: name.to_owned(),
        port: port.ok_or_else(wrong)?,
    })
}

fn serial(text: &str) -> Result<SerialPort, EndpointError> {
    let (path, settings) = text.split_once('?').unwrap_or((text, ""));
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(EndpointError::Path(path.to_owned()));
    }
    let mut port = SerialPort {
        path: PathBuf::from(path),
        baud: BAUD,
        parity: Parity::Even,
        data_bits: 8,
        stop_bits: 1,
    };
    for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let wrong = |key, expected| EndpointError::Value {
            key,
            value: value.to_owned(),
            expected,
        };
        let digit = |among: [u8; 2]| value.parse().ok().filter(|bits| among.contains(bits));
        match key {
            "baud" => {
                let baud = value.parse().ok().filter(|baud| BAUDS.contains(baud));
                port.baud = baud.ok_or_else(|| wrong("baud", "300 to 4000000"))?;
            }
            "parity" => {
                port.parity = match value {
                    "none" => Parity::None,
                    "even" => Parity::Even,
                    "odd" => Parity::Odd,
                    _ => return Err(wrong("parity", "none, even or odd")),
                }
            }
            "data_bits" => {
                port.data_bits = digit([7, 8]).ok_or_else(|| wrong("data_bits", "7 or 8"))?;
            }
            "stop_bits" => {
                port.stop_bits = digit([1, 2]).ok_or_else(|| wrong("stop_bits", "1 or 2"))?;
            }
            _ => return Err(EndpointError::Setting(key.to_owned())),
        }
    }
    Ok(port)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::RtuOverTcp(host) => write!(f, "rtu+tcp://{host}"),
            Self::Serial(port) => {
                let parity = match port.parity {
                    Parity::None => "none",
                    Parity::Even => "even",
                    Parity::Odd => "odd",
                };
                write!(
                    f,
                    "rtu://{}?baud={}&parity={parity}&data_bits={}&stop_bits={}",
                    port.path.display(),
                    port.baud,
                    port.data_bits,
                    port.stop_bits
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, EndpointError, Host, Parity, SerialPort};

    #[test]
    fn the_three_kinds_are_read_and_print_what_reads_back() {
        let host = |name: &str, port| Host {
            name: name.to_owned(),
            port,
        };
        let serial = |baud, parity, data_bits, stop_bits| {
            Endpoint::Serial(SerialPort {
                path: "/dev/ttyUSB0".into(),
                baud,
                parity,
                data_bits,
                stop_bits,
            })
        };
        for (text, endpoint) in [
            ("tcp://10.0.0.7", Endpoint::Tcp(host("10.0.0.7", 502))),
            (
                "tcp://plc-7.line:1502",
                Endpoint::Tcp(host("plc-7.line", 1_502)),
            ),
            ("tcp://[fe80::1]", Endpoint::Tcp(host("fe80::1", 502))),
            (
                "rtu+tcp://[::1]:4001",
                Endpoint::RtuOverTcp(host("::1", 4_001)),
            ),
            ("rtu:///dev/ttyUSB0", serial(19_200, Parity::Even, 8, 1)),
            (
                "rtu:///dev/ttyUSB0?baud=9600&parity=none&stop_bits=2",
                serial(9_600, Parity::None, 8, 2),
            ),
        ] {
            assert_eq!(Endpoint::parse(text), Ok(endpoint.clone()), "{text}");
            assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("10.0.0.7:502", "expected tcp://HOST"),
            ("udp://10.0.0.7", "expected tcp://HOST"),
            ("tcp://", "expected a host and a port"),
            ("tcp://a b", "expected a host and a port"),
            ("tcp://plc:0", "expected a host and a port"),
            ("tcp://plc:70000", "expected a host and a port"),
            ("tcp://[fe80::1", "expected a host and a port"),
            ("rtu+tcp://moxa", "expected a host and a port"),
            ("rtu://ttyUSB0", "expected the absolute path"),
            ("rtu:///dev/ttyS0?speed=9600", "unknown setting \"speed\""),
            ("rtu:///dev/ttyS0?baud=96", "baud = \"96\", expected 300"),
            ("rtu:///dev/ttyS0?parity=E", "parity = \"E\", expected none"),
            ("rtu:///dev/ttyS0?stop_bits=3", "expected 1 or 2"),
        ] {
            let said = Endpoint::parse(text).map_err(|error: EndpointError| error.to_string());
            let said = said.expect_err(text);
            assert!(said.contains(message), "{text}: {said}");
        }
    }
}
