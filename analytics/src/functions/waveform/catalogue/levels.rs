//! Broadband values and zones of severity.

use super::super::super::{Accepts, ArgumentError, Call, Function, Kernel, Parameter};
use super::super::level::Level;
use super::super::severity::{Limits, limits};
use super::{Row, W, by_row, returning, signal};
use crate::column::Column;
use crate::value::DataType;

const LEVEL: &[Parameter] = &[W];
const ISO_2041: &str = "ISO 2041, 3.1";
const VELOCITY: Parameter = Parameter::new("velocity_mm_s", Accepts::Number);

/// Broadband values of a block and what they mean for a machine.
pub static LEVELS: &[Function] = &[
    signal(
        "waveform_rms",
        LEVEL,
        "the root of the mean square of a block, with the constant part",
        "sqrt(sum(x^2) / n)",
        "the unit of the samples",
        ISO_2041,
        |_| level(|it| Some(it.rms)),
    ),
    signal(
        "waveform_mean",
        LEVEL,
        "the mean of a block",
        "sum(x) / n",
        "the unit of the samples",
        "definition",
        |_| level(|it| Some(it.mean)),
    ),
    signal(
        "waveform_peak",
        LEVEL,
        "the largest magnitude in a block",
        "max(|x|)",
        "the unit of the samples",
        ISO_2041,
        |_| level(|it| Some(it.peak)),
    ),
    signal(
        "waveform_peak_to_peak",
        LEVEL,
        "the largest less the smallest sample of a block",
        "max(x) - min(x)",
        "the unit of the samples",
        ISO_2041,
        |_| level(|it| Some(it.peak_to_peak)),
    ),
    signal(
        "waveform_crest_factor",
        LEVEL,
        "the peak of a block over its RMS value",
        "max(|x|) / sqrt(sum(x^2) / n)",
        "none; sqrt(2) for a sine",
        ISO_2041,
        |_| level(|it| it.crest_factor),
    ),
    signal(
        "waveform_skew",
        LEVEL,
        "the skew of a block",
        "m3 / m2^1.5 with m_k = sum((x - mean)^k) / n",
        "none; 0 when symmetric",
        "Pebay, SAND2008-6212",
        |_| level(|it| it.skew),
    ),
    signal(
        "waveform_kurtosis",
        LEVEL,
        "Pearson's kurtosis of a block: larger when there are impacts",
        "m4 / m2^2 with m_k = sum((x - mean)^k) / n",
        "none; 3 for noise, 1.5 for a sine",
        "Dyer and Stewart, J. Mech. Design 100 (1978)",
        |_| level(|it| it.kurtosis),
    ),
    returning(
        DataType::Text,
        signal(
            "iso20816_zone",
            &[
                VELOCITY,
                Parameter::new("group", Accepts::Text).constant(),
                Parameter::new("foundation", Accepts::Text).constant(),
            ],
            "the zone A, B, C or D of a vibration velocity; groups: group-1 (above 300 kW), \
             group-2 (15 to 300 kW), pump-1, pump-1-small, pump-2, pump-2-small, class-1; \
             foundation: rigid or flexible",
            "A below the first limit, B below the second, C below the third, D above",
            "a letter",
            "limits quoted from ISO 20816-3, 10816-7, 10816-1; a table shipped as data",
            zone_of_group,
        ),
    ),
    returning(
        DataType::Text,
        signal(
            "severity_zone",
            &[
                VELOCITY,
                Parameter::new("a_to_b", Accepts::Number),
                Parameter::new("b_to_c", Accepts::Number),
                Parameter::new("c_to_d", Accepts::Number),
            ],
            "the zone A, B, C or D of a vibration velocity by limits of one's own",
            "A below the first limit, B below the second, C below the third, D above",
            "a letter",
            "ISO 20816-1, 6.2",
            |_| {
                Ok(letters(|row| {
                    Some(Limits {
                        a_to_b: row.number(1)?,
                        b_to_c: row.number(2)?,
                        c_to_d: row.number(3)?,
                    })
                }))
            },
        ),
    ),
];

fn level(
    part: impl Fn(Level) -> Option<f64> + Send + 'static,
) -> Result<Box<dyn Kernel>, ArgumentError> {
    by_row(move |row| part(Level::of(row.samples()?)?))
}

fn letters(limits: impl Fn(&Row<'_>) -> Option<Limits> + Send + 'static) -> Box<dyn Kernel> {
    Box::new(move |arguments: &[Column], rows: usize| {
        Column::from_optional_texts((0..rows).map(|at| {
            let row = Row { arguments, at };
            let zone = limits(&row)?.zone(row.number(0)?)?;
            Some(zone.letter())
        }))
    })
}

fn zone_of_group(call: &Call<'_>) -> Result<Box<dyn Kernel>, ArgumentError> {
    let group = call.text(1).unwrap_or_default();
    let foundation = call.text(2).unwrap_or_default();
    if !matches!(foundation, "rigid" | "flexible") {
        return Err(ArgumentError {
            parameter: "foundation",
            found: format!("{foundation:?}"),
            expected: "'rigid' or 'flexible'",
        });
    }
    let Some(limits) = limits(group, foundation) else {
        return Err(ArgumentError {
            parameter: "group",
            found: format!("{group:?}"),
            expected: "group-1, group-2, pump-1, pump-1-small, pump-2, pump-2-small or class-1",
        });
    };
    Ok(letters(move |_| Some(limits)))
}
