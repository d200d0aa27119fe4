//! The times of records that were taken before the clock was right.

use std::collections::HashMap;

use forebay_records::Record;

use crate::client::records::Walk;
use crate::client::topics::{EARLIEST, LATEST};
use crate::client::{Client, ClientError};
use crate::clock::{self, Correction, Mark};

/// What the log says about the clocks of boots.
#[derive(Debug, Default)]
pub struct Times {
    known: HashMap<String, Correction>,
}

/// A record's time as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// As stored.
    Stored(i64),
    /// The clock was not synchronised, and nothing better is known.
    Unsynchronised(i64),
    /// Computed from the record's monotonic time and a correction of its boot;
    /// the second is what is stored.
    Corrected(i64, i64),
    /// Stamped anew before it was stored.
    StoredCorrected(i64),
}

impl Times {
    /// Reads the corrections of a node, or of all sites of a hub, when one of
    /// the records waits for one.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn learn(
        &mut self,
        client: &mut Client,
        records: &[Record],
    ) -> Result<(), ClientError> {
        let is_open = |record| {
            let known = mark(record).map(|mark| self.known.get(&*mark.boot));
            known.is_some_and(|known| known.is_none_or(|known| !known.synchronised))
        };
        if !records.iter().any(is_open) {
            return Ok(());
        }
        let suffix = format!(".{}", clock::TOPIC);
        for (topic, partitions) in client.metadata(None).await? {
            if topic != clock::TOPIC && !topic.ends_with(&suffix) {
                continue;
            }
            let starts = client.offsets(&topic, &partitions, EARLIEST).await?;
            let ends = client.offsets(&topic, &partitions, LATEST).await?;
            for (index, partition) in partitions.into_iter().enumerate() {
                let mut walk = Walk::new(&topic, partition, starts[index], ends[index]);
                while let Some(record) = walk.next(client).await? {
                    self.take(&record);
                }
            }
        }
        Ok(())
    }

    /// The time of a record.
    pub fn of(&self, record: &Record) -> Time {
        let stored = record.timestamp;
        if let Some(mark) = mark(record) {
            return match self.known.get(&*mark.boot) {
                Some(known) => Time::Corrected(mark.monotonic_ms + known.offset_ms, stored),
                None => Time::Unsynchronised(stored),
            };
        }
        let is_corrected = header(record).is_some_and(|value| value == clock::CORRECTED.as_bytes());
        match is_corrected {
            true => Time::StoredCorrected(stored),
            false => Time::Stored(stored),
        }
    }

    /// The newest correction of a boot counts. Others are not corrections.
    fn take(&mut self, record: &Record) {
        let value = record.value.as_deref().unwrap_or_default();
        if let Ok(correction) = serde_json::from_slice::<Correction>(value) {
            self.known.insert(correction.boot.clone(), correction);
        }
    }
}

fn header(record: &Record) -> Option<&[u8]> {
    let found = record.headers.iter().find(|one| one.key == clock::HEADER);
    found?.value.as_deref()
}

fn mark(record: &Record) -> Option<Mark> {
    Mark::parse(header(record)?)
}

#[cfg(test)]
mod tests {
    use forebay_records::{BatchBuilder, Compression, RecordRef, records};

    use super::*;

    fn record(timestamp: i64, value: &str, header: Option<&str>) -> Record {
        let headers = header.map(|text| (clock::HEADER, Some(text.as_bytes())));
        let mut builder = BatchBuilder::new();
        builder.push(&RecordRef {
            timestamp,
            key: Some(b"a"),
            value: Some(value.as_bytes()),
            headers: headers.as_slice(),
        });
        let batch = builder.finish(Compression::None).unwrap();
        records(&batch, 1 << 20).unwrap().next().unwrap().unwrap()
    }

    #[test]
    fn a_marked_record_gets_the_time_of_its_boot() {
        let marked = record(
            4_000,
            "21",
            Some("unsynchronised boot=boot-1 monotonic_ms=4000"),
        );
        let mut times = Times::default();
        assert_eq!(times.of(&marked), Time::Unsynchronised(4_000));
        let correction = |boot: &str, offset: i64| {
            let json = format!(
                r#"{{"boot":"{boot}","offset_ms":{offset},"previous_offset_ms":0,"jump_ms":{offset},"monotonic_ms":9000,"synchronised":true}}"#
            );
            record(0, &json, None)
        };
        times.take(&correction("boot-2", 7));
        assert_eq!(times.of(&marked), Time::Unsynchronised(4_000));
        times.take(&correction("boot-1", 1_000_000));
        assert_eq!(times.of(&marked), Time::Corrected(1_004_000, 4_000));
        times.take(&record(0, "no correction", None));
        assert_eq!(times.of(&record(5, "21", None)), Time::Stored(5));
        let late = record(5, "21", Some("corrected"));
        assert_eq!(times.of(&late), Time::StoredCorrected(5));
    }
}
