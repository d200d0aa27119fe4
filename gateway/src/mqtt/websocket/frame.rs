//! WebSocket frames as a server sees them (RFC 6455 section 5).
//!
//! MQTT uses the payloads of binary messages as one stream of bytes: a packet
//! may begin, end and break anywhere in them \[MQTT-6.0.0-2\]. So the decoder
//! puts no message together. It unmasks the payload where it lies and closes
//! up the gaps that headers leave, and memory does not depend on what a peer
//! announces.

use bytes::{BufMut, BytesMut};

/// Largest payload of a control frame (section 5.5).
const CONTROL_LEN_MAX: usize = 125;

/// A header with a 64-bit length and a mask (section 5.2).
const HEADER_LEN_MAX: usize = 14;

/// Status codes of a close frame (section 7.4.1).
pub mod status {
    /// The purpose was fulfilled.
    pub const NORMAL: u16 = 1000;
    /// A frame broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A message has a type that is not taken: text.
    pub const UNSUPPORTED: u16 = 1003;
    /// A frame is too large.
    pub const TOO_LARGE: u16 = 1009;
}

/// Why a peer's frames are not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A reserved bit is set; no extension was negotiated (section 5.2).
    #[error("websocket frame has a reserved bit set")]
    ReservedBits,
    /// The frame is not masked, as every client's frame is (section 5.1).
    #[error("websocket frame is not masked")]
    NotMasked,
    /// The opcode is reserved (section 5.2).
    #[error("websocket frame has opcode {opcode}, expected 0, 2, 8, 9 or 10")]
    Opcode {
        /// The four bits.
        opcode: u8,
    },
    /// A text message: MQTT travels in binary ones \[MQTT-6.0.0-1\].
    #[error("websocket text frame, expected binary")]
    Text,
    /// A control frame is fragmented or longer than 125 bytes (section 5.5).
    #[error("websocket control frame is fragmented or longer than 125 bytes")]
    Control,
    /// A continuation without a beginning, or a beginning inside a message
    /// (section 5.4).
    #[error("websocket continuation frame without a message, or a message within another")]
    Continuation,
    /// The length does not use the fewest bytes or its first bit is set
    /// (section 5.2).
    #[error("websocket frame length is not minimal")]
    Length,
    /// The payload is larger than the limit.
    #[error("websocket frame has {len} bytes, the limit is {limit}")]
    TooLarge {
        /// Announced bytes.
        len: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// A close frame with one byte, or with a code that must not be sent
    /// (sections 5.5.1 and 7.4).
    #[error("websocket close frame is malformed")]
    Close,
}

impl FrameError {
    /// The status code that tells the peer.
    pub fn status(self) -> u16 {
        match self {
            Self::Text => status::UNSUPPORTED,
            Self::TooLarge { .. } => status::TOO_LARGE,
            _ => status::PROTOCOL_ERROR,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The payload that is being received.
#[derive(Clone, Copy, Debug)]
struct Payload {
    opcode: Opcode,
    mask: [u8; 4],
    /// Bytes of the payload so far, modulo 4: the place in the mask.
    phase: usize,
    remaining: u64,
}

/// What control frames ask for since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The newest ping's payload; a server may answer only that
    /// (section 5.5.3).
    pub pong: Option<Vec<u8>>,
    /// The peer says goodbye; nothing is read behind it.
    pub close: Option<u16>,
}

/// Takes frames apart.
#[derive(Debug)]
pub struct Decoder {
    limit: u64,
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
    payload: Option<Payload>,
    /// Whether a fragmented message is open.
    in_message: bool,
    control: Vec<u8>,
    requests: Requests,
}

impl Decoder {
    /// A decoder that takes frames with at most `limit` bytes of payload.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            header: [0; HEADER_LEN_MAX],
            header_len: 0,
            payload: None,
            in_message: false,
            control: Vec::new(),
            requests: Requests::default(),
        }
    }

    /// Takes the next bytes of the connection and moves what they hold of the
    /// MQTT stream to their front. Returns its length.
    ///
    /// Bytes behind a close frame are dropped.
    ///
    /// # Errors
    /// The first frame that breaks a rule; nothing may be read after it.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, FrameError> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() && self.requests.close.is_none() {
            let Some(payload) = &mut self.payload else {
                self.header[self.header_len] = bytes[at];
                self.header_len += 1;
                at += 1;
                self.begin()?;
                continue;
            };
            let rest = bytes.len() - at;
            let len = usize::try_from(payload.remaining).map_or(rest, |n| n.min(rest));
            for byte in &mut bytes[at..at + len] {
                *byte ^= payload.mask[payload.phase];
                payload.phase = (payload.phase + 1) % 4;
            }
            payload.remaining -= len as u64;
            let is_done = payload.remaining == 0;
            match payload.opcode {
                Opcode::Binary | Opcode::Continuation => {
                    bytes.copy_within(at..at + len, kept);
                    kept += len;
                }
                Opcode::Close | Opcode::Ping | Opcode::Pong => {
                    self.control.extend_from_slice(&bytes[at..at + len]);
                }
            }
            at += len;
            if is_done {
                self.end()?;
            }
        }
        Ok(kept)
    }

    /// Takes what control frames asked for.
    pub fn take_requests(&mut self) -> Requests {
        std::mem::take(&mut self.requests)
    }

    /// Reads the header when it is complete. Rules are checked as soon as
    /// their byte is there.
    fn begin(&mut self) -> Result<(), FrameError> {
        let header = &self.header[..self.header_len];
        let first = header[0];
        let opcode = self.check_first(first)?;
        let Some(&second) = header.get(1) else {
            return Ok(());
        };
        if second & 0x80 == 0 {
            return Err(FrameError::NotMasked);
        }
        let short = usize::from(second & 0x7F);
        if is_control(opcode) && short > CONTROL_LEN_MAX {
            return Err(FrameError::Control);
        }
        let len_end = match short {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if header.len() < len_end {
            return Ok(());
        }
        let extended = header[2..len_end]
            .iter()
            .fold(0, |len, byte| len << 8 | u64::from(*byte));
        let len = match short {
            126 if extended < 126 => return Err(FrameError::Length),
            127 if extended < 1 << 16 || extended >> 63 == 1 => return Err(FrameError::Length),
            126 | 127 => extended,
            short => short as u64,
        };
        if len > self.limit {
            let limit = self.limit;
            return Err(FrameError::TooLarge { len, limit });
        }
        let Ok(mask) = <[u8; 4]>::try_from(&header[len_end..]) else {
            return Ok(());
        };
        if !is_control(opcode) {
            self.in_message = first & 0x80 == 0;
        }
        self.header_len = 0;
        self.payload = Some(Payload {
            opcode,
            mask,
            phase: 0,
            remaining: len,
        });
        if len == 0 {
            self.end()?;
        }
        Ok(())
    }

    fn check_first(&self, first: u8) -> Result<Opcode, FrameError> {
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = match first & 0x0F {
            0 => Opcode::Continuation,
            1 => return Err(FrameError::Text),
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            opcode => return Err(FrameError::Opcode { opcode }),
        };
        let is_final = first & 0x80 != 0;
        match opcode {
            _ if is_control(opcode) && !is_final => Err(FrameError::Control),
            Opcode::Continuation if !self.in_message => Err(FrameError::Continuation),
            Opcode::Binary if self.in_message => Err(FrameError::Continuation),
            opcode => Ok(opcode),
        }
    }

    fn end(&mut self) -> Result<(), FrameError> {
        let Some(payload) = self.payload.take() else {
            return Ok(());
        };
        let control = std::mem::take(&mut self.control);
        match payload.opcode {
            Opcode::Ping => self.requests.pong = Some(control),
            Opcode::Close => self.requests.close = Some(close_status(&control)?),
            Opcode::Binary | Opcode::Continuation | Opcode::Pong => {}
        }
        Ok(())
    }
}

fn is_control(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong)
}

/// The status code of a close frame; one without a code is a normal end.
fn close_status(payload: &[u8]) -> Result<u16, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(status::NORMAL),
            _ => Err(FrameError::Close),
        };
    };
    let code = u16::from_be_bytes(*code);
    let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !may_be_sent || std::str::from_utf8(reason).is_err() {
        return Err(FrameError::Close);
    }
    Ok(code)
}

/// Appends a binary message of one frame.
pub fn encode_binary(payload: &[u8], into: &mut BytesMut) {
    encode(0x82, payload, into);
}

/// Appends the answer to a ping; its payload came in a control frame, so it
/// fits into one.
pub fn encode_pong(payload: &[u8], into: &mut BytesMut) {
    encode(0x8A, payload, into);
}

/// Appends a close frame.
pub fn encode_close(status: u16, into: &mut BytesMut) {
    encode(0x88, &status.to_be_bytes(), into);
}

/// A server's frames are not masked (section 5.1).
fn encode(first: u8, payload: &[u8], into: &mut BytesMut) {
    into.reserve(HEADER_LEN_MAX + payload.len());
    into.put_u8(first);
    match payload.len() {
        len @ 0..126 => into.put_u8(len as u8),
        len @ 126..0x1_0000 => {
            into.put_u8(126);
            into.put_u16(len as u16);
        }
        len => {
            into.put_u8(127);
            into.put_u64(len as u64);
        }
    }
    into.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
