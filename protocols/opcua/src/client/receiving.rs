//! From notifications to samples.
//!
//! The library calls back in the middle of its event loop, so a notification is
//! only put into a bounded queue there. What does not fit is counted, and makes
//! the driver read all values once more when there is room again: a value can
//! be skipped, and none stays stale. The queue also carries what has to keep
//! its place between notifications: a new subscription, refused nodes, the loss
//! of the connection.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use opcua::client::{MonitoredItemMap, OnSubscriptionNotificationCore};
use opcua::types::custom::DataTypeTree;
use opcua::types::{
    DataChangeNotification, DataValue, NotificationMessage, StatusChangeNotification, StatusCode,
};
use tokio::sync::mpsc;

use super::{Event, Notice};
use crate::deadband::Deadband;
use crate::items::Refusal;
use crate::sample::{Quality, Sample, Timestamp};
use crate::sequence::Sequence;

/// Messages that wait to be published. At four publishing intervals per second
/// they are a minute of a storage that stalls.
pub(super) const PARCELS_MAX: usize = 256;

/// Values in those messages at most. One takes about 100 bytes.
const VALUES_MAX: usize = 200_000;

/// One thing on its way to the samples.
#[derive(Debug)]
pub(super) enum Parcel {
    /// A subscription has been made; what comes later with its number is of it.
    Table(Table),
    /// The structures of a subscription's items.
    Types(u64, Arc<DataTypeTree>),
    /// A notification message.
    Message(u64, NotificationMessage),
    /// Values that were read.
    Read(u64, Vec<(usize, DataValue)>),
    /// A subscription has ended.
    Closed(u64),
    /// Nodes that the server refuses.
    Refused(u64, Vec<Refusal>),
    /// The connection is lost.
    Away,
    /// For the operator.
    Notice(Notice),
}

/// What the positions of a subscription's items mean.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) number: u64,
    pub(super) items: Vec<(Arc<str>, Deadband)>,
    pub(super) timestamp: Timestamp,
    pub(super) types: Option<Arc<DataTypeTree>>,
}

/// What the callback and the driver share.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Values in the queue.
    waiting: AtomicUsize,
    /// Values that did not fit into the queue.
    dropped: AtomicU64,
    /// Whether some did not fit since the driver looked.
    has_overflowed: AtomicBool,
}

/// What one subscription has delivered. Its callback and the driver share it.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Delivered>);

#[derive(Debug, Default)]
struct Delivered {
    sequence: Sequence,
    /// Numbers that were left out, as the first and their count.
    missing: Vec<(u32, u32)>,
    /// The server ended the subscription.
    ended: Option<StatusCode>,
}

impl Flow {
    /// Values that did not fit, since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether values were dropped and there is room again. Says so once.
    pub(super) fn take_overflow(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < VALUES_MAX / 2
            && self.has_overflowed.swap(false, Ordering::Relaxed)
    }

    /// A message came by another way than the callback, and will be put into
    /// the queue.
    pub(super) fn handle_republished(&self, message: &NotificationMessage) {
        let values = Summary::of(message).values;
        self.waiting.fetch_add(values, Ordering::Relaxed);
    }
}

impl Progress {
    /// What was left out so far.
    pub(super) fn take_missing(&self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.delivered().missing)
    }

    /// Why the server ended the subscription, if it did.
    pub(super) fn ended(&self) -> Option<StatusCode> {
        self.delivered().ended
    }

    /// The number of the next message.
    pub(super) fn expected(&self) -> Option<u32> {
        self.delivered().sequence.expected()
    }

    /// A message came by another way than the callback.
    pub(super) fn handle_republished(&self, message: &NotificationMessage) {
        let number = message.sequence_number;
        self.delivered().sequence.handle_message(number);
    }

    fn delivered(&self) -> std::sync::MutexGuard<'_, Delivered> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What is in a message.
struct Summary {
    values: usize,
    ended: Option<StatusCode>,
}

impl Summary {
    fn of(message: &NotificationMessage) -> Self {
        let mut summary = Self {
            values: 0,
            ended: None,
        };
        for object in message.notification_data.iter().flatten() {
            if let Some(change) = object.inner_as::<DataChangeNotification>() {
                summary.values += change.monitored_items.as_ref().map_or(0, Vec::len);
            } else if let Some(change) = object.inner_as::<StatusChangeNotification>() {
                summary.ended = Some(change.status);
            }
        }
        summary
    }
}

/// The callback of one subscription.
pub(super) struct Inlet {
    pub(super) number: u64,
    pub(super) parcels: mpsc::Sender<Parcel>,
    pub(super) flow: Arc<Flow>,
    pub(super) progress: Arc<Progress>,
}

impl OnSubscriptionNotificationCore for Inlet {
    fn on_subscription_notification(
        &mut self,
        message: NotificationMessage,
        _: MonitoredItemMap<'_>,
    ) {
        self.receive(message);
    }
}

impl Inlet {
    fn receive(&self, message: NotificationMessage) {
        let Summary { values, ended } = Summary::of(&message);
        {
            let mut delivered = self.progress.delivered();
            if let Some(status) = ended {
                delivered.ended = Some(status);
            }
            // A keep-alive carries the number that comes next, and uses none.
            if message.notification_data.iter().flatten().next().is_none() {
                return;
            }
            if let Some(gap) = delivered.sequence.handle_message(message.sequence_number) {
                delivered.missing.push(gap);
            }
        }
        let waiting = self.flow.waiting.fetch_add(values, Ordering::Relaxed);
        let fits = waiting + values <= VALUES_MAX || waiting == 0;
        let sent = fits
            && self
                .parcels
                .try_send(Parcel::Message(self.number, message))
                .is_ok();
        if !sent {
            self.flow.waiting.fetch_sub(values, Ordering::Relaxed);
            let count = u64::try_from(values).unwrap_or(u64::MAX);
            self.flow.dropped.fetch_add(count, Ordering::Relaxed);
            self.flow.has_overflowed.store(true, Ordering::Relaxed);
        }
    }
}

/// Turns parcels into events. Remembers the last sample of each node, so that two
/// subscriptions to one node say nothing twice.
#[derive(Debug)]
pub(super) struct Decoder {
    flow: Arc<Flow>,
    /// The subscription in use behind the one that it replaces.
    tables: Vec<Opened>,
    /// By place, which each name has one of.
    last: Vec<Option<Sample>>,
}

#[derive(Debug)]
struct Opened {
    table: Table,
    /// The place of each item's name.
    places: Vec<usize>,
}

/// Subscriptions that deliver at the same time.
const TABLES_MAX: usize = 2;

impl Decoder {
    pub(super) fn new(flow: Arc<Flow>) -> Self {
        Self {
            flow,
            tables: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Takes the next parcel.
    pub(super) fn decode(&mut self, parcel: Parcel) -> Option<Event> {
        let samples = match parcel {
            Parcel::Notice(notice) => return Some(Event::Notice(notice)),
            Parcel::Table(table) => {
                self.open(table);
                return None;
            }
            Parcel::Types(number, types) => {
                if let Some(opened) = self.table(number) {
                    opened.table.types = Some(types);
                }
                return None;
            }
            Parcel::Closed(number) => {
                self.tables.retain(|opened| opened.table.number != number);
                return None;
            }
            Parcel::Message(number, message) => self.message(number, message),
            Parcel::Read(number, values) => self.read(number, values),
            Parcel::Refused(number, refusals) => self.refused(number, refusals),
            Parcel::Away => self.away(),
        };
        (!samples.is_empty()).then_some(Event::Samples(samples))
    }

    fn open(&mut self, table: Table) {
        if self.tables.len() == TABLES_MAX {
            self.tables.remove(0);
        }
        let places = Vec::new();
        self.tables.push(Opened { table, places });
        let mut known: HashMap<Arc<str>, Sample> = HashMap::new();
        for sample in std::mem::take(&mut self.last).into_iter().flatten() {
            known.insert(Arc::clone(&sample.name), sample);
        }
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for Opened { table, places: own } in &mut self.tables {
            let place_of = |(name, _): &(Arc<str>, Deadband)| {
                *places.entry(Arc::clone(name)).or_insert_with(|| {
                    self.last.push(known.remove(name));
                    self.last.len() - 1
                })
            };
            *own = table.items.iter().map(place_of).collect();
        }
    }

    fn table(&mut self, number: u64) -> Option<&mut Opened> {
        let mut tables = self.tables.iter_mut();
        tables.find(|opened| opened.table.number == number)
    }

    /// A value of an item, if it is worth publishing. While a subscription
    /// replaces another one, both bring the same values; and what was read must
    /// not overtake what is newer.
    fn take(
        &mut self,
        number: u64,
        index: usize,
        value: &DataValue,
        is_read: bool,
    ) -> Option<Sample> {
        let is_newest = self.tables.last()?.table.number == number;
        let is_replacing = self.tables.len() > 1;
        let opened = self
            .tables
            .iter()
            .find(|opened| opened.table.number == number)?;
        let (name, deadband) = opened.table.items.get(index)?;
        let last = &mut self.last[*opened.places.get(index)?];
        let types = opened.table.types.as_deref();
        let sample = Sample::of(Arc::clone(name), value, opened.table.timestamp, types);
        let is_worth = last.as_ref().is_none_or(|last| {
            let is_same = last.value == sample.value
                && last.quality == sample.quality
                && last.status == sample.status;
            // A subscription that replaces another one repeats the last value.
            let has_same_time =
                sample.timestamp_ms.is_some() && last.timestamp_ms == sample.timestamp_ms;
            let is_repeated = is_same && (is_read || has_same_time);
            let is_known = match is_newest {
                _ if last.quality != Quality::Good || sample.timestamp_ms.is_none() => false,
                // The other one has brought it, or will.
                true if is_replacing => last.timestamp_ms >= sample.timestamp_ms,
                true => is_read && last.timestamp_ms > sample.timestamp_ms,
                false => last.timestamp_ms > sample.timestamp_ms,
            };
            let passes =
                deadband.passes((&last.value, last.quality), (&sample.value, sample.quality));
            !is_repeated && !is_known && passes
        });
        if !is_worth {
            return None;
        }
        *last = Some(sample.clone());
        Some(sample)
    }

    fn message(&mut self, number: u64, message: NotificationMessage) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut taken = 0;
        for object in message.notification_data.into_iter().flatten() {
            let Some(change) = object.into_inner_as::<DataChangeNotification>() else {
                continue;
            };
            let notified = change.monitored_items.unwrap_or_default();
            taken += notified.len();
            for one in notified {
                let index = usize::try_from(one.client_handle).unwrap_or(0);
                let index = index.wrapping_sub(1);
                samples.extend(self.take(number, index, &one.value, false));
            }
        }
        self.flow.waiting.fetch_sub(taken, Ordering::Relaxed);
        samples
    }

    fn read(&mut self, number: u64, values: Vec<(usize, DataValue)>) -> Vec<Sample> {
        let values = values.iter();
        values
            .filter_map(|(index, value)| self.take(number, *index, value, true))
            .collect()
    }

    fn refused(&mut self, number: u64, refusals: Vec<Refusal>) -> Vec<Sample> {
        let Some(opened) = self
            .tables
            .iter()
            .find(|opened| opened.table.number == number)
        else {
            return Vec::new();
        };
        let mut samples = Vec::new();
        for refusal in refusals {
            let item = opened.table.items.get(refusal.index);
            let (Some((name, _)), Some(&place)) = (item, opened.places.get(refusal.index)) else {
                continue;
            };
            let sample = Sample::bad(Arc::clone(name), refusal.status);
            if self.last[place].as_ref() != Some(&sample) {
                self.last[place] = Some(sample.clone());
                samples.push(sample);
            }
        }
        samples
    }

    fn away(&mut self) -> Vec<Sample> {
        let Some(opened) = self.tables.last() else {
            return Vec::new();
        };
        let mut samples = Vec::new();
        for (&place, (name, _)) in opened.places.iter().zip(&opened.table.items) {
            let last = &mut self.last[place];
            let away = match last.as_ref() {
                Some(sample) => sample.while_away(),
                None => Sample::bad(Arc::clone(name), Cow::Borrowed(crate::sample::NEVER)),
            };
            if last.as_ref() != Some(&away) {
                *last = Some(away.clone());
                samples.push(away);
            }
        }
        samples
    }
}

#[cfg(test)]
mod tests;
