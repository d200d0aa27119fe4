//! Records of the log as the engine takes them.

use std::ops::Range;

use forebay_analytics::decode;
use forebay_analytics::query::{Output, Query};

use super::path_of;
use super::sources::{Portion, Sources};

/// Hands a portion to a query, in one call.
pub fn hand_in(
    query: &mut Query,
    portion: &Portion,
    sources: &Sources,
    wants_headers: bool,
) -> Output {
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    let mut own: Vec<Range<usize>> = Vec::new();
    if wants_headers {
        for (_, record) in &portion.records {
            let start = headers.len();
            headers.extend(record.headers.iter().filter_map(|header| {
                let name = std::str::from_utf8(&header.key).ok()?;
                Some((name, header.value.as_deref()?))
            }));
            own.push(start..headers.len());
        }
    }
    let records: Vec<decode::Record<'_>> = portion
        .records
        .iter()
        .enumerate()
        .map(|(place, (feed, record))| decode::Record {
            topic: sources.topic(*feed),
            partition: sources.partition(*feed) as i32,
            offset: record.offset,
            timestamp_ms: record.timestamp,
            path: path_of(record).unwrap_or_default(),
            headers: own.get(place).map_or(&[], |range| &headers[range.clone()]),
            payload: record.value.as_deref().unwrap_or_default(),
        })
        .collect();
    query.push(&records)
}
