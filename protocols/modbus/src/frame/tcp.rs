//! The header of Modbus TCP (*TCP* section 3.1.3).

use crate::request::PDU_SIZE_MAX;

/// Bytes of the header: transaction, protocol, length, unit.
pub const HEADER_SIZE: usize = 7;
/// The longest frame.
pub const FRAME_SIZE_MAX: usize = HEADER_SIZE + PDU_SIZE_MAX;

/// The shortest data unit of an answer: function and one byte.
const PDU_SIZE_MIN: usize = 2;

/// One frame, its data still in the buffer that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The id that the request carried.
    pub transaction: u16,
    /// The unit that answers.
    pub unit: u8,
    /// Function and data.
    pub pdu: &'a [u8],
    /// Bytes of the whole frame.
    pub size: usize,
}

/// The bytes are not Modbus TCP. Where the next frame begins is unknown, so
/// the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The protocol field is not 0.
    #[error("protocol {0} in the header, expected 0")]
    Protocol(u16),
    /// The length is impossible.
    #[error("length {0} in the header, expected 3 to 254")]
    Length(u16),
}

/// Writes a frame around the data that `pdu` holds.
pub fn encode(transaction: u16, unit: u8, pdu: &[u8], out: &mut Vec<u8>) {
    // The data of a checked request is far shorter than the field can say.
    let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
    out.extend_from_slice(&transaction.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(unit);
    out.extend_from_slice(pdu);
}

/// Reads the frame at the start of `input`. `None`: more bytes are needed.
///
/// # Errors
/// The header cannot be one. This is told as soon as its fields are there.
pub fn decode(input: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let word = |at: usize| Some(u16::from_be_bytes([*input.get(at)?, *input.get(at + 1)?]));
    if let Some(protocol) = word(2)
        && protocol != 0
    {
        return Err(FrameError::Protocol(protocol));
    }
    let (Some(transaction), Some(length)) = (word(0), word(4)) else {
        return Ok(None);
    };
    let pdu_size = usize::from(length).wrapping_sub(1);
    if !(PDU_SIZE_MIN..=PDU_SIZE_MAX).contains(&pdu_size) {
        return Err(FrameError::Length(length));
    }
    let size = HEADER_SIZE + pdu_size;
    let Some(frame) = input.get(..size) else {
        return Ok(None);
    };
    Ok(Some(Frame {
        transaction,
        unit: frame[6],
        pdu: &frame[HEADER_SIZE..],
        size,
    }))
}

#[cfg(test)]
mod tests {
    use super::{FRAME_SIZE_MAX, Frame, FrameError, decode, encode};

    #[test]
    fn a_frame_reads_back_whole_and_not_before() {
        let mut bytes = Vec::new();
        encode(0x1501, 0xFF, &[3, 2, 0, 5], &mut bytes);
        // TCP guide, section 3.1.3, with the unit and the data of its example.
        assert_eq!(bytes, [0x15, 0x01, 0, 0, 0, 5, 0xFF, 3, 2, 0, 5]);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Ok(None), "{end}");
        }
        let size = bytes.len();
        bytes.extend_from_slice(&[9, 9]);
        assert_eq!(
            decode(&bytes),
            Ok(Some(Frame {
                transaction: 0x1501,
                unit: 0xFF,
                pdu: &[3, 2, 0, 5],
                size,
            }))
        );
    }

    #[test]
    fn a_header_that_cannot_be_one_is_told_at_once() {
        assert_eq!(decode(&[0, 1, 0, 1]), Err(FrameError::Protocol(1)));
        assert_eq!(
            decode(b"HTTP/1.1"),
            Err(FrameError::Protocol(u16::from_be_bytes(*b"TP")))
        );
        for length in [0u16, 1, 2, 255, 256, 0xFFFF] {
            let [high, low] = length.to_be_bytes();
            assert_eq!(
                decode(&[0, 1, 0, 0, high, low]),
                Err(FrameError::Length(length))
            );
        }
    }

    #[test]
    fn the_longest_frame_is_260_bytes() {
        let mut bytes = Vec::new();
        encode(1, 1, &[3; 253], &mut bytes);
        assert_eq!(bytes.len(), FRAME_SIZE_MAX);
        assert_eq!(FRAME_SIZE_MAX, 260);
        assert!(decode(&bytes).is_ok_and(|frame| frame.is_some()));
    }
}
