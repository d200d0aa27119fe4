//! How much one client may ask of the node.
//!
//! Each limit has one stated answer: a publisher over its rate is not read, so
//! TCP pushes back and nothing is lost; a connection too many is closed, or
//! told so by its CONNACK once it has said CONNECT; a subscription too many is
//! refused in its SUBACK. See `docs/configuration.md`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

/// What a bucket lets through at once, in time at its rate: a device that
/// reports its hundred values every second is not slowed down by a limit of a
/// hundred per second.
const BURST: Duration = Duration::from_secs(1);

/// Rates and counts per client or address. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once from one IP address.
    pub connections_per_address: Option<NonZeroU32>,
    /// CONNECT packets per second, all clients together.
    pub connect_rate: Option<NonZeroU32>,
    /// Publishes per second of one client.
    pub publish_rate: Option<NonZeroU32>,
    /// Bytes of publishes, topic and payload, per second of one client.
    pub publish_bytes_rate: Option<NonZeroU64>,
}

/// A token bucket as one moment: when all that was taken will have been
/// refilled. It holds [`BURST`] at its rate.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: u64,
    paid_until: Instant,
}

impl Bucket {
    /// A full bucket that refills `rate` per second.
    pub fn new(rate: NonZeroU64, now: Instant) -> Self {
        Self {
            rate: rate.get(),
            paid_until: now,
        }
    }

    /// Takes `count`, also beyond what is there: the debt is waited for
    /// afterwards, so one large message passes and is paid for by a pause.
    pub fn take(&mut self, now: Instant, count: u64) {
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = self.paid_until.max(now);
        self.paid_until = from.checked_add(cost).unwrap_or(from);
    }

    /// When the bucket is out of debt; `None` when it is.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let free = self.paid_until.checked_sub(BURST)?;
        (free > now).then_some(free)
    }
}

/// The rates of one publisher.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    /// Until when the connection is not read.
    until: Option<Instant>,
}

impl Throttle {
    /// The rates of a new connection; `None` when it has none.
    pub fn new(limits: &Limits, now: Instant) -> Option<Box<Self>> {
        let throttle = Self {
            messages: limits.publish_rate.map(|r| Bucket::new(r.into(), now)),
            bytes: limits.publish_bytes_rate.map(|r| Bucket::new(r, now)),
            until: None,
        };
        let limits = throttle.messages.is_some() || throttle.bytes.is_some();
        limits.then(|| Box::new(throttle))
    }

    /// Counts a publish. True when the connection is not to be read from here
    /// on and was before.
    pub fn count(&mut self, now: Instant, bytes: usize) -> bool {
        let was_over = self.until.is_some();
        if let Some(bucket) = &mut self.messages {
            bucket.take(now, 1);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(now, bytes as u64);
        }
        let waits = [self.messages, self.bytes].into_iter().flatten();
        self.until = waits.filter_map(|bucket| bucket.wait_until(now)).max();
        self.until.is_some() && !was_over
    }

    /// Until when the connection is not read.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// True when the pause has just ended.
    pub fn end(&mut self, now: Instant) -> bool {
        let ended = self.until.is_some_and(|until| until <= now);
        if ended {
            self.until = None;
        }
        ended
    }
}

/// Open connections by address.
#[derive(Debug)]
pub struct Addresses {
    max: Option<NonZeroU32>,
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// The right to be one of the node's connections; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
    address: IpAddr,
    addresses: Arc<Addresses>,
}

impl Addresses {
    /// No connections yet.
    pub fn new(max: Option<NonZeroU32>) -> Arc<Self> {
        Arc::new(Self {
            max,
            open: Mutex::default(),
        })
    }

    /// Counts a connection of `address`; `None` when it has as many as it may.
    pub fn admit(self: &Arc<Self>, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Slot> {
        let address = address.to_canonical();
        if let Some(max) = self.max {
            let mut open = self.open.lock();
            let count = open.entry(address).or_default();
            if *count >= max.get() {
                return None;
            }
            *count += 1;
        }
        Some(Slot {
            _permit: permit,
            address,
            addresses: Arc::clone(self),
        })
    }
}

impl Slot {
    /// Where the connection comes from.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.addresses.max.is_none() {
            return;
        }
        let mut open = self.addresses.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[test]
    fn a_bucket_lets_a_second_through_and_then_keeps_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(NonZeroU64::new(10).unwrap(), start);
        for _ in 0..10 {
            bucket.take(start, 1);
            assert_eq!(bucket.wait_until(start), None);
        }
        bucket.take(start, 1);
        let tenth = Duration::from_millis(100);
        assert_eq!(bucket.wait_until(start), Some(start + tenth));
        assert_eq!(bucket.wait_until(start + tenth), None);
        // A pause does not save up more than the burst.
        let later = start + Duration::from_secs(60);
        bucket.take(later, 15);
        assert_eq!(bucket.wait_until(later), Some(later + 5 * tenth));
    }

    #[test]
    fn the_slower_rate_decides() {
        let start = Instant::now();
        let limits = Limits {
            publish_rate: NonZeroU32::new(100),
            publish_bytes_rate: NonZeroU64::new(1000),
            ..Limits::default()
        };
        assert!(Throttle::new(&Limits::default(), start).is_none());
        let mut throttle = Throttle::new(&limits, start).unwrap();
        assert!(!throttle.count(start, 1000));
        assert!(throttle.count(start, 500));
        assert!(!throttle.count(start, 500));
        let until = start + Duration::from_secs(1);
        assert_eq!(throttle.until(), Some(until));
        assert!(!throttle.end(start));
        assert!(throttle.end(until));
        assert_eq!(throttle.until(), None);
    }

    #[test]
    fn an_address_gets_its_connections_back() {
        let addresses = Addresses::new(NonZeroU32::new(1));
        let permits = Arc::new(Semaphore::new(9));
        let admit = |address: &str| {
            let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
            addresses.admit(address.parse().unwrap(), permit)
        };
        let first = admit("10.0.0.1").unwrap();
        assert!(admit("10.0.0.1").is_none());
        assert!(admit("::ffff:10.0.0.1").is_none());
        assert!(admit("10.0.0.2").is_some());
        drop(first);
        assert!(admit("10.0.0.1").is_some());
        assert!(addresses.open.lock().is_empty());
        assert_eq!(permits.available_permits(), 9);
    }
}
