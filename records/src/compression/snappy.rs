//! Snappy in the two shapes that producers send.
//!
//! Java producers wrap raw blocks in the stream of the xerial library; some
//! other clients send one raw block. The stream begins with a magic that no
//! raw block can begin with in practice: read as a raw block's length it
//! would be followed by bytes that do not decode.

use super::{Compression, corrupt};
use crate::BatchError;

/// Magic of the xerial stream.
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and lowest compatible version.
const STREAM_HEADER_LEN: usize = 16;
/// Plain bytes per block, as the Java library cuts them.
const BLOCK_LEN: usize = 32 * 1024;
/// Most plain bytes that one compressed byte can stand for: a copy element of
/// three bytes yields at most 64. A claimed length beyond that is a lie, and
/// refusing it keeps the reservation proportional to the input.
const MAX_RATIO: usize = 22;

pub(super) fn compress(plain: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(STREAM_HEADER_LEN + plain.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(BLOCK_LEN) {
        let packed = encoder
            .compress_vec(block)
            .map_err(|error| corrupt(Compression::Snappy, &error))?;
        // A block of 32 KiB packs into at most 38,266 bytes, so the cast is exact.
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::new();
    if !packed.starts_with(&MAGIC) {
        append_block(packed, limit, &mut plain)?;
        return Ok(plain);
    }
    let Some(mut rest) = packed.get(STREAM_HEADER_LEN..) else {
        return Err(corrupt(Compression::Snappy, &"stream header ends early"));
    };
    while !rest.is_empty() {
        let Some((length, tail)) = rest.split_first_chunk::<4>() else {
            return Err(corrupt(Compression::Snappy, &"block length ends early"));
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((block, tail)) = tail.split_at_checked(length) else {
            return Err(corrupt(Compression::Snappy, &"block ends early"));
        };
        append_block(block, limit, &mut plain)?;
        rest = tail;
    }
    Ok(plain)
}

fn append_block(block: &[u8], limit: usize, plain: &mut Vec<u8>) -> Result<(), BatchError> {
    let claimed =
        snap::raw::decompress_len(block).map_err(|error| corrupt(Compression::Snappy, &error))?;
    if claimed > limit - plain.len() {
        return Err(BatchError::TooLarge { limit });
    }
    if claimed > block.len().saturating_mul(MAX_RATIO) {
        let reason = "block claims more than its bytes can hold";
        return Err(corrupt(Compression::Snappy, &reason));
    }
    let start = plain.len();
    plain.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut plain[start..])
        .map_err(|error| corrupt(Compression::Snappy, &error))?;
    plain.truncate(start + written);
    Ok(())
}
