//! RTU frames: unit, data, CRC (*Serial* section 2.5.1).
//!
//! The specification ends a frame by silence. A reader of a TCP connection or
//! of a kernel's serial port sees no silence, only chunks, so the end is
//! computed: the request says how long its answer is.

use std::time::Duration;

use crate::request::{Misfit, PDU_SIZE_MAX, Request};

/// The longest frame: unit, data, CRC.
pub const FRAME_SIZE_MAX: usize = 1 + PDU_SIZE_MAX + 2;

/// Bytes of the CRC.
const CRC_SIZE: usize = 2;

/// Above this rate the silence no longer shrinks (*Serial* section 2.5.1.1).
const FIXED_SILENCE_ABOVE_BAUD: u32 = 19_200;

/// The silence between frames at high rates (*Serial* section 2.5.1.1).
const FIXED_SILENCE: Duration = Duration::from_micros(1_750);

/// An answer whose unit, length and checksum are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Function and data.
    pub pdu: &'a [u8],
    /// Bytes of the whole frame.
    pub size: usize,
}

/// The bytes are not the answer that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another unit answers.
    #[error("an answer from unit {got}, expected unit {expected}")]
    Unit {
        /// The unit of the answer.
        got: u8,
        /// The unit that was asked.
        expected: u8,
    },
    /// Function or length do not fit the request.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The checksum is wrong.
    #[error("a checksum of {got:#06x}, expected {expected:#06x}")]
    Crc {
        /// The checksum of the frame.
        got: u16,
        /// The checksum of its bytes.
        expected: u16,
    },
}

/// Writes a frame around the data that `pdu` holds.
pub fn encode(unit: u8, pdu: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(unit);
    out.extend_from_slice(pdu);
    let crc = crc(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Reads the answer of `unit` to `request` at the start of `input`. `None`:
/// more bytes are needed.
///
/// # Errors
/// The bytes can no longer become that answer; told as early as it shows.
pub fn decode<'a>(
    input: &'a [u8],
    unit: u8,
    request: &Request,
) -> Result<Option<Frame<'a>>, FrameError> {
    let Some((&got, rest)) = input.split_first() else {
        return Ok(None);
    };
    if got != unit {
        return Err(FrameError::Unit {
            got,
            expected: unit,
        });
    }
    let Some(pdu_size) = request.expect(rest)? else {
        return Ok(None);
    };
    let body_size = 1 + pdu_size;
    let Some(frame) = input.get(..body_size + CRC_SIZE) else {
        return Ok(None);
    };
    let (body, sum) = frame.split_at(body_size);
    let got = u16::from_le_bytes([sum[0], sum[1]]);
    let expected = crc(body);
    if got != expected {
        return Err(FrameError::Crc { got, expected });
    }
    Ok(Some(Frame {
        pdu: &body[1..],
        size: frame.len(),
    }))
}

/// The silence that separates frames on a line: the time of 3.5 characters of
/// 11 bits, and never less than the specification's value for fast lines.
#[must_use]
pub fn silence(baud: u32) -> Duration {
    if baud > FIXED_SILENCE_ABOVE_BAUD {
        return FIXED_SILENCE;
    }
    // 3.5 characters of 11 bits are 38.5 bits.
    Duration::from_nanos(38_500_000_000 / u64::from(baud.max(1)))
}

/// The CRC-16 of serial Modbus (*Serial* section 6.2.2): polynomial 0xA001,
/// reflected, start 0xFFFF; its low byte goes first.
#[must_use]
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        crc >> 8 ^ CRC_TABLE[usize::from((crc ^ u16::from(*byte)) & 0xFF)]
    })
}

/// The CRC of each single byte, computed at compile time.
const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the index is below 256")]
        let mut crc = index as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xA001
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FrameError, crc, decode, encode, silence};
    use crate::address::Table;
    use crate::request::{Misfit, Request};

    const TWO: Request = Request::Read {
        table: Table::Holding,
        start: 0,
        count: 2,
    };

    #[test]
    fn the_checksums_are_those_of_the_specification() {
        // Serial, appendix B: the frame 02 07 has the CRC 41 12 on the line.
        assert_eq!(crc(&[0x02, 0x07]), 0x1241);
        // The check value of CRC-16/MODBUS in the catalogue of parametrised
        // CRC algorithms.
        assert_eq!(crc(b"123456789"), 0x4B37);
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        let mut bytes = Vec::new();
        encode(7, &[3, 4, 0, 1, 0, 2], &mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end], 7, &TWO), Ok(None), "{end}");
        }
        let size = bytes.len();
        bytes.extend_from_slice(&[0, 0]);
        let frame = decode(&bytes, 7, &TWO).unwrap().unwrap();
        assert_eq!((frame.pdu, frame.size), (&[3, 4, 0, 1, 0, 2][..], size));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        encode(7, &[3, 4, 0, 1, 0, 2], &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let read = decode(&broken, 7, &TWO);
            assert!(!matches!(read, Ok(Some(_))), "bit {bit}: {read:?}");
        }
    }

    #[test]
    fn what_cannot_become_the_answer_is_told_at_once() {
        assert_eq!(
            decode(&[8], 7, &TWO),
            Err(FrameError::Unit {
                got: 8,
                expected: 7
            })
        );
        assert_eq!(
            decode(&[7, 4], 7, &TWO),
            Err(FrameError::Misfit(Misfit::Function {
                got: 4,
                expected: 3
            }))
        );
        assert_eq!(
            decode(&[7, 3, 2], 7, &TWO),
            Err(FrameError::Misfit(Misfit::Length {
                got: 4,
                expected: 6
            }))
        );
        let mut refusal = Vec::new();
        encode(7, &[0x83, 2], &mut refusal);
        let frame = decode(&refusal, 7, &TWO).unwrap().unwrap();
        assert_eq!(frame.pdu, [0x83, 2]);
    }

    #[test]
    fn the_silence_is_three_and_a_half_characters() {
        assert_eq!(silence(9_600), Duration::from_nanos(4_010_416));
        assert_eq!(silence(19_200), Duration::from_nanos(2_005_208));
        assert_eq!(silence(115_200), Duration::from_micros(1_750));
    }
}
