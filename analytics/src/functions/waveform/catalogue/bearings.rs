//! Bearing frequencies, envelope spectra and fault scores.

use super::super::super::{Accepts, ArgumentError, Function, Kernel, Parameter};
use super::super::bearing::{BearingFrequencies, BearingGeometry, Fault};
use super::super::envelope::{Band, Envelope};
use super::super::plans::Plans;
use super::{HIGH, LOW, RATE, Row, W, by_row, returning, signal};
use crate::column::Column;
use crate::value::{DataType, Waveform};

const RANDALL: &str = "Randall and Antoni, MSSP 25 (2011)";
const RPM: Parameter = Parameter::new("rpm", Accepts::Number);
const BALLS: Parameter = Parameter::new("balls", Accepts::Number);
const BALL: Parameter = Parameter::new("ball_diameter", Accepts::Number);
const PITCH: Parameter = Parameter::new("pitch_diameter", Accepts::Number);
const ANGLE: Parameter = Parameter::new("contact_angle_deg", Accepts::Number);
const HARMONICS: Parameter = Parameter::new("harmonics", Accepts::Int);
const FREQUENCY: Parameter = Parameter::new("strike_hz", Accepts::Number);

const GEOMETRY: &[Parameter] = &[RPM, BALLS, BALL, PITCH, ANGLE.optional()];
const LINES: &[Parameter] = &[
    W,
    RATE,
    FREQUENCY,
    HARMONICS.optional(),
    LOW.optional(),
    HIGH.optional(),
];
const WHOLE: &[Parameter] = &[
    W,
    RATE,
    RPM,
    BALLS,
    BALL,
    PITCH,
    ANGLE.optional(),
    LOW.optional(),
    HIGH.optional(),
];

/// Harmonics of a strike frequency that are looked at if nothing is said.
const HARMONICS_DEFAULT: usize = 3;

/// The faults in the order in which equal scores are named.
const FAULTS: [(Fault, &str); 4] = [
    (Fault::OuterRace, "outer race"),
    (Fault::InnerRace, "inner race"),
    (Fault::Ball, "ball"),
    (Fault::Cage, "cage"),
];

/// Functions for rolling element bearings.
pub static BEARINGS: &[Function] =
    &[
        signal(
            "bpfo",
            GEOMETRY,
            "how often per second a ball passes a spot on the outer race",
            "n rpm/120 (1 - d/D cos a)",
            "Hz",
            RANDALL,
            |_| frequency(|it| it.bpfo_hz),
        ),
        signal(
            "bpfi",
            GEOMETRY,
            "how often per second a ball passes a spot on the inner race",
            "n rpm/120 (1 + d/D cos a)",
            "Hz",
            RANDALL,
            |_| frequency(|it| it.bpfi_hz),
        ),
        signal(
            "bsf",
            GEOMETRY,
            "how often per second a ball turns; a spot on it strikes twice as often",
            "D rpm/(120 d) (1 - (d/D cos a)^2)",
            "Hz",
            RANDALL,
            |_| frequency(|it| it.bsf_hz),
        ),
        signal(
            "ftf",
            GEOMETRY,
            "how often per second the cage turns",
            "rpm/120 (1 - d/D cos a)",
            "Hz",
            RANDALL,
            |_| frequency(|it| it.ftf_hz),
        ),
        returning(
            DataType::Waveform,
            signal(
                "envelope_spectrum",
                &[W, RATE, LOW.optional(), HIGH.optional()],
                "the amplitude spectrum of the envelope of a band (rate/12 to rate/2.56 if left \
             out), at a distance of rate/n; mean removed, Hann window",
                "spectrum of |analytic signal of the band|",
                "the unit of the samples",
                RANDALL,
                |_| {
                    let mut plans = Plans::new();
                    Ok(Box::new(move |arguments: &[Column], rows: usize| {
                        Column::from_optional_waveforms((0..rows).map(|at| {
                            let envelope = envelope(&mut plans, &Row { arguments, at }, 2)?;
                            let lines = envelope.amplitudes().iter();
                            Some(Waveform::new(lines.map(|&a| f64::from(a)).collect()))
                        }))
                    }))
                },
            ),
        ),
        signal(
            "envelope_energy",
            LINES,
            "the energy of the envelope at a strike frequency and its harmonics (3 if left out, \
         at most 16), each the largest line within 2 %",
            "sum over h of a(h)^2 / 2",
            "the square of the unit of the samples",
            RANDALL,
            |_| lines(|it, hz, harmonics| it.fault_energy(hz, harmonics)),
        ),
        signal(
            "fault_score",
            LINES,
            "how far the envelope at a strike frequency and its harmonics (3 if left out) stands \
         above the noise around it: about 2 for noise, a fault from 4 to 5 on",
            "geometric mean over h of a(h) / median of the lines around it",
            "none",
            RANDALL,
            |_| lines(|it, hz, harmonics| it.fault_score(hz, harmonics)),
        ),
        signal(
            "bearing_score",
            WHOLE,
            "the largest fault_score of outer race, inner race, ball and cage",
            "max of fault_score at BPFO, BPFI, 2 BSF, FTF",
            "none",
            RANDALL,
            |_| {
                let mut plans = Plans::new();
                by_row(move |row| worst(&mut plans, row).map(|(score, _)| score))
            },
        ),
        returning(
            DataType::Text,
            signal(
                "bearing_fault",
                WHOLE,
                "which fault has the largest fault_score: 'outer race', 'inner race', 'ball' or \
             'cage'; read it only where bearing_score says that there is one",
                "",
                "a name",
                RANDALL,
                |_| {
                    let mut plans = Plans::new();
                    Ok(Box::new(move |arguments: &[Column], rows: usize| {
                        Column::from_optional_texts((0..rows).map(|at| {
                            worst(&mut plans, &Row { arguments, at }).map(|(_, name)| name)
                        }))
                    }))
                },
            ),
        ),
    ];

/// The frequencies of the bearing whose speed and measures begin at `first`.
fn frequencies(row: &Row<'_>, first: usize) -> Option<BearingFrequencies> {
    let bearing = BearingGeometry {
        balls: row.number(first + 1)?,
        ball_diameter: row.number(first + 2)?,
        pitch_diameter: row.number(first + 3)?,
        contact_angle_deg: row.number_or(first + 4, 0.0)?,
    };
    bearing.frequencies(row.number(first)?)
}

fn frequency(
    part: impl Fn(BearingFrequencies) -> f64 + Send + 'static,
) -> Result<Box<dyn Kernel>, ArgumentError> {
    by_row(move |row| frequencies(row, 0).map(&part))
}

/// The envelope of the band whose edges are the arguments at `edge` and behind,
/// or of rate/12 to rate/2.56, where most resonances of bearings ring.
fn envelope(plans: &mut Plans, row: &Row<'_>, edge: usize) -> Option<Envelope> {
    let rate = row.number(1)?;
    let band = Band::Between {
        low: row.number_or(edge, rate / 12.0)?,
        high: row.number_or(edge + 1, rate / 2.56)?,
    };
    Envelope::of(plans, row.samples()?, rate, band)
}

fn lines(
    part: impl Fn(&Envelope, f64, usize) -> Option<f64> + Send + 'static,
) -> Result<Box<dyn Kernel>, ArgumentError> {
    let mut plans = Plans::new();
    by_row(move |row| {
        let harmonics = if row.len() > 3 {
            let given = row.arguments[3].int(row.at)?;
            usize::try_from(given).ok().filter(|&it| it > 0)?
        } else {
            HARMONICS_DEFAULT
        };
        part(&envelope(&mut plans, row, 4)?, row.number(2)?, harmonics)
    })
}

fn worst(plans: &mut Plans, row: &Row<'_>) -> Option<(f64, &'static str)> {
    let at = frequencies(row, 2)?;
    let envelope = envelope(plans, row, 7)?;
    let mut worst: Option<(f64, &'static str)> = None;
    for (fault, name) in FAULTS {
        if let Some(score) = envelope.fault_score(at.strike_hz(fault), HARMONICS_DEFAULT)
            && worst.is_none_or(|(most, _)| score > most)
        {
            worst = Some((score, name));
        }
    }
    worst
}
