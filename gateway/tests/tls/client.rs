//! Clients over TLS, and the files that the node and they use.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use forebay_gateway::tls::authority::{Authority, CERTIFICATE_LIFETIME, Issued, Purpose, Wanted};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

pub type Version = &'static [&'static SupportedProtocolVersion];
pub const V12: Version = &[&rustls::version::TLS12];
pub const V13: Version = &[&rustls::version::TLS13];

/// What anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Numbers the clients, which would take each other over otherwise.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

/// A scratch directory with an authority and the files of a node.
pub struct Dir {
    dir: tempfile::TempDir,
    authority: Authority,
    ca: Issued,
}

pub fn issue(authority: &Authority, name: &str, purpose: Purpose) -> Issued {
    let names = match purpose {
        Purpose::Server => vec![name.to_owned(), "127.0.0.1".to_owned()],
        Purpose::Client => Vec::new(),
    };
    let wanted = Wanted {
        common_name: name,
        names: &names,
        purpose,
        now: SystemTime::now(),
        lifetime: CERTIFICATE_LIFETIME,
    };
    authority.issue(&wanted).unwrap()
}

pub fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
}

impl Dir {
    pub fn new() -> Self {
        let (authority, ca) = Authority::create("Test CA", SystemTime::now()).unwrap();
        let dir = Self {
            dir: tempfile::tempdir().unwrap(),
            authority,
            ca,
        };
        let server = dir.issue("hub", Purpose::Server);
        dir.write("server.crt", &server.certificate);
        dir.write("server.key", &server.key);
        dir.write("ca.crt", &dir.ca.certificate);
        dir
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    pub fn issue(&self, name: &str, purpose: Purpose) -> Issued {
        issue(&self.authority, name, purpose)
    }

    /// Puts certificates on the list `ca.crl`.
    pub fn revoke(&self, issued: &[&Issued]) {
        let file = self.dir.path().join("ca.crl");
        for one in issued {
            let so_far = std::fs::read_to_string(&file).ok();
            let revoked =
                self.authority
                    .revoke(&one.certificate, so_far.as_deref(), SystemTime::now());
            std::fs::write(&file, revoked.unwrap()).unwrap();
        }
    }

    pub fn client(&self, identity: Option<&Issued>, version: Version) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.ca)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(version)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(vec![der(issued)], key)
                    .unwrap()
            }
        })
    }
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Makes the handshake.
pub fn connect(address: &str, config: &Arc<ClientConfig>) -> io::Result<Stream> {
    let name = ServerName::try_from("hub").unwrap();
    let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(LIMIT))?;
    tcp.set_write_timeout(Some(LIMIT))?;
    let mut stream = StreamOwned::new(tls, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The certificate that the server showed.
pub fn shown(stream: &Stream) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone()
}

/// A client that said CONNECT and was accepted.
pub struct Mqtt {
    pub stream: Stream,
}

/// CONNECT of MQTT 3.1.1 with a clean session.
pub fn connect_packet(client_id: &str) -> Vec<u8> {
    let id = client_id.as_bytes();
    let mut packet = vec![0x10, u8::try_from(12 + id.len()).unwrap()];
    packet.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x3c\x00");
    packet.push(u8::try_from(id.len()).unwrap());
    packet.extend_from_slice(id);
    packet
}

pub fn mqtt(address: &str, config: &Arc<ClientConfig>) -> io::Result<Mqtt> {
    let mut stream = connect(address, config)?;
    let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
    stream.write_all(&connect_packet(&format!("client-{number}")))?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    assert_eq!(connack, [0x20, 2, 0, 0]);
    Ok(Mqtt { stream })
}

/// Publishes on QoS 1 without TLS, until all are acknowledged.
pub fn publish_plain(mut tcp: TcpStream, count: u16) {
    let mut packets = connect_packet("plain");
    packets.extend(publishes(1, count, b"reading"));
    tcp.write_all(&packets).unwrap();
    let mut answers = vec![0; 4 + 4 * usize::from(count)];
    tcp.read_exact(&mut answers).unwrap();
}

/// PUBLISH packets on QoS 1.
fn publishes(first_id: u16, count: u16, payload: &[u8]) -> Vec<u8> {
    let mut packets = Vec::new();
    for id in first_id..first_id + count {
        packets.push(0x32);
        let mut remaining = 2 + 3 + 2 + payload.len();
        while remaining >= 0x80 {
            packets.push(u8::try_from(remaining % 0x80).unwrap() | 0x80);
            remaining /= 0x80;
        }
        packets.push(u8::try_from(remaining).unwrap());
        packets.extend_from_slice(b"\x00\x03a/b");
        packets.extend_from_slice(&id.to_be_bytes());
        packets.extend_from_slice(payload);
    }
    packets
}

impl Mqtt {
    /// Publishes on QoS 1, all in one write.
    pub fn publish(&mut self, first_id: u16, count: u16, payload: &[u8]) {
        let packets = publishes(first_id, count, payload);
        self.stream.write_all(&packets).unwrap();
    }

    /// Reads the PUBACKs of these identifiers.
    pub fn acknowledged(&mut self, ids: RangeInclusive<u16>) {
        for id in ids {
            let mut puback = [0; 4];
            self.stream.read_exact(&mut puback).unwrap();
            let [high, low] = id.to_be_bytes();
            assert_eq!(puback, [0x40, 2, high, low]);
        }
    }
}

/// The answer to a plain GET.
pub fn http(address: &str, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    answer
}

/// One request and its answer.
pub fn kafka<R: forebay_kafka::Request>(
    stream: &mut (impl Read + Write),
    request: &R,
    version: i16,
) -> R::Response {
    let frame = forebay_kafka::encode_request(request, version, 7, Some("test")).unwrap();
    stream.write_all(&frame).unwrap();
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut answer).unwrap();
    forebay_kafka::decode_response::<R>(answer.into(), version)
        .unwrap()
        .1
}
