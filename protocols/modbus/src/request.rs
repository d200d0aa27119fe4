//! Requests and the answers that fit them (*App* section 6).
//!
//! An answer is only ever looked at together with its request: the function,
//! the length, and for writes the echoed address and value must be the ones
//! that were asked for. Anything else is a [`Misfit`] and never a value.

use crate::address::Table;
use crate::exception::Exception;

/// The longest protocol data unit: function and data (*App* section 4.1).
pub const PDU_SIZE_MAX: usize = 253;
/// Registers of one read at most (*App* sections 6.3 and 6.4).
pub const READ_REGISTERS_MAX: u16 = 125;
/// Bits of one read at most (*App* sections 6.1 and 6.2).
pub const READ_BITS_MAX: u16 = 2_000;
/// Registers of one write at most (*App* section 6.12).
pub const WRITE_REGISTERS_MAX: usize = 123;
/// Bits of one write at most (*App* section 6.11).
pub const WRITE_BITS_MAX: usize = 1_968;

/// Set in the function of an answer that is an exception (*App* section 4.1).
const EXCEPTION_FLAG: u8 = 0x80;

/// What a device is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Functions 1 to 4: reads `count` bits or registers.
    Read {
        /// The table, which decides the function.
        table: Table,
        /// The first address, from 0.
        start: u16,
        /// Bits or registers, from 1.
        count: u16,
    },
    /// Function 5: writes one coil.
    WriteCoil {
        /// The coil.
        address: u16,
        /// What it becomes.
        on: bool,
    },
    /// Function 6: writes one holding register.
    WriteRegister {
        /// The register.
        address: u16,
        /// What it becomes.
        value: u16,
    },
    /// Function 15: writes consecutive coils.
    WriteCoils {
        /// The first coil.
        address: u16,
        /// What they become.
        values: Vec<bool>,
    },
    /// Function 16: writes consecutive holding registers.
    WriteRegisters {
        /// The first register.
        address: u16,
        /// What they become.
        values: Vec<u16>,
    },
    /// Function 22: register = (register AND `and`) OR (`or` AND NOT `and`).
    MaskWrite {
        /// The register.
        address: u16,
        /// Bits that stay.
        and: u16,
        /// What the other bits become.
        or: u16,
    },
}

/// Why a request cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing or too much is asked for.
    #[error("a request for {count} values at once, expected 1 to {max}")]
    Count {
        /// What was asked.
        count: usize,
        /// What the function carries.
        max: usize,
    },
    /// The last address would lie behind the table.
    #[error("{count} values from address {start} end behind address 65535")]
    PastEnd {
        /// The first address.
        start: u16,
        /// The values.
        count: usize,
    },
}

/// An answer that fits its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// What was read: registers as big-endian pairs of bytes, bits from the
    /// lowest bit of the first byte on.
    Data(&'a [u8]),
    /// The write was carried out.
    Written,
    /// The device refused.
    Refused(Exception),
}

/// Why bytes are not the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The function is not the one that was asked.
    #[error("an answer to function {got}, expected {expected}")]
    Function {
        /// The function of the answer.
        got: u8,
        /// The function of the request.
        expected: u8,
    },
    /// The answer has another length than the request leads to.
    #[error("an answer of {got} bytes, expected {expected}")]
    Length {
        /// Bytes of the answer's protocol data unit.
        got: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// A write was confirmed for another address or value.
    #[error("a confirmation of another write than the one that was asked for")]
    Echo,
}

impl Request {
    /// The function code.
    #[must_use]
    pub const fn function(&self) -> u8 {
        match self {
            Self::Read { table, .. } => match table {
                Table::Coil => 1,
                Table::Discrete => 2,
                Table::Holding => 3,
                Table::Input => 4,
            },
            Self::WriteCoil { .. } => 5,
            Self::WriteRegister { .. } => 6,
            Self::WriteCoils { .. } => 15,
            Self::WriteRegisters { .. } => 16,
            Self::MaskWrite { .. } => 22,
        }
    }

    /// Appends the protocol data unit: function and data.
    ///
    /// # Errors
    /// The request asks for nothing, for more than its function carries, or
    /// for addresses behind the table. `out` is untouched then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.check()?;
        out.push(self.function());
        let mut words = |values: &[u16]| {
            for value in values {
                out.extend_from_slice(&value.to_be_bytes());
            }
        };
        match self {
            Self::Read { start, count, .. } => words(&[*start, *count]),
            Self::WriteCoil { address, on } => words(&[*address, coil_word(*on)]),
            Self::WriteRegister { address, value } => words(&[*address, *value]),
            Self::WriteCoils { address, values } => {
                words(&[*address, count_word(values.len())]);
                out.push(count_byte(values.len().div_ceil(8)));
                for eight in values.chunks(8) {
                    let bits = eight.iter().rev();
                    out.push(bits.fold(0, |byte, on| byte << 1 | u8::from(*on)));
                }
            }
            Self::WriteRegisters { address, values } => {
                words(&[*address, count_word(values.len())]);
                out.push(count_byte(values.len() * 2));
                for value in values {
                    out.extend_from_slice(&value.to_be_bytes());
                }
            }
            Self::MaskWrite { address, and, or } => words(&[*address, *and, *or]),
        }
        Ok(())
    }

    /// Checks counts and addresses.
    fn check(&self) -> Result<(), RequestError> {
        let (start, count, max) = match self {
            Self::Read {
                table,
                start,
                count,
            } => {
                let max = if table.is_bits() {
                    READ_BITS_MAX
                } else {
                    READ_REGISTERS_MAX
                };
                (*start, usize::from(*count), usize::from(max))
            }
            Self::WriteCoils { address, values } => (*address, values.len(), WRITE_BITS_MAX),
            Self::WriteRegisters { address, values } => {
                (*address, values.len(), WRITE_REGISTERS_MAX)
            }
            Self::WriteCoil { .. } | Self::WriteRegister { .. } | Self::MaskWrite { .. } => {
                return Ok(());
            }
        };
        if !(1..=max).contains(&count) {
            return Err(RequestError::Count { count, max });
        }
        if usize::from(start) + count > 1 << 16 {
            return Err(RequestError::PastEnd { start, count });
        }
        Ok(())
    }

    /// Bytes of the protocol data unit of an answer that is no exception.
    #[must_use]
    pub fn answer_size(&self) -> usize {
        match self {
            Self::Read { table, count, .. } => {
                let count = usize::from(*count);
                2 + if table.is_bits() {
                    count.div_ceil(8)
                } else {
                    count * 2
                }
            }
            Self::MaskWrite { .. } => 7,
            _ => 5,
        }
    }

    /// Bytes of the answer that starts with `start`, when that is enough to
    /// tell: the function, and for reads the byte count behind it.
    ///
    /// # Errors
    /// The bytes cannot become an answer to this request.
    pub fn expect(&self, start: &[u8]) -> Result<Option<usize>, Misfit> {
        let Some(&function) = start.first() else {
            return Ok(None);
        };
        let expected = self.function();
        if function == expected | EXCEPTION_FLAG {
            return Ok(Some(2));
        }
        if function != expected {
            return Err(Misfit::Function {
                got: function,
                expected,
            });
        }
        let size = self.answer_size();
        if matches!(self, Self::Read { .. })
            && let Some(&bytes) = start.get(1)
            && usize::from(bytes) + 2 != size
        {
            return Err(Misfit::Length {
                got: usize::from(bytes) + 2,
                expected: size,
            });
        }
        Ok(Some(size))
    }

    /// Reads the protocol data unit of an answer to this request.
    ///
    /// # Errors
    /// It is not the answer to this request.
    pub fn answer<'a>(&self, pdu: &'a [u8]) -> Result<Answer<'a>, Misfit> {
        let size = self.expect(pdu)?.unwrap_or_else(|| self.answer_size());
        if pdu.len() != size {
            return Err(Misfit::Length {
                got: pdu.len(),
                expected: size,
            });
        }
        if let [function, code] = *pdu
            && function & EXCEPTION_FLAG != 0
        {
            return Ok(Answer::Refused(Exception::from_code(code)));
        }
        let fields = &pdu[1..];
        let is_echo = match self {
            Self::Read { .. } => return Ok(Answer::Data(&fields[1..])),
            Self::WriteCoil { address, on } => echoes(fields, &[*address, coil_word(*on)]),
            Self::WriteRegister { address, value } => echoes(fields, &[*address, *value]),
            Self::WriteCoils { address, values } => {
                echoes(fields, &[*address, count_word(values.len())])
            }
            Self::WriteRegisters { address, values } => {
                echoes(fields, &[*address, count_word(values.len())])
            }
            Self::MaskWrite { address, and, or } => echoes(fields, &[*address, *and, *or]),
        };
        if is_echo {
            Ok(Answer::Written)
        } else {
            Err(Misfit::Echo)
        }
    }
}

/// A coil on the wire is one of two words (*App* section 6.5).
const fn coil_word(on: bool) -> u16 {
    if on { 0xFF00 } else { 0 }
}

/// A count that [`Request::check`] bounded; a larger one saturates.
fn count_word(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// A byte count that [`Request::check`] bounded; a larger one saturates.
fn count_byte(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

fn echoes(fields: &[u8], words: &[u16]) -> bool {
    fields
        .chunks(2)
        .eq(words.iter().map(|word| word.to_be_bytes()))
}

#[cfg(test)]
mod tests;
