//! The stored records of a node, merged by their time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use forebay_analytics::bind::closest;
use forebay_analytics::plan::Plan;
use forebay_records::Record;

use crate::cli::CommandError;
use crate::client::records::FETCH_BYTES;
use crate::client::topics::{EARLIEST, LATEST};
use crate::client::{Client, ClientError};
use crate::clock;
use crate::commands::journal;
use crate::queries::{ALERTS_PREFIX, RESULTS_PREFIX, path_of};

/// Bytes of batches that are read ahead for all partitions together; unpacked
/// they are some times that.
const READ_AHEAD_BYTES: i32 = 16 << 20;
/// Read ahead per partition at least: fewer would fetch a batch many times.
const FETCH_BYTES_MIN: i32 = 32 << 10;
/// Partitions that are merged at most; a gateway has some dozens.
const PARTITIONS_MAX: usize = 4_096;
/// Records handed over at once at most, as on the gateway.
const PORTION_RECORDS: usize = 16_384;
/// Records behind one that may show that its time is too late.
const NEIGHBOURS: usize = 8;
/// The least time between two looks for silence, as on the gateway.
const STEP_MS_MIN: i64 = 1_000;

/// Where to begin or to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The first record that is kept.
    Earliest,
    /// Behind the last record when the command began.
    Latest,
    /// An offset in each partition of the one topic.
    Offset(i64),
    /// A record time in milliseconds since the Unix epoch.
    Time(i64),
}

/// Records in order, each with the place of its partition.
#[derive(Debug)]
pub struct Portion {
    /// The records.
    pub records: Vec<(usize, Record)>,
    /// How late it was when these records came, in milliseconds: all that came
    /// before were handed over before.
    pub now_ms: i64,
}

/// One partition.
#[derive(Debug)]
struct Feed {
    topic: String,
    partition: i32,
    /// Whether the query names the topic, so that results of queries are wanted.
    is_named: bool,
    first: i64,
    /// The next offset to fetch.
    next: i64,
    end: i64,
    /// With the time by which each is merged.
    buffer: VecDeque<(i64, Record)>,
}

/// All partitions that a query reads.
#[derive(Debug)]
pub struct Reading {
    client: Client,
    feeds: Vec<Feed>,
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
    now_ms: i64,
    records: u64,
    bytes: u64,
    first_ms: Option<i64>,
    position_ms: Option<i64>,
}

impl Reading {
    /// Finds the partitions of the topics that the plan reads. A topic that the
    /// node does not have under its name, but below the names of sites, is these:
    /// so a query for a gateway works on its hub.
    ///
    /// # Errors
    /// A topic does not exist, or the node does not answer.
    pub async fn open(
        mut client: Client,
        plan: &mut Plan,
        from: Bound,
        to: Bound,
    ) -> Result<Self, CommandError> {
        let all = client.metadata(None).await?;
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let named = resolve(plan, &names, client.address()).map_err(CommandError::Usage)?;
        let reads_all = plan.scans.iter().any(|scan| scan.topics.is_empty());
        let mut feeds = Vec::new();
        let mut topics = 0;
        for (topic, partitions) in &all {
            let is_named = named.contains(topic);
            if !is_named && (!reads_all || is_about_the_node(topic)) {
                continue;
            }
            topics += 1;
            let starts = offsets(&mut client, topic, partitions, from).await?;
            let ends = offsets(&mut client, topic, partitions, to).await?;
            for (place, &partition) in partitions.iter().enumerate() {
                feeds.push(Feed {
                    topic: topic.clone(),
                    partition,
                    is_named,
                    first: starts[place],
                    next: starts[place],
                    end: ends[place],
                    buffer: VecDeque::new(),
                });
            }
        }
        let is_offset = |bound| matches!(bound, Bound::Offset(_));
        if topics > 1 && (is_offset(from) || is_offset(to)) {
            let sentence =
                format!("the query reads {topics} topics: expected a time instead of an offset");
            return Err(CommandError::Usage(sentence));
        }
        if feeds.len() > PARTITIONS_MAX {
            let sentence = format!(
                "the query reads {} partitions, expected at most {PARTITIONS_MAX}: name topics with TOPIC",
                feeds.len()
            );
            return Err(CommandError::Usage(sentence));
        }
        let time = |bound, otherwise| match bound {
            Bound::Time(ms) => ms,
            _ => otherwise,
        };
        Ok(Self {
            client,
            feeds,
            from_ms: time(from, i64::MIN),
            to_ms: time(to, i64::MAX),
            step_ms: STEP_MS_MIN,
            now_ms: i64::MIN,
            records: 0,
            bytes: 0,
            first_ms: None,
            position_ms: None,
        })
    }

    /// How much time a portion covers at most, in milliseconds.
    pub fn set_step_ms(&mut self, step_ms: i64) {
        self.step_ms = step_ms.max(STEP_MS_MIN);
    }

    /// The log topic of a place.
    pub fn topic(&self, place: usize) -> &str {
        &self.feeds[place].topic
    }

    /// The partition of a place.
    pub fn partition(&self, place: usize) -> i32 {
        self.feeds[place].partition
    }

    /// How many records were read, and the bytes of their keys and values.
    pub fn amount(&self) -> (u64, u64) {
        (self.records, self.bytes)
    }

    /// How much of the log lies behind, from 0 to 1, counted in offsets.
    pub fn share(&self) -> f64 {
        let (mut done, mut all) = (0, 0);
        for feed in &self.feeds {
            let waiting = i64::try_from(feed.buffer.len()).unwrap_or(i64::MAX);
            done += (feed.next - feed.first - waiting).max(0);
            all += (feed.end - feed.first).max(0);
        }
        if all == 0 {
            1.0
        } else {
            done as f64 / all as f64
        }
    }

    /// The time of the first record and of the newest one so far.
    pub fn times_ms(&self) -> Option<(i64, i64)> {
        self.first_ms.zip(self.position_ms)
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// A fetch fails.
    pub async fn next(&mut self) -> Result<Option<Portion>, ClientError> {
        self.fill().await?;
        let heads = self.feeds.iter().enumerate().filter_map(|(place, feed)| {
            let (key, _) = feed.buffer.front()?;
            Some(Reverse((*key, place)))
        });
        let mut heads: BinaryHeap<Reverse<(i64, usize)>> = heads.collect();
        let Some(&Reverse((first_ms, _))) = heads.peek() else {
            return Ok(None);
        };
        // A record of the past does not turn back time.
        self.now_ms = self.now_ms.max(first_ms);
        let until_ms = self.now_ms.saturating_add(self.step_ms);
        let mut records = Vec::new();
        while let Some(Reverse((key, place))) = heads.pop() {
            if records.len() >= PORTION_RECORDS || key > until_ms {
                break;
            }
            let feed = &mut self.feeds[place];
            let Some((_, record)) = feed.buffer.pop_front() else {
                continue;
            };
            self.records += 1;
            let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
            self.bytes += (len(&record.key) + len(&record.value)) as u64;
            records.push((place, record));
            self.position_ms = Some(self.position_ms.map_or(key, |newest| newest.max(key)));
            match feed.buffer.front() {
                Some((next, _)) => heads.push(Reverse((*next, place))),
                // What it has next may be older than what the others have.
                None if feed.next < feed.end => break,
                None => {}
            }
        }
        self.first_ms.get_or_insert(first_ms);
        Ok(Some(Portion {
            records,
            now_ms: self.now_ms,
        }))
    }

    async fn fill(&mut self) -> Result<(), ClientError> {
        let open = self.feeds.iter().filter(|feed| feed.next < feed.end);
        let share = i32::try_from(open.count().max(1)).unwrap_or(i32::MAX);
        let max_bytes = (READ_AHEAD_BYTES / share).clamp(FETCH_BYTES_MIN, FETCH_BYTES);
        let wanted = self.from_ms..self.to_ms;
        for feed in &mut self.feeds {
            while feed.buffer.is_empty() && feed.next < feed.end {
                let fetched = self
                    .client
                    .fetch_some(&feed.topic, feed.partition, feed.next, 0, max_bytes)
                    .await?;
                // Where nothing comes, a recorded gap reaches to the end.
                feed.next = match fetched.next_offset > feed.next {
                    true => fetched.next_offset,
                    false => feed.end,
                };
                let (end, is_named) = (feed.end, feed.is_named);
                let records = fetched.records.into_iter().filter(|record| {
                    record.offset < end
                        && wanted.contains(&record.timestamp)
                        && record.value.is_some()
                        && path_of(record).is_some_and(|path| is_named || !is_result(path))
                });
                feed.buffer = in_order(records.collect());
            }
        }
        Ok(())
    }
}

/// Gives each record the time by which it is merged: its own, but not later than
/// that of its next neighbours, so that a few records of a clock that is ahead do
/// not hold up a partition until all others have come as far. Records of the past
/// need no care: they are due at once.
fn in_order(records: Vec<Record>) -> VecDeque<(i64, Record)> {
    let times: Vec<i64> = records.iter().map(|record| record.timestamp).collect();
    let key = |place: usize| {
        // What follows the last one is not known yet; the one before stands in.
        let from = if place + 1 == times.len() {
            place.saturating_sub(1)
        } else {
            place
        };
        let neighbours = &times[from..times.len().min(place + 1 + NEIGHBOURS)];
        neighbours.iter().copied().min().unwrap_or(i64::MIN)
    };
    let keys: Vec<i64> = (0..times.len()).map(key).collect();
    keys.into_iter().zip(records).collect()
}

/// Whether a query wrote the record.
fn is_result(path: &str) -> bool {
    path.starts_with(RESULTS_PREFIX) || path.starts_with(ALERTS_PREFIX)
}

/// Topics with no readings: corrections of the clock, the journal of commands.
fn is_about_the_node(topic: &str) -> bool {
    [clock::TOPIC, journal::TOPIC]
        .iter()
        .any(|own| is_at_a_site(topic, own))
}

/// Whether a topic of a node is `own`, or the copy of it that a site sent.
fn is_at_a_site(topic: &str, own: &str) -> bool {
    let site = topic.strip_suffix(own);
    site.is_some_and(|site| site.is_empty() || site.ends_with('.'))
}

/// Puts the node's names of topics into the plan and returns them.
fn resolve(plan: &mut Plan, all: &[&str], address: &str) -> Result<BTreeSet<String>, String> {
    let mut named = BTreeSet::new();
    for scan in &mut plan.scans {
        let mut found: Vec<String> = Vec::new();
        for topic in &scan.topics {
            let own = |name: &&&str| match all.contains(&topic.as_str()) {
                true => **name == topic,
                false => is_at_a_site(name, topic),
            };
            let before = found.len();
            found.extend(all.iter().filter(own).map(|name| (*name).to_owned()));
            if found.len() == before {
                let hint = closest(topic, all.iter().copied());
                let hint = hint.map_or(String::new(), |near| format!(", did you mean {near}?"));
                return Err(format!("{address} has no topic {topic}{hint}"));
            }
        }
        named.extend(found.iter().cloned());
        scan.topics = found;
    }
    Ok(named)
}

async fn offsets(
    client: &mut Client,
    topic: &str,
    partitions: &[i32],
    bound: Bound,
) -> Result<Vec<i64>, ClientError> {
    let earliest = client.offsets(topic, partitions, EARLIEST).await?;
    let latest = client.offsets(topic, partitions, LATEST).await?;
    let kept = earliest.iter().zip(&latest);
    Ok(match bound {
        Bound::Earliest => earliest,
        Bound::Latest => latest,
        Bound::Offset(offset) => kept
            .map(|(start, end)| offset.max(*start).min(*end))
            .collect(),
        Bound::Time(ms) => {
            let found = client.offsets(topic, partitions, ms).await?;
            let none_that_young = found.into_iter().zip(latest);
            none_that_young
                .map(|(offset, end)| if offset < 0 { end } else { offset })
                .collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_analytics::bind;
    use forebay_records::{BatchBuilder, Compression, RecordRef, records};

    fn stamped(times: &[i64]) -> Vec<Record> {
        if times.is_empty() {
            return Vec::new();
        }
        let mut builder = BatchBuilder::new();
        for &timestamp in times {
            builder.push(&RecordRef {
                timestamp,
                key: Some(b"a"),
                value: Some(b"1"),
                headers: &[],
            });
        }
        let batch = builder.finish(Compression::None).unwrap();
        records(&batch, 1 << 20)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn a_record_of_next_year_goes_with_its_neighbours() {
        let keys = |times: &[i64]| -> Vec<i64> {
            in_order(stamped(times))
                .iter()
                .map(|(key, _)| *key)
                .collect()
        };
        assert_eq!(keys(&[1, 2, 3]), [1, 2, 2]);
        assert_eq!(keys(&[1, 9_000, 3, 4]), [1, 3, 3, 3]);
        assert_eq!(keys(&[1, 2, 9_000]), [1, 2, 2]);
        // Neither does one of the past move many before it.
        let mut times: Vec<i64> = (100..200).collect();
        times.push(5);
        let moved = keys(&times).iter().filter(|key| **key == 5).count();
        assert_eq!(moved, 1 + NEIGHBOURS);
        assert_eq!(keys(&[7]), [7]);
        assert_eq!(keys(&[]), [0_i64; 0]);
    }

    #[test]
    fn a_topic_is_found_below_the_sites_of_a_hub() {
        let sql = "CREATE STREAM s FROM 'a/#' TOPIC 'readings'; SELECT path FROM s";
        let topics = |all: &[&str]| {
            let mut plan = bind::plan(sql).unwrap();
            let named = resolve(&mut plan, all, "hub:9092");
            named.map(|named| {
                (
                    named.into_iter().collect::<Vec<_>>(),
                    plan.scans.remove(0).topics,
                )
            })
        };
        let own = vec!["readings".to_owned()];
        let all = ["clock", "north.readings", "readings"];
        assert_eq!(topics(&all), Ok((own.clone(), own)));
        let sites = vec!["north.readings".to_owned(), "south.readings".to_owned()];
        let all = ["north.readings", "northreadings", "south.readings"];
        assert_eq!(topics(&all), Ok((sites.clone(), sites)));
        let nearest = topics(&["clock", "reading"]).unwrap_err();
        assert_eq!(
            nearest,
            "hub:9092 has no topic readings, did you mean reading?"
        );
        assert!(is_about_the_node("north.clock") && !is_about_the_node("o'clock"));
    }
}
