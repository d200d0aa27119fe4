//! The query that finds the failing bearing, on the gateway itself: with the link
//! to the hub or without.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::nodes::quoted;
use crate::status::AlertStatus;

/// Seconds of a run in which the bearing comes from healthy to destroyed.
pub const LIFE_SECONDS: f64 = 60.0;

/// The file with the query.
const FILE: &str = "bearing.sql";

/// Windows of a second, because the demo's bearing lives for a minute. On a real
/// one the window is a minute, and the rule has a FOR.
const QUERY: &str = "\
-- Vibration of every machine by the second. 2.8 mm/s is where ISO 20816-3 begins
-- its zone C: not for long-term operation.
CREATE STREAM vibration FROM 'plant/{machine}/vibration'
  WATERMARK DELAY INTERVAL '500 ms' IDLE AFTER INTERVAL '2 s';

CREATE QUERY bearing AS
SELECT machine, avg(value) AS level, max(value) AS peak, window_start, window_end
FROM TUMBLE(vibration, INTERVAL '1 s')
GROUP BY machine;

CREATE ALERT worn ON bearing
  WHEN level > 2.8
  CLEAR WHEN level < 1.8
  SEVERITY warning
  MESSAGE 'plan the replacement of the bearing';
";

/// An alert that the gateway raised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The machine.
    pub machine: String,
    /// Vibration of the second that decided, in mm/s.
    pub level: f64,
    /// When it was seen, in seconds since the sensors started.
    pub seconds: u64,
    /// Whether the hub could be reached at that time.
    pub link_up: bool,
}

impl Finding {
    /// What an alert of the demo's query says.
    pub fn of(alert: &AlertStatus, seconds: u64, link_up: bool) -> Option<Self> {
        Some(Self {
            machine: alert.alert["key"]["machine"].as_str()?.to_owned(),
            level: alert.alert["value"].as_f64()?,
            seconds,
            link_up,
        })
    }

    /// A sentence for the screen.
    pub fn sentence(&self) -> String {
        let link = match self.link_up {
            true => "",
            false => ", while the hub is out of reach",
        };
        format!(
            "--- The gateway's query found it after {} s{link}: the bearing of {} is at {:.1} mm/s, limit 2.8. ---",
            self.seconds, self.machine, self.level
        )
    }
}

/// Writes the query and returns its section of the gateway's configuration.
///
/// # Errors
/// The directory cannot be written to.
pub fn section(dir: &Path) -> io::Result<String> {
    let file = dir.join(FILE);
    std::fs::write(&file, QUERY)?;
    Ok(format!("[[query]]\nfile = {}\n\n", quoted(&file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_becomes_a_sentence() {
        let alert = AlertStatus {
            id: "bearing/worn/press-3/1".to_owned(),
            query: "bearing".to_owned(),
            path: "forebay/alerts/bearing/worn/press-3".to_owned(),
            alert: serde_json::json!({"key": {"machine": "press-3"}, "value": 2.91}),
            acknowledged: None,
        };
        let finding = Finding::of(&alert, 35, false).unwrap();
        let sentence = finding.sentence();
        assert!(sentence.contains("press-3 is at 2.9 mm/s"), "{sentence}");
        assert!(sentence.contains("out of reach"), "{sentence}");
    }

    #[test]
    fn the_query_is_one() {
        assert!(forebay_analytics::bind::plan(QUERY).is_ok());
    }
}
