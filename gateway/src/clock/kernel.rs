//! What Linux says about its clock.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::TimeSource;

/// systemd-timesyncd makes this file when it has set the clock.
const TIMESYNC_FILE: &str = "/run/systemd/timesync/synchronized";

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The clocks of the running kernel.
pub struct Kernel;

impl TimeSource for Kernel {
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    fn monotonic_ms(&self) -> i64 {
        let now = clock_gettime(ClockId::Boottime);
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    fn is_synchronised(&self) -> bool {
        is_disciplined() || Path::new(TIMESYNC_FILE).exists()
    }
}

/// Names this boot. A kernel without /proc gets a name that no other start
/// has, so its marks are never taken for another boot's.
pub fn boot_id() -> String {
    match fs::read_to_string(BOOT_ID_FILE) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => format!("{:032x}", fastrand::u128(..)),
    }
}

/// Whether a time daemon keeps the kernel's clock right (adjtimex(2)): chrony
/// with `rtcsync`, ntpd, timesyncd, a PTP daemon.
#[expect(
    unsafe_code,
    reason = "no crate in use wraps adjtimex, and the flag is the only sign that all time daemons set"
)]
fn is_disciplined() -> bool {
    let mut timex = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `timex` consists of integers, for which zeroes are a value, and
    // `modes` = 0 makes the call a mere question that needs no privilege. The
    // pointer is valid for the whole call, and the kernel writes no more than
    // the structure.
    let state = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
    (0..libc::TIME_ERROR).contains(&state)
}
