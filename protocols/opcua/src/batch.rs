//! How many items go into one request.
//!
//! Servers differ by three orders of magnitude, and what they announce is often
//! wrong: an S7-1200 reports 1,000 and is fifty times slower beyond 200. A batch
//! starts at a size that every server takes and becomes half as large whenever
//! the server says that it is too much, or gives up over it. What was learned
//! holds for as long as the gateway runs.

use opcua::types::StatusCode;

/// Items of one request unless the configuration says otherwise.
pub const SIZE: usize = 100;

/// The largest configurable size: the largest limit that a server announces by
/// default among those that were tried.
pub const SIZE_MAX: usize = 10_000;

/// The size of batches that a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    size: usize,
}

impl Batch {
    /// A batch of `size` items, at least one.
    pub fn new(size: usize) -> Self {
        Self {
            size: size.clamp(1, SIZE_MAX),
        }
    }

    /// Items of one request.
    pub fn size(self) -> usize {
        self.size
    }

    /// Takes the failure of a request with `count` items. Returns whether a
    /// smaller batch may help: then the items are to be sent again.
    pub fn handle_failure(&mut self, count: usize, status: StatusCode) -> bool {
        let is_size = matches!(
            status,
            StatusCode::BadTooManyOperations
                | StatusCode::BadEncodingLimitsExceeded
                | StatusCode::BadDecodingError
                | StatusCode::BadRequestTooLarge
                | StatusCode::BadResponseTooLarge
                | StatusCode::BadTcpMessageTooLarge
                | StatusCode::BadTimeout
                | StatusCode::BadOutOfMemory
        );
        if !is_size || count <= 1 {
            return false;
        }
        self.size = self.size.min(count.div_ceil(2));
        true
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new(SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_shrinks_until_the_server_takes_it() {
        let mut batch = Batch::default();
        let mut sizes = Vec::new();
        while batch.size() > 20 {
            sizes.push(batch.size());
            assert!(batch.handle_failure(batch.size(), StatusCode::BadTooManyOperations));
        }
        assert_eq!((sizes, batch.size()), (vec![100, 50, 25], 13));
    }

    #[test]
    fn a_short_last_batch_teaches_its_own_size() {
        let mut batch = Batch::new(100);
        assert!(batch.handle_failure(9, StatusCode::BadDecodingError));
        assert_eq!(batch.size(), 5);
    }

    #[test]
    fn one_item_and_other_failures_are_not_about_the_size() {
        let mut batch = Batch::new(1);
        assert!(!batch.handle_failure(1, StatusCode::BadTooManyOperations));
        let mut batch = Batch::new(50);
        assert!(!batch.handle_failure(50, StatusCode::BadSessionIdInvalid));
        assert_eq!(batch.size(), 50);
        assert_eq!(Batch::new(0).size(), 1);
    }
}
