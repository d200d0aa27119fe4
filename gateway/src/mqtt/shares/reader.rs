//! The task that reads the log for a group.

use std::collections::HashMap;
use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_storage::{AppendError, ReadError};
use tokio::sync::Notify;

use super::record::{self, GroupRecord};
use super::{Group, Shares};
use crate::mqtt::dispatch::Delivery;
use crate::mqtt::feeds::{FeedId, Page, detach, read_page};
use crate::mqtt::message::Message;
use crate::mqtt::sessions::record::{Changes, PlaceRecord};

/// Bytes read from a partition in one step while behind.
const CATCH_UP_LEN: usize = 64 << 10;

/// Pause after the disk refused a read or a record.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How long finished messages may be missing from the record. After a crash
/// those of QoS 1 are delivered again, so this bounds duplicates, not losses.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Finished messages that may be missing from the record.
const CHECKPOINT_EVERY: usize = 1024;

/// Reads for one group until its last member has gone.
pub struct Reader {
    shares: Arc<Shares>,
    group: Arc<Group>,
    wake: Arc<Notify>,
    dormant: Option<GroupRecord>,
    is_behind: bool,
    /// Messages that a member has taken, not to be read again.
    skip: HashSet<(FeedId, u64)>,
    /// Where the backlog ends. QoS 0 messages below were published while the
    /// group had no connected member and are not sent.
    backlog_ends: HashMap<FeedId, u64>,
    retry_at: Option<Instant>,
    dirty_since: Option<Instant>,
}

impl Reader {
    /// A reader that goes on at what was written down, if anything was.
    pub fn new(
        shares: Arc<Shares>,
        group: Arc<Group>,
        wake: Arc<Notify>,
        dormant: Option<GroupRecord>,
    ) -> Self {
        Self {
            shares,
            group,
            wake,
            dormant,
            is_behind: true,
            skip: HashSet::new(),
            backlog_ends: HashMap::new(),
            retry_at: None,
            dirty_since: None,
        }
    }

    /// Reads and hands out.
    pub async fn run(mut self) {
        if let Some(record) = self.dormant.take() {
            self.restore(record).await;
        }
        loop {
            let progress = self.catch_up().await;
            let is_deserted = {
                let mut allotment = self.group.allotment.lock();
                allotment.hand_out(self.group.number);
                if allotment.unwritten() > 0 {
                    self.dirty_since.get_or_insert_with(Instant::now);
                }
                allotment.is_deserted()
            };
            if is_deserted && self.retire() {
                return;
            }
            let reads_on =
                self.is_behind && self.retry_at.is_none() && self.group.allotment.lock().is_empty();
            if self.is_checkpoint_due() {
                self.checkpoint();
            }
            if !progress && !reads_on {
                self.wait(is_deserted).await;
            }
        }
    }

    async fn wait(&mut self, is_deserted: bool) {
        let mut until = self.dirty_since.map(|since| since + CHECKPOINT_INTERVAL);
        if is_deserted {
            // The record could not be written.
            until = Some(Instant::now() + RETRY_INTERVAL);
        }
        if let Some(at) = self.retry_at {
            until = Some(until.map_or(at, |until| until.min(at)));
        }
        let group = &self.group;
        tokio::select! {
            () = poll_fn(|cx| group.allotment.lock().poll_queue(cx)) => {}
            () = group.changed.notified() => {}
            () = self.wake.notified() => self.is_behind = true,
            () = at(until) => {}
        }
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            self.is_behind = true;
        }
    }

    /// Reads what was unfinished when the group had members last.
    async fn restore(&mut self, record: GroupRecord) {
        let dispatch = Arc::clone(&self.shares.dispatch);
        let find = |place: &PlaceRecord| Some((dispatch.find(&place.key()?)?, place.offset));
        for place in &record.taken {
            let Some((feed, offset)) = find(place) else {
                continue;
            };
            self.skip.insert((feed, offset));
            let key = dispatch.feed(feed).key;
            let key = record::taken_key(&self.group.filter, &key, offset);
            self.group.allotment.lock().take(feed, offset, key);
        }
        for (feed, _) in dispatch.behind(self.group.subscriber) {
            let end = dispatch.feed(feed).partition.offsets().high_watermark;
            self.backlog_ends.insert(feed, end);
        }
        for place in &record.unfinished {
            let Some((feed, offset)) = find(place) else {
                continue;
            };
            if self.skip.contains(&(feed, offset)) {
                continue;
            }
            let partition = dispatch.feed(feed).partition;
            let reading = tokio::task::spawn_blocking(move || read_page(&partition, offset, 1));
            let Ok(Ok(page)) = reading.await else {
                continue;
            };
            let mut messages = page.messages.into_iter();
            if let Some((_, message)) = messages.find(|(at, _)| *at == offset) {
                let delivery = delivery(feed, offset, &message);
                self.group.allotment.lock().restore(delivery);
            }
        }
    }

    /// Reads one page of one partition in which the group is behind. False
    /// when there is nothing to read or no room.
    async fn catch_up(&mut self) -> bool {
        if !self.is_behind || self.retry_at.is_some() {
            return false;
        }
        let dispatch = Arc::clone(&self.shares.dispatch);
        let behind = dispatch.behind(self.group.subscriber);
        {
            let mut allotment = self.group.allotment.lock();
            allotment.drain_queue();
            if !allotment.is_empty() {
                return false;
            }
        }
        let Some((feed, cursor)) = behind.first().copied() else {
            self.is_behind = false;
            return false;
        };
        let partition = dispatch.feed(feed).partition;
        let reading =
            tokio::task::spawn_blocking(move || read_page(&partition, cursor, CATCH_UP_LEN));
        match reading.await {
            Ok(Ok(page)) => self.take_page(feed, cursor, &page),
            Ok(Err(ReadError::Deleted)) => {
                dispatch.advance(self.group.subscriber, feed, u64::MAX);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "backlog of a shared subscription not read, trying again");
                self.read_later()
            }
            Err(_) => self.read_later(),
        }
    }

    fn read_later(&mut self) -> bool {
        self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        false
    }

    fn take_page(&mut self, feed: FeedId, cursor: u64, page: &Page) -> bool {
        if page.lost > 0 {
            let lost = &self.shares.stats.deliveries_lost;
            lost.fetch_add(page.lost, Ordering::Relaxed);
            tracing::warn!(
                offsets = page.lost,
                "retention was faster than a shared subscription"
            );
        }
        let backlog_end = self.backlog_ends.get(&feed).copied().unwrap_or(0);
        {
            let mut allotment = self.group.allotment.lock();
            for (offset, message) in &page.messages {
                let is_stale = message.qos == 0 && *offset < backlog_end;
                let is_taken = self.skip.remove(&(feed, *offset));
                if !is_stale && !is_taken && self.group.inner.matches(&message.path) {
                    allotment.push(delivery(feed, *offset, message));
                }
            }
        }
        let dispatch = &self.shares.dispatch;
        let caught_up = dispatch.advance(self.group.subscriber, feed, page.next_offset);
        self.dirty_since.get_or_insert_with(Instant::now);
        if !caught_up && page.next_offset == cursor {
            return self.read_later();
        }
        true
    }

    fn is_checkpoint_due(&self) -> bool {
        let Some(since) = self.dirty_since else {
            return false;
        };
        since.elapsed() >= CHECKPOINT_INTERVAL
            || self.group.allotment.lock().unwritten() >= CHECKPOINT_EVERY
    }

    /// Writes where the group reads on. What is not written yet is repeated
    /// after a crash.
    fn checkpoint(&mut self) {
        self.dirty_since = None;
        if let (_, Err(error)) = self.write() {
            tracing::debug!(%error, "shared subscription not written, later");
            self.dirty_since = Some(Instant::now());
        }
    }

    fn write(&self) -> (GroupRecord, Result<(), AppendError>) {
        let dispatch = &self.shares.dispatch;
        let mut record = self.group.record(dispatch);
        let mut removed = self.group.allotment.lock().dispensable();
        removed.retain(|((feed, offset), _)| {
            let key = dispatch.feed(*feed).key;
            let cursors = record.cursors.iter();
            let mut of_feed = cursors.filter(|place| place.key() == Some(key));
            of_feed.any(|place| *offset < place.offset)
        });
        let result = self.write_record(&record, &removed);
        let mut allotment = self.group.allotment.lock();
        if result.is_ok() {
            allotment.dispensed(&removed);
            allotment.written();
        }
        let place =
            |(feed, offset): (FeedId, u64)| PlaceRecord::new(&dispatch.feed(feed).key, offset);
        record.taken = allotment.taken().into_iter().map(place).collect();
        (record, result)
    }

    fn write_record(
        &self,
        record: &GroupRecord,
        removed: &[((FeedId, u64), Vec<u8>)],
    ) -> Result<(), AppendError> {
        if !self.group.recorded.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut changes = Changes::default();
        changes.put(record::group_key(&self.group.filter), record);
        for (_, key) in removed {
            changes.delete(key.clone());
        }
        self.shares.storage.commit(changes.transaction())?;
        Ok(())
    }

    /// Ends the group's activity when nobody joined in the meantime. False when
    /// somebody did, or when the record has to be written later.
    fn retire(&self) -> bool {
        let mut table = self.shares.table.lock();
        if !self.group.allotment.lock().is_deserted() {
            return false;
        }
        let (record, written) = self.write();
        if matches!(written, Err(AppendError::Backpressure { .. })) {
            return false;
        }
        let is_recorded = self.group.recorded.load(Ordering::Acquire);
        self.shares.dispatch.detach(self.group.subscriber);
        if let Some(entry) = table.groups.get_mut(&self.group.filter) {
            entry.active = None;
            entry.dormant = is_recorded.then_some(record);
            if entry.persistent.is_empty() {
                table.groups.remove(&self.group.filter);
            }
        }
        true
    }
}

fn delivery(feed: FeedId, offset: u64, message: &Message) -> Delivery {
    Delivery {
        feed,
        offset,
        group: 0,
        qos: message.qos,
        retain: message.retain,
        identifiers: Vec::new(),
        message: Arc::new(detach(message)),
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
