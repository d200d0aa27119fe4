//! Tells damaged bearings from a healthy one on real recordings.

use std::path::Path;

use forebay_analytics::functions::waveform::{
    Band, BearingGeometry, Envelope, Fault, Level, Plans,
};
use serde::Deserialize;

use crate::failure::{During, Failure, Outcome};

/// The bearing of the recordings: SKF 6205-2RS.
const BEARING: BearingGeometry = BearingGeometry {
    balls: 9.0,
    ball_diameter: 7.94,
    pitch_diameter: 39.04,
    contact_angle_deg: 0.0,
};

/// As the query functions do it: three harmonics in the band from rate/12 to
/// rate/2.56.
const HARMONICS: usize = 3;

const FAULTS: [(Fault, &str); 4] = [
    (Fault::OuterRace, "outer race"),
    (Fault::InnerRace, "inner race"),
    (Fault::Ball, "ball"),
    (Fault::Cage, "cage"),
];

#[derive(Debug, Deserialize)]
struct Recording {
    file: String,
    sample_rate_hz: f64,
    rpm: f64,
    fault: String,
    fault_frequency_hz: Option<f64>,
}

/// Scores every recording of `index.json`.
///
/// # Errors
/// A file is missing, or a damaged bearing scores no more than a healthy one.
pub fn run(folder: &Path) -> Outcome {
    let path = folder.join("index.json");
    let text = std::fs::read_to_string(&path).during(path.display())?;
    let recordings: Vec<Recording> = serde_json::from_str(&text).during(path.display())?;
    println!("largest score  kurtosis  at its own frequency  reads as    is          recording");
    let mut healthy: Option<f64> = None;
    let mut damaged: Option<(f64, String)> = None;
    for recording in recordings {
        let (score, name) = report(folder, &recording)?;
        if recording.fault == "none" {
            healthy = Some(healthy.map_or(score, |most: f64| most.max(score)));
        } else if damaged.as_ref().is_none_or(|(least, _)| score < *least) {
            damaged = Some((score, name));
        }
    }
    match (healthy, damaged) {
        (Some(healthy), Some((least, _))) if least > healthy => {
            println!(
                "every damaged bearing scores at least {:.1} times the healthy one",
                least / healthy
            );
            Ok(())
        }
        (Some(healthy), Some((least, name))) => Err(Failure::new(format!(
            "{name} scores {least:.1}, a healthy bearing {healthy:.1}"
        ))),
        _ => Err(Failure::new("expected a healthy and a damaged bearing")),
    }
}

fn report(folder: &Path, recording: &Recording) -> Outcome<(f64, String)> {
    let path = folder.join(&recording.file);
    let bytes = std::fs::read(&path).during(path.display())?;
    let samples: Vec<f64> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
        .collect();
    let rate = recording.sample_rate_hz;
    let band = Band::Between {
        low: rate / 12.0,
        high: rate / 2.56,
    };
    let wrong = || Failure::new(format!("{}: no spectrum of it", recording.file));
    let envelope = Envelope::of(&mut Plans::new(), &samples, rate, band).ok_or_else(wrong)?;
    let level = Level::of(&samples).ok_or_else(wrong)?;
    let at = BEARING.frequencies(recording.rpm).ok_or_else(wrong)?;
    let (score, reads_as) = FAULTS
        .iter()
        .filter_map(|&(fault, name)| {
            let score = envelope.fault_score(at.strike_hz(fault), HARMONICS)?;
            Some((score, name))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .ok_or_else(wrong)?;
    let own = recording
        .fault_frequency_hz
        .and_then(|hz| envelope.fault_score(hz, HARMONICS))
        .map_or_else(|| "-".to_owned(), |score| format!("{score:.1}"));
    println!(
        "{score:13.1}  {:8.2}  {own:>20}  {reads_as:10}  {:10}  {}",
        level.kurtosis.unwrap_or_default(),
        recording.fault,
        recording.file
    );
    Ok((score, recording.file.clone()))
}
