//! Spectra, bands, peaks, orders and velocity.

use super::super::super::{Accepts, ArgumentError, Call, Function, Kernel, Parameter};
use super::super::plans::Plans;
use super::super::spectrum::{PEAKS_MAX, Peak, Spectrum, integrate};
use super::{HIGH, LOW, RATE, Row, W, by_row, returning, signal};
use crate::column::Column;
use crate::value::{DataType, Waveform};

const HARRIS: &str = "Harris, Proc. IEEE 66 (1978); Heinzel et al. (2002)";
const GRANDKE: &str = "Grandke, IEEE Trans. IM-32 (1983)";
const ISO_20816: &str = "ISO 20816-1, 5; 10 to 1000 Hz if left out";

/// Where ISO 20816-3 measures velocity, in hertz.
const BROADBAND_LOW_HZ: f64 = 10.0;
const BROADBAND_HIGH_HZ: f64 = 1000.0;

/// Standard gravity in m/s^2 (ISO 80000-3).
const GRAVITY: f64 = 9.806_65;

const PEAK: &[Parameter] = &[
    W,
    RATE,
    Parameter::new("rank", Accepts::Int),
    LOW.optional(),
    HIGH.optional(),
];

/// Functions of the amplitude spectrum.
pub static SPECTRA: &[Function] = &[
    returning(
        DataType::Waveform,
        signal(
            "spectrum",
            &[W, RATE],
            "the amplitude of each line from 0 Hz to half the sample rate, n/2 + 1 lines at a \
             distance of rate/n; Hann window, mean removed",
            "2 |X(k)| / sum(w)",
            "the unit of the samples; a sine shows its amplitude",
            HARRIS,
            |_| {
                let mut plans = Plans::new();
                waveforms(move |row| {
                    let spectrum = Spectrum::of(&mut plans, row.samples()?, row.number(1)?)?;
                    let lines = spectrum.amplitudes().iter();
                    Some(lines.map(|&a| f64::from(a)).collect())
                })
            },
        ),
    ),
    signal(
        "band_energy",
        &[W, RATE, LOW, HIGH],
        "the mean square of what lies from low up to below high; neighbouring bands add up",
        "sum over the band of a(k)^2 / (2 ENBW)",
        "the square of the unit of the samples",
        HARRIS,
        |_| spectral(|it, row| it.band_energy(row.number(2)?, row.number(3)?)),
    ),
    signal(
        "band_rms",
        &[W, RATE, LOW, HIGH],
        "the RMS value of what lies from low up to below high",
        "sqrt(band_energy)",
        "the unit of the samples",
        HARRIS,
        |_| {
            spectral(|it, row| {
                it.band_energy(row.number(2)?, row.number(3)?)
                    .map(f64::sqrt)
            })
        },
    ),
    signal(
        "peak_frequency",
        PEAK,
        "the frequency of the rank-th largest peak of the spectrum (1 is the largest, at most \
         64), interpolated between lines",
        "(k + d) rate/n with d = (2r - 1)/(r + 1), r = a(k+-1)/a(k)",
        "Hz",
        GRANDKE,
        |_| spectral(|it, row| peak(it, row).map(|peak| peak.frequency_hz)),
    ),
    signal(
        "peak_amplitude",
        PEAK,
        "the amplitude of the rank-th largest peak of the spectrum, interpolated",
        "a(k) pi d (1 - d^2) / sin(pi d)",
        "the unit of the samples; amplitude, not RMS",
        GRANDKE,
        |_| spectral(|it, row| peak(it, row).map(|peak| peak.amplitude)),
    ),
    signal(
        "order_amplitude",
        &[
            W,
            RATE,
            Parameter::new("rpm", Accepts::Number),
            Parameter::new("order", Accepts::Number),
        ],
        "the amplitude at a multiple of the shaft speed, from the largest line within 1 % or \
         1.5 lines of it, interpolated; null below two lines and above half the sample rate",
        "amplitude at order rpm/60",
        "the unit of the samples; amplitude, not RMS",
        GRANDKE,
        |_| spectral(|it, row| it.order_amplitude(row.number(2)?, row.number(3)?)),
    ),
    signal(
        "velocity_rms",
        &[
            W,
            RATE,
            Parameter::new("unit", Accepts::Text).constant(),
            LOW.optional(),
            HIGH.optional(),
        ],
        "the RMS velocity of an acceleration in 'g', 'm/s2' or 'mm/s2', integrated in the \
         frequency domain between two frequencies",
        "sqrt(sum over the band of P(k) / (2 pi f)^2)",
        "mm/s",
        ISO_20816,
        velocity_rms,
    ),
    returning(
        DataType::Waveform,
        signal(
            "velocity",
            &[
                W,
                RATE,
                Parameter::new("unit", Accepts::Text).constant(),
                LOW.optional(),
            ],
            "the velocity of an acceleration in 'g', 'm/s2' or 'mm/s2' as a block, above a \
             high-pass frequency (10 Hz if left out); the ends ring when they do not fit",
            "transform back X(f) / (j 2 pi f)",
            "mm/s",
            ISO_20816,
            velocity,
        ),
    ),
];

fn spectral(
    part: impl Fn(&Spectrum, &Row<'_>) -> Option<f64> + Send + 'static,
) -> Result<Box<dyn Kernel>, ArgumentError> {
    let mut plans = Plans::new();
    by_row(move |row| {
        let spectrum = Spectrum::of(&mut plans, row.samples()?, row.number(1)?)?;
        part(&spectrum, row)
    })
}

fn waveforms(
    mut answer: impl FnMut(&Row<'_>) -> Option<Vec<f64>> + Send + 'static,
) -> Result<Box<dyn Kernel>, ArgumentError> {
    Ok(Box::new(move |arguments: &[Column], rows: usize| {
        Column::from_optional_waveforms(
            (0..rows).map(|at| answer(&Row { arguments, at }).map(Waveform::new)),
        )
    }))
}

fn peak(spectrum: &Spectrum, row: &Row<'_>) -> Option<Peak> {
    let rank = row.arguments.get(2)?.int(row.at)?;
    let rank = usize::try_from(rank)
        .ok()
        .filter(|it| (1..=PEAKS_MAX).contains(it))?;
    let low = row.number_or(3, 0.0)?;
    let high = row.number_or(4, f64::MAX)?;
    spectrum.peaks(low, high, rank).get(rank - 1).copied()
}

/// How many mm/s^2 one unit of acceleration is.
fn millimetres(call: &Call<'_>) -> Result<f64, ArgumentError> {
    match call.text(2) {
        Some("g") => Ok(1000.0 * GRAVITY),
        Some("m/s2") => Ok(1000.0),
        Some("mm/s2") => Ok(1.0),
        found => Err(ArgumentError {
            parameter: "unit",
            found: format!("{:?}", found.unwrap_or_default()),
            expected: "'g', 'm/s2' or 'mm/s2'",
        }),
    }
}

fn velocity_rms(call: &Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError> {
    let scale = millimetres(call)?;
    spectral(move |it, row| {
        let low = row.number_or(3, BROADBAND_LOW_HZ)?;
        let high = row.number_or(4, BROADBAND_HIGH_HZ)?;
        it.integral_rms(low, high).map(|rms| rms * scale)
    })
}

fn velocity(call: &Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError> {
    let scale = millimetres(call)?;
    let mut plans = Plans::new();
    waveforms(move |row| {
        let low = row.number_or(3, BROADBAND_LOW_HZ)?;
        let mut integral = integrate(&mut plans, row.samples()?, row.number(1)?, low)?;
        for x in &mut integral {
            *x *= scale;
        }
        Some(integral)
    })
}
