//! Which notification messages are missing.
//!
//! A server numbers the notification messages of a subscription from 1 on, and
//! after 2^32 - 1 comes 1 again (Part 4, 7.26). Messages that were under way
//! when a connection broke can be had once more by Republish, as long as they
//! were not acknowledged.

/// Missing messages that are asked for at once. A server keeps few of them; a
/// larger gap is that of a new subscription, not of a lost connection.
pub const REPUBLISH_MAX: u32 = 100;

/// The numbers that one subscription has delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    last: u32,
}

impl Sequence {
    /// Takes the number of a message with notifications. Returns the numbers
    /// that were left out before it, as the first and their count.
    pub fn handle_message(&mut self, number: u32) -> Option<(u32, u32)> {
        let last = self.last;
        if number == 0 {
            return None;
        }
        if last == 0 {
            self.last = number;
            return None;
        }
        let expected = next(last);
        let ahead = distance(expected, number);
        // What is behind was asked for again, or came twice.
        if ahead > u32::MAX / 2 {
            return None;
        }
        self.last = number;
        (ahead > 0).then_some((expected, ahead))
    }

    /// The number of the message after the last one; `None` before the first.
    pub fn expected(self) -> Option<u32> {
        (self.last != 0).then(|| next(self.last))
    }
}

/// The number after this one.
pub fn next(number: u32) -> u32 {
    number.checked_add(1).unwrap_or(1)
}

/// Steps from one number to another one that comes later.
fn distance(from: u32, to: u32) -> u32 {
    if to >= from {
        to - from
    } else {
        // Zero is no number, so a round has one step less than 2^32.
        u32::MAX - from + to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_from_the_number_that_was_expected() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.expected(), None);
        assert_eq!(sequence.handle_message(5), None);
        assert_eq!(sequence.handle_message(6), None);
        assert_eq!(sequence.handle_message(10), Some((7, 3)));
        assert_eq!(sequence.expected(), Some(11));
        // One of them comes after all.
        assert_eq!(sequence.handle_message(8), None);
        assert_eq!(sequence.handle_message(11), None);
    }

    #[test]
    fn after_the_largest_number_comes_one() {
        let mut sequence = Sequence { last: u32::MAX - 1 };
        assert_eq!(sequence.handle_message(u32::MAX), None);
        assert_eq!(sequence.expected(), Some(1));
        assert_eq!(sequence.handle_message(1), None);
        let mut sequence = Sequence { last: u32::MAX - 1 };
        assert_eq!(sequence.handle_message(2), Some((u32::MAX, 2)));
    }
}
