//! Recovers one partition.

use super::scan::{Expectation, Scan, last_nonzero, newest_closed_group, scan, unsalted_end};
use crate::disk::{Disk, write_all_at};
use crate::gap::{Gap, GapReason};
use crate::keys::Mark;
use crate::partition::Log;
use crate::segment::header::{HEADER_BLOCK_LEN, SegmentHeader};
use crate::segment::{Extent, Segment, parse_segment_name, segment_path};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the state knows about a partition.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub mark: Option<Mark>,
    pub log_start: u64,
    pub gaps: Vec<Gap>,
}

/// What recovery found in a partition.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub scanned_bytes: u64,
    pub torn_at: Option<u64>,
    pub damage: Vec<(u64, u64)>,
    pub notes: Vec<String>,
    /// The newest group of a frame kept.
    pub last_group: u64,
}

/// A segment file whose header is good.
struct Candidate {
    header: SegmentHeader,
    file_len: u64,
}

/// Recovers a partition into `log`. Groups above `closed` are trimmed unless
/// they were acknowledged.
pub(super) fn recover(disk: &dyn Disk, log: &Log, known: &Known, closed: u64) -> io::Result<Found> {
    make_dir(disk, &log.dir)?;
    let mut found = Found::default();
    let mark = known.mark.unwrap_or_default();
    let (candidates, aside_end) = candidates(disk, log, &mut found)?;
    let mut segments = Vec::with_capacity(candidates.len());
    let first_base = candidates
        .first()
        .map_or(u64::MAX, |first| first.header.base_offset);
    // The journal has no log start of its own: it begins with its oldest
    // segment, and the replay knows whether one is missing before that.
    let mut end = if log.is_journal() && !candidates.is_empty() {
        first_base
    } else {
        known.log_start.min(first_base)
    };
    let mut max_index = mark.next_index;
    let mut must_roll = false;
    for (at, candidate) in candidates.iter().enumerate() {
        let base_offset = candidate.header.base_offset;
        if base_offset > end.max(known.log_start) {
            found.damage.push((end.max(known.log_start), base_offset));
        }
        let recovered = match candidates.get(at + 1) {
            Some(next) => sealed(disk, log, candidate, &next.header, &mut found)?,
            None => last(disk, log, candidate, mark, closed, &mut found)?,
        };
        max_index = max_index.max(recovered.next_index);
        must_roll = recovered.must_roll;
        end = recovered.segment.end_offset();
        segments.push(Arc::new(recovered.segment));
    }
    if log.is_journal() && found.last_group == 0 {
        found.last_group = newest_group_of_sealed(disk, &segments)?;
    }
    let start = known.log_start.max(
        segments
            .first()
            .map_or(0, |first| first.header.base_offset)
            .min(end),
    );
    end = end.max(start);
    // A gap that is known ends where the log has been.
    let known_end = known.gaps.iter().map(|gap| gap.to).max().unwrap_or(0);
    let acknowledged = mark.end_offset.max(aside_end).max(known_end);
    if end < acknowledged {
        found.damage.push((end.max(start), acknowledged));
        end = acknowledged;
        must_roll = true;
    }
    merge_known_damage(&mut found, known, known.log_start);
    if must_roll {
        log.roll_with_next_window(&mut log.lock());
    }
    log.next_index.store(max_index, Ordering::Release);
    log.marked.store(mark.end_offset, Ordering::Release);
    log.set_recovered(known.log_start.max(start.min(end)), end);
    *log.segments.write() = segments;
    *log.gaps.lock() = known.gaps.clone();
    for (from, to) in &found.damage {
        log.note_gap(Gap {
            from: *from,
            to: *to,
            reason: GapReason::Damage,
        });
    }
    if !found.damage.is_empty() {
        write_report(disk, log, &found);
    }
    Ok(found)
}

/// Returns the newest group that the segments before the last one close. The
/// last one is empty when the power went away between its header and its first
/// frames; the groups acknowledged before are closed all the same.
fn newest_group_of_sealed(disk: &dyn Disk, segments: &[Arc<Segment>]) -> io::Result<u64> {
    for segment in segments.iter().rev().skip(1) {
        let file = segment.file(disk)?;
        let newest = newest_closed_group(&*file, segment.header.salt, segment.length())?;
        if newest > 0 {
            return Ok(newest);
        }
    }
    Ok(0)
}

/// Names between a partition's directory and the data directory: the
/// partition, its topic and `topics`.
const NAMES_TO_SYNC: usize = 3;

/// Creates the directory of a partition, durably, if it is missing.
fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map(|_| ()),
    }
    disk.create_dir_all(dir)?;
    dir.ancestors()
        .skip(1)
        .take(NAMES_TO_SYNC)
        .try_for_each(|parent| disk.fsync_dir(parent))
}

/// Ranges that the state knows as gaps are no news.
fn merge_known_damage(found: &mut Found, known: &Known, log_start: u64) {
    found.damage.retain(|(from, to)| {
        from < to
            && *to > log_start
            && !known
                .gaps
                .iter()
                .any(|gap| gap.from <= *from && *to <= gap.to)
    });
}

/// Returns the segments with a good header, and the end of the frames in those without.
fn candidates(disk: &dyn Disk, log: &Log, found: &mut Found) -> io::Result<(Vec<Candidate>, u64)> {
    let mut bases: Vec<u64> = disk
        .list(&log.dir)?
        .into_iter()
        .filter_map(|entry| parse_segment_name(&entry.name))
        .collect();
    bases.sort_unstable();
    let mut candidates = Vec::with_capacity(bases.len());
    let mut aside_end = 0;
    let mut block = vec![0u8; HEADER_BLOCK_LEN];
    for base in bases {
        let path = segment_path(&log.dir, base);
        let file = disk.open(&path)?;
        let file_len = file.length()?;
        let read = file.read_at(&mut block, 0)?;
        let header = SegmentHeader::decode(&block[..read]).filter(|header| {
            header.base_offset == base
                && header.topic_id == log.topic.id
                && header.partition == log.index
        });
        match header {
            Some(header) => candidates.push(Candidate { header, file_len }),
            // The header is durable before the first frame is written, so this
            // is an interrupted creation.
            None if last_nonzero(&*file, HEADER_BLOCK_LEN as u64, file_len)?.is_none() => {
                disk.unlink(&path)?;
            }
            None => {
                aside_end = aside_end.max(unsalted_end(&*file, file_len)?);
                let aside = path.with_extension("log.damaged");
                disk.rename(&path, &aside)?;
                found.notes.push(format!(
                    "segment {} has no readable header and was set aside",
                    aside.display()
                ));
            }
        }
    }
    Ok((candidates, aside_end))
}

struct Recovered {
    segment: Segment,
    next_index: u64,
    must_roll: bool,
}

/// A segment with a successor is as the successor's header says, unless the
/// file is shorter or the successor followed another one.
fn sealed(
    disk: &dyn Disk,
    log: &Log,
    candidate: &Candidate,
    next: &SegmentHeader,
    found: &mut Found,
) -> io::Result<Recovered> {
    let path = segment_path(&log.dir, candidate.header.base_offset);
    if let Some(previous) = next.previous
        && previous.base_offset == candidate.header.base_offset
    {
        let extent = Extent {
            length: previous.length,
            end_offset: previous.end_offset,
            max_timestamp: previous.max_timestamp,
        };
        if candidate.file_len < previous.length {
            let readable = scan_file(
                disk,
                &path,
                candidate,
                previous.length,
                previous.end_offset,
                u64::MAX,
                log,
            )?;
            found.damage.extend(&readable.damage);
            found.scanned_bytes += readable.extent.length;
        }
        let segment = Segment::known(candidate.header, path, extent, candidate.file_len);
        return Ok(Recovered {
            segment,
            next_index: next.first_index,
            must_roll: false,
        });
    }
    let scan = scan_file(disk, &path, candidate, 0, 0, u64::MAX, log)?;
    found.damage.extend(&scan.damage);
    found.scanned_bytes += scan.extent.length;
    found.last_group = found.last_group.max(scan.last_group);
    let segment = Segment::known(candidate.header, path, scan.extent, candidate.file_len);
    Ok(Recovered {
        segment,
        next_index: scan.next_index,
        must_roll: false,
    })
}

fn last(
    disk: &dyn Disk,
    log: &Log,
    candidate: &Candidate,
    mark: Mark,
    closed: u64,
    found: &mut Found,
) -> io::Result<Recovered> {
    let path = segment_path(&log.dir, candidate.header.base_offset);
    let is_marked = mark.segment == candidate.header.base_offset && mark.position > 0;
    if is_marked && candidate.file_len >= mark.position {
        let file = disk.open(&path)?;
        if last_nonzero(&*file, mark.position, candidate.file_len)?.is_none() {
            // Nothing was written after the mark, which describes the segment.
            let extent = Extent {
                length: mark.position,
                end_offset: mark.end_offset,
                max_timestamp: mark.max_timestamp,
            };
            let segment = Segment::known(candidate.header, path, extent, candidate.file_len);
            return Ok(Recovered {
                segment,
                next_index: mark.next_index,
                must_roll: false,
            });
        }
    }
    let (position, offset) = if is_marked {
        (mark.position, mark.end_offset)
    } else {
        (0, 0)
    };
    let scan = scan_file(disk, &path, candidate, position, offset, closed, log)?;
    found.scanned_bytes += scan.extent.length;
    found.last_group = found.last_group.max(scan.last_group);
    found.torn_at = scan.torn_at;
    found.damage.extend(&scan.damage);
    if scan.lacks_journal {
        found.notes.push(format!(
            "topic {} partition {} holds an acknowledged commit that the state journal does not close: state changes of it are lost",
            log.topic.name, log.index
        ));
    }
    let must_roll = !scan.damage.is_empty();
    let segment = Segment::known(candidate.header, path, scan.extent, candidate.file_len);
    segment.set_index(scan.index);
    Ok(Recovered {
        segment,
        next_index: scan.next_index,
        must_roll,
    })
}

fn scan_file(
    disk: &dyn Disk,
    path: &Path,
    candidate: &Candidate,
    durable_position: u64,
    durable_offset: u64,
    closed: u64,
    log: &Log,
) -> io::Result<Scan> {
    let file = disk.open(path)?;
    let expect = Expectation {
        closed,
        durable_position,
        durable_offset,
        is_journal: log.is_journal(),
    };
    scan(&*file, &candidate.header, candidate.file_len, expect)
}

/// Writes a report beside the segments; it is for people and not read back.
fn write_report(disk: &dyn Disk, log: &Log, found: &Found) {
    let mut text = String::new();
    for (from, to) in &found.damage {
        text.push_str(&format!(
            "offsets {from} to {} are damaged or missing\n",
            to.saturating_sub(1)
        ));
    }
    let path = log.dir.join(format!("{:020}.damaged", log.log_start()));
    let written = disk
        .create(&path)
        .and_then(|file| write_all_at(&*file, text.as_bytes(), 0));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "report of damage not written");
    }
}
