//! From the log to the broker: reading, mapping, sending, remembering.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use forebay_mqtt::TopicName;
use forebay_storage::Storage;

use super::cursors::Cursors;
use super::link::{Gone, Link};
use super::mapping::Mappings;
use super::window::Window;
use crate::devices::Health;
use crate::ingest::routes::Routes;
use crate::mqtt::feeds::{FeedId, Feeds, detach, read_page};
use crate::mqtt::message::Message;
use crate::mqtt::node::now_ms;

/// The user property that marks what a node has sent, so that it knows it
/// again. Its value is the node's name.
pub const MARK: &str = "forebay-bridge";

/// Bytes read from a partition in one step.
const READ_LEN: usize = 64 << 10;

/// How often new topics are looked for while messages come.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// What a packet has beside topic, payload and properties, generously.
const PACKET_OVERHEAD: usize = 64;

/// A message that is to be sent.
struct Item {
    feed: FeedId,
    offset: u64,
    topic: TopicName,
    qos: u8,
    message: Message,
}

/// The outgoing half of a bridge. It outlives connections.
pub struct Outbox {
    name: String,
    node: String,
    storage: Storage,
    cursors: Cursors,
    feeds: Feeds,
    refreshed: Option<Instant>,
    window: Window,
    pending: VecDeque<Item>,
    /// Cursors as they were written last.
    written: BTreeMap<FeedId, u64>,
    packet_max: Option<u32>,
}

impl Outbox {
    /// Reads where the bridge was. Blocks on the state.
    pub fn open(name: &str, node: &str, storage: Storage) -> Self {
        Self {
            name: name.to_owned(),
            node: node.to_owned(),
            cursors: Cursors::new(storage.clone(), name),
            storage,
            feeds: Feeds::default(),
            refreshed: None,
            window: Window::default(),
            pending: VecDeque::new(),
            written: BTreeMap::new(),
            packet_max: None,
        }
    }

    /// The state of the bridge.
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// A new connection whose broker takes `limit` messages at once and
    /// packets of `packet_max` bytes.
    pub fn rewind(&mut self, limit: usize, packet_max: Option<u32>) {
        self.pending.clear();
        self.window.rewind(limit);
        self.packet_max = packet_max;
    }

    /// Looks for partitions. A bridge begins at the end of those that exist
    /// when it is new; a partition that appears later is carried from its
    /// start.
    pub fn refresh(&mut self, routes: &Routes) {
        let now = Instant::now();
        let is_due = self.refreshed.is_none_or(|at| at + REFRESH_INTERVAL <= now);
        if !is_due {
            return;
        }
        self.refreshed = Some(now);
        let added = self.feeds.refresh(&self.storage, routes);
        let has_begun = self.cursors.has_begun();
        let mut first = Vec::new();
        for feed in added {
            let log = self.feeds.feed(feed);
            let offsets = log.partition.offsets();
            let cursor = match self.cursors.cursor(&log.key) {
                Some(cursor) => cursor,
                None if has_begun => offsets.log_start,
                None => offsets.high_watermark,
            };
            first.push((log.key, cursor));
            log.partition.hold(&self.hold_name(), Some(cursor));
            self.window.add(feed, cursor);
            self.written.insert(feed, cursor);
        }
        if !has_begun && let Err(error) = self.cursors.begin(&first) {
            tracing::warn!(bridge = self.name, %error, "first cursors not written, later");
            self.refreshed = None;
        }
    }

    /// Sends while there is room and there are messages. True when a message
    /// was sent.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn pump(
        &mut self,
        link: &Link,
        mappings: &Mappings,
        health: &Health,
    ) -> Result<bool, Gone> {
        let mut has_sent = self.send_pending(link, health)?;
        for feed in self.feeds.ids() {
            while self.pending.is_empty() && self.window.has_room() {
                if !self.read(feed, mappings).await {
                    break;
                }
                has_sent |= self.send_pending(link, health)?;
            }
        }
        Ok(has_sent)
    }

    /// The client wrote the next message.
    pub fn sent(&mut self, packet_id: u16) {
        self.window.written(packet_id);
    }

    /// The broker has a message.
    pub fn acknowledged(&mut self, packet_id: u16) {
        self.window.acknowledged(packet_id);
    }

    /// Writes down the cursors that moved.
    pub fn checkpoint(&mut self) {
        let moved = self
            .window
            .cursors()
            .filter(|(feed, cursor)| self.written.get(feed) != Some(cursor));
        let moved: Vec<(FeedId, u64)> = moved.collect();
        if moved.is_empty() {
            return;
        }
        let keys = moved
            .iter()
            .map(|(feed, cursor)| (self.feeds.feed(*feed).key, *cursor));
        let keys: Vec<_> = keys.collect();
        if let Err(error) = self.cursors.write(&keys) {
            tracing::debug!(bridge = self.name, %error, "cursors not written, later");
            return;
        }
        for (feed, cursor) in moved {
            let partition = &self.feeds.feed(feed).partition;
            partition.hold(&self.hold_name(), Some(cursor));
            self.written.insert(feed, cursor);
        }
    }

    /// Lets retention have what was held for the bridge: it is no more in the
    /// configuration, or carries nothing out.
    pub fn release(&self) {
        for feed in self.feeds.ids() {
            self.feeds
                .feed(feed)
                .partition
                .hold(&self.hold_name(), None);
        }
    }

    fn hold_name(&self) -> String {
        format!("bridge/{}", self.name)
    }

    /// Reads one page of a partition. False when it has nothing new.
    async fn read(&mut self, feed: FeedId, mappings: &Mappings) -> bool {
        let partition = self.feeds.feed(feed).partition.clone();
        let Some(from) = self.window.next(feed) else {
            return false;
        };
        if from >= partition.offsets().high_watermark {
            return false;
        }
        let reading = tokio::task::spawn_blocking(move || read_page(&partition, from, READ_LEN));
        let page = match reading.await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                tracing::debug!(bridge = self.name, %error, "not read");
                return false;
            }
            Err(_) => return false,
        };
        if page.lost > 0 {
            tracing::warn!(
                bridge = self.name,
                offsets = page.lost,
                "retention was faster than the bridge"
            );
        }
        let mut wanted = Vec::new();
        for (offset, message) in &page.messages {
            let Some((topic, qos)) = self.outward(message, mappings) else {
                continue;
            };
            wanted.push(*offset);
            self.pending.push_back(Item {
                feed,
                offset: *offset,
                topic,
                qos,
                message: detach(message),
            });
        }
        self.window.scanned(feed, page.next_offset, wanted);
        page.next_offset > from
    }

    /// Where a message goes, if it goes anywhere. What came in by this bridge
    /// does not go back.
    fn outward(&self, message: &Message, mappings: &Mappings) -> Option<(TopicName, u8)> {
        let bridge = message.properties.as_ref().and_then(|p| p.bridge.as_ref());
        if bridge.is_some_and(|bridge| bridge.as_str() == self.name) {
            return None;
        }
        let (topic, qos) = mappings.to_remote(&message.path)?;
        Some((topic, qos.min(message.qos)))
    }

    fn send_pending(&mut self, link: &Link, health: &Health) -> Result<bool, Gone> {
        let mut has_sent = false;
        while self.window.has_room() {
            let Some(item) = self.pending.pop_front() else {
                break;
            };
            let now = now_ms();
            let len = item.topic.as_str().len() + item.message.payload.len() + PACKET_OVERHEAD;
            let is_too_large = self.packet_max.is_some_and(|max| len > max as usize);
            if is_too_large {
                health.add_errors(1);
                let text = format!("{} is larger than the broker takes", item.topic.as_str());
                health.alarm("too-large", &text);
            }
            if is_too_large || item.message.is_expired(now) {
                self.window.drop_message(item.feed, item.offset);
                continue;
            }
            let mark = (MARK, self.node.as_str());
            link.publish(&item.topic, &item.message, item.qos, mark, now)?;
            health.add_requests(1);
            self.window.send(item.feed, item.offset);
            has_sent = true;
        }
        Ok(has_sent)
    }
}
