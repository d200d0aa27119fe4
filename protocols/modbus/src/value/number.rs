//! Numbers between registers and values: byte order, scale, range.

use std::io::Write;

use super::{DataType, EncodeError, Encoding, Value, half};

/// A number as the registers hold it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Encoding {
    /// The number in the registers. `data` has the size of the type, 2 to 8.
    pub(super) fn raw(&self, data: &[u8]) -> Raw {
        let mut bytes = [0u8; 8];
        let start = 8 - data.len();
        bytes[start..].copy_from_slice(data);
        let number = &mut bytes[start..];
        let is_byte = matches!(
            self.kind,
            DataType::Int8High | DataType::Int8Low | DataType::Uint8High | DataType::Uint8Low
        );
        if !is_byte {
            // Reversing all bytes reverses the registers and swaps within
            // each; swapping within each again leaves the registers reversed.
            if self.order.swaps_registers() {
                number.reverse();
            }
            if self.order.swaps_registers() != self.order.swaps_bytes() {
                number.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
            }
        }
        let all = u64::from_be_bytes(bytes);
        let [.., b4, b5, b6, b7] = bytes;
        let word = u16::from_be_bytes([b6, b7]);
        let double = u32::from_be_bytes([b4, b5, b6, b7]);
        match self.kind {
            DataType::Int8High => Raw::Signed(i64::from(b6.cast_signed())),
            DataType::Int8Low => Raw::Signed(i64::from(b7.cast_signed())),
            DataType::Uint8High => Raw::Unsigned(u64::from(b6)),
            DataType::Uint8Low => Raw::Unsigned(u64::from(b7)),
            DataType::Int16 => Raw::Signed(i64::from(word.cast_signed())),
            DataType::Int32 => Raw::Signed(i64::from(double.cast_signed())),
            DataType::Int64 => Raw::Signed(all.cast_signed()),
            DataType::Float16 => Raw::Float(f64::from(half::to_f32(word))),
            DataType::Float32 => Raw::Float(shortest(f32::from_bits(double))),
            DataType::Float64 => Raw::Float(f64::from_bits(all)),
            _ => Raw::Unsigned(all),
        }
    }

    /// Applies scale and offset. A number that neither changes keeps its kind.
    pub(super) fn scaled(&self, raw: Raw) -> Value {
        if !self.is_scaled() {
            return match raw {
                Raw::Signed(number) => Value::Signed(number),
                Raw::Unsigned(number) => Value::Unsigned(number),
                Raw::Float(number) => Value::Float(number),
            };
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a scaled number is a float; beyond 2^53 it is the nearest one"
        )]
        let raw = match raw {
            Raw::Signed(number) => number as f64,
            Raw::Unsigned(number) => number as f64,
            Raw::Float(number) => number,
        };
        let product = match self.divisor() {
            Some(divisor) => raw / divisor,
            None => raw * self.scale,
        };
        Value::Float(product + self.offset)
    }

    /// The bytes of the number as the specification orders them, at the end of
    /// eight.
    pub(super) fn stored(&self, value: &Value) -> Result<[u8; 8], EncodeError> {
        let out_of_range = || EncodeError::Range {
            value: value.to_string(),
            kind: self.kind,
        };
        if let Some(whole) = self.exact(value) {
            return self.stored_whole(whole).ok_or_else(out_of_range);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "what reaches this is scaled or stored as a float"
        )]
        let number = match value {
            Value::Signed(number) => *number as f64,
            Value::Unsigned(number) => *number as f64,
            Value::Float(number) => *number,
            Value::Bool(_) | Value::Text(_) => return Err(self.wrong_kind(value, "a number")),
        };
        let shifted = number - self.offset;
        let raw = match self.divisor() {
            Some(divisor) => shifted * divisor,
            None => shifted / self.scale,
        };
        let bits = match self.kind {
            DataType::Float16 => half::from_f64(raw).map(u64::from),
            DataType::Float32 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the nearest one; a finite number that became infinite is refused"
                )]
                let single = raw as f32;
                let fits = single.is_finite() || !raw.is_finite();
                fits.then(|| u64::from(single.to_bits()))
            }
            DataType::Float64 => Some(raw.to_bits()),
            _ if !self.is_scaled() && raw.fract() != 0.0 => None,
            _ => return self.stored_whole(whole(raw)).ok_or_else(out_of_range),
        };
        bits.map(u64::to_be_bytes).ok_or_else(out_of_range)
    }

    /// A whole number that goes into a whole type as it is.
    fn exact(&self, value: &Value) -> Option<i128> {
        let is_float = matches!(
            self.kind,
            DataType::Float16 | DataType::Float32 | DataType::Float64
        );
        match value {
            _ if is_float || self.is_scaled() => None,
            Value::Signed(number) => Some(i128::from(*number)),
            Value::Unsigned(number) => Some(i128::from(*number)),
            _ => None,
        }
    }

    fn stored_whole(&self, number: i128) -> Option<[u8; 8]> {
        let (min, max) = match self.kind {
            DataType::Int8High | DataType::Int8Low => (i128::from(i8::MIN), i128::from(i8::MAX)),
            DataType::Uint8High | DataType::Uint8Low => (0, i128::from(u8::MAX)),
            DataType::Int16 => (i128::from(i16::MIN), i128::from(i16::MAX)),
            DataType::Uint16 => (0, i128::from(u16::MAX)),
            DataType::Int32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
            DataType::Uint32 => (0, i128::from(u32::MAX)),
            DataType::Int64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
            _ => (0, i128::from(u64::MAX)),
        };
        if !(min..=max).contains(&number) {
            return None;
        }
        let [.., b0, b1, b2, b3, b4, b5, b6, b7] = number.to_be_bytes();
        Some([b0, b1, b2, b3, b4, b5, b6, b7])
    }

    fn is_scaled(&self) -> bool {
        self.scale != 1.0 || self.offset != 0.0
    }

    /// The whole number that the scale is one part of, as 0.1 is of 10. No
    /// binary fraction is 0.1, but a division by 10 rounds once and yields
    /// what a person expects: 3 becomes 0.3 and not 0.30000000000000004.
    fn divisor(&self) -> Option<f64> {
        let divisor = (1.0 / self.scale).round();
        (divisor != 0.0 && 1.0 / divisor == self.scale).then_some(divisor)
    }
}

/// The nearest whole number; beyond every type when it is not finite.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates, far outside of every range that is asked"
)]
fn whole(number: f64) -> i128 {
    if number.is_nan() {
        return i128::MAX;
    }
    number.round() as i128
}

/// Below 2^24 binary32 holds every whole number, so its digits are all meant.
const WHOLE_SINGLES_BELOW: f64 = 16_777_216.0;

/// The shortest decimal number that means this binary32, so that 21.3 stays
/// 21.3 and does not become 21.299999237060547.
fn shortest(number: f32) -> f64 {
    let exact = f64::from(number);
    let is_short = exact.fract() == 0.0 && exact.abs() < WHOLE_SINGLES_BELOW;
    if is_short || !exact.is_finite() {
        return exact;
    }
    // Sign, nine digits, a point and an exponent of two digits and a sign.
    let mut text = [0u8; 24];
    let mut rest = &mut text[..];
    if write!(rest, "{number:e}").is_err() {
        return exact;
    }
    let unused = rest.len();
    let written = text.len() - unused;
    let digits = std::str::from_utf8(&text[..written]).ok();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(exact)
}
