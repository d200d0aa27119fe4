//! One bit per row.

/// One bit per row, 64 to a word. Bits beyond the length are clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    length: usize,
}

impl Bitmap {
    /// `length` set bits.
    pub fn all(length: usize) -> Self {
        let mut words = vec![u64::MAX; length.div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !length.is_multiple_of(64)
        {
            *last = (1 << (length % 64)) - 1;
        }
        Self { words, length }
    }

    /// Appends a bit.
    #[inline]
    pub fn push(&mut self, bit: bool) {
        if self.length.is_multiple_of(64) {
            self.words.push(0);
        }
        if bit {
            self.words[self.length / 64] |= 1 << (self.length % 64);
        }
        self.length += 1;
    }

    /// Takes the last bit off and returns it; false if there is none.
    pub fn pop(&mut self) -> bool {
        let Some(row) = self.length.checked_sub(1) else {
            return false;
        };
        let bit = self.is_set(row);
        self.clear(row);
        self.length = row;
        if row.is_multiple_of(64) {
            self.words.pop();
        }
        bit
    }

    /// Clears the bit of a row.
    #[inline]
    pub fn clear(&mut self, row: usize) {
        self.words[row / 64] &= !(1 << (row % 64));
    }

    /// Whether the bit of the row is set.
    #[inline]
    pub fn is_set(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The number of set bits.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// The rows whose bits are set in both; an absent bitmap has every bit set.
    pub fn both(left: Option<&Self>, right: Option<&Self>) -> Option<Self> {
        match (left, right) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (Some(left), Some(right)) => Some(Self {
                words: left
                    .words
                    .iter()
                    .zip(&right.words)
                    .map(|(left, right)| left & right)
                    .collect(),
                length: left.length.min(right.length),
            }),
        }
    }

    /// Itself, or `None` if every bit is set.
    pub fn into_option(self) -> Option<Self> {
        (self.count() < self.length).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_they_were_put() {
        let mut bits = Bitmap::default();
        for row in 0..130 {
            bits.push(row % 3 == 0);
        }
        assert!((0..130).all(|row| bits.is_set(row) == (row % 3 == 0)));
        assert_eq!(bits.count(), 44);
        let all = Bitmap::all(130);
        assert_eq!(all.count(), 130);
        assert_eq!(Bitmap::both(Some(&all), Some(&bits)), Some(bits));
        assert_eq!(all.into_option(), None);
    }
}
