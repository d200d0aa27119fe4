//! Measures appends, commits and the time to open a directory.
//!
//! `cargo run --release -p forebay-storage --example throughput -- DIR MEBIBYTES`

use forebay_records::{BatchBuilder, Compression, RecordRef};
use forebay_storage::disk::RealDisk;
use forebay_storage::{AppendError, AppendOptions, Config, Storage, TopicConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records of a batch; with 100 bytes each a batch is about 16 KiB.
const RECORDS: usize = 140;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("expected a directory")?;
    let mebibytes: u64 = arguments.next().ok_or("expected a size in MiB")?.parse()?;
    let (storage, opened) = open(&dir)?;
    println!("opened in {opened:?}, {} bytes", storage.stats().used_bytes);
    let topic = match storage.topic("load") {
        Some(topic) => topic,
        None => storage.create_topic("load", TopicConfig::with_partitions(1))?,
    };
    let partition = topic.partition(0).ok_or("expected partition 0")?;
    let mut builder = BatchBuilder::new();
    for at in 0..RECORDS {
        builder.push(&RecordRef {
            timestamp: at as i64,
            key: Some(b"press/1"),
            value: Some(&[7; 100]),
            headers: &[],
        });
    }
    let batch = builder.finish(Compression::None)?;
    let started = Instant::now();
    let mut written = 0;
    while written < mebibytes << 20 {
        match partition.append_batch(batch.clone(), AppendOptions::default()) {
            Ok(_) => written += batch.len() as u64,
            Err(AppendError::Backpressure { .. }) => {
                storage.wait(storage.fence());
            }
            Err(error) => return Err(error.into()),
        }
    }
    storage.wait(storage.fence());
    let took = started.elapsed();
    println!(
        "{} MiB durable in {took:?}, {} MiB/s",
        written >> 20,
        (written as f64 / took.as_secs_f64()) as u64 >> 20
    );
    let started = Instant::now();
    let mut from = partition.offsets().log_start;
    let mut read = 0;
    while from < partition.offsets().high_watermark {
        let chunk = partition.read(from, 1 << 20, true)?;
        read += chunk
            .batches
            .iter()
            .map(|batch| batch.len() as u64)
            .sum::<u64>();
        from = chunk.next_offset;
    }
    println!("{} MiB read in {:?}", read >> 20, started.elapsed());
    println!("{:?}", storage.stats().commit_latency);
    drop((partition, topic));
    let started = Instant::now();
    storage.close();
    println!("closed in {:?}", started.elapsed());
    drop(storage);
    println!("opened again in {:?}", open(&dir)?.1);
    Ok(())
}

fn open(dir: &str) -> Result<(Storage, Duration), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let (storage, _) = Storage::open(Config::new(dir), Arc::new(RealDisk::new()))?;
    Ok((storage, started.elapsed()))
}
