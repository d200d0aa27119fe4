//! The four codecs of the batch format, with a limit on what comes out.

use std::io::{Read, Write};

use crate::BatchError;

mod snappy;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Plain records.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, raw or in the framing of the Java library.
    Snappy,
    /// The LZ4 frame format with independent blocks.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The attribute bits of the codec.
    pub(crate) fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Level of gzip: the middle that zlib calls its default.
const GZIP_LEVEL: u32 = 6;
/// Level of zstd: its default, as Kafka's clients use it.
const ZSTD_LEVEL: i32 = 3;
/// Largest zstd window as a power of two. 27 is what zstd itself accepts and
/// what its highest level announces even for a small batch. The window is
/// reserved but touched only as output appears, which the limit bounds.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Compresses `plain`; the result of [`Compression::None`] is a copy.
pub(crate) fn compress(codec: Compression, plain: &[u8]) -> Result<Vec<u8>, BatchError> {
    let corrupt = |error: std::io::Error| corrupt(codec, &error);
    match codec {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).map_err(corrupt)?;
            encoder.finish().map_err(corrupt)
        }
        Compression::Snappy => snappy::compress(plain),
        Compression::Lz4 => {
            // Kafka's Java reader refuses blocks that depend on each other.
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(plain).map_err(corrupt)?;
            encoder
                .finish()
                .map_err(|error| corrupt(std::io::Error::other(error)))
        }
        Compression::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).map_err(corrupt),
    }
}

/// Decompresses at most `limit` bytes.
///
/// # Errors
/// [`BatchError::TooLarge`] as soon as more comes out, without decompressing
/// the rest; [`BatchError::Corrupt`] for anything the codec refuses.
pub(crate) fn decompress(
    codec: Compression,
    packed: &[u8],
    limit: usize,
) -> Result<Vec<u8>, BatchError> {
    match codec {
        Compression::None if packed.len() > limit => Err(BatchError::TooLarge { limit }),
        Compression::None => Ok(packed.to_vec()),
        // Several members may follow each other (RFC 1952, section 2.2).
        Compression::Gzip => read_bounded(codec, flate2::read::MultiGzDecoder::new(packed), limit),
        Compression::Snappy => snappy::decompress(packed, limit),
        Compression::Lz4 => read_bounded(codec, lz4_flex::frame::FrameDecoder::new(packed), limit),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
                .map_err(|error| corrupt(codec, &error))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| corrupt(codec, &error))?;
            read_bounded(codec, decoder, limit)
        }
    }
}

fn read_bounded(
    codec: Compression,
    reader: impl Read,
    limit: usize,
) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::new();
    // One byte more than allowed tells "too large" from "exactly full".
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(one_more)
        .read_to_end(&mut plain)
        .map_err(|error| corrupt(codec, &error))?;
    if plain.len() > limit {
        return Err(BatchError::TooLarge { limit });
    }
    Ok(plain)
}

fn corrupt(compression: Compression, error: &dyn std::fmt::Display) -> BatchError {
    BatchError::Corrupt {
        compression,
        reason: error.to_string(),
    }
}
