//! Queries over a log on a simulated disk, whose power is cut.

use std::collections::BTreeMap;
use std::path::Path;

use forebay_records::{RecordRef, records};
use forebay_storage::Storage;
use forebay_storage::disk::SimDisk;

use super::runner::BeginError;
use super::*;
use crate::config::Beginning;
use crate::devices::Health;
use crate::ingest::routes::{RouteSpec, Routes};

const AVERAGES: &str = "CREATE QUERY level AS
    SELECT machine, avg(rms) AS level, count(*) AS rows, window_start
    FROM TUMBLE(\"plant/{machine}/vibration\", INTERVAL '10 s')
    GROUP BY machine;
    CREATE ALERT worn ON level WHEN level > 7 CLEAR WHEN level < 4 SEVERITY critical";

/// A node without threads: commits are made by the test.
struct Site {
    disk: SimDisk,
    settings: Arc<config::Query>,
    storage: Storage,
    publisher: Publisher,
    board: Board,
    health: Health,
    runner: Option<Runner>,
    now_ms: i64,
}

/// Path, time and value of a record.
type Seen = (String, i64, String);

fn settings(text: &str) -> config::Query {
    config::Query {
        name: "level".to_owned(),
        text: text.to_owned(),
        topic: "level".to_owned(),
        from: Beginning::Earliest,
        memory: 8 << 20,
    }
}

fn open_storage(disk: &SimDisk) -> Storage {
    let mut config = forebay_storage::Config::new(Path::new("/data"));
    config.threads = false;
    config.retention.keep_free = 0;
    config.ballast_bytes = 0;
    config.segment_size = 1 << 20;
    config.preallocation = forebay_storage::Preallocation::None;
    Storage::open(config, Arc::new(disk.clone())).unwrap().0
}

impl Site {
    fn new(settings: config::Query, partitions: u32) -> Self {
        let disk = SimDisk::new(7);
        Self::on(disk, Arc::new(settings), partitions)
    }

    fn on(disk: SimDisk, settings: Arc<config::Query>, partitions: u32) -> Self {
        let storage = open_storage(&disk);
        let spec = RouteSpec {
            filter: "plant/#".to_owned(),
            topic: "plant".to_owned(),
            key: None,
            partitions,
            durability: Durability::Log,
        };
        let node_routes = Routes::new(&[spec]).unwrap();
        node_routes
            .set_results(&routes(std::slice::from_ref(&*settings)))
            .unwrap();
        let publisher = Publisher::open(storage.clone(), Arc::new(node_routes));
        // Creating a topic waits for a commit, which nobody else makes here.
        for (topic, count) in [
            ("plant", partitions),
            ("level", 1),
            ("level.late", 1),
            ("alerts", 1),
        ] {
            if storage.topic(topic).is_none() {
                let config = forebay_storage::TopicConfig {
                    partitions: count,
                    ..forebay_storage::TopicConfig::default()
                };
                let creating = storage.clone();
                let created = std::thread::spawn(move || creating.create_topic(topic, config));
                while !created.is_finished() {
                    storage.run_commit();
                    std::thread::yield_now();
                }
                created.join().unwrap().unwrap();
            }
        }
        Self {
            board: Board::open(&publisher),
            health: Health::new("level", "query"),
            disk,
            settings,
            storage,
            publisher,
            runner: None,
            now_ms: 0,
        }
    }

    fn open(&mut self) -> Result<(), BeginError> {
        // As in a node, where it has ended before.
        self.runner = None;
        let place = Workplace {
            publisher: self.publisher.clone(),
            board: self.board.clone(),
            health: self.health.clone(),
        };
        self.runner = Some(Runner::open(
            &place,
            Arc::clone(&self.settings),
            self.now_ms,
        )?);
        self.storage.run_commit();
        Ok(())
    }

    fn publish(&mut self, path: &str, at: i64, json: &str) {
        let target = self.publisher.ingest().target(path).unwrap();
        let record = RecordRef {
            timestamp: at,
            key: Some(path.as_bytes()),
            value: Some(json.as_bytes()),
            headers: &[],
        };
        target.partition.append_record(&record).unwrap();
        self.now_ms = self.now_ms.max(at);
    }

    /// Lets the query work until there is nothing to do.
    fn settle(&mut self) {
        self.storage.run_commit();
        let runner = self.runner.as_mut().unwrap();
        while runner.is_due() || runner.is_silence_due(self.now_ms) {
            runner.step(self.now_ms).unwrap();
            self.storage.run_commit();
        }
    }

    /// The process is killed: what is in memory is gone, what was written stays.
    fn kill(self, partitions: u32) -> Self {
        self.storage.run_commit();
        let disk = self.disk.copy();
        self.again(disk, partitions)
    }

    /// The power goes: what was not synced is there or not.
    fn cut_power(self, seed: u64, partitions: u32) -> Self {
        let disk = self.disk.crash(seed);
        self.again(disk, partitions)
    }

    fn again(self, disk: SimDisk, partitions: u32) -> Self {
        let Self {
            settings,
            now_ms,
            runner,
            storage,
            publisher,
            board,
            ..
        } = self;
        drop((runner, board, publisher, storage));
        let mut site = Self::on(disk, settings, partitions);
        site.now_ms = now_ms;
        site.open().unwrap();
        site
    }

    fn log(&self, topic: &str) -> Vec<Seen> {
        let topic = self.storage.topic(topic).unwrap();
        let partition = topic.partition(0).unwrap();
        let (mut from, end) = (
            partition.offsets().log_start,
            partition.offsets().high_watermark,
        );
        let mut found = Vec::new();
        while from < end {
            let chunk = partition.read(from, 1 << 20, true).unwrap();
            for batch in &chunk.batches {
                for record in records(batch, 1 << 20).unwrap().map(Result::unwrap) {
                    let text = |bytes: &Option<Bytes>| {
                        String::from_utf8(bytes.as_deref().unwrap_or_default().to_vec()).unwrap()
                    };
                    found.push((text(&record.key), record.timestamp, text(&record.value)));
                }
            }
            from = chunk.next_offset;
        }
        found
    }

    fn input_len(&self) -> u64 {
        let topic = self.storage.topic("plant").unwrap();
        let partitions = (0..topic.partition_count()).filter_map(|index| topic.partition(index));
        partitions
            .map(|partition| partition.offsets().log_end)
            .sum()
    }
}

use bytes::Bytes;

fn vibration(machine: u64, rms: f64) -> (String, String) {
    (
        format!("plant/m{machine}/vibration"),
        format!("{{\"rms\":{rms}}}"),
    )
}

#[test]
fn rows_alerts_and_late_records_are_in_the_log_and_on_the_board() {
    let mut site = Site::new(settings(AVERAGES), 1);
    site.open().unwrap();
    for (at, rms) in [(1_000, 8.0), (2_000, 9.0), (13_000, 2.0), (14_000, 1.0)] {
        let (path, json) = vibration(3, rms);
        site.publish(&path, at, &json);
    }
    site.settle();
    let (path, _, row) = &site.log("level")[0];
    assert_eq!(path, "forebay/queries/level/m3");
    assert_eq!(
        row,
        "{\"machine\":\"m3\",\"level\":8.5,\"rows\":2,\"window_start\":0}"
    );
    let alerts = site.log("alerts");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].0, "forebay/alerts/level/worn/m3");
    let active = site.board.alerts();
    assert_eq!((active.len(), active[0].1.query.as_str()), (1, "level"));
    let retained = Arc::clone(site.publisher.retained());
    let kept = retained.read(&results::topic_name(&alerts[0].0).unwrap());
    assert_eq!(kept.unwrap().payload, alerts[0].2);

    // A record of a window that has closed.
    let (path, json) = vibration(3, 5.0);
    site.publish(&path, 3_000, &json);
    // The next window clears the alert.
    site.publish(&path, 33_000, &json);
    site.settle();
    let late = site.log("level.late");
    assert_eq!(
        late,
        [(
            "forebay/queries/level/late/plant/m3/vibration".to_owned(),
            3_000,
            json
        )]
    );
    assert_eq!(site.log("alerts").len(), 2);
    assert!(site.board.alerts().is_empty());
    assert_eq!(retained.count(), 0);
}

#[test]
fn silence_closes_windows_once_and_a_restart_knows() {
    let mut site = Site::new(settings(AVERAGES), 1);
    site.open().unwrap();
    let (path, json) = vibration(1, 2.0);
    site.publish(&path, 1_000, &json);
    site.settle();
    assert_eq!(site.log("level").len(), 0);
    site.now_ms = 60_000;
    site.settle();
    assert_eq!(site.log("level").len(), 1);
    let mut site = site.kill(1);
    site.now_ms = 90_000;
    site.settle();
    assert_eq!(site.log("level").len(), 1);
    // A record of the window that silence closed is late after the restart, too.
    site.publish(&path, 2_000, &json);
    site.settle();
    assert_eq!(
        (site.log("level").len(), site.log("level.late").len()),
        (1, 1)
    );
}

#[test]
fn another_text_begins_anew_and_ends_the_alerts_of_the_one_before() {
    let mut site = Site::new(settings(AVERAGES), 1);
    site.open().unwrap();
    for (at, rms) in [(1_000, 9.0), (13_000, 9.0), (14_000, 9.0)] {
        let (path, json) = vibration(3, rms);
        site.publish(&path, at, &json);
    }
    site.settle();
    assert_eq!(site.board.alerts().len(), 1);
    let mut other = settings(&AVERAGES.replace("10 s", "5 s"));
    other.from = Beginning::Latest;
    site.settings = Arc::new(other);
    site.open().unwrap();
    site.settle();
    assert!(site.board.alerts().is_empty());
    let alerts = site.log("alerts");
    assert!(alerts[1].2.contains("\"withdrawn\""), "{alerts:?}");
    // What was open is forgotten: it belonged to another query.
    site.now_ms = 200_000;
    site.settle();
    assert_eq!(site.log("level").len(), 1);
}

#[test]
fn two_runners_of_a_query_never_commit_side_by_side() {
    let mut site = Site::new(settings(AVERAGES), 1);
    assert!(!site.board.is_leased("level"));
    site.open().unwrap();
    assert!(site.board.is_leased("level"));
    let board = site.board.clone();
    let next = std::thread::spawn(move || {
        let lease = board.lease("level");
        board.is_leased("level").then_some(lease)
    });
    let (path, json) = vibration(1, 2.0);
    site.publish(&path, 1_000, &json);
    site.settle();
    site.runner = None;
    assert!(next.join().unwrap().is_some());
    assert!(!site.board.is_leased("level"));
    site.open().unwrap();
}

#[test]
fn a_query_that_begins_at_the_end_stays_there_over_a_restart() {
    let mut late = settings(AVERAGES);
    late.from = Beginning::Latest;
    let mut site = Site::new(late, 1);
    let (path, json) = vibration(1, 2.0);
    site.publish(&path, 1_000, &json);
    site.storage.run_commit();
    site.open().unwrap();
    let mut site = site.kill(1);
    site.publish(&path, 12_000, &json);
    let mut site = site.kill(1);
    site.now_ms = 100_000;
    site.settle();
    let rows = site.log("level");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(
        rows[0].2.contains("\"rows\":1,\"window_start\":10000"),
        "{rows:?}"
    );
}

#[test]
fn a_large_state_is_a_file_and_is_read_back() {
    let mut site = Site::new(settings(AVERAGES), 1);
    site.open().unwrap();
    for machine in 0..20_000 {
        let (path, json) = vibration(machine, 2.0);
        site.publish(&path, 1_000, &json);
        if machine % 1_000 == 0 {
            site.settle();
        }
    }
    site.settle();
    site.runner.as_mut().unwrap().close();
    assert_eq!(site.storage.blobs().len(), 1);
    let mut site = site.kill(1);
    site.now_ms = 100_000;
    site.settle();
    assert_eq!(site.log("level").len(), 20_000);
}

#[test]
fn a_snapshot_that_is_gone_is_told_and_the_query_goes_on() {
    let mut site = Site::new(settings(AVERAGES), 1);
    site.open().unwrap();
    for machine in 0..5_000 {
        let (path, json) = vibration(machine, 2.0);
        site.publish(&path, 1_000, &json);
    }
    site.settle();
    site.runner.as_mut().unwrap().close();
    site.storage.run_commit();
    let blobs = site.storage.blobs();
    site.storage.remove_blob(&blobs[0]).unwrap();
    let mut site = site.kill(1);
    let alarms = site.health.snapshot().alarms;
    assert!(alarms["state-lost"].contains(&blobs[0]), "{alarms:?}");
    let (path, json) = vibration(1, 2.0);
    site.publish(&path, 150_000, &json);
    site.now_ms = 300_000;
    site.settle();
    assert_eq!(site.log("level").len(), 1);
}

/// Records in an order that is not quite that of their times.
fn traffic(seed: u64, count: usize, disorder_ms: i64) -> Vec<(String, i64, String)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let record = |index: usize| {
        let base = 1_000_000 + index as i64 * 90;
        let at = base - random.i64(0..=disorder_ms);
        let machine = random.u64(0..5);
        let (path, json) = vibration(machine, f64::from(random.u32(0..100)) / 10.0);
        (path, at, json)
    };
    (0..count).map(record).collect()
}

/// Runs a query over the traffic, and closes everything.
fn run_through(
    text: &str,
    records: &[Seen],
    partitions: u32,
    breaks: Option<u64>,
) -> [Vec<Seen>; 3] {
    let mut random = fastrand::Rng::with_seed(breaks.unwrap_or(0));
    let mut site = Site::new(settings(text), partitions);
    site.open().unwrap();
    let mut next = 0;
    while next < records.len() {
        let end = records.len().min(next + random.usize(1..120));
        for (path, at, json) in &records[next..end] {
            site.publish(path, *at, json);
        }
        next = end;
        if random.u32(0..4) > 0 {
            site.storage.run_commit();
        }
        match (breaks, random.u32(0..6)) {
            (Some(_), 0) => site = site.kill(partitions),
            (Some(_), 1) => {
                // Steps that are committed and not durable go with the power.
                let runner = site.runner.as_mut().unwrap();
                for _ in 0..random.u32(0..3) {
                    if runner.is_due() {
                        runner.step(site.now_ms).unwrap();
                    }
                }
                site = site.cut_power(random.u64(..), partitions);
                // What was not acknowledged is sent again.
                next = usize::try_from(site.input_len()).unwrap();
            }
            (_, 2 | 3) => site.settle(),
            _ => {}
        }
    }
    site.settle();
    site.now_ms += 10_000_000;
    site.settle();
    let sorted = |topic: &str| {
        let mut log = site.log(topic);
        if partitions > 1 {
            log.sort();
        }
        log
    };
    [sorted("level"), sorted("level.late"), sorted("alerts")]
}

const SESSIONS: &str = "CREATE QUERY level AS
    SELECT machine, max(rms) AS peak, count(*) AS rows, window_start
    FROM SESSION(\"plant/{machine}/vibration\", INTERVAL '800 ms')
    GROUP BY machine";

const SLIDING: &str = "CREATE QUERY level AS
    SELECT machine, percentile(rms, 0.9) AS high, window_start
    FROM HOP(\"plant/{machine}/vibration\", INTERVAL '1 s', INTERVAL '7 s')
    GROUP BY machine;
    CREATE ALERT worn ON level WHEN high > 9.2 CLEAR WHEN high < 8.8";

#[test]
fn kills_and_power_cuts_change_no_row() {
    for (text, disorder) in [(AVERAGES, 9_000), (SESSIONS, 1_500), (SLIDING, 4_000)] {
        let records = traffic(11, 2_000, disorder);
        let expected = run_through(text, &records, 1, None);
        assert!(expected[0].len() > 50, "{}", expected[0].len());
        if disorder > 8_000 {
            assert!(!expected[1].is_empty());
        }
        for seed in 1..12 {
            let found = run_through(text, &records, 1, Some(seed));
            for (found, expected) in found.iter().zip(&expected) {
                let count = |log: &[Seen]| {
                    log.iter().fold(BTreeMap::new(), |mut count, one| {
                        *count.entry(one.clone()).or_insert(0) += 1;
                        count
                    })
                };
                let (found, expected) = (count(found), count(expected));
                let extra: Vec<_> = found
                    .iter()
                    .filter(|one| expected.get(one.0) != Some(one.1))
                    .collect();
                let missing: Vec<_> = expected
                    .iter()
                    .filter(|one| found.get(one.0) != Some(one.1))
                    .collect();
                assert!(
                    extra.is_empty() && missing.is_empty(),
                    "seed {seed}: extra {extra:?}, missing {missing:?}"
                );
            }
        }
    }
}

#[test]
fn several_partitions_give_the_same_rows() {
    // Within the delay of the watermark nothing is late in any order.
    let records = traffic(5, 2_000, 1_000);
    let expected = run_through(AVERAGES, &records, 1, None);
    assert!(expected[1].is_empty());
    for seed in 1..8 {
        let [mut rows, late, _] = run_through(AVERAGES, &records, 3, Some(seed));
        let mut wanted = expected[0].clone();
        wanted.sort();
        rows.sort();
        // Sums of doubles in another order differ in the last digits.
        let shape = |rows: &[Seen]| {
            let shape = rows.iter().map(|(path, at, json)| {
                let row: serde_json::Value = serde_json::from_str(json).unwrap();
                (
                    path.clone(),
                    *at,
                    row["rows"].as_u64(),
                    row["window_start"].as_i64(),
                )
            });
            shape.collect::<Vec<_>>()
        };
        assert_eq!(late, []);
        assert_eq!(shape(&rows), shape(&wanted), "seed {seed}");
    }
}
