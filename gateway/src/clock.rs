//! The node's clock: what time it is, and whether that can be trusted.
//!
//! A gateway without a battery-backed clock starts in the past and learns the
//! time minutes later, or never. Until then a record says so in the header
//! [`HEADER`], together with what is right from the start: the boot and the
//! milliseconds since that boot. When the time comes, [`watch`] writes a
//! [`Correction`] to the log topic [`TOPIC`], and every earlier record of that
//! boot can be stamped again from its monotonic time.
//!
//! Only the first synchronisation counts: a clock that was right once and lost
//! its server drifts by seconds a day, which is an error of another kind.

mod kernel;
#[cfg(test)]
pub(crate) mod tests;
pub mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The log topic of corrections.
pub const TOPIC: &str = "clock";

/// The record header that says what is wrong with a record's time.
pub const HEADER: &[u8] = b"clock";

/// The value of [`HEADER`] on a record that was stamped anew before it was
/// appended.
pub const CORRECTED: &str = "corrected";

/// A change of the wall clock against the monotonic one that is a step. Daemons
/// slew what is smaller; between two looks a slew moves a millisecond.
const STEP_MS_MIN: i64 = 500;

/// How long after the synchronisation a time of the old scale can still come:
/// readings wait in memory while the disk is behind, which is seconds.
const LATE_MS_MAX: i64 = 600_000;

/// Records are marked.
const MARKING: u8 = 0;
/// The clock was synchronised a moment ago: times of the old scale still come.
const SETTLING: u8 = 1;
/// Times are stored as they are.
const PLAIN: u8 = 2;

/// Where the time comes from. The system's, except in tests.
pub trait TimeSource: Send + Sync {
    /// Milliseconds since the Unix epoch, as the system believes.
    fn wall_ms(&self) -> i64;
    /// Milliseconds since the boot, suspended time included.
    fn monotonic_ms(&self) -> i64;
    /// Whether the system says that its clock is synchronised.
    fn is_synchronised(&self) -> bool;
}

/// The clock of a node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Clock {
    shared: Arc<Shared>,
}

struct Shared {
    source: Box<dyn TimeSource>,
    boot: Box<str>,
    /// [`MARKING`], [`SETTLING`] or [`PLAIN`], in this order. It changes with
    /// `standing` locked.
    phase: AtomicU8,
    standing: Mutex<Standing>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Wall time minus monotonic time, as last seen.
    offset_ms: i64,
    /// The synchronisation that this process saw.
    synchronised: Option<Synchronised>,
}

#[derive(Clone, Copy, Debug)]
struct Synchronised {
    before_ms: i64,
    after_ms: i64,
    at_monotonic_ms: i64,
}

/// What is known about a boot's wall clock, as a record of [`TOPIC`]: the wall
/// time of a moment of that boot is its monotonic time plus `offset_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// The boot.
    pub boot: String,
    /// Wall time minus monotonic time from here on, in milliseconds.
    pub offset_ms: i64,
    /// The same before.
    pub previous_offset_ms: i64,
    /// By how much the wall clock jumped: the difference of the two.
    pub jump_ms: i64,
    /// When it was noticed, in milliseconds since the boot.
    pub monotonic_ms: i64,
    /// Whether the clock is synchronised from here on. A step without is a
    /// clock set by hand, better than before and still marked.
    pub synchronised: bool,
}

/// The value of [`HEADER`] on a record of an unsynchronised clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The boot.
    pub boot: Box<str>,
    /// When, in milliseconds since the boot.
    pub monotonic_ms: i64,
}

/// A time as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value of [`HEADER`], when the record is to carry it.
    pub header: Option<String>,
}

impl Stamp {
    /// A time that is stored as it is.
    pub fn plain(timestamp_ms: i64) -> Self {
        Self {
            timestamp_ms,
            header: None,
        }
    }
}

impl Clock {
    /// The system's clock, looked at until it is synchronised.
    pub fn system() -> Self {
        Self::new(Box::new(kernel::Kernel), kernel::boot_id())
    }

    /// The system's clock, believed as it is.
    pub fn trusted() -> Self {
        let clock = Self::system();
        clock.shared.phase.store(PLAIN, Ordering::Release);
        clock
    }

    /// A clock over `source` in the boot named `boot`.
    pub fn new(source: Box<dyn TimeSource>, boot: impl Into<Box<str>>) -> Self {
        let standing = Standing {
            offset_ms: source.wall_ms() - source.monotonic_ms(),
            synchronised: None,
        };
        let phase = if source.is_synchronised() {
            PLAIN
        } else {
            MARKING
        };
        let shared = Shared {
            boot: boot.into(),
            phase: AtomicU8::new(phase),
            standing: Mutex::new(standing),
            source,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Milliseconds since the Unix epoch, as the system believes.
    pub fn now_ms(&self) -> i64 {
        self.shared.source.wall_ms()
    }

    /// Milliseconds since the boot, suspended time included.
    pub fn monotonic_ms(&self) -> i64 {
        self.shared.source.monotonic_ms()
    }

    /// The boot's name, random and unique.
    pub fn boot(&self) -> &str {
        &self.shared.boot
    }

    /// Whether records are stored without a mark: the clock was synchronised
    /// once in this boot, or the configuration trusts it.
    pub fn is_trusted(&self) -> bool {
        self.phase() != MARKING
    }

    /// How to store a time that this clock gave a moment ago.
    ///
    /// A time of before the synchronisation that comes after it is stamped
    /// anew: it lies nearer to the old scale than to the new one.
    pub fn stamp(&self, timestamp_ms: i64) -> Stamp {
        let mut stamp = Stamp::plain(timestamp_ms);
        if self.phase() == PLAIN {
            return stamp;
        }
        let standing = self.shared.standing.lock();
        let now = self.monotonic_ms();
        let distance = |offset: &i64| (timestamp_ms - offset - now).abs();
        match standing.synchronised {
            None => {
                // The wall clock may have been set since the last look.
                let present = self.now_ms() - now;
                let offset = std::cmp::min_by_key(standing.offset_ms, present, distance);
                let mark = Mark {
                    boot: self.shared.boot.clone(),
                    monotonic_ms: timestamp_ms - offset,
                };
                stamp.header = Some(mark.to_string());
            }
            Some(seen) if now - seen.at_monotonic_ms > LATE_MS_MAX => {
                self.shared.phase.store(PLAIN, Ordering::Release);
            }
            Some(seen) => {
                let jump = seen.after_ms - seen.before_ms;
                let is_late = distance(&seen.before_ms) < distance(&seen.after_ms);
                if jump.abs() >= STEP_MS_MIN && is_late {
                    stamp.timestamp_ms += jump;
                    stamp.header = Some(CORRECTED.to_owned());
                }
            }
        }
        stamp
    }

    /// Looks at the system once. A correction comes when the clock was
    /// synchronised or stepped since the last look.
    pub fn look(&self) -> Option<Correction> {
        if self.is_trusted() {
            return None;
        }
        let source = &self.shared.source;
        let is_synchronised = source.is_synchronised();
        let monotonic_ms = source.monotonic_ms();
        let offset_ms = source.wall_ms() - monotonic_ms;
        let mut standing = self.shared.standing.lock();
        let previous_offset_ms = standing.offset_ms;
        let jump_ms = offset_ms - previous_offset_ms;
        if !is_synchronised && jump_ms.abs() < STEP_MS_MIN {
            return None;
        }
        standing.offset_ms = offset_ms;
        if is_synchronised {
            standing.synchronised = Some(Synchronised {
                before_ms: previous_offset_ms,
                after_ms: offset_ms,
                at_monotonic_ms: monotonic_ms,
            });
            self.shared.phase.store(SETTLING, Ordering::Release);
        }
        Some(Correction {
            boot: self.shared.boot.to_string(),
            offset_ms,
            previous_offset_ms,
            jump_ms,
            monotonic_ms,
            synchronised: is_synchronised,
        })
    }

    fn phase(&self) -> u8 {
        self.shared.phase.load(Ordering::Acquire)
    }

    /// What is known of this boot at this moment, for records that an earlier
    /// process of the same boot has marked.
    fn present(&self) -> Correction {
        let offset_ms = self.shared.standing.lock().offset_ms;
        Correction {
            boot: self.shared.boot.to_string(),
            offset_ms,
            previous_offset_ms: offset_ms,
            jump_ms: 0,
            monotonic_ms: self.monotonic_ms(),
            synchronised: true,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("boot", &self.shared.boot)
            .field("is_trusted", &self.is_trusted())
            .finish()
    }
}

impl Mark {
    /// Reads the value of [`HEADER`]. `None` when it is not a mark.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (boot, monotonic) = text
            .strip_prefix("unsynchronised boot=")?
            .split_once(" monotonic_ms=")?;
        Some(Self {
            boot: boot.into(),
            monotonic_ms: monotonic.parse().ok()?,
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boot, monotonic_ms } = self;
        write!(f, "unsynchronised boot={boot} monotonic_ms={monotonic_ms}")
    }
}
