//! Reads request frames without trusting what they claim.
//!
//! An idle connection holds no buffer. A buffer grows with the bytes that have
//! arrived, never with the length alone that a client announces.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf};
use tokio::net::tcp::OwnedReadHalf;

/// Largest Produce frame: several batches of the largest size in one request.
pub(super) const MAX_PRODUCE_FRAME_BYTES: usize = 32 * 1024 * 1024;

/// Largest frame of every other request: a JoinGroup or an OffsetCommit over
/// ten thousand partitions stays below it.
pub(super) const MAX_OTHER_FRAME_BYTES: usize = 2 * 1024 * 1024;

/// Largest frame of a client that has to log in first: the longest SASL message
/// is a few thousand bytes.
pub(super) const MAX_LOGIN_FRAME_BYTES: usize = 16 * 1024;

/// API key, version and correlation id.
const MIN_FRAME_BYTES: usize = 8;

/// Bytes read at a time at first: most requests fit, and ten thousand
/// connections that each hold one cost 80 MB.
const READ_CHUNK_BYTES: usize = 8 * 1024;

/// From here on a sender means what it announces, and the rest of its frame is
/// reserved at once instead of by doubling, which copies what is there.
const TRUSTED_BYTES: usize = 64 * 1024;

/// Most that is reserved beyond what arrived: a batch of the default size. The
/// reserved part is address space until bytes arrive.
const MAX_RESERVE_BYTES: usize = 1024 * 1024;

/// Silence after which a connection is closed: Kafka's default of
/// `connections.max.idle.ms`, ten minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes of the length in front of a frame.
pub(super) const LENGTH_LEN: usize = 4;
const PRODUCE_KEY: i16 = 0;

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The announced length is impossible or above the limit.
    #[error("frame of {length} bytes, expected {MIN_FRAME_BYTES} to {limit}")]
    Length { length: i64, limit: usize },
    /// Nothing came for [`IDLE_TIMEOUT`].
    #[error("no bytes for {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
    /// The client closed inside a frame.
    #[error("connection ended inside a frame")]
    Cut,
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// Bytes of an idle stream that cannot say that it is readable before it is
/// read. A small request fits.
const IDLE_READ_BYTES: usize = 256;

/// Where frames come from.
pub(super) trait Source: Send {
    /// Waits for bytes and appends them to `buffer`, which gets `room` for them
    /// when they come. 0 is the end.
    fn receive(
        &mut self,
        buffer: &mut BytesMut,
        room: usize,
    ) -> impl Future<Output = io::Result<usize>> + Send;
}

impl Source for OwnedReadHalf {
    async fn receive(&mut self, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
        loop {
            self.readable().await?;
            buffer.reserve(room);
            match self.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if buffer.is_empty() {
                        *buffer = BytesMut::new();
                    }
                }
                received => return received,
            }
        }
    }
}

impl<S: AsyncRead + Unpin + Send> Source for ReadHalf<S> {
    async fn receive(&mut self, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
        if !buffer.is_empty() {
            buffer.reserve(room);
            return ended(self.read_buf(buffer).await);
        }
        let mut first = [0; IDLE_READ_BYTES];
        let len = ended(self.read(&mut first).await)?;
        if len > 0 {
            buffer.reserve(room);
            buffer.extend_from_slice(&first[..len]);
        }
        Ok(len)
    }
}

/// Frames say how long they are, so an end without the goodbye of a layer below
/// cuts nothing off unseen. Clients that exit close like that.
fn ended(received: io::Result<usize>) -> io::Result<usize> {
    match received {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        received => received,
    }
}

/// The bytes of a connection that are not a whole frame yet.
#[derive(Default)]
pub(super) struct FrameBuffer(BytesMut);

impl FrameBuffer {
    /// Returns the next frame without its length, or `None` when the client
    /// has closed. A client that `is_known` may send large ones.
    pub(super) async fn next(
        &mut self,
        source: &mut impl Source,
        is_known: bool,
    ) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.take(is_known)? {
                return Ok(Some(frame));
            }
            if self.0.is_empty() {
                self.0 = BytesMut::new();
            }
            let room = self.missing().min(self.reserve_limit());
            let received = tokio::time::timeout(IDLE_TIMEOUT, source.receive(&mut self.0, room));
            match received.await.map_err(|_| FrameError::Idle)? {
                Ok(0) if self.0.is_empty() => return Ok(None),
                Ok(0) => return Err(FrameError::Cut),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Cuts a whole frame off, if it has arrived, and checks its length as
    /// soon as it is known.
    fn take(&mut self, is_known: bool) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.announced() else {
            return Ok(None);
        };
        let limit = match self.0.get(LENGTH_LEN..LENGTH_LEN + 2) {
            _ if !is_known => MAX_LOGIN_FRAME_BYTES,
            Some(key) if i16::from_be_bytes([key[0], key[1]]) != PRODUCE_KEY => {
                MAX_OTHER_FRAME_BYTES
            }
            _ => MAX_PRODUCE_FRAME_BYTES,
        };
        let whole = usize::try_from(length)
            .ok()
            .filter(|length| (MIN_FRAME_BYTES..=limit).contains(length));
        let Some(whole) = whole else {
            return Err(FrameError::Length {
                length: length.into(),
                limit,
            });
        };
        if self.0.len() < LENGTH_LEN + whole {
            return Ok(None);
        }
        self.0.advance(LENGTH_LEN);
        Ok(Some(self.0.split_to(whole).freeze()))
    }

    fn announced(&self) -> Option<i32> {
        self.0
            .first_chunk::<LENGTH_LEN>()
            .map(|length| i32::from_be_bytes(*length))
    }

    fn reserve_limit(&self) -> usize {
        let arrived = self.0.len();
        if arrived < TRUSTED_BYTES {
            arrived.max(READ_CHUNK_BYTES)
        } else {
            arrived.max(MAX_RESERVE_BYTES)
        }
    }

    /// Bytes until the frame is whole, at least one chunk while its length is
    /// unknown or small, so that pipelined requests are read together.
    fn missing(&self) -> usize {
        let whole = self
            .announced()
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(0);
        (whole + LENGTH_LEN)
            .saturating_sub(self.0.len())
            .max(READ_CHUNK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bytes: &[u8]) -> Result<Option<Bytes>, FrameError> {
        FrameBuffer(BytesMut::from(bytes)).take(true)
    }

    #[test]
    fn a_frame_is_cut_off_when_it_is_whole() {
        let mut buffer = FrameBuffer(BytesMut::from(&b"\0\0\0\x08abcdefgh\0\0"[..]));
        assert_eq!(
            buffer.take(true).unwrap(),
            Some(Bytes::from_static(b"abcdefgh"))
        );
        assert_eq!(buffer.take(true).unwrap(), None);
        assert_eq!(buffer.0, &b"\0\0"[..]);
    }

    #[test]
    fn impossible_lengths_are_refused_at_once() {
        assert!(matches!(
            take(b"GET / HTTP/1.1"),
            Err(FrameError::Length { .. })
        ));
        assert!(matches!(
            take(b"\xff\xff\xff\xff"),
            Err(FrameError::Length { length: -1, .. })
        ));
        assert!(matches!(
            take(b"\0\0\0\x07"),
            Err(FrameError::Length { length: 7, .. })
        ));
    }

    #[test]
    fn only_produce_may_be_large() {
        let large = (MAX_OTHER_FRAME_BYTES as u32 + 1).to_be_bytes();
        assert!(take(&[&large[..], b"\0\0"].concat()).is_ok_and(|frame| frame.is_none()));
        assert!(matches!(
            take(&[&large[..], b"\0\x03"].concat()),
            Err(FrameError::Length { .. })
        ));
        let beyond = (MAX_PRODUCE_FRAME_BYTES as u32 + 1).to_be_bytes();
        assert!(matches!(
            take(&[&beyond[..], b"\0\0"].concat()),
            Err(FrameError::Length { .. })
        ));
    }

    #[test]
    fn nothing_is_large_before_a_login() {
        let large = (MAX_LOGIN_FRAME_BYTES as u32 + 1).to_be_bytes();
        let mut buffer = FrameBuffer(BytesMut::from(&[&large[..], b"\0\0"].concat()[..]));
        assert!(matches!(buffer.take(false), Err(FrameError::Length { .. })));
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        let claimed = (MAX_PRODUCE_FRAME_BYTES as u32).to_be_bytes();
        let mut buffer = FrameBuffer(BytesMut::from(&claimed[..]));
        let wanted = buffer.missing().min(buffer.reserve_limit());
        assert_eq!(wanted, READ_CHUNK_BYTES);
        assert!(buffer.take(true).unwrap().is_none());
    }

    #[test]
    fn the_rest_of_a_frame_is_reserved_once_its_sender_is_trusted() {
        let claimed = (MAX_PRODUCE_FRAME_BYTES as u32).to_be_bytes();
        let mut buffer = FrameBuffer(BytesMut::from(&claimed[..]));
        buffer.0.resize(TRUSTED_BYTES, 0);
        assert_eq!(
            buffer.missing().min(buffer.reserve_limit()),
            MAX_RESERVE_BYTES
        );
    }
}
