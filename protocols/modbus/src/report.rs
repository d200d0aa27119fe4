//! Report by exception: which readings of a tag are worth a record.

use std::time::Duration;

use crate::bus::{Moment, Status};
use crate::value::Value;

/// When a reading of a tag is reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReportRule {
    /// Each time it is read.
    Always,
    /// When it changed.
    Change {
        /// How far a number may move unreported.
        deadband: Deadband,
        /// The longest time without a report while it is read. `None`: no limit.
        max_interval: Option<Duration>,
    },
}

/// How far a number may move from the last *reported* one, so that a slow drift
/// is reported as well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deadband {
    /// Any change counts.
    None,
    /// A change of more than this counts.
    Absolute(f64),
    /// A change of more than this many percent of the last reported number.
    Percent(f64),
}

/// What was reported of a tag last.
#[derive(Debug, Clone, Default)]
pub struct Reported {
    last: Option<(Moment, Result<Value, Status>)>,
}

impl Reported {
    /// Whether this result is to be reported by `rule`; if so it is the last
    /// reported one from here on.
    pub fn admit(
        &mut self,
        now: Moment,
        rule: &ReportRule,
        result: &Result<Value, Status>,
    ) -> bool {
        let ReportRule::Change {
            deadband,
            max_interval,
        } = rule
        else {
            return true;
        };
        if let Some((at, last)) = &self.last {
            let is_recent = max_interval.is_none_or(|max| now.saturating_sub(*at) < max);
            if is_recent && deadband.holds(last, result) {
                return false;
            }
        }
        self.last = Some((now, result.clone()));
        true
    }
}

impl Deadband {
    /// Whether a result is the same as the last one for the purpose of reports.
    fn holds(self, last: &Result<Value, Status>, result: &Result<Value, Status>) -> bool {
        if last == result {
            return true;
        }
        let (Ok(last), Ok(value)) = (last, result) else {
            return false;
        };
        let (Some(last), Some(value)) = (number(last), number(value)) else {
            return false;
        };
        if last.is_nan() && value.is_nan() {
            return true;
        }
        let moved = (value - last).abs();
        match self {
            Self::None => false,
            Self::Absolute(limit) => moved <= limit,
            Self::Percent(percent) => moved <= last.abs() * percent / 100.0,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a deadband compares magnitudes; equal whole numbers were compared exactly before"
)]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Signed(number) => Some(*number as f64),
        Value::Unsigned(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Deadband, ReportRule, Reported};
    use crate::bus::Status;
    use crate::value::Value;

    /// Which of the results, one each second, are reported.
    fn reported(rule: ReportRule, results: &[Result<Value, Status>]) -> Vec<usize> {
        let mut state = Reported::default();
        let seconds = |index| Duration::from_secs(u64::try_from(index).unwrap());
        (0..results.len())
            .filter(|index| state.admit(seconds(*index), &rule, &results[*index]))
            .collect()
    }

    fn change(deadband: Deadband) -> ReportRule {
        ReportRule::Change {
            deadband,
            max_interval: None,
        }
    }

    fn floats(numbers: &[f64]) -> Vec<Result<Value, Status>> {
        numbers.iter().map(|n| Ok(Value::Float(*n))).collect()
    }

    #[test]
    fn every_poll_is_every_poll() {
        let same = floats(&[1.0, 1.0, 1.0]);
        assert_eq!(reported(ReportRule::Always, &same), [0, 1, 2]);
    }

    #[test]
    fn a_drift_is_measured_from_the_last_report() {
        let drift = floats(&[10.0, 10.4, 10.8, 11.2, 11.3]);
        assert_eq!(reported(change(Deadband::None), &drift), [0, 1, 2, 3, 4]);
        assert_eq!(reported(change(Deadband::Absolute(0.5)), &drift), [0, 2]);
        assert_eq!(reported(change(Deadband::Percent(10.0)), &drift), [0, 3]);
        let around_zero = floats(&[0.0, 0.001, 0.0, 0.0]);
        assert_eq!(
            reported(change(Deadband::Percent(50.0)), &around_zero),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_change_of_quality_is_always_a_change() {
        let results = [
            Ok(Value::Signed(5)),
            Err(Status::Timeout),
            Err(Status::Timeout),
            Err(Status::Disconnected),
            Ok(Value::Signed(5)),
            Ok(Value::Signed(5)),
        ];
        let rule = change(Deadband::Absolute(100.0));
        assert_eq!(reported(rule, &results), [0, 1, 3, 4]);
    }

    #[test]
    fn silence_has_a_limit() {
        let rule = ReportRule::Change {
            deadband: Deadband::None,
            max_interval: Some(Duration::from_secs(3)),
        };
        let same = vec![Ok(Value::Bool(true)); 8];
        assert_eq!(reported(rule, &same), [0, 3, 6]);
    }

    #[test]
    fn what_is_no_number_is_reported_once() {
        let nan = floats(&[f64::NAN, f64::NAN, 1.0, f64::NAN]);
        assert_eq!(reported(change(Deadband::Absolute(1.0)), &nan), [0, 2, 3]);
    }
}
