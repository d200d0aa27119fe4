//! Records to columns: only those that a query uses.

mod builder;
mod json;
mod numbers;
mod router;

#[cfg(test)]
mod tests;

pub use numbers::number;
pub use router::Router;

use std::sync::Arc;

use crate::batch::Batch;
use crate::column::Dictionary;
use crate::plan::{ColumnSource, Scan};
use crate::syntax::Format;
use crate::value::{DataType, Waveform};
use builder::Builder;
use json::{Tree, Wanted};

/// A larger payload is not decoded: ten megabytes of waveform fit with room.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// A million samples are 40 seconds of vibration at 25.6 kHz; spectra take less.
pub const SAMPLES_MAX: usize = 1 << 20;
/// A longer text in a column is null: texts are kept in dictionaries.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// One record of the log as the gateway hands it in.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The log topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The time of the record in milliseconds since the Unix epoch. It bounds how
    /// far a time in the payload may be ahead, so it has to be that of a clock
    /// that is right: the gateway's own, or a producer's that was bounded when
    /// the record was appended (`message.timestamp.after.max.ms`).
    pub timestamp_ms: i64,
    /// The path, which is the key of the record.
    pub path: &'a str,
    /// Headers: name and value.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The payload.
    pub payload: &'a [u8],
}

/// What decoding met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeCounts {
    /// Records that became rows.
    pub rows: u64,
    /// Records left out because the payload is not what its format says, or is
    /// larger than [`PAYLOAD_BYTES_MAX`].
    pub malformed: u64,
    /// Values that became null because they have another type than the column.
    pub mismatched: u64,
    /// Rows without a time in the time column; the record time stands in.
    pub untimed: u64,
}

impl DecodeCounts {
    /// Adds the counts of another scan.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.malformed += other.malformed;
        self.mismatched += other.mismatched;
        self.untimed += other.untimed;
    }
}

/// Rows of one scan with what is known of each.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// The columns of the scan.
    pub batch: Batch,
    /// Event times in milliseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// Which of the given records became each row.
    pub records: Vec<u32>,
}

/// Decodes the records of one scan.
pub struct ScanDecoder {
    columns: Vec<Builder>,
    sources: Vec<ColumnSource>,
    /// Columns that are filled from the record, not from the payload.
    record_columns: Vec<usize>,
    format: Format,
    tree: Tree,
    whole: Vec<usize>,
    time: Option<usize>,
    levels: router::Levels,
    /// What was met so far.
    pub counts: DecodeCounts,
}

impl ScanDecoder {
    /// A decoder for the columns of a scan.
    pub fn new(scan: &Scan) -> Self {
        let mut tree = Tree::new();
        let (mut record_columns, mut whole) = (Vec::new(), Vec::new());
        for (index, column) in scan.columns.iter().enumerate() {
            match &column.source {
                ColumnSource::Payload(steps) => {
                    tree.want(steps, Wanted::new(index, column.data_type, false));
                }
                ColumnSource::PayloadJson(steps) => {
                    tree.want(steps, Wanted::new(index, column.data_type, true));
                }
                ColumnSource::Whole => whole.push(index),
                _ => record_columns.push(index),
            }
        }
        Self {
            columns: scan
                .columns
                .iter()
                .map(|column| Builder::new(column.data_type))
                .collect(),
            sources: scan
                .columns
                .iter()
                .map(|column| column.source.clone())
                .collect(),
            record_columns,
            format: scan.format,
            tree,
            whole,
            time: scan.time,
            levels: router::Levels::default(),
            counts: DecodeCounts::default(),
        }
    }

    /// Decodes `records[i]` for each `i` in `chosen`; `paths` holds the place of
    /// each record's path in `words`.
    pub fn decode(
        &mut self,
        records: &[Record<'_>],
        chosen: &[u32],
        paths: &[u32],
        words: &Arc<Dictionary>,
    ) -> Decoded {
        let mut times = Vec::with_capacity(chosen.len());
        let mut kept = Vec::with_capacity(chosen.len());
        let mut row_paths = Vec::with_capacity(chosen.len());
        for index in chosen {
            let record = &records[*index as usize];
            let row = kept.len();
            if !self.payload(record, row) {
                self.counts.malformed += 1;
                for column in &mut self.columns {
                    column.truncate(row);
                }
                continue;
            }
            let time = self.time.map(|column| self.columns[column].last_time(row));
            if time == Some(None) {
                self.counts.untimed += 1;
            }
            times.push(time.flatten().unwrap_or(record.timestamp_ms));
            kept.push(*index);
            row_paths.push(paths[*index as usize]);
        }
        self.counts.rows += kept.len() as u64;
        self.record_parts(records, &kept, &row_paths, &times, words);
        let rows = kept.len();
        let columns = self.columns.iter_mut().map(Builder::take).collect();
        Decoded {
            batch: Batch::new(columns, rows),
            times,
            records: kept,
        }
    }

    /// Fills the columns that come from the payload; false if it is malformed.
    fn payload(&mut self, record: &Record<'_>, row: usize) -> bool {
        let payload = record.payload;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return false;
        }
        let mismatched = &mut self.counts.mismatched;
        if self.format == Format::Json {
            if !self.tree.is_empty() && !self.tree.read(payload, &mut self.columns, row, mismatched)
            {
                return false;
            }
            for column in &self.whole {
                self.columns[*column].text_bytes(payload, mismatched);
            }
        } else if !self.whole.is_empty() && !self.whole_payload(payload) {
            return false;
        }
        for (column, source) in self.columns.iter_mut().zip(&self.sources) {
            if matches!(
                source,
                ColumnSource::Payload(_) | ColumnSource::PayloadJson(_) | ColumnSource::Whole
            ) {
                column.fill(row + 1);
            }
        }
        true
    }

    fn whole_payload(&mut self, payload: &[u8]) -> bool {
        let mismatched = &mut self.counts.mismatched;
        let samples = match self.format {
            Format::Number => {
                for column in &self.whole {
                    json::assign_number(payload, &mut self.columns[*column], mismatched);
                }
                return true;
            }
            Format::Text | Format::Json => {
                for column in &self.whole {
                    self.columns[*column].text_bytes(payload, mismatched);
                }
                return true;
            }
            Format::JsonArray => json::samples(payload),
            Format::F32 => numbers::f32s(payload),
            Format::I16 => numbers::i16s(payload),
        };
        let Some(samples) = samples else {
            return false;
        };
        let waveform = (samples.len() <= SAMPLES_MAX && samples.iter().all(|x| x.is_finite()))
            .then(|| Waveform::new(samples));
        if waveform.is_none() {
            *mismatched += 1;
        }
        for column in &self.whole {
            self.columns[*column].waveform(waveform.clone());
        }
        true
    }

    fn record_parts(
        &mut self,
        records: &[Record<'_>],
        kept: &[u32],
        paths: &[u32],
        times: &[i64],
        words: &Arc<Dictionary>,
    ) {
        for index in &self.record_columns {
            let column = &mut self.columns[*index];
            let of = |row: &u32| &records[*row as usize];
            match &self.sources[*index] {
                ColumnSource::Path => column.shared_texts(paths.to_vec(), words),
                ColumnSource::Level(level) => self.levels.column(*level, paths, words, column),
                ColumnSource::Topic => {
                    kept.iter().for_each(|row| column.text(of(row).topic));
                }
                ColumnSource::Partition => {
                    kept.iter()
                        .for_each(|row| column.int(i64::from(of(row).partition)));
                }
                ColumnSource::Offset => kept.iter().for_each(|row| column.int(of(row).offset)),
                ColumnSource::RecordTime => {
                    kept.iter().for_each(|row| column.int(of(row).timestamp_ms));
                }
                ColumnSource::EventTime => times.iter().for_each(|time| column.int(*time)),
                ColumnSource::Header(name) => {
                    for row in kept {
                        let found = of(row).headers.iter().find(|(known, _)| known == name);
                        match found.and_then(|(_, value)| std::str::from_utf8(value).ok()) {
                            Some(text) if text.len() <= TEXT_BYTES_MAX => column.text(text),
                            _ => column.null(),
                        }
                    }
                }
                ColumnSource::Payload(_) | ColumnSource::PayloadJson(_) | ColumnSource::Whole => {}
            }
            debug_assert!(column.data_type() != DataType::Null || kept.is_empty());
        }
    }
}
