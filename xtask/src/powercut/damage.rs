//! Damage while the node is down: to the view, and to the log itself.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::writer::{TOPIC, Writer};
use super::{MQTT_TOPIC, Reading, Summary, VALUE_SIZE, acknowledged, prepare, under_load, wipe};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec};

/// Bytes of the header block of a segment (docs/log-format.md); damage to it
/// is damage to the whole segment, so it is a target like the rest.
const SEGMENT_HEADER_SIZE: u64 = 4096;

/// Damages the key-value view below `data_dir` in one of a few ways; returns
/// what it did.
pub fn view(data_dir: &Path) -> Outcome<String> {
    let state = data_dir.join("state");
    if !state.is_dir() {
        return Err(Failure::new(format!(
            "{}: expected the directory of the view",
            state.display()
        )));
    }
    let way = fastrand::u8(0..6);
    let said = match way {
        0 => {
            wipe(&state)?;
            "view removed"
        }
        1 => {
            plant(&state, "snap.0000000000000001.generating", b"")?;
            "half a snapshot planted"
        }
        2 => {
            each_file(&state, |file, size| file.set_len(size / 2))?;
            "view files cut in half"
        }
        3 => {
            each_file(&state, |file, size| {
                file.write_all_at(&[0xa5; 512], fastrand::u64(0..size.max(1)))
            })?;
            "view files overwritten in places"
        }
        4 => {
            each_file(&state, |file, _| file.set_len(0))?;
            "view files emptied"
        }
        _ => {
            wipe(&state)?;
            fs::write(&state, b"a file where a directory belongs").during(state.display())?;
            "view replaced by a file"
        }
    };
    Ok(format!("({said})"))
}

fn plant(directory: &Path, name: &str, bytes: &[u8]) -> Outcome {
    let path = directory.join(name);
    fs::write(&path, bytes).during(path.display())
}

fn each_file(directory: &Path, mut harm: impl FnMut(&File, u64) -> std::io::Result<()>) -> Outcome {
    for path in files_below(directory)? {
        let file = File::options()
            .write(true)
            .open(&path)
            .during(path.display())?;
        let size = file.metadata().during(path.display())?.len();
        harm(&file, size).during(path.display())?;
    }
    Ok(())
}

fn files_below(directory: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !directory.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(directory).during(directory.display())? {
        let path = entry.during(directory.display())?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Rounds on a fresh data directory each: write, stop, damage one segment,
/// start, and compare with what was there before.
pub fn flips(program: &Path, work: &TempDir, cuts: u32, summary: &mut Summary) -> Outcome {
    for round in 1..=cuts {
        let mut spec = Spec::gateway(program, &format!("node-{round}"), work.path());
        // Small segments, so that sealed ones are hit as well as the last.
        spec.storage += "segment_size = \"2MiB\"\n";
        let mut writers = Writer::company(VALUE_SIZE * 5);
        let mut node = Node::start(&spec)?;
        prepare(&node)?;
        let moment = std::time::Duration::from_millis(fastrand::u64(300..1500));
        under_load(&mut writers, &mut node, |_| {
            std::thread::sleep(moment);
            Ok(())
        })?;
        let before = Reading::take(node.ports.kafka, &[TOPIC, MQTT_TOPIC], true)?;
        node.stop()?;
        let said = harm_segment(&spec.data_dir)?;
        let node = Node::start(&spec)?;
        let after = Reading::take(node.ports.kafka, &[TOPIC, MQTT_TOPIC], true)?;
        let status = node.status()?;
        let lost = compare(&before, &after, &status, &said, summary);
        summary.rounds += 1;
        summary.acknowledged += acknowledged(&writers);
        summary.sent += writers.iter().map(|w| w.ledger().sent()).sum::<u64>();
        summary.read += after.count();
        println!(
            "round {round}: {said}: {} records before, {lost} missing, alarms {}, {} violations",
            before.count(),
            status.pointer("/storage/alarms").unwrap_or(&Value::Null),
            summary.violations.len()
        );
        drop(node);
        wipe(&spec.data_dir)?;
    }
    Ok(())
}

/// Flips a bit in, or cuts short, one segment that holds records.
fn harm_segment(data_dir: &Path) -> Outcome<String> {
    let topics = data_dir.join("topics");
    let mut candidates = Vec::new();
    for path in files_below(&topics)? {
        let name = path
            .strip_prefix(&topics)
            .unwrap_or(&path)
            .display()
            .to_string();
        if name.starts_with("__") || !name.ends_with(".log") {
            continue;
        }
        let bytes = fs::read(&path).during(path.display())?;
        // Behind the last byte that is not zero lies preallocated space.
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at as u64 + 1);
        if used > SEGMENT_HEADER_SIZE {
            candidates.push((path, name, used));
        }
    }
    if candidates.is_empty() {
        return Err(Failure::new(format!(
            "no segment below {}",
            topics.display()
        )));
    }
    let (path, name, used) = candidates.swap_remove(fastrand::usize(..candidates.len()));
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .during(path.display())?;
    let at = fastrand::u64(0..used);
    if fastrand::u8(0..3) == 0 {
        file.set_len(at).during(path.display())?;
        return Ok(format!("{name} cut from {used} to {at} bytes"));
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).during(path.display())?;
    byte[0] ^= 1 << fastrand::u8(0..8);
    file.write_all_at(&byte, at).during(path.display())?;
    Ok(format!("{name} bit flipped at byte {at} of {used}"))
}

/// Returns how many records are missing; notes changed records and losses
/// that no gap and no alarm reports.
fn compare(
    before: &Reading,
    after: &Reading,
    status: &Value,
    said: &str,
    summary: &mut Summary,
) -> usize {
    let mut lost = 0;
    let mut unreported = 0;
    for (key, payload) in &before.payloads {
        match after.payloads.get(key) {
            Some(same) if same == payload => {}
            Some(_) => summary
                .violations
                .push(format!("{said}: {key:?} reads back with another payload")),
            None => {
                lost += 1;
                if !in_gap(status, &key.0, key.1, key.2) {
                    unreported += 1;
                }
            }
        }
    }
    let alarms = status.pointer("/storage/alarms").and_then(Value::as_array);
    if lost > 0 && alarms.is_none_or(Vec::is_empty) {
        summary
            .violations
            .push(format!("{said}: {lost} records missing and no alarm"));
    }
    if unreported > 0 {
        summary.violations.push(format!(
            "{said}: {unreported} of {lost} missing records lie in no reported range"
        ));
    }
    for key in after.payloads.keys() {
        if !before.payloads.contains_key(key) {
            summary
                .violations
                .push(format!("{said}: {key:?} was not there before"));
        }
    }
    lost
}

fn in_gap(status: &Value, topic: &str, partition: i32, offset: i64) -> bool {
    let named = |list: &Value, key: &str, wanted: &Value| -> Option<Value> {
        let list = list.as_array()?;
        list.iter()
            .find(|entry| entry.get(key) == Some(wanted))
            .cloned()
    };
    let gaps = || {
        let topic = named(status.get("topics")?, "name", &Value::from(topic))?;
        let partition = named(
            topic.get("partitions")?,
            "partition",
            &Value::from(partition),
        )?;
        partition.get("gaps")?.as_array().cloned()
    };
    gaps().unwrap_or_default().iter().any(|gap| {
        let bound = |name: &str| gap.get(name).and_then(Value::as_i64).unwrap_or(-1);
        (bound("from")..bound("to")).contains(&offset)
    })
}
