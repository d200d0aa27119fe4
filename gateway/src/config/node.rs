//! `[node]`, `[storage]` and `[log]`.

use std::path::PathBuf;
use std::time::Duration;

use super::quantity::{duration, show_size, size};
use super::section::Section;
use super::{
    ClockTrust, Log, LogFormat, Node, Preallocation, Retention, Role, Storage, WhenFull, defaults,
    names,
};

/// What could be read of `[node]`; other sections need the role and the name
/// even when the rest is wrong.
pub(super) struct PartialNode {
    pub(super) name: Option<String>,
    pub(super) role: Option<Role>,
    pub(super) data_dir: Option<PathBuf>,
    worker_threads: usize,
    clock: ClockTrust,
}

impl PartialNode {
    /// The node, when nothing is missing.
    pub(super) fn complete(self) -> Option<Node> {
        Some(Node {
            name: self.name?,
            role: self.role?,
            data_dir: self.data_dir?,
            worker_threads: self.worker_threads,
            clock: self.clock,
        })
    }
}

/// Reads `[node]`. Its keys have no defaults: a wrong guess would mix two
/// nodes' data.
pub(super) fn node<'d>(root: &Section<'d>) -> (Section<'d>, PartialNode) {
    const NAME: &str = "expected the name of this node, such as \"press-shop-1\"";
    const DATA_DIR: &str = "expected an absolute directory, such as \"/var/lib/forebay\"";
    let section = root.table("node");
    let name = section.text("name", NAME, |text| {
        names::check_site(text).map(|()| text.to_owned())
    });
    let role = section.word(
        "role",
        &[("gateway", Role::Gateway), ("broker", Role::Broker)],
    );
    let data_dir = section.parsed("data_dir", DATA_DIR, |text| {
        Some(PathBuf::from(text)).filter(|path| path.is_absolute())
    });
    let worker_threads = section.number("worker_threads", 1, defaults::WORKER_THREADS_MAX);
    let clock = section.word(
        "clock",
        &[("auto", ClockTrust::Auto), ("trusted", ClockTrust::Trusted)],
    );
    section.missing("name", NAME);
    section.missing("role", "expected \"gateway\" or \"broker\"");
    section.missing("data_dir", DATA_DIR);
    let partial = PartialNode {
        name,
        role,
        data_dir,
        worker_threads: worker_threads
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or(defaults::WORKER_THREADS),
        clock: clock.unwrap_or(ClockTrust::Auto),
    };
    (section, partial)
}

/// Reads `[storage]`.
pub(super) fn storage(root: &Section<'_>, role: Role) -> Storage {
    let section = root.table("storage");
    let (segment_size, preallocation) = match role {
        Role::Gateway => (defaults::SEGMENT_SIZE, Preallocation::ZeroFill),
        Role::Broker => (defaults::SEGMENT_SIZE_BROKER, Preallocation::Fallocate),
    };
    let storage = Storage {
        commit_linger: duration_within(
            &section,
            "commit_linger",
            Duration::ZERO,
            defaults::COMMIT_LINGER_MAX,
            "expected a duration from \"0ms\" to \"1s\"",
        )
        .unwrap_or(defaults::COMMIT_LINGER),
        segment_size: size_within(
            &section,
            "segment_size",
            defaults::SEGMENT_SIZE_MIN,
            defaults::SEGMENT_SIZE_MAX,
        )
        .unwrap_or(segment_size),
        retention: retention(&section),
        when_full: section
            .word(
                "when_full",
                &[
                    ("reject", WhenFull::Reject),
                    ("drop-oldest", WhenFull::DropOldest),
                ],
            )
            .unwrap_or(WhenFull::Reject),
        preallocation: section
            .word(
                "preallocation",
                &[
                    ("zero-fill", Preallocation::ZeroFill),
                    ("fallocate", Preallocation::Fallocate),
                    ("none", Preallocation::None),
                ],
            )
            .unwrap_or(preallocation),
    };
    section.finish();
    if let Some(kept) = storage.retention.size
        && kept < storage.segment_size
    {
        let key = if section.has("retention") {
            "retention"
        } else {
            "segment_size"
        };
        section.mistake(
            key,
            format!(
                "expected retention.size to hold at least one segment of {}, because whole segments are kept or removed",
                show_size(storage.segment_size)
            ),
        );
    }
    storage
}

fn retention(storage: &Section<'_>) -> Retention {
    let section = storage.table("retention");
    let retention = Retention {
        time: limit(
            &section,
            "time",
            "expected a duration such as \"7d\", or \"unlimited\"",
            |text| duration(text).filter(|time| *time >= Duration::from_secs(1)),
        )
        .unwrap_or(Some(defaults::RETENTION_TIME)),
        size: limit(
            &section,
            "size",
            "expected a size such as \"8GiB\", or \"unlimited\"",
            |text| size(text).filter(|bytes| *bytes > 0),
        )
        .unwrap_or(None),
        keep_free: section
            .parsed("keep_free", "expected a size such as \"512MiB\"", size)
            .unwrap_or(defaults::KEEP_FREE),
    };
    section.finish();
    retention
}

/// Reads `[log]`.
pub(super) fn log(root: &Section<'_>) -> Log {
    const LEVEL: &str = "expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or a filter such as \"info,forebay_storage=debug\"";
    let section = root.table("log");
    let log = Log {
        format: section
            .word(
                "format",
                &[("human", LogFormat::Human), ("json", LogFormat::Json)],
            )
            .unwrap_or(LogFormat::Human),
        level: section
            .parsed("level", LEVEL, |text| {
                is_log_filter(text).then(|| text.to_owned())
            })
            .unwrap_or_else(|| defaults::LOG_LEVEL.to_owned()),
    };
    section.finish();
    log
}

/// Reads a duration within bounds.
pub(super) fn duration_within(
    section: &Section<'_>,
    key: &'static str,
    min: Duration,
    max: Duration,
    expected: &str,
) -> Option<Duration> {
    section.parsed(key, expected, |text| {
        duration(text).filter(|value| (min..=max).contains(value))
    })
}

/// Reads a size within bounds.
pub(super) fn size_within(
    section: &Section<'_>,
    key: &'static str,
    min: u64,
    max: u64,
) -> Option<u64> {
    let expected = format!(
        "expected a size from \"{}\" to \"{}\", such as \"16MiB\"",
        show_size(min),
        show_size(max)
    );
    section.parsed(key, &expected, |text| {
        size(text).filter(|bytes| (min..=max).contains(bytes))
    })
}

/// Reads a limit that can be switched off. The outer `None` is an absent key.
fn limit<T>(
    section: &Section<'_>,
    key: &'static str,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<Option<T>> {
    section.parsed(key, expected, |text| {
        if text == "unlimited" {
            Some(None)
        } else {
            parse(text).map(Some)
        }
    })
}

/// Accepts `level` and `target=level`, separated by commas.
fn is_log_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    text.split(',').all(|part| {
        let level = match part.split_once('=') {
            Some((target, level)) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                if target.is_empty() || !target.chars().all(plain) {
                    return false;
                }
                level
            }
            None => part,
        };
        LEVELS.contains(&level)
    })
}
