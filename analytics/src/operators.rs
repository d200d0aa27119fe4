//! The steps of the work, columnar.

use crate::functions::Body;
use crate::parse::gcd;
use crate::plan::AggregateCall;

/// Bytes that the aggregates of one group in one slice take when it is new.
pub fn slot_bytes(aggregates: &[AggregateCall]) -> usize {
    const GROUPS: usize = 64;
    // A key in the tables: hash place, slot, reference.
    let mut bytes = 24;
    for aggregate in aggregates {
        if let Body::Aggregate(make) = aggregate.function.body
            && let Ok(mut states) = aggregate.with_call(make)
        {
            states.resize(GROUPS);
            bytes += states.memory_bytes().div_ceil(GROUPS);
        }
    }
    bytes
}

/// The length of the slices that windows are made of.
pub fn slice_ms(size: i64, slide: i64) -> i64 {
    gcd(size, slide)
}
