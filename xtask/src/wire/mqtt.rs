//! A blocking MQTT 3.1.1 client that does nothing by itself.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The time a peer gets to accept a connection or to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Remaining length that is still believed (2.2.3 allows 256 MiB): far above
/// any packet that the tests send.
const PACKET_SIZE_MAX: usize = 4 << 20;

/// A packet from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK: session present flag and return code.
    ConnAck(bool, u8),
    /// PUBLISH.
    Publish {
        /// The topic name.
        topic: String,
        /// The packet identifier; 0 at QoS 0.
        id: u16,
        /// The quality of service.
        qos: u8,
        /// The application message.
        payload: Vec<u8>,
    },
    /// PUBACK.
    PubAck(u16),
    /// PUBREC.
    PubRec(u16),
    /// PUBREL.
    PubRel(u16),
    /// PUBCOMP.
    PubComp(u16),
    /// SUBACK: the identifier and the first return code.
    SubAck(u16, u8),
    /// Any other packet, by its type.
    Other(u8),
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    input: BufReader<TcpStream>,
    output: Vec<u8>,
}

impl Client {
    /// Connects and waits for the CONNACK; returns the session present flag.
    ///
    /// # Errors
    /// The connection failed, was closed, or was refused.
    pub fn connect(address: SocketAddr, id: &str, clean: bool) -> io::Result<(Self, bool)> {
        let mut client = Self::open(address)?;
        client.send_connect(id, clean);
        client.flush()?;
        match client.read()? {
            Packet::ConnAck(present, 0) => Ok((client, present)),
            other => Err(io::Error::other(format!("expected CONNACK, got {other:?}"))),
        }
    }

    /// Opens the connection and sends nothing.
    ///
    /// # Errors
    /// The connection failed.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            input: BufReader::with_capacity(16 << 10, stream),
            output: Vec::new(),
        })
    }

    /// Queues a CONNECT (3.1) with keep alive switched off.
    pub fn send_connect(&mut self, id: &str, clean: bool) {
        let mut body = Vec::new();
        text(&mut body, "MQTT");
        body.extend([4, u8::from(clean) << 1, 0, 0]);
        text(&mut body, id);
        self.packet(0x10, &body);
    }

    /// Queues a PUBLISH (3.3); `id` is left out at QoS 0.
    pub fn publish(&mut self, topic: &str, id: u16, qos: u8, dup: bool, payload: &[u8]) {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
        text(&mut body, topic);
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        body.extend_from_slice(payload);
        self.packet(0x30 | u8::from(dup) << 3 | qos << 1, &body);
    }

    /// Queues a PUBREL (3.6).
    pub fn release(&mut self, id: u16) {
        self.packet(0x62, &id.to_be_bytes());
    }

    /// Queues a PUBACK (3.4).
    pub fn acknowledge(&mut self, id: u16) {
        self.packet(0x40, &id.to_be_bytes());
    }

    /// Queues a SUBSCRIBE (3.8) to one filter.
    pub fn subscribe(&mut self, id: u16, filter: &str, qos: u8) {
        let mut body = id.to_be_bytes().to_vec();
        text(&mut body, filter);
        body.push(qos);
        self.packet(0x82, &body);
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The connection failed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.input.get_mut().write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// Reads one packet.
    ///
    /// # Errors
    /// The connection failed, was closed, stayed silent for too long, or sent
    /// a packet that is not MQTT.
    pub fn read(&mut self) -> io::Result<Packet> {
        let first = self.byte()?;
        let mut length = 0usize;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if length > PACKET_SIZE_MAX {
            return Err(malformed("a packet that is too large"));
        }
        let mut body = vec![0; length];
        self.input.read_exact(&mut body)?;
        decode(first, &body).ok_or_else(|| malformed("a packet that does not decode"))
    }

    /// Whether bytes have arrived that [`Client::read`] can take without
    /// waiting for the socket.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        !self.input.buffer().is_empty()
    }

    /// Waits for bytes to read; `false` when none came within the read timeout
    /// of the socket.
    ///
    /// # Errors
    /// The connection failed or was closed.
    pub fn poll(&mut self) -> io::Result<bool> {
        match self.input.fill_buf() {
            Ok([]) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The socket, for timeouts and half-closing.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.input.get_ref()
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn packet(&mut self, first: u8, body: &[u8]) {
        self.output.push(first);
        let mut rest = body.len();
        loop {
            let low = u8::try_from(rest & 0x7f).unwrap_or_default();
            rest >>= 7;
            self.output.push(if rest > 0 { low | 0x80 } else { low });
            if rest == 0 {
                break;
            }
        }
        self.output.extend_from_slice(body);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server sent {what}"),
    )
}

fn decode(first: u8, body: &[u8]) -> Option<Packet> {
    let id = || Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    Some(match first >> 4 {
        2 => Packet::ConnAck(body.first()? & 1 == 1, *body.get(1)?),
        3 => publish(first, body)?,
        4 => Packet::PubAck(id()?),
        5 => Packet::PubRec(id()?),
        6 => Packet::PubRel(id()?),
        7 => Packet::PubComp(id()?),
        9 => Packet::SubAck(id()?, *body.get(2)?),
        other => Packet::Other(other),
    })
}

fn publish(first: u8, body: &[u8]) -> Option<Packet> {
    let qos = first >> 1 & 3;
    let length = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let topic = String::from_utf8(body.get(2..2 + length)?.to_vec()).ok()?;
    let mut at = 2 + length;
    let mut id = 0;
    if qos > 0 {
        id = u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]);
        at += 2;
    }
    let payload = body.get(at..)?.to_vec();
    Some(Packet::Publish {
        topic,
        id,
        qos,
        payload,
    })
}
