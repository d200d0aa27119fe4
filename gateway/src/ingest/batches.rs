//! Records of many paths as a few batches of one transaction.

use std::sync::Arc;

use forebay_records::{BatchBuilder, Compression, RecordRef};
use forebay_storage::{AppendError, AppendOptions, Partition, Transaction};

use super::{Ingest, MissingTopic, Target};
use crate::mqtt::message::Message;

/// A batch is closed at this size: well below what consumers fetch at once.
const BATCH_LEN: usize = 512 << 10;

/// Name and value of a record header.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// A record that is ready to be placed.
#[derive(Debug)]
pub struct Ready {
    /// Where it belongs.
    pub path: Arc<str>,
    /// Its time in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Its payload.
    pub value: Vec<u8>,
}

/// Why records could not be placed.
pub enum Unplaced {
    /// A topic has to be created first.
    Missing(MissingTopic),
    /// A record does not fit a batch.
    Malformed(AppendError),
}

/// Collects records by partition, in their order, as batches of a transaction.
#[derive(Default)]
pub struct Batches {
    open: Vec<(Partition, BatchBuilder)>,
}

impl Batches {
    /// Adds a record where the routes put its path.
    ///
    /// # Errors
    /// The topic is missing, or the record does not fit a batch.
    pub fn add(
        &mut self,
        ingest: &Ingest,
        ready: &Ready,
        headers: &[HeaderRef<'_>],
        transaction: &mut Transaction,
    ) -> Result<(), Unplaced> {
        let target = match ingest.target(&ready.path) {
            Ok(target) => target,
            // A route with durability "memory" has no topic: the reading would
            // be in no log, and there is no one but its readers to have it.
            Err(missing) if missing.name.is_empty() => return Ok(()),
            Err(missing) => return Err(Unplaced::Missing(missing)),
        };
        let path = ready.path.as_bytes();
        let routed: Vec<HeaderRef<'_>>;
        let (key, headers) = match &target.key {
            None => (path, headers),
            Some(key) => {
                let own = [(Message::TOPIC_HEADER, Some(path))];
                routed = [&own, headers].concat();
                (key.as_bytes(), &routed[..])
            }
        };
        let record = RecordRef {
            timestamp: ready.timestamp_ms,
            key: Some(key),
            value: Some(&ready.value),
            headers,
        };
        self.push(&target, &record, transaction)
    }

    /// Closes all batches.
    ///
    /// # Errors
    /// A batch is larger than one may be.
    pub fn finish(self, transaction: &mut Transaction) -> Result<(), Unplaced> {
        for (partition, builder) in self.open {
            append(&partition, builder, transaction)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        target: &Target,
        record: &RecordRef<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), Unplaced> {
        let partition = &target.partition;
        let is_it = |open: &(Partition, BatchBuilder)| {
            open.0.index() == partition.index() && open.0.topic_name() == partition.topic_name()
        };
        let at = match self.open.iter().position(is_it) {
            Some(at) => at,
            None => {
                self.open.push((partition.clone(), BatchBuilder::new()));
                self.open.len() - 1
            }
        };
        let builder = &mut self.open[at].1;
        builder.push(record);
        if builder.bytes() >= BATCH_LEN {
            let full = std::mem::take(builder);
            append(partition, full, transaction)?;
        }
        Ok(())
    }
}

fn append(
    partition: &Partition,
    builder: BatchBuilder,
    transaction: &mut Transaction,
) -> Result<(), Unplaced> {
    if builder.is_empty() {
        return Ok(());
    }
    let batch = builder.finish(Compression::None).map_err(|error| {
        Unplaced::Malformed(AppendError::Malformed {
            reason: error.to_string(),
        })
    })?;
    transaction.append_batch(partition, batch, AppendOptions::default());
    Ok(())
}
