//! Time cut into slices of which windows are made.

use crate::operators::slice_ms;
use crate::zone::Zone;

/// Slices shorter than this are aligned to standard time: summer time moves by
/// whole hours, so that shorter windows would only be torn apart by it.
const LOCAL_SLICE_MS: i64 = 2 * 3_600_000;

/// Slices are numbered; windows are runs of them.
#[derive(Debug, Clone)]
pub struct Slicer {
    length: i64,
    offset: i64,
    zone: Option<Zone>,
    /// Slices in a window.
    pub size: i64,
    /// Slices between the beginnings of windows.
    pub slide: i64,
}

impl Slicer {
    pub fn new(size: i64, slide: i64, offset: i64, zone: Option<&str>) -> Self {
        let length = slice_ms(size, slide);
        let zone = zone.and_then(|name| Zone::named(name).ok());
        let (offset, zone) = match zone {
            Some(zone) if length < LOCAL_SLICE_MS => (offset - zone.standard_ms(), None),
            zone => (offset, zone),
        };
        Self {
            length,
            offset,
            zone,
            size: size / length,
            slide: slide / length,
        }
    }

    /// The slice of a time.
    #[inline]
    pub fn index(&self, time: i64) -> i64 {
        let Some(zone) = &self.zone else {
            return time.saturating_sub(self.offset).div_euclid(self.length);
        };
        let local = time.saturating_add(zone.offset_ms(time));
        let mut index = local.saturating_sub(self.offset).div_euclid(self.length);
        // The hour that summer time takes or gives may lie in between.
        while self.start(index) > time {
            index -= 1;
        }
        while self.start(index + 1) <= time {
            index += 1;
        }
        index
    }

    /// Where a slice begins.
    #[inline]
    pub fn start(&self, index: i64) -> i64 {
        let start = index
            .saturating_mul(self.length)
            .saturating_add(self.offset);
        match &self.zone {
            None => start,
            Some(zone) => zone.utc_ms(start),
        }
    }

    /// The last window that contains a slice, as the slice where it begins.
    pub fn last_window(&self, index: i64) -> i64 {
        index.div_euclid(self.slide) * self.slide
    }

    /// The first window that contains a slice, as the slice where it begins.
    pub fn first_window(&self, index: i64) -> i64 {
        let past = (index - self.size + 1).div_euclid(self.slide);
        let first = past * self.slide;
        if first < index - self.size + 1 {
            first + self.slide
        } else {
            first
        }
    }

    /// Whether a window begins at a slice.
    pub fn is_window(&self, index: i64) -> bool {
        index.rem_euclid(self.slide) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn slices_follow_offset_and_zone() {
        let plain = Slicer::new(10, 10, 3, None);
        assert_eq!([2, 3, 12, 13].map(|time| plain.index(time)), [-1, 0, 0, 1]);
        // The day on which summer time begins in Berlin has 23 hours.
        let days = Slicer::new(24 * HOUR, 24 * HOUR, 0, Some("Europe/Berlin"));
        let day = days.index(1_743_300_000_000);
        assert_eq!(days.start(day + 1) - days.start(day), 23 * HOUR);
        assert_eq!(days.index(days.start(day)), day);
        assert_eq!(days.index(days.start(day) - 1), day - 1);
        // The night shift from 22 to 6 has nine hours when it ends.
        let shifts = Slicer::new(8 * HOUR, 8 * HOUR, 6 * HOUR, Some("Europe/Berlin"));
        let night = shifts.index(1_761_436_800_000);
        assert_eq!(shifts.start(night + 1) - shifts.start(night), 9 * HOUR);
    }

    #[test]
    fn windows_of_a_slice_are_the_ones_that_contain_it() {
        let slicer = Slicer::new(10, 4, 0, None);
        assert_eq!((slicer.size, slicer.slide), (5, 2));
        for slice in -20..20 {
            let expected: Vec<i64> = (-40..40)
                .filter(|w| w % 2 == 0 && *w <= slice && slice < w + 5)
                .collect();
            assert_eq!(slicer.first_window(slice), expected[0], "{slice}");
            assert_eq!(
                slicer.last_window(slice),
                expected[expected.len() - 1],
                "{slice}"
            );
        }
    }
}
