//! Numbers from bytes.

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The finite double that a JSON number stands for, correctly rounded.
///
/// Digits that fit into 53 bits times a power of ten up to 22 are exact in one
/// multiplication or division (Clinger, "How to read floating point numbers
/// accurately", 1990), which covers nearly all sensor values; the rest goes
/// through the standard parser.
#[inline]
pub fn number(bytes: &[u8]) -> Option<f64> {
    let mut at = 0;
    let negative = bytes.first() == Some(&b'-');
    if negative {
        at = 1;
    }
    let mut digits = 0_u32;
    let mut mantissa = 0_u64;
    let mut scale = 0_i32;
    while let Some(digit) = bytes
        .get(at)
        .map(|byte| byte.wrapping_sub(b'0'))
        .filter(|d| *d < 10)
    {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        digits += 1;
        at += 1;
    }
    if digits == 0 {
        return None;
    }
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let whole = digits;
        while let Some(digit) = bytes
            .get(at)
            .map(|byte| byte.wrapping_sub(b'0'))
            .filter(|d| *d < 10)
        {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            digits += 1;
            scale -= 1;
            at += 1;
        }
        if digits == whole {
            return None;
        }
    }
    if at == bytes.len() && digits <= 19 && mantissa < 1 << 53 && scale >= -22 {
        let value = mantissa as f64 / POWERS[scale.unsigned_abs() as usize];
        return Some(if negative { -value } else { value });
    }
    slow(bytes)
}

#[cold]
fn slow(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
    text.parse()
        .ok()
        .filter(|number: &f64| plain && number.is_finite())
}

/// Little-endian 32-bit floats; none if the length does not fit.
pub fn f32s(bytes: &[u8]) -> Option<Vec<f64>> {
    let (samples, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| {
        samples
            .iter()
            .map(|four| f64::from(f32::from_le_bytes(*four)))
            .collect()
    })
}

/// Little-endian signed 16-bit integers; none if the length does not fit.
pub fn i16s(bytes: &[u8]) -> Option<Vec<f64>> {
    let (samples, rest) = bytes.as_chunks::<2>();
    rest.is_empty().then(|| {
        samples
            .iter()
            .map(|two| f64::from(i16::from_le_bytes(*two)))
            .collect()
    })
}
