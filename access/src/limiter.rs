//! Failed logins per address: some are mistakes, many are an attack.
//!
//! A login that succeeds forgives none: whoever has one password could guess at all
//! others by showing it now and then.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Failures that an address has at once.
pub const BURST: u32 = 10;
/// Time after which one more is allowed.
pub const REFILL: Duration = Duration::from_secs(6);
/// Addresses that are remembered. With more of them failing within a minute the
/// ones that failed longest ago are forgotten.
pub const ADDRESSES_MAX: usize = 10_000;
/// Addresses of IPv6 are counted per network of this many bits: a host has as
/// many as it likes below it.
const V6_BITS: u32 = 64;

/// What an address has left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When all of [`BURST`] will be there again, since a fixed moment.
    full_at: Duration,
}

/// Counts failures. `now` is the time since any fixed moment.
#[derive(Debug, Default)]
pub struct Limiter {
    buckets: HashMap<IpAddr, Bucket>,
}

impl Limiter {
    /// Whether an address may try.
    #[must_use]
    pub fn may_try(&self, address: IpAddr, now: Duration) -> bool {
        let bucket = self.buckets.get(&network(address));
        bucket.is_none_or(|bucket| {
            let missing = bucket.full_at.saturating_sub(now);
            missing <= REFILL * (BURST - 1)
        })
    }

    /// Counts a failure.
    pub fn failed(&mut self, address: IpAddr, now: Duration) {
        if self.buckets.len() >= ADDRESSES_MAX {
            self.forget(now);
        }
        let bucket = self
            .buckets
            .entry(network(address))
            .or_insert(Bucket { full_at: now });
        bucket.full_at = bucket.full_at.max(now) + REFILL;
    }

    fn forget(&mut self, now: Duration) {
        self.buckets.retain(|_, bucket| bucket.full_at > now);
        if self.buckets.len() >= ADDRESSES_MAX {
            let mut times: Vec<Duration> = self.buckets.values().map(|b| b.full_at).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.buckets.retain(|_, bucket| bucket.full_at > middle);
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> (128 - V6_BITS) << (128 - V6_BITS);
            IpAddr::V6(bits.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_ten_failures_and_then_one_per_six_seconds() {
        let mut limiter = Limiter::default();
        let (bad, good) = (address("10.0.0.1"), address("10.0.0.2"));
        for _ in 0..BURST {
            assert!(limiter.may_try(bad, NOW));
            limiter.failed(bad, NOW);
        }
        assert!(!limiter.may_try(bad, NOW));
        assert!(limiter.may_try(good, NOW));
        assert!(!limiter.may_try(bad, NOW + REFILL - Duration::from_millis(1)));
        assert!(limiter.may_try(bad, NOW + REFILL));
        limiter.failed(bad, NOW + REFILL);
        assert!(!limiter.may_try(bad, NOW + REFILL));
    }

    #[test]
    fn a_network_of_version_6_counts_as_one() {
        let mut limiter = Limiter::default();
        for host in 0..BURST {
            limiter.failed(address(&format!("2001:db8::{host:x}")), NOW);
        }
        assert!(!limiter.may_try(address("2001:db8::ffff"), NOW));
        assert!(limiter.may_try(address("2001:db8:0:1::1"), NOW));
        // The same host in its mapped form.
        for _ in 0..BURST {
            limiter.failed(address("::ffff:10.0.0.1"), NOW);
        }
        assert!(!limiter.may_try(address("10.0.0.1"), NOW));
    }

    #[test]
    fn the_table_is_bounded_and_remembers_the_worst() {
        let mut limiter = Limiter::default();
        let worst = address("10.9.9.9");
        for _ in 0..BURST {
            limiter.failed(worst, NOW);
        }
        for host in 0..30_000_u32 {
            limiter.failed(IpAddr::V4(host.into()), NOW);
        }
        assert!(limiter.buckets.len() <= ADDRESSES_MAX);
        assert!(!limiter.may_try(worst, NOW));
    }
}
