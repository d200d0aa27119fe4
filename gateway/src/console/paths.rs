//! The paths of the namespace with what they said last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use super::payload::{self, Shown};

/// Paths that are kept. At two kilobytes each, names and texts of the longest
/// included, that would be 20 MB; a plant with
/// more of them is looked at per area, by a hub per area.
pub const PATHS_MAX: usize = 10_000;
/// Points of a sparkline.
const SPARK_POINTS: usize = 40;
/// Numbers of a path that have one.
const SPARKS_MAX: usize = 4;
/// Time between two points of a sparkline, in milliseconds.
const SPARK_INTERVAL_MS: i64 = 1_000;

/// A record as the log has it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The path.
    pub path: &'a str,
    /// The log topic.
    pub topic: &'a Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The time of the record, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The payload.
    pub payload: &'a [u8],
}

/// Where the records of a path lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The log topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
}

/// One number of a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Number {
    /// Where it is in the payload; empty for a payload that is the number.
    pub field: String,
    /// The newest value.
    pub value: f64,
    /// What came before, oldest first, one value per second at most.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub spark: VecDeque<f32>,
}

/// A path as people see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latest {
    /// The path.
    pub path: Arc<str>,
    /// The log topic.
    pub topic: Arc<str>,
    /// The time of the newest record, in milliseconds since the Unix epoch.
    pub time: i64,
    /// Its numbers.
    pub numbers: Vec<Number>,
    /// Its text.
    pub text: String,
    /// The quality of a device's reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// The unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

#[derive(Debug)]
struct Entry {
    latest: Latest,
    partition: u32,
    revision: u64,
    sparked_ms: i64,
}

/// All paths that were seen.
#[derive(Debug, Default)]
pub struct Paths {
    entries: BTreeMap<Arc<str>, Entry>,
    by_revision: BTreeMap<u64, Arc<str>>,
    revision: u64,
    left_out: u64,
}

impl Paths {
    /// Takes a record that is newer than all others of its partition.
    pub fn observe(&mut self, seen: &Seen<'_>) {
        let shown = payload::read(seen.payload);
        let Some(entry) = self.entries.get_mut(seen.path) else {
            self.insert(seen, shown);
            return;
        };
        let moves = seen.time_ms.saturating_sub(entry.sparked_ms) >= SPARK_INTERVAL_MS;
        if moves {
            entry.sparked_ms = seen.time_ms;
        }
        entry.partition = seen.partition;
        let latest = &mut entry.latest;
        latest.topic = Arc::clone(seen.topic);
        latest.time = seen.time_ms;
        latest.text = shown.text;
        latest.quality = shown.quality;
        latest.unit = shown.unit;
        latest.numbers = numbers(shown.numbers, std::mem::take(&mut latest.numbers), moves);
        self.revision += 1;
        let path = self.by_revision.remove(&entry.revision);
        entry.revision = self.revision;
        if let Some(path) = path {
            self.by_revision.insert(self.revision, path);
        }
    }

    /// Takes a record of before: it is news about unknown paths only.
    pub fn observe_old(&mut self, seen: &Seen<'_>) {
        match self.entries.get(seen.path) {
            Some(entry) if entry.latest.time >= seen.time_ms => {}
            Some(entry) if entry.is_of(seen) => {}
            _ => self.observe(seen),
        }
    }

    fn insert(&mut self, seen: &Seen<'_>, shown: Shown) {
        if self.entries.len() >= PATHS_MAX {
            self.left_out += 1;
            return;
        }
        let path: Arc<str> = seen.path.into();
        self.revision += 1;
        let latest = Latest {
            path: Arc::clone(&path),
            topic: Arc::clone(seen.topic),
            time: seen.time_ms,
            numbers: numbers(shown.numbers, Vec::new(), true),
            text: shown.text,
            quality: shown.quality,
            unit: shown.unit,
        };
        let entry = Entry {
            latest,
            partition: seen.partition,
            revision: self.revision,
            sparked_ms: seen.time_ms,
        };
        self.by_revision.insert(self.revision, Arc::clone(&path));
        self.entries.insert(path, entry);
    }

    /// All paths in order.
    pub fn iter(&self) -> impl Iterator<Item = &Latest> {
        self.entries.values().map(|entry| &entry.latest)
    }

    /// Up to `limit` paths that `admits` and that changed after `revision`, the
    /// longest unseen first, and the revision to go on from.
    pub fn since(
        &self,
        revision: u64,
        limit: usize,
        admits: impl Fn(&str) -> bool,
    ) -> (Vec<&Latest>, u64) {
        let mut found = Vec::new();
        let mut reached = revision;
        for (at, path) in self.by_revision.range(revision + 1..) {
            if found.len() >= limit {
                return (found, reached);
            }
            reached = *at;
            if admits(path) {
                found.extend(self.entries.get(path).map(|entry| &entry.latest));
            }
        }
        (found, reached)
    }

    /// The number of the newest change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Records of paths for which there was no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Where the records of a path lie.
    pub fn place(&self, path: &str) -> Option<Place> {
        let entry = self.entries.get(path)?;
        Some(Place {
            topic: Arc::clone(&entry.latest.topic),
            partition: entry.partition,
        })
    }

    /// Forgets the paths of a topic that was deleted.
    pub fn forget_topic(&mut self, topic: &str) {
        let revisions = &mut self.by_revision;
        self.entries.retain(|_, entry| {
            let stays = &*entry.latest.topic != topic;
            if !stays {
                revisions.remove(&entry.revision);
            }
            stays
        });
    }
}

impl Entry {
    fn is_of(&self, seen: &Seen<'_>) -> bool {
        self.partition == seen.partition && self.latest.topic == *seen.topic
    }
}

/// New numbers with the sparklines of those before. When the line does not
/// move on, its last point does.
fn numbers(found: Vec<(String, f64)>, mut before: Vec<Number>, moves: bool) -> Vec<Number> {
    let with_spark = |(index, (field, value)): (usize, (String, f64))| {
        let old = before.iter_mut().find(|number| number.field == field);
        let mut spark = old.map_or_else(VecDeque::new, |old| std::mem::take(&mut old.spark));
        if index < SPARKS_MAX {
            if !moves {
                spark.pop_back();
            }
            if spark.len() >= SPARK_POINTS {
                spark.pop_front();
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a line of 40 pixels shows no more than seven digits"
            )]
            spark.push_back(value as f32);
        }
        Number {
            field,
            value,
            spark,
        }
    };
    found.into_iter().enumerate().map(with_spark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(paths: &mut Paths, path: &str, time_ms: i64, payload: &str) {
        paths.observe(&seen(path, time_ms, payload, &"readings".into()));
    }

    fn seen<'a>(path: &'a str, time_ms: i64, payload: &'a str, topic: &'a Arc<str>) -> Seen<'a> {
        Seen {
            path,
            topic,
            partition: 0,
            time_ms,
            payload: payload.as_bytes(),
        }
    }

    fn changed(paths: &Paths, revision: u64, limit: usize) -> (Vec<String>, u64) {
        let (found, reached) = paths.since(revision, limit, |_| true);
        let names = found.iter().map(|latest| latest.path.to_string());
        (names.collect(), reached)
    }

    #[test]
    fn each_path_is_told_once_per_change() {
        let mut paths = Paths::default();
        see(&mut paths, "a", 1_000, "1");
        see(&mut paths, "b", 1_000, "1");
        see(&mut paths, "a", 2_000, "2");
        let (names, reached) = changed(&paths, 0, 10);
        assert_eq!(names, ["b", "a"]);
        assert_eq!(changed(&paths, reached, 10), (vec![], reached));
        see(&mut paths, "b", 3_000, "5");
        assert_eq!(changed(&paths, reached, 10).0, ["b"]);
    }

    #[test]
    fn a_slow_reader_gets_the_rest_later() {
        let mut paths = Paths::default();
        for name in ["a", "b", "c"] {
            see(&mut paths, name, 1_000, "1");
        }
        let (first, reached) = changed(&paths, 0, 2);
        assert_eq!(first, ["a", "b"]);
        assert_eq!(changed(&paths, reached, 2).0, ["c"]);
        // What it may not see does not hold it up.
        let (found, reached) = paths.since(0, 2, |path| path == "c");
        assert_eq!(found.len(), 1);
        assert_eq!(reached, paths.revision());
    }

    #[test]
    fn sparklines_move_once_per_second_and_are_bounded() {
        let mut paths = Paths::default();
        for step in 0..200_i64 {
            see(&mut paths, "a", step * 500, &step.to_string());
        }
        let latest = paths.iter().next().unwrap();
        let spark = &latest.numbers[0].spark;
        assert_eq!(spark.len(), SPARK_POINTS);
        // Two values per second: the later one of each stays.
        assert_eq!(spark.back(), Some(&199.0));
        assert_eq!(spark[SPARK_POINTS - 2], 197.0);
    }

    #[test]
    fn what_is_older_adds_unknown_paths_only() {
        let mut paths = Paths::default();
        see(&mut paths, "a", 5_000, "5");
        let topic: Arc<str> = "readings".into();
        paths.observe_old(&seen("a", 1_000, "1", &topic));
        paths.observe_old(&seen("a", 9_000, "9", &topic));
        paths.observe_old(&seen("b", 1_000, "1", &topic));
        let values: Vec<f64> = paths.iter().map(|l| l.numbers[0].value).collect();
        assert_eq!(values, [5.0, 1.0]);
    }

    #[test]
    fn there_is_a_limit_and_topics_are_forgotten() {
        let mut paths = Paths::default();
        for index in 0..=PATHS_MAX {
            see(&mut paths, &format!("p/{index}"), 1, "1");
        }
        assert_eq!(paths.iter().count(), PATHS_MAX);
        assert_eq!(paths.left_out(), 1);
        assert_eq!(paths.place("p/0").map(|place| place.partition), Some(0));
        paths.forget_topic("readings");
        assert_eq!(paths.iter().count(), 0);
        assert_eq!(changed(&paths, 0, 10).0, Vec::<String>::new());
    }
}
