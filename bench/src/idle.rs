//! What the program takes when it does nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use xtask::failure::{During, Outcome};
use xtask::node::{Node, Spec};

use crate::figures::Report;
use crate::load;
use crate::machine::Setting;
use crate::process::usage;

/// Starts on an empty directory, which are short and scatter.
const EMPTY_STARTS: usize = 10;

/// Bytes of one Produce request while the large log is made.
const BATCH_SIZE: usize = 512 << 10;

/// The node settles for this long before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures an empty directory, then a large log with cold caches if root.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let size = fs::metadata(&setting.program)
        .during(setting.program.display())?
        .len();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    report.number("binary MB", size as f64 / 1e6);
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for start in 0..EMPTY_STARTS {
        let scratch = setting.scratch()?;
        let node = Node::start(&Spec::gateway(&setting.program, "idle", scratch.path()))?;
        ready.push(node.ready_after.as_secs_f64() * 1e3);
        if start < setting.rounds {
            thread::sleep(SETTLE);
            resident.push(usage(node.id()).resident_mib);
        }
    }
    report.fact("ready is looked for each", "5 ms");
    report.median("ready on an empty directory ms", &ready);
    report.median("idle resident MiB", &resident);

    let scratch = setting.scratch()?;
    let mut spec = Spec::gateway(&setting.program, "full", scratch.path());
    spec.storage =
        "retention = { time = \"7d\", size = \"64GiB\", keep_free = \"64MiB\" }\n".to_owned();
    let mut node = Node::start(&spec)?;
    load::produce(node.ports.kafka, "large", setting.gib << 30, BATCH_SIZE)?;
    node.stop()?;
    let (mut ready, mut killed, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    let mut cold = true;
    for _ in 0..setting.rounds {
        cold &= drop_caches();
        let mut node = Node::start(&spec)?;
        ready.push(node.ready_after.as_secs_f64() * 1e3);
        thread::sleep(SETTLE);
        resident.push(usage(node.id()).resident_mib);
        node.kill();
        cold &= drop_caches();
        let mut node = Node::start(&spec)?;
        killed.push(node.ready_after.as_secs_f64() * 1e3);
        node.stop()?;
    }
    report.fact("large log GiB", setting.gib);
    report.fact(
        "page cache",
        if cold {
            "dropped before each start"
        } else {
            "warm: not root"
        },
    );
    report.median("ready on the large log ms", &ready);
    report.median("ready on the large log after SIGKILL ms", &killed);
    report.median("resident on the large log MiB", &resident);
    Ok(())
}

fn drop_caches() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
