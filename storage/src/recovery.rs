//! Opening a data directory: the journal first, then every partition.

mod catalog;
mod format;
mod log;
mod report;
mod scan;

pub use report::{DamagedRange, RecoveryReport, TornTail};

use crate::config::Config;
use crate::core::Core;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::frame::FrameKind;
use crate::keys;
use crate::partition::{Log, TopicIdentity};
use crate::segment::header::HEADER_BLOCK_LEN;
use crate::segment::scanner::{Scanner, Step};
use crate::state::{Op, State, decode_ops};
use crate::storage::Inner;
use crate::topic::{Topic, topic_dir};
use crate::view::{MemoryView, SledView, View};
use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The journal's topic. Its identity is all zeros, which no random UUID is.
const JOURNAL_NAME: &str = "__state";
const JOURNAL_ID: [u8; 16] = [0; 16];

/// Changes that are put into the view at once while replaying.
const REPLAY_BATCH: usize = 4096;

/// What opening found.
pub(crate) struct Recovered {
    pub core: Arc<Core>,
    pub topics: BTreeMap<String, Arc<Topic>>,
    pub report: RecoveryReport,
    pub lock: Box<dyn Any + Send + Sync>,
}

/// Wraps an error of the disk.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        action,
        path,
        source,
    }
}

/// Opens or creates a data directory.
pub(crate) fn open(config: Config, disk: Arc<dyn Disk>) -> Result<Recovered, OpenError> {
    let lock = format::claim(&*disk, &config.data_dir)?;
    let mut report = RecoveryReport::default();
    let identity = Arc::new(TopicIdentity {
        name: JOURNAL_NAME.to_owned(),
        id: JOURNAL_ID,
    });
    let dir = topic_dir(&config.data_dir, JOURNAL_NAME, &JOURNAL_ID).join("0");
    let journal = Arc::new(Log::new(
        identity,
        0,
        dir.clone(),
        config.segment_size,
        true,
    ));
    let found = log::recover(&*disk, &journal, &log::Known::default(), u64::MAX)
        .map_err(io_error("recover", &dir))?;
    let closed = found.last_group;
    report.add(&journal, &found);
    // Snapshot segments are few; the first one kept is where replay begins.
    if let Some(first) = journal.segments.read().first() {
        journal.raise_log_start(first.header.base_offset);
    }
    let opened = open_view(&config, &*disk, &journal)?;
    let view = opened.view;
    report.view_rebuilt = opened.is_rebuilt;
    report.notes.extend(opened.findings);
    let mut catalog = catalog::load(&config, &*disk, &*view, &journal)?;
    let founds = catalog::recover_all(&config, &*disk, &catalog, &*view, closed)?;
    let mut newest_group = closed;
    for (log, found) in &founds {
        newest_group = newest_group.max(found.last_group);
        report.add(log, found);
    }
    report.notes.append(&mut catalog.notes);
    let state = State::new(journal, view);
    let core = Arc::new(Core::new(config, disk, state, newest_group + 1));
    core.look_at_space();
    let topics = catalog.into_topics(&core);
    Ok(Recovered {
        core,
        topics,
        report,
        lock,
    })
}

struct OpenedView {
    view: Box<dyn View>,
    is_rebuilt: bool,
    /// What the journal lacks, one sentence each.
    findings: Vec<String>,
}

fn open_view(config: &Config, disk: &dyn Disk, journal: &Log) -> Result<OpenedView, OpenError> {
    let dir = config.data_dir.join("state");
    let mut view: Box<dyn View> = if disk.is_native() {
        let end = journal.visible();
        if end > 0
            && let Some(view) = SledView::open_clean(&dir, end)
        {
            return Ok(OpenedView {
                view: Box::new(view),
                is_rebuilt: false,
                findings: Vec::new(),
            });
        }
        match SledView::create(&dir) {
            Ok(view) => Box::new(view),
            Err(reason) => {
                tracing::warn!(%reason, "state view in memory");
                Box::new(MemoryView::default())
            }
        }
    } else {
        Box::new(MemoryView::default())
    };
    let findings = replay(disk, journal, &mut *view)
        .map_err(io_error("replay the state journal in", &journal.dir))?;
    Ok(OpenedView {
        view,
        is_rebuilt: journal.visible() > 0,
        findings,
    })
}

/// Puts everything that the journal holds into an empty view. Returns one
/// sentence per stretch that is damaged; that of the last segment is found by
/// its scan.
pub(crate) fn replay(
    disk: &dyn Disk,
    journal: &Log,
    view: &mut dyn View,
) -> io::Result<Vec<String>> {
    let segments = journal.segments.read().clone();
    let mut ops: Vec<Op> = Vec::new();
    let mut findings = Vec::new();
    // A journal begins with the first change or with a snapshot.
    let mut is_whole = segments
        .first()
        .is_none_or(|first| first.header.base_offset == 0);
    for (at, segment) in segments.iter().enumerate() {
        let file = segment.file(disk)?;
        let start = HEADER_BLOCK_LEN as u64;
        let mut scanner = Scanner::new(&*file, segment.header.salt, start, segment.length());
        loop {
            match scanner.step()? {
                Step::End => break,
                Step::Frame(frame) => {
                    if frame.header.kind == FrameKind::Snapshot {
                        is_whole = true;
                        let present = view.scan_prefix(&[]).map_err(io::Error::other)?;
                        ops.clear();
                        ops.extend(present.into_iter().map(|(key, _)| Op { key, value: None }));
                    }
                    if frame.header.kind != FrameKind::Gap {
                        ops.extend(decode_ops(&frame.payload));
                    }
                }
                Step::Blank { position } | Step::Bad { position } => {
                    if at + 1 < segments.len() {
                        findings.push(format!(
                            "state journal {} is damaged at byte {position}: changes of the state are lost",
                            segment.path.display()
                        ));
                    }
                    if scanner.resync()?.is_none() {
                        break;
                    }
                }
            }
            if ops.len() >= REPLAY_BATCH {
                view.apply(&ops).map_err(io::Error::other)?;
                ops.clear();
            }
        }
    }
    view.apply(&ops).map_err(io::Error::other)?;
    if !is_whole {
        findings.push(format!(
            "state journal in {} lacks its beginning: changes of the state are lost",
            journal.dir.display()
        ));
    }
    Ok(findings)
}

impl Inner {
    /// Journals and announces what recovery found.
    pub fn finish_recovery(&self, report: &RecoveryReport) {
        let core = &self.core;
        for note in report.notes.iter().chain(&report.messages()) {
            core.alarm(note.clone());
        }
        let mut ops = Vec::new();
        for log in self.logs() {
            for gap in log.gaps.lock().iter() {
                let key = keys::gap_key(&log.topic.id, log.index, gap.from);
                let value = keys::encode_gap_value(*gap);
                if core.state.get(core, &key).as_ref() != Some(&value) {
                    ops.push(Op {
                        key,
                        value: Some(value),
                    });
                }
            }
        }
        for topic in self.topics.read().values() {
            let key = keys::topic_key(topic.name());
            if core.state.get(core, &key).is_none() {
                let value = Some(keys::encode_topic(&topic.id(), &topic.config()));
                ops.push(Op { key, value });
            }
        }
        for (key, _) in core.state.scan_prefix(core, keys::tombstone_prefix()) {
            ops.push(Op { key, value: None });
        }
        if !ops.is_empty()
            && let Err(error) = core.journal_ops(ops)
        {
            core.alarm(format!("findings of recovery not journaled: {error}"));
        }
    }
}
