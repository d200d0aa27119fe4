//! Numbers of a path over time, read from the log a portion at a time.

use std::collections::BTreeMap;

use forebay_storage::{Partition, ReadError};
use serde::Serialize;

use super::payload;
use crate::chunks::each_reading;
use crate::queries::path_of;

/// Points of one answer. A screen has fewer pixels.
pub const POINTS_MAX: i64 = 4_000;
/// Bytes of the log that one request reads; who wants more asks again.
const READ_LEN_MAX: usize = 16 << 20;
/// Bytes of one read.
const READ_LEN: usize = 1 << 20;
/// Records of a partition are in the order of time but for clocks that are set
/// and devices that send what they kept. Reading ends this long behind the end.
const DISORDER_MS: i64 = 10 * 60 * 1_000;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The path.
    pub path: &'a str,
    /// The place of the number in the payload.
    pub field: &'a str,
    /// The first millisecond since the Unix epoch.
    pub from_ms: i64,
    /// The millisecond behind the last one.
    pub to_ms: i64,
    /// Milliseconds of a point.
    pub step_ms: i64,
    /// The offset to go on from; `None` for the first request.
    pub after: Option<u64>,
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The sum of all, for the average.
    pub sum: f64,
    /// How many.
    pub count: u64,
}

/// A portion of a series.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Series {
    /// Start of the step in milliseconds, least, greatest, sum, count. A step
    /// may be in several portions.
    pub points: Vec<(i64, f64, f64, f64, u64)>,
    /// Where the next portion begins. `None` when this is the last.
    pub next: Option<u64>,
    /// How far this portion has come in time, in milliseconds.
    pub reached: Option<i64>,
}

/// Reads a portion of a series. Blocks on the log.
///
/// # Errors
/// The disk refuses.
pub fn read(partition: &Partition, wanted: &Wanted<'_>) -> Result<Series, ReadError> {
    let mut points = BTreeMap::new();
    let mut series = Series::default();
    let start = match wanted.after {
        Some(offset) => Some(offset),
        None => partition
            .offset_for_time(wanted.from_ms)?
            .map(|(offset, _)| offset),
    };
    let Some(mut offset) = start else {
        return Ok(series);
    };
    let mut read_len = 0;
    let mut has_ended = false;
    while !has_ended && read_len < READ_LEN_MAX {
        let chunk = match partition.read(offset, READ_LEN, true) {
            Ok(chunk) => chunk,
            Err(ReadError::OffsetOutOfRange { log_start, .. }) if log_start > offset => {
                offset = log_start;
                continue;
            }
            Err(ReadError::OffsetOutOfRange { .. }) => return Ok(finish(series, points)),
            Err(error) => return Err(error),
        };
        each_reading(&chunk, offset, |record| {
            series.reached = series.reached.max(Some(record.timestamp));
            has_ended = record.timestamp > wanted.to_ms.saturating_add(DISORDER_MS);
            let (Some(path), Some(payload)) = (path_of(&record), record.value.as_ref()) else {
                return;
            };
            let is_within = (wanted.from_ms..wanted.to_ms).contains(&record.timestamp);
            if is_within
                && path == wanted.path
                && let Some(number) = payload::number(payload, wanted.field)
            {
                let step = record.timestamp - record.timestamp.rem_euclid(wanted.step_ms);
                add(points.entry(step), number);
            }
        });
        if chunk.next_offset <= offset || chunk.next_offset >= chunk.high_watermark {
            has_ended = true;
        }
        read_len += chunk.batches.iter().map(bytes::Bytes::len).sum::<usize>();
        offset = offset.max(chunk.next_offset);
    }
    series.next = (!has_ended).then_some(offset);
    Ok(finish(series, points))
}

fn add(entry: std::collections::btree_map::Entry<'_, i64, Point>, number: f64) {
    entry
        .and_modify(|point| {
            point.min = point.min.min(number);
            point.max = point.max.max(number);
            point.sum += number;
            point.count += 1;
        })
        .or_insert(Point {
            min: number,
            max: number,
            sum: number,
            count: 1,
        });
}

fn finish(mut series: Series, points: BTreeMap<i64, Point>) -> Series {
    let flat = |(step, p): (i64, Point)| (step, p.min, p.max, p.sum, p.count);
    series.points = points.into_iter().map(flat).collect();
    series
}
