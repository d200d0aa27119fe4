//! CPU time of the functions, one thread.

use std::hint::black_box;

use forebay_analytics::column::Column;
use forebay_analytics::functions::anomaly::AnomalyScore;
use forebay_analytics::functions::waveform::{Band, Envelope, Level, Plans, Spectrum};
use forebay_analytics::functions::{Accumulator, Body, Call, Rows, find};
use forebay_analytics::value::{DataType, Value};
use rustix::time::{ClockId, clock_gettime};

use crate::failure::{Failure, Outcome};

/// Groups, as in a plant with a thousand sensors.
const GROUPS: u32 = 1000;

/// Rows of a batch.
const BATCH: usize = 1024;

/// Rows of one round; five rounds are taken and the best is printed.
const ROWS: usize = 2_000_000;
pub const ROUNDS: usize = 5;

/// Samples of a block, and blocks of a round.
const SAMPLES: usize = 8192;
const BLOCKS: usize = 200;

/// Prints rows per CPU second and microseconds per block.
pub fn run() -> Outcome {
    println!("rows per CPU second over {GROUPS} groups, batches of {BATCH}:");
    for names in [
        &["avg", "stddev", "max"][..],
        &["avg"],
        &["stddev"],
        &["max"],
        &["kurtosis"],
        &["percentile"],
        &["count_distinct"],
        &["slope"],
    ] {
        let rate = aggregate(names)?;
        println!("{:8.1} million  {}", rate / 1e6, names.join(" + "));
    }
    let seconds = best(|| {
        let mut state = AnomalyScore::new();
        for row in 0..100_000 {
            black_box(state.update(row * 1000, noise(row as u64)));
        }
    });
    println!("{:8.1} million  anomaly_score", 0.1 / seconds);
    println!("microseconds of CPU per block of {SAMPLES} samples:");
    let samples: Vec<f64> = (0..SAMPLES as u64).map(noise).collect();
    for (what, part) in [
        ("levels", 1),
        ("spectrum", 2),
        ("envelope, band given", 4),
        ("envelope, loudest band", 8),
        ("levels + spectrum + envelope", 7),
    ] {
        println!("{:8.1}  {what}", block(&samples, part));
    }
    Ok(())
}

fn aggregate(names: &[&str]) -> Outcome<f64> {
    let mut batches = Vec::new();
    for batch in 0..64u64 {
        let groups: Vec<u32> = (0..BATCH as u64)
            .map(|row| (mix(batch * 7919 + row) % u64::from(GROUPS)) as u32)
            .collect();
        let values = (0..BATCH as u64).map(|row| 20.0 + noise(batch * BATCH as u64 + row));
        let column = Column::from_floats(values.collect(), None);
        batches.push((groups, column));
    }
    let times = vec![1_763_856_000_000; BATCH];
    let mut states: Vec<Box<dyn Accumulator>> = Vec::new();
    for name in names {
        let call = Call {
            types: &[DataType::Float, DataType::Float],
            constants: &[None, Some(Value::Float(0.95))],
        };
        match find(name).map(|function| function.body) {
            Some(Body::Aggregate(make)) => {
                states.push(make(&call).map_err(|cause| Failure::new(cause.to_string()))?);
            }
            _ => return Err(Failure::new(format!("{name} is no aggregate"))),
        }
    }
    for state in &mut states {
        state.resize(GROUPS as usize);
    }
    let seconds = best(|| {
        for at in 0..ROWS / BATCH {
            let (groups, column) = &batches[at % batches.len()];
            for state in &mut states {
                state.update(Rows {
                    groups,
                    times: &times,
                    arguments: std::slice::from_ref(column),
                });
            }
        }
    });
    Ok((ROWS / BATCH * BATCH) as f64 / seconds)
}

fn block(samples: &[f64], part: u32) -> f64 {
    let rate = 25_600.0;
    let given = Band::Between {
        low: rate / 12.0,
        high: rate / 2.56,
    };
    let mut plans = Plans::new();
    let mut measure = |samples: &[f64]| {
        if part & 1 > 0 {
            black_box(Level::of(samples));
        }
        if part & 2 > 0 {
            let spectrum = Spectrum::of(&mut plans, samples, rate);
            black_box(spectrum.and_then(|it| it.band_energy(10.0, 1000.0)));
        }
        for (bit, band) in [(4, given), (8, Band::Loudest)] {
            if part & bit > 0 {
                let envelope = Envelope::of(&mut plans, samples, rate, band);
                black_box(envelope.and_then(|it| it.fault_score(107.3, 3)));
            }
        }
    };
    let seconds = best(|| {
        for _ in 0..BLOCKS {
            measure(black_box(samples));
        }
    });
    seconds / BLOCKS as f64 * 1e6
}

/// The least CPU seconds of some rounds.
pub fn best(mut round: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let before = cpu_seconds();
            round();
            cpu_seconds() - before
        })
        .fold(f64::INFINITY, f64::min)
}

pub fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// The finaliser of SplitMix64: noise that is the same in each run.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn noise(seed: u64) -> f64 {
    (0..4)
        .map(|part| (mix(seed * 4 + part) >> 40) as f64 / f64::from(1u32 << 24))
        .sum::<f64>()
        - 2.0
}
