//! Memory goes back to the system when a crowd has left.
//!
//! A connection holds some 20 KB, most of it freed when it ends. The allocator
//! keeps freed pages that lie below ones in use, so a node that once had ten
//! thousand connections would look as large for good. When most have left, the
//! free pages in between are returned as well.

use std::time::{Duration, Instant};

/// Connections that have to leave before it is worth the pauses: some 20 MB.
const LEFT_MIN: u64 = 1_000;

/// How long the number of connections has to stay low. A crowd that comes back
/// at once, as after a network fault, needs the memory again.
const QUIET: Duration = Duration::from_secs(5);

/// Watches the number of connections.
#[derive(Debug, Default)]
pub struct Crowd {
    peak: u64,
    low_since: Option<Instant>,
}

impl Crowd {
    /// Takes the number of connections. True when it is time to [`trim`].
    pub fn observe(&mut self, connections: u64, now: Instant) -> bool {
        self.peak = self.peak.max(connections);
        let left = self.peak - connections;
        if left < LEFT_MIN || left < self.peak / 2 {
            self.low_since = None;
            return false;
        }
        let since = *self.low_since.get_or_insert(now);
        let is_over = now.duration_since(since) >= QUIET;
        if is_over {
            *self = Self {
                peak: connections,
                low_since: None,
            };
        }
        is_over
    }
}

/// Returns free memory to the system. Takes the allocator's locks for some
/// milliseconds.
#[cfg(target_env = "gnu")]
#[expect(
    unsafe_code,
    reason = "malloc_trim(3) is a C function and no crate in use wraps it"
)]
pub fn trim() {
    // SAFETY: the function takes no pointer and is thread-safe; what is in use
    // stays where it is.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other allocators return memory by themselves or not at all.
#[cfg(not(target_env = "gnu"))]
pub fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_returned_once_after_most_have_left_for_good() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut crowd = Crowd::default();
        assert!(!crowd.observe(10_000, at(0)));
        assert!(!crowd.observe(9_000, at(10)), "most are still there");
        assert!(!crowd.observe(400, at(20)), "they may come back");
        assert!(!crowd.observe(8_000, at(23)), "they did");
        assert!(!crowd.observe(400, at(30)));
        assert!(crowd.observe(300, at(35)));
        assert!(!crowd.observe(300, at(60)), "once is enough");
        let mut few = Crowd::default();
        assert!(!few.observe(900, at(0)));
        assert!(
            !few.observe(0, at(1)) && !few.observe(0, at(20)),
            "not worth it"
        );
    }
}
