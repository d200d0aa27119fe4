//! IEEE 754 binary16, which the standard library cannot convert yet.

/// The number that 16 bits hold; exact, because binary32 holds them all.
pub(super) fn to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1F);
    let fraction = f32::from(bits & 0x3FF);
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1_024.0) * 2f32.powi(exponent - 15),
    };
    sign * magnitude
}

/// The nearest 16 bits, ties to even; `None` for a finite number that would
/// become infinite.
pub(super) fn from_f64(number: f64) -> Option<u16> {
    let sign = if number.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = number.abs();
    if number.is_nan() {
        return Some(0x7E00);
    }
    if number.is_infinite() {
        return Some(sign | 0x7C00);
    }
    // Bits without sign grow with the number, so the nearest one is found by
    // halving; the largest finite number is 65504.
    let value = |bits: u16| f64::from(to_f32(bits));
    let (mut low, mut high) = (0u16, 0x7BFF);
    if magnitude >= value(high) {
        // Half a step above the largest number rounds to infinity.
        return (magnitude < 65_520.0).then_some(sign | high);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if value(middle) <= magnitude {
            low = middle;
        } else {
            high = middle;
        }
    }
    let (below, above) = (magnitude - value(low), value(high) - magnitude);
    let is_low = below < above || (below == above && low & 1 == 0);
    Some(sign | if is_low { low } else { high })
}
