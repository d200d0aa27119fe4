//! The different texts of a column.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// The different texts of one or more batches, each at a place that never
/// changes. A place found in one batch holds the same text in every later batch
/// whose dictionary has the same [`Dictionary::identity`], so what an operator
/// looked up for it need not be looked up again.
#[derive(Debug, Clone)]
pub struct Dictionary {
    identity: u64,
    bytes: String,
    /// Where each word ends in `bytes`.
    ends: Vec<u32>,
    places: HashTable<u32>,
    hasher: FixedState,
}

/// Identities only tell dictionaries apart; nothing else depends on them.
static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(1);

impl Default for Dictionary {
    fn default() -> Self {
        Self::new()
    }
}

impl Dictionary {
    /// An empty dictionary with an identity of its own.
    pub fn new() -> Self {
        Self {
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
            bytes: String::new(),
            ends: Vec::new(),
            places: HashTable::new(),
            hasher: FixedState::default(),
        }
    }

    /// The place of a text, which is added if it is new.
    pub fn intern(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text.as_bytes());
        let found = self.places.find(hash, |place| self.word(*place) == text);
        if let Some(place) = found {
            return *place;
        }
        let place = self.ends.len() as u32;
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
        let Self {
            places,
            bytes,
            ends,
            hasher,
            ..
        } = self;
        places.insert_unique(hash, place, |place| {
            hasher.hash_one(word(bytes, ends, *place).as_bytes())
        });
        place
    }

    /// The text at a place; a place that does not exist holds the empty text.
    #[inline]
    pub fn word(&self, place: u32) -> &str {
        word(&self.bytes, &self.ends, place)
    }

    /// The number of different texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The identity that copies of this dictionary share.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + self.places.capacity() * 5
    }
}

#[inline]
fn word<'a>(bytes: &'a str, ends: &[u32], place: u32) -> &'a str {
    let place = place as usize;
    let Some(end) = ends.get(place) else {
        return "";
    };
    let start = place.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start as usize..*end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_place() {
        let mut words = Dictionary::new();
        let places: Vec<u32> = ["a", "", "b", "a", ""]
            .iter()
            .map(|text| words.intern(text))
            .collect();
        assert_eq!(places, [0, 1, 2, 0, 1]);
        assert_eq!(
            (words.word(0), words.word(1), words.word(2), words.word(9)),
            ("a", "", "b", "")
        );
        assert_eq!(words.len(), 3);
    }
}
