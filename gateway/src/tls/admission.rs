//! Who may be in a handshake, so that connections that never finish one do not
//! keep out those that would.
//!
//! A listener has so many places. When all are taken, the connection that has
//! waited longest goes, if it had its chance: a client sends its first bytes
//! right behind the connection itself, so one that has sent nothing is given up
//! soon and one that has sent something later. With ten thousand silent
//! connections a new client still gets its place at once or after
//! [`SILENT_GRACE`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Handshakes at once per listener. Each holds a socket and some kilobytes, and
/// a restart with a thousand clients that come back at once fits.
pub const HANDSHAKES_MAX: usize = 1_024;

/// What a silent connection gets when places are short: more than a packet
/// needs that was sent right behind the connection and was lost once.
const SILENT_GRACE: Duration = Duration::from_millis(250);

/// What a connection gets that has begun: three round trips of a radio link.
const BEGUN_GRACE: Duration = Duration::from_secs(2);

/// Pause before the next look for a place when none can be taken away.
const RETRY: Duration = Duration::from_millis(50);

/// The places of one listener.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    open: Mutex<VecDeque<Arc<Waiting>>>,
    freed: Notify,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    has_begun: AtomicBool,
    is_evicted: AtomicBool,
    evicted: Notify,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    waiting: Arc<Waiting>,
}

impl Admission {
    /// Places for `max` handshakes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: max.max(1),
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Waits for a place, which may be taken from another connection. Nothing
    /// is lost when the future is dropped.
    pub async fn place(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_place(Instant::now()) {
                return place;
            }
            // A place that is freed in between is found at the end of the pause.
            let _ = timeout(RETRY, self.freed.notified()).await;
        }
    }

    fn try_place(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut open = self.open.lock();
        if open.len() >= self.max {
            let leaves = open
                .iter()
                .position(|waiting| waiting.had_its_chance(now))?;
            if let Some(waiting) = open.remove(leaves) {
                waiting.is_evicted.store(true, Ordering::Release);
                waiting.evicted.notify_one();
            }
        }
        let waiting = Arc::new(Waiting {
            since: now,
            has_begun: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            evicted: Notify::new(),
        });
        open.push_back(Arc::clone(&waiting));
        Some(Place {
            admission: Arc::clone(self),
            waiting,
        })
    }
}

impl Waiting {
    fn had_its_chance(&self, now: Instant) -> bool {
        let grace = match self.has_begun.load(Ordering::Relaxed) {
            true => BEGUN_GRACE,
            false => SILENT_GRACE,
        };
        now - self.since >= grace
    }
}

impl Place {
    /// Notes that the client has sent something.
    pub fn begin(&self) {
        self.waiting.has_begun.store(true, Ordering::Relaxed);
    }

    /// Completes when the place is given to another connection.
    pub async fn evicted(&self) {
        while !self.waiting.is_evicted.load(Ordering::Acquire) {
            self.waiting.evicted.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock();
        let own = open.iter().position(|one| Arc::ptr_eq(one, &self.waiting));
        if let Some(own) = own {
            open.remove(own);
            self.admission.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_silent_one_that_waited_longest_makes_room() {
        let admission = Admission::new(2);
        let begun = admission.place().await;
        begun.begin();
        let silent = admission.place().await;
        // Nobody has had its chance yet.
        assert!(admission.try_place(Instant::now()).is_none());
        let third = admission.place().await;
        silent.evicted().await;
        assert!(!begun.waiting.is_evicted.load(Ordering::Relaxed));
        third.begin();
        let start = Instant::now();
        let fourth = admission.place().await;
        assert!(start.elapsed() >= BEGUN_GRACE - SILENT_GRACE);
        begun.evicted().await;
        // An evicted place was given away already: dropping it frees no second.
        drop((begun, silent));
        assert_eq!(admission.open.lock().len(), 2);
        drop((third, fourth));
        assert!(admission.open.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_is_taken_at_once() {
        let admission = Admission::new(1);
        let first = admission.place().await;
        let waits = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { drop(admission.place().await) }
        });
        tokio::task::yield_now().await;
        let start = Instant::now();
        drop(first);
        waits.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
