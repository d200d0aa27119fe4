//! The form in which advances are written to the log.

use super::Advance;
use crate::state::{Decoder, Encoder, StateError};

const VERSION: u8 = 1;

impl Advance {
    /// The advance as bytes for the log.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.section(VERSION, |out| match self {
            Self::All(time_ms) => {
                out.put_u8(0);
                out.put_i64(*time_ms);
            }
            Self::Partition {
                topic,
                partition,
                time_ms,
            } => {
                out.put_u8(1);
                out.put_str(topic);
                out.put_u32(*partition as u32);
                out.put_i64(*time_ms);
            }
            Self::Source {
                stream,
                topic,
                partition,
                time_ms,
            } => {
                out.put_u8(2);
                out.put_u32(*stream);
                out.put_str(topic);
                out.put_u32(*partition as u32);
                out.put_i64(*time_ms);
            }
            Self::End => out.put_u8(3),
        });
        out.into_bytes()
    }

    /// Reads what [`Advance::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut input = Decoder::new(bytes);
        let advance = input.section("advance", VERSION, |input| {
            Ok(match input.take_u8()? {
                0 => Self::All(input.take_i64()?),
                1 => Self::Partition {
                    topic: input.take_str()?.to_owned(),
                    partition: input.take_u32()? as i32,
                    time_ms: input.take_i64()?,
                },
                2 => Self::Source {
                    stream: input.take_u32()?,
                    topic: input.take_str()?.to_owned(),
                    partition: input.take_u32()? as i32,
                    time_ms: input.take_i64()?,
                },
                3 => Self::End,
                other => {
                    return Err(StateError::Invalid {
                        what: "kind of advance",
                        found: u64::from(other),
                    });
                }
            })
        })?;
        match input.remaining() {
            0 => Ok(advance),
            extra => Err(StateError::Trailing {
                what: "advance",
                extra,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_less() {
        let source = Advance::Source {
            stream: 1,
            topic: "t".to_owned(),
            partition: 3,
            time_ms: -4,
        };
        let partition = Advance::Partition {
            topic: "é".to_owned(),
            partition: 0,
            time_ms: i64::MAX,
        };
        for advance in [Advance::All(5), Advance::End, source, partition] {
            let bytes = advance.to_bytes();
            assert_eq!(Advance::from_bytes(&bytes), Ok(advance));
            for end in 0..bytes.len() {
                assert!(Advance::from_bytes(&bytes[..end]).is_err());
            }
            assert!(Advance::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
        }
    }
}
