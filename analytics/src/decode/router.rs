//! Which stream a record belongs to, looked up once per path.

use std::sync::Arc;

use super::builder::Builder;
use crate::column::Dictionary;
use crate::plan::Scan;

/// Paths that are remembered; beyond it the memory begins anew.
const PATHS_MAX: usize = 1 << 18;
/// The same in bytes.
const PATH_BYTES_MAX: usize = 32 << 20;

/// Matches paths against the filters of all scans of a query.
pub struct Router {
    filters: Vec<(Vec<String>, Vec<String>)>,
    words: Arc<Dictionary>,
    /// For each path whether each scan wants it.
    matches: Vec<Vec<bool>>,
    /// The path of the record before and its place: paths come in runs.
    last: Option<u32>,
    /// Bytes of paths that are remembered.
    bytes_max: usize,
}

impl Router {
    /// A router for the scans of a plan.
    pub fn new(scans: &[Scan]) -> Self {
        Self {
            filters: scans
                .iter()
                .map(|scan| (scan.filters.clone(), scan.topics.clone()))
                .collect(),
            words: Arc::new(Dictionary::new()),
            matches: Vec::new(),
            last: None,
            bytes_max: PATH_BYTES_MAX,
        }
    }

    /// Remembers fewer paths than by default, in bytes.
    pub fn limited(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max.min(PATH_BYTES_MAX);
        self
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        let flags = size_of::<Vec<bool>>() + 16;
        self.words.memory_bytes() + self.matches.capacity() * flags
    }

    /// Begins a batch: forgets paths if there are too many.
    pub fn begin(&mut self) {
        if self.words.len() > PATHS_MAX || self.memory_bytes() > self.bytes_max {
            self.words = Arc::new(Dictionary::new());
            self.matches.clear();
            self.last = None;
        }
    }

    /// The place of a path.
    pub fn place(&mut self, path: &str) -> u32 {
        if let Some(last) = self.last
            && self.words.word(last) == path
        {
            return last;
        }
        let place = Arc::make_mut(&mut self.words).intern(path);
        if place as usize == self.matches.len() {
            let wanted = self
                .filters
                .iter()
                .map(|(filters, _)| {
                    filters.is_empty() || filters.iter().any(|filter| matches(filter, path))
                })
                .collect();
            self.matches.push(wanted);
        }
        self.last = Some(place);
        place
    }

    /// Whether a scan wants records of this path and topic.
    pub fn wants(&self, scan: usize, place: u32, topic: &str) -> bool {
        let topics = &self.filters[scan].1;
        self.matches[place as usize][scan]
            && (topics.is_empty() || topics.iter().any(|known| known == topic))
    }

    /// The paths by place.
    pub fn words(&self) -> &Arc<Dictionary> {
        &self.words
    }
}

/// MQTT topic filters (MQTT 5.0, 4.7); a level `{name}` is `+` with a name.
pub fn matches(filter: &str, path: &str) -> bool {
    if path.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut levels = path.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        let Some(level) = levels.next() else {
            return false;
        };
        let any = wanted == "+" || (wanted.starts_with('{') && wanted.ends_with('}'));
        if !any && wanted != level {
            return false;
        }
    }
    levels.next().is_none()
}

/// Levels of paths, looked up once per path.
#[derive(Default)]
pub struct Levels {
    identity: u64,
    /// Per level: the texts, and for each path a place in them.
    known: Vec<(u32, Arc<Dictionary>, Vec<Option<u32>>)>,
}

impl Levels {
    /// Fills a column with a level, counted from 1, of each path.
    pub fn column(
        &mut self,
        level: u32,
        paths: &[u32],
        words: &Arc<Dictionary>,
        column: &mut Builder,
    ) {
        if self.identity != words.identity() {
            self.identity = words.identity();
            self.known.clear();
        }
        let index = match self.known.iter().position(|(known, _, _)| *known == level) {
            Some(index) => index,
            None => {
                self.known
                    .push((level, Arc::new(Dictionary::new()), Vec::new()));
                self.known.len() - 1
            }
        };
        let (_, texts, places) = &mut self.known[index];
        for path in places.len()..words.len() {
            let part = words.word(path as u32).split('/').nth(level as usize - 1);
            places.push(part.map(|part| Arc::make_mut(texts).intern(part)));
        }
        if paths.iter().all(|path| places[*path as usize].is_some()) {
            let ids = paths
                .iter()
                .filter_map(|path| places[*path as usize])
                .collect();
            column.shared_texts(ids, texts);
            return;
        }
        for path in paths {
            match places[*path as usize] {
                Some(place) => column.text(texts.word(place)),
                None => column.null(),
            }
        }
    }
}
