//! Wakes connections whose commit is durable, and only those.
//!
//! A channel that every connection listens to would wake all that wait at each
//! commit, also those whose publishes are in the next window, which goes on
//! gathering while this one is written. So each connection leaves its waker
//! with the ticket that it waits for.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use forebay_storage::{Storage, Ticket};
use parking_lot::Mutex;

/// Who waits for which commit.
pub struct Commits {
    storage: Storage,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    /// The newest commit that was announced.
    announced: Ticket,
    /// Two windows at most have tickets out: the one that is written and the
    /// one that gathers. A connection waits once per window.
    wakers: BTreeMap<Ticket, Vec<Waker>>,
}

/// A connection's registration, kept between polls.
#[derive(Debug, Default)]
pub struct Registration(Option<Ticket>);

impl Commits {
    /// Nobody waits. [`Commits::announce`] is to be called for each commit
    /// from then on.
    pub fn new(storage: Storage) -> Self {
        let announced = storage.committed();
        Self {
            storage,
            waiting: Mutex::new(Waiting {
                announced,
                wakers: BTreeMap::new(),
            }),
        }
    }

    /// Wakes who waits for `committed` or an earlier commit.
    pub fn announce(&self, committed: Ticket) {
        let mut due = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            waiting.announced = committed;
            while let Some(entry) = waiting.wakers.first_entry() {
                if *entry.key() > committed {
                    break;
                }
                due.push(entry.remove());
            }
        }
        for waker in due.into_iter().flatten() {
            waker.wake();
        }
    }

    /// The newest durable commit.
    pub fn durable(&self) -> Ticket {
        self.storage.committed()
    }

    /// Ready when `ticket` is durable.
    ///
    /// A registration holds until its commit, so it has to be polled by one
    /// task only: another one would not be woken.
    pub fn poll_durable(
        &self,
        cx: &Context<'_>,
        ticket: Ticket,
        registration: &mut Registration,
    ) -> Poll<()> {
        let durable = self.durable();
        if ticket <= durable {
            return Poll::Ready(());
        }
        if registration
            .0
            .is_some_and(|known| known > durable && known <= ticket)
        {
            return Poll::Pending;
        }
        let mut waiting = self.waiting.lock();
        // What was announced before the lock was taken wakes nobody any more.
        if ticket <= waiting.announced {
            return Poll::Ready(());
        }
        let wakers = waiting.wakers.entry(ticket).or_default();
        wakers.push(cx.waker().clone());
        registration.0 = Some(ticket);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use forebay_storage::disk::RealDisk;
    use forebay_storage::{Config, Storage, Transaction};

    use super::{Commits, Registration};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(storage: &Storage) -> forebay_storage::Ticket {
        let mut transaction = Transaction::new();
        transaction.put(b"key", b"value");
        storage.commit(transaction).unwrap().ticket
    }

    #[test]
    fn a_commit_wakes_its_waiters_once_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path());
        config.threads = false;
        let (storage, _) = Storage::open(config, Arc::new(RealDisk::new())).unwrap();
        let commits = Commits::new(storage.clone());
        let counters: [Arc<Woken>; 2] = Default::default();
        let wakers = counters.clone().map(Waker::from);
        let [mut first, mut second] = [Registration::default(), Registration::default()];

        let early = put(&storage);
        for _ in 0..2 {
            let cx = Context::from_waker(&wakers[0]);
            assert!(commits.poll_durable(&cx, early, &mut first).is_pending());
        }
        assert!(storage.run_commit());
        let late = put(&storage);
        let cx = Context::from_waker(&wakers[1]);
        assert!(commits.poll_durable(&cx, late, &mut second).is_pending());
        commits.announce(early);
        let woken = || counters.each_ref().map(|c| c.0.load(Ordering::Relaxed));
        assert_eq!(woken(), [1, 0]);
        let cx = Context::from_waker(&wakers[0]);
        assert!(commits.poll_durable(&cx, early, &mut first).is_ready());

        // The first connection has published again, into the second window.
        assert!(commits.poll_durable(&cx, late, &mut first).is_pending());
        assert!(storage.run_commit());
        commits.announce(late);
        assert_eq!(woken(), [2, 1]);
    }
}
