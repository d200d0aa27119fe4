//! Small changes that are not worth a record.
//!
//! Servers filter too, when they accept the filter. Some do it wrong: one
//! compares with the previous sample instead of the last one reported, so a
//! value that creeps is never reported again. The filter here compares with
//! what was published.

use crate::sample::Quality;
use crate::value::Value;

/// What is too little.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Deadband {
    /// Nothing is.
    #[default]
    None,
    /// Up to this many units.
    Absolute(f64),
    /// Up to this part of the value that was published last, in percent.
    Percent(f64),
}

impl Deadband {
    /// Whether `new` is worth a record after `last`. A change of quality always
    /// is, and so is everything that is not a number.
    pub fn passes(self, last: (&Value, Quality), new: (&Value, Quality)) -> bool {
        let limit = match self {
            Self::None => return true,
            Self::Absolute(limit) => limit,
            Self::Percent(percent) => {
                let base = last.0.number().unwrap_or(0.0);
                base.abs() * percent / 100.0
            }
        };
        if last.1 != new.1 {
            return true;
        }
        match (last.0.number(), new.0.number()) {
            (Some(last), Some(new)) => {
                let change = (new - last).abs();
                change > limit || change.is_nan()
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(deadband: Deadband, values: &[f64]) -> Vec<f64> {
        let mut published: Vec<f64> = Vec::new();
        for &value in values {
            let new = (&Value::Float(value), Quality::Good);
            let passes = published
                .last()
                .is_none_or(|&last| deadband.passes((&Value::Float(last), Quality::Good), new));
            if passes {
                published.push(value);
            }
        }
        published
    }

    #[test]
    fn a_creeping_value_is_reported_when_it_has_crept_far_enough() {
        let creeping: Vec<f64> = (0..30).map(f64::from).collect();
        let reported = run(Deadband::Absolute(9.5), &creeping);
        assert_eq!(reported, [0.0, 10.0, 20.0]);
        let percent = run(
            Deadband::Percent(10.0),
            &[100.0, 105.0, 110.0, 111.0, 120.0, 130.0],
        );
        assert_eq!(percent, [100.0, 111.0, 130.0]);
        assert_eq!(run(Deadband::None, &[1.0, 1.0]), [1.0, 1.0]);
    }

    #[test]
    fn quality_texts_and_what_is_no_number_always_pass() {
        let band = Deadband::Absolute(1e9);
        let one = Value::Float(1.0);
        assert!(band.passes((&one, Quality::Good), (&one, Quality::Uncertain)));
        assert!(band.passes(
            (&one, Quality::Good),
            (&Value::Float(f64::NAN), Quality::Good)
        ));
        let text = Value::Text("a".into());
        assert!(band.passes((&text, Quality::Good), (&text, Quality::Good)));
        assert!(!band.passes((&one, Quality::Good), (&Value::Signed(7), Quality::Good)));
    }
}
