//! Walks the frames of a segment and finds the next good one after a bad one.

use crate::disk::DiskFile;
use crate::frame::{
    FRAME_ALIGNMENT, FRAME_HEADER_LEN, FrameHeader, MAX_PAYLOAD, STAMPED_LEN, frame_len,
    payload_crc, u32_at,
};
use bytes::Bytes;
use std::io;

/// A block of blank space, compared as a whole.
const ZEROS: [u8; 4096] = [0; 4096];

/// Bytes per read when walking a whole segment.
const CHUNK: usize = 256 << 10;

/// A frame whose checksums are right.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub header: FrameHeader,
    pub position: u64,
    pub payload: Bytes,
}

/// What the scanner stands before.
#[derive(Debug)]
pub(crate) enum Step {
    /// A good frame; the scanner has moved behind it.
    Frame(Frame),
    /// Zeros: nothing was written here.
    Blank { position: u64 },
    /// Bytes that are not a good frame.
    Bad { position: u64 },
    /// The end of the range.
    End,
}

/// Reads frames between two positions of a file.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    salt: u64,
    position: u64,
    end: u64,
    chunk: usize,
    buffer: Bytes,
    buffer_at: u64,
}

impl<'a> Scanner<'a> {
    /// Begins at `position`; bytes at and after `end` are not looked at.
    pub fn new(file: &'a dyn DiskFile, salt: u64, position: u64, end: u64) -> Self {
        Scanner {
            file,
            salt,
            position,
            end,
            chunk: CHUNK,
            buffer: Bytes::new(),
            buffer_at: position,
        }
    }

    /// Reads `chunk` bytes at a time.
    pub fn with_chunk(mut self, chunk: usize) -> Self {
        self.chunk = chunk.max(FRAME_HEADER_LEN + STAMPED_LEN);
        self
    }

    /// Returns what is next. The position stays where it is unless it is a frame.
    pub fn step(&mut self) -> io::Result<Step> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        let position = self.position;
        let head = self.peek(FRAME_HEADER_LEN + STAMPED_LEN)?;
        if head.iter().all(|byte| *byte == 0) {
            return Ok(Step::Blank { position });
        }
        let Some(header) = FrameHeader::decode(self.salt, &head) else {
            return Ok(Step::Bad { position });
        };
        match self.frame_at(header)? {
            Some(frame) => {
                self.position += header.frame_len() as u64;
                Ok(Step::Frame(frame))
            }
            None => Ok(Step::Bad { position }),
        }
    }

    /// Moves to the next good frame behind the position and returns where it is.
    pub fn resync(&mut self) -> io::Result<Option<u64>> {
        let start = self.position;
        self.position += FRAME_ALIGNMENT as u64;
        while self.position + FRAME_HEADER_LEN as u64 <= self.end {
            let head = self.peek(ZEROS.len())?;
            // A frame begins with its length, so none begins in zeros. Most
            // of a preallocated segment is skipped here, a block at a time.
            if head[..] == ZEROS {
                self.position += ZEROS.len() as u64;
                continue;
            }
            if head.len() >= FRAME_HEADER_LEN
                && u32_at(&head, 0) != 0
                // Any four bytes may stand here, and a usize may have 32 bits.
                && u32_at(&head, 40) as usize <= MAX_PAYLOAD
                && u32_at(&head, 0) as usize == frame_len(u32_at(&head, 40) as usize)
                && let Some(header) = FrameHeader::decode(self.salt, &head)
                && self.frame_at(header)?.is_some()
            {
                return Ok(Some(self.position));
            }
            self.position += FRAME_ALIGNMENT as u64;
        }
        self.position = start;
        Ok(None)
    }

    /// Returns the base offset of the frame at the position, if its header is good.
    pub fn peek_base(&mut self) -> io::Result<Option<u64>> {
        let head = self.peek(FRAME_HEADER_LEN + STAMPED_LEN)?;
        Ok(FrameHeader::decode(self.salt, &head).map(|header| header.base_offset))
    }

    fn frame_at(&mut self, header: FrameHeader) -> io::Result<Option<Frame>> {
        let position = self.position;
        let whole = self.peek(FRAME_HEADER_LEN + header.payload_len as usize)?;
        if whole.len() < FRAME_HEADER_LEN + header.payload_len as usize {
            return Ok(None);
        }
        let payload = whole.slice(FRAME_HEADER_LEN..);
        if payload_crc(&payload) != header.payload_crc {
            return Ok(None);
        }
        Ok(Some(Frame {
            header,
            position,
            payload,
        }))
    }

    /// Returns up to `wanted` bytes at the position without moving.
    fn peek(&mut self, wanted: usize) -> io::Result<Bytes> {
        let available = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = wanted.min(available);
        let skip = self
            .position
            .checked_sub(self.buffer_at)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip.saturating_add(wanted) <= self.buffer.len());
        let skip = match skip {
            Some(skip) => skip,
            None => {
                let mut bytes = vec![0; wanted.max(self.chunk.min(available))];
                let read = self.file.read_at(&mut bytes, self.position)?;
                bytes.truncate(read);
                self.buffer = Bytes::from(bytes);
                self.buffer_at = self.position;
                0
            }
        };
        let end = (skip + wanted).min(self.buffer.len());
        Ok(self.buffer.slice(skip..end))
    }
}
