//! The bytes below a publisher: TCP, or TLS over it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use xtask::wire::mqtt::Client;

/// CONNACK of MQTT 3.1.1 that says success (3.2).
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// A stream that never waits.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects a clean session.
    pub fn open(
        address: SocketAddr,
        client_id: &str,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let wire = match tls {
            None => {
                let (client, _) = Client::connect(address, client_id, true)?;
                Self::Plain(client.stream().try_clone()?)
            }
            Some(config) => {
                let name = ServerName::from(address.ip());
                let tls = ClientConnection::new(Arc::clone(config), name);
                let tls = tls.map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(tls, TcpStream::connect(address)?);
                stream.write_all(&connect(client_id))?;
                let mut answer = [0; CONNACK.len()];
                stream.read_exact(&mut answer)?;
                if answer != CONNACK {
                    return Err(io::Error::other(format!("CONNACK was {answer:02x?}")));
                }
                Self::Tls(Box::new(stream))
            }
        };
        wire.socket().set_nodelay(true)?;
        wire.socket().set_nonblocking(true)?;
        Ok(wire)
    }

    /// What epoll looks at.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Whether something came that epoll does not know of.
    pub fn holds_more(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// CONNECT with a clean session and a keep alive of a minute (3.1).
fn connect(client_id: &str) -> Vec<u8> {
    let id_len = u8::try_from(client_id.len()).unwrap_or_default();
    let mut packet = vec![0x10, 12 + id_len];
    packet.extend(b"\x00\x04MQTT\x04\x02\x00\x3c\x00");
    packet.push(id_len);
    packet.extend(client_id.as_bytes());
    packet
}
