//! What tumbling windows must hold, worked out from an input log by the book:
//! a reading counts in its window unless the watermark has passed its end.
//!
//! It shares nothing with the engine that it judges.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fmt::Write as _;

use serde_json::Value;

/// Differences listed in full; the rest is counted.
const LISTED_MAX: usize = 5;

/// A window of a key: start in milliseconds since the Unix epoch, and key.
pub type Place = (i64, String);

/// What a window holds: how many readings, and their sum.
pub type Held = (u64, i64);

/// An alert that began or ended: its key, `raised` or `cleared`, and the start
/// of the window that did it.
pub type Change = (String, String, i64);

/// Tumbling windows that readings go through in log order.
#[derive(Debug)]
pub struct Windows {
    size_ms: i64,
    delay_ms: i64,
    newest_ms: i64,
    held: BTreeMap<Place, Held>,
    /// Places of readings in the log whose window had closed.
    pub late: Vec<i64>,
}

impl Windows {
    /// Windows of a size over a stream with a watermark delay, both in
    /// milliseconds.
    #[must_use]
    pub fn new(size_ms: i64, delay_ms: i64) -> Self {
        Self {
            size_ms,
            delay_ms,
            newest_ms: i64::MIN / 2,
            held: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    /// Takes the reading at `offset`.
    pub fn take(&mut self, key: &str, time_ms: i64, value: i64, offset: i64) {
        let start = time_ms.div_euclid(self.size_ms) * self.size_ms;
        if start + self.size_ms <= self.newest_ms - self.delay_ms {
            self.late.push(offset);
            return;
        }
        let held = self.held.entry((start, key.to_owned())).or_default();
        held.0 += 1;
        held.1 += value;
        self.newest_ms = self.newest_ms.max(time_ms);
    }

    /// The newest time of a reading.
    #[must_use]
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// The windows that have closed when time has come as far as `watermark_ms`.
    #[must_use]
    pub fn closed(&self, watermark_ms: i64) -> BTreeMap<Place, Held> {
        let closed = self.held.iter();
        let closed = closed.filter(|((start, _), _)| start + self.size_ms <= watermark_ms);
        closed.map(|(place, held)| (place.clone(), *held)).collect()
    }
}

/// The alerts of `WHEN count % 2 = 0` over closed windows, by key and in order.
#[must_use]
pub fn alerts(closed: &BTreeMap<Place, Held>) -> Vec<Change> {
    let mut active: BTreeMap<&str, bool> = BTreeMap::new();
    let mut changes = Vec::new();
    for ((start, key), (count, _)) in closed {
        let is_even = count % 2 == 0;
        let before = active.insert(key, is_even).unwrap_or(false);
        if before != is_even {
            let state = if is_even { "raised" } else { "cleared" };
            changes.push((key.clone(), state.to_owned(), *start));
        }
    }
    // Within a key they are in the order of time.
    changes.sort_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
    changes
}

/// Result rows as places and what they hold, from the columns `key_column`, `n`,
/// `total` and `window_start`.
///
/// # Errors
/// A row is not what the query gives.
pub fn rows(payloads: &[Vec<u8>], key_column: &str) -> Result<Vec<(Place, Held)>, String> {
    let row = |payload: &Vec<u8>| {
        let value: Value = serde_json::from_slice(payload).ok()?;
        let place = (
            value.get("window_start")?.as_i64()?,
            word(value.get(key_column)?),
        );
        let held = (value.get("n")?.as_u64()?, value.get("total")?.as_i64()?);
        Some((place, held))
    };
    let wrong = |payload: &Vec<u8>| format!("a row {:?}", String::from_utf8_lossy(payload));
    let rows = payloads.iter();
    rows.map(|payload| row(payload).ok_or_else(|| wrong(payload)))
        .collect()
}

/// A key as a word; numbers are keys, too.
fn word(value: &Value) -> String {
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| value.to_string())
}

/// Alerts of one query as changes, from the records of the alerts' topic.
///
/// # Errors
/// A record is no alert.
pub fn changes(payloads: &[Vec<u8>], query: &str, key_column: &str) -> Result<Vec<Change>, String> {
    let mut found = Vec::new();
    for payload in payloads {
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        if value["query"] != query {
            continue;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let change = || {
            let start = value["window_start"].as_i64()?;
            Some((
                text(&value["key"][key_column])?,
                text(&value["state"])?,
                start,
            ))
        };
        let wrong = || format!("an alert {:?}", String::from_utf8_lossy(payload));
        found.push(change().ok_or_else(wrong)?);
    }
    // A stable sort: what is out of order within a key stays so.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Compares what is there with what must be: each entry once.
///
/// # Errors
/// Says what is missing, there twice, or different.
pub fn compare<K: Ord + Clone + Debug, V: PartialEq + Clone + Debug>(
    what: &str,
    found: &[(K, V)],
    expected: &BTreeMap<K, V>,
) -> Result<(), String> {
    let mut seen: BTreeMap<&K, &V> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (key, value) in found {
        if seen.insert(key, value).is_some() {
            wrong.push(format!("{key:?} is there again"));
        }
        match expected.get(key) {
            None => wrong.push(format!("{key:?} holds {value:?} and should not be there")),
            Some(right) if right != value => {
                wrong.push(format!("{key:?} holds {value:?}, expected {right:?}"));
            }
            Some(_) => {}
        }
    }
    for (key, value) in expected {
        if !seen.contains_key(key) {
            wrong.push(format!("{key:?} with {value:?} is missing"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let mut text = format!("{what}: {} expected, {} found", expected.len(), found.len());
    for one in wrong.iter().take(LISTED_MAX) {
        let _ = write!(text, "; {one}");
    }
    if wrong.len() > LISTED_MAX {
        let _ = write!(text, "; and {} more", wrong.len() - LISTED_MAX);
    }
    Err(text)
}

#[cfg(test)]
mod tests {
    use super::{Windows, alerts, changes, compare, rows};

    #[test]
    fn windows_close_in_the_order_of_the_log() {
        let mut windows = Windows::new(10, 2);
        let readings = [(1, 4), (9, 6), (12, 1), (8, 9), (13, 2)];
        for (offset, (time, value)) in (0..).zip(readings) {
            windows.take("a", time, value, offset);
        }
        assert_eq!(windows.late, [3]);
        let closed = windows.closed(10);
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[&(0, "a".to_owned())], (2, 10));
        assert_eq!(windows.closed(20).len(), 2);
        let changed = alerts(&windows.closed(20));
        assert_eq!(changed, [("a".to_owned(), "raised".to_owned(), 0)]);
    }

    #[test]
    fn what_is_twice_missing_or_different_is_told() {
        let row = |start: i64, total: i64| {
            let row = serde_json::json!({"k": "a", "n": 2, "total": total, "window_start": start});
            row.to_string().into_bytes()
        };
        let expected = rows(&[row(0, 5), row(10, 6)], "k").unwrap();
        let expected = expected.into_iter().collect();
        let check = |payloads: &[Vec<u8>]| {
            let found = rows(payloads, "k").unwrap();
            compare("rows", &found, &expected)
        };
        assert_eq!(check(&[row(10, 6), row(0, 5)]), Ok(()));
        let told = |payloads: &[Vec<u8>]| check(payloads).unwrap_err();
        assert!(told(&[row(0, 5)]).contains("missing"));
        assert!(told(&[row(0, 5), row(10, 7)]).contains("expected (2, 6)"));
        assert!(told(&[row(0, 5), row(10, 6), row(10, 6)]).contains("again"));
        assert!(told(&[row(0, 5), row(10, 6), row(20, 6)]).contains("should not"));
        assert!(rows(&[b"{}".to_vec()], "k").is_err());
    }

    #[test]
    fn alerts_keep_their_order_within_a_key() {
        let alert = |key: &str, state: &str, start: i64| {
            let alert = serde_json::json!({
                "query": "q", "state": state, "key": {"k": key}, "window_start": start,
            });
            alert.to_string().into_bytes()
        };
        let found = changes(
            &[
                alert("b", "raised", 0),
                alert("a", "cleared", 10),
                alert("a", "raised", 0),
            ],
            "q",
            "k",
        );
        let states: Vec<(String, i64)> = found.unwrap().into_iter().map(|c| (c.1, c.2)).collect();
        let expected = [("cleared", 10), ("raised", 0), ("raised", 0)];
        assert_eq!(
            states,
            expected.map(|(state, start)| (state.to_owned(), start))
        );
    }
}
