//! Random instances of every message, the same for the same seed.

use bytes::Bytes;

use crate::KStr;

/// A structure that can be made up.
pub(crate) trait Sample {
    /// An instance whose fields are set only where `version` has them.
    fn sample(source: &mut Source, version: i16) -> Self;
}

/// A stream of random values (splitmix64).
pub(crate) struct Source(u64);

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as i64
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.number() as u64 as usize % limit
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.number() & 1 == 1
    }

    pub(crate) fn uuid(&mut self) -> [u8; 16] {
        std::array::from_fn(|_| self.number() as u8)
    }

    pub(crate) fn string(&mut self) -> KStr {
        // Lengths around 127 make the compact length two bytes long.
        let length = [0, 1, 7, 126, 127, 128][self.below(6)];
        KStr::from(
            (0..length)
                .map(|_| ['a', 'é', '/'][self.below(3)])
                .collect::<String>(),
        )
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let length = [0, 1, 30, 127, 300][self.below(5)];
        // No printable bytes: the differential test takes debug output apart.
        (0..length).map(|_| self.number() as u8 | 0x80).collect()
    }

    pub(crate) fn array<T>(&mut self, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(3)).map(|_| element(self)).collect()
    }

    pub(crate) fn tagged_fields(&mut self) -> Vec<(u32, Bytes)> {
        match self.below(4) {
            0 => vec![(99, self.bytes()), (10_100, self.bytes())],
            1 => vec![(10_100, self.bytes())],
            _ => Vec::new(),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/samples.rs"));
