//! Waits for the synchronisation and writes down what it means.

use std::time::Duration;

use forebay_storage::Storage;

use super::{Clock, Correction, TOPIC};
use crate::ledger::{Ledger, LedgerError};

/// How often the system is asked until its clock is synchronised. A reading
/// that comes in between is marked although it need not be, and that is all.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The boot whose records are marked and not corrected yet. A process that ends
/// between the synchronisation and the correction leaves it to the next.
const KEY: &[u8] = b"g/clock";

/// Writes corrections to the log until the clock is synchronised.
pub async fn run(clock: Clock, storage: Storage) {
    let ledger = Ledger::new(storage, TOPIC);
    match follow(&clock, &ledger).await {
        Ok(()) | Err(LedgerError::Closing) => {}
        Err(error) => tracing::error!(%error, "records keep the times of before"),
    }
}

async fn follow(clock: &Clock, ledger: &Ledger) -> Result<(), LedgerError> {
    begin(clock, ledger).await?;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    while !clock.is_trusted() {
        looks.tick().await;
        if let Some(correction) = clock.look() {
            write(clock, ledger, &correction).await?;
        }
    }
    Ok(())
}

/// Finishes what an earlier process left, and notes that this one marks.
async fn begin(clock: &Clock, ledger: &Ledger) -> Result<(), LedgerError> {
    let storage = ledger.storage().clone();
    let reading = tokio::task::spawn_blocking(move || storage.get(KEY)).await;
    let left = reading.map_err(|_| LedgerError::Closing)?;
    let is_this_boot = left.as_deref() == Some(clock.boot().as_bytes());
    if let (Some(boot), false) = (&left, is_this_boot) {
        tracing::warn!(
            boot = %String::from_utf8_lossy(boot),
            "the clock was not synchronised in an earlier boot; its records keep their times and their marks"
        );
    }
    if clock.is_trusted() {
        if is_this_boot {
            write(clock, ledger, &clock.present()).await?;
        } else if left.is_some() {
            ledger.change(&[(KEY.to_vec(), None)]).await?;
        }
        return Ok(());
    }
    tracing::warn!("the system clock is not synchronised; records are marked until it is");
    let boot = clock.boot().as_bytes().to_vec();
    ledger.change(&[(KEY.to_vec(), Some(boot))]).await?;
    Ok(())
}

async fn write(clock: &Clock, ledger: &Ledger, correction: &Correction) -> Result<(), LedgerError> {
    let json = serde_json::to_vec(correction).expect("numbers and a text have a JSON form");
    let done = (KEY.to_vec(), None);
    let changes = if correction.synchronised {
        std::slice::from_ref(&done)
    } else {
        &[]
    };
    let now = clock.now_ms();
    ledger.write(&correction.boot, &json, now, changes).await?;
    tracing::info!(
        jump_ms = correction.jump_ms,
        synchronised = correction.synchronised,
        "the clock was set; earlier records of this boot can be stamped again"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_records::records;
    use forebay_storage::disk::RealDisk;
    use forebay_storage::{Config, Preallocation};

    use super::*;
    use crate::clock::tests::Sample;

    async fn open(dir: &std::path::Path) -> Storage {
        let mut config = Config::new(dir);
        config.preallocation = Preallocation::None;
        config.retention.keep_free = 0;
        config.ballast_bytes = 0;
        let opening =
            tokio::task::spawn_blocking(move || Storage::open(config, Arc::new(RealDisk::new())));
        opening.await.unwrap().unwrap().0
    }

    async fn settle(storage: &Storage) {
        let storage = storage.clone();
        tokio::task::spawn_blocking(move || storage.wait(storage.fence()))
            .await
            .unwrap();
    }

    fn corrections(storage: &Storage) -> Vec<Correction> {
        let Some(topic) = storage.topic(TOPIC) else {
            return Vec::new();
        };
        let chunk = topic.partition(0).unwrap().read(0, 1 << 20, true).unwrap();
        let batches = chunk.batches.iter();
        let records = batches.flat_map(|batch| records(batch, 1 << 20).unwrap());
        records
            .map(|record| serde_json::from_slice(&record.unwrap().value.unwrap()).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn the_synchronisation_is_written_down_once() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path()).await;
        let system = Sample::default();
        let clock = system.clock("boot-1");
        system.synchronise(1_763_856_000_000);
        run(clock, storage.clone()).await;
        settle(&storage).await;
        let written = corrections(&storage);
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].jump_ms, 1_763_856_000_000);
        run(system.clock("boot-1"), storage.clone()).await;
        settle(&storage).await;
        assert_eq!(corrections(&storage).len(), 1);
    }

    #[tokio::test]
    async fn the_next_process_of_the_boot_writes_what_the_last_one_did_not() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path()).await;
        let system = Sample::default();
        let clock = system.clock("boot-1");
        begin(&clock, &Ledger::new(storage.clone(), TOPIC))
            .await
            .unwrap();
        settle(&storage).await;
        system.synchronise(1_763_856_000_000);
        run(system.clock("boot-1"), storage.clone()).await;
        settle(&storage).await;
        let written = corrections(&storage);
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].offset_ms, 1_763_856_000_000);
    }

    #[tokio::test]
    async fn another_boot_cannot_correct_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path()).await;
        let system = Sample::default();
        let clock = system.clock("boot-1");
        begin(&clock, &Ledger::new(storage.clone(), TOPIC))
            .await
            .unwrap();
        settle(&storage).await;
        system.synchronise(1_763_856_000_000);
        run(system.clock("boot-2"), storage.clone()).await;
        settle(&storage).await;
        assert_eq!(corrections(&storage), []);
    }
}
