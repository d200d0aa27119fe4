//! What a process used, from /proc.

use std::fs;

/// Ticks of utime and stime per second: USER_HZ, 100 on every Linux platform
/// that Rust's standard library supports with threads.
const TICKS_PER_SECOND: f64 = 100.0;

/// Counters of a process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds on a CPU, user and system.
    pub cpu_s: f64,
    /// Bytes that it caused to be written to a device.
    pub written: f64,
    /// Seconds that its threads waited for a core.
    pub core_wait_s: f64,
    /// Resident memory in MiB.
    pub resident_mib: f64,
}

impl Usage {
    /// What was used between `before` and this moment; memory stays absolute.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - before.cpu_s,
            core_wait_s: self.core_wait_s - before.core_wait_s,
            written: self.written - before.written,
            resident_mib: self.resident_mib,
        }
    }
}

/// Reads the counters of process `id`; zeros when it is gone.
pub fn usage(id: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name may contain spaces; the fields begin behind its parenthesis.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    // utime and stime are fields 14 and 15 of proc(5), the first here is 3.
    let ticks = |field: usize| -> f64 {
        fields
            .get(field - 3)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0)
    };
    let io = fs::read_to_string(format!("/proc/{id}/io")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    Usage {
        cpu_s: (ticks(14) + ticks(15)) / TICKS_PER_SECOND,
        core_wait_s: core_wait_s(id),
        written: named(&io, "write_bytes:"),
        resident_mib: named(&status, "VmRSS:") / 1024.0,
    }
}

/// Seconds that the threads of process `id` were ready to run and waited for
/// a core (the second field of schedstat, in nanoseconds).
fn core_wait_s(id: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else {
        return 0.0;
    };
    let waited = |task: fs::DirEntry| -> Option<f64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    };
    tasks.flatten().filter_map(waited).sum::<f64>() / 1e9
}

fn named(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
