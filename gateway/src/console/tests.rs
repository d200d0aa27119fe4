//! Paths and series over a log on a simulated disk.

use std::path::Path;
use std::sync::Arc;

use forebay_records::RecordRef;
use forebay_storage::disk::SimDisk;
use forebay_storage::{Partition, Storage, TopicConfig};

use super::*;

fn open() -> Storage {
    let mut config = forebay_storage::Config::new(Path::new("/data"));
    config.threads = false;
    config.retention.keep_free = 0;
    config.ballast_bytes = 0;
    config.segment_size = 1 << 20;
    config.preallocation = forebay_storage::Preallocation::None;
    Storage::open(config, Arc::new(SimDisk::new(7))).unwrap().0
}

fn topic(storage: &Storage, name: &str) -> Partition {
    let (creating, name) = (storage.clone(), name.to_owned());
    let config = TopicConfig::with_partitions(1);
    let topic = committed(storage, move || {
        creating.create_topic(&name, config).unwrap()
    });
    topic.partition(0).unwrap()
}

/// Commits until something is done that waits for it.
fn committed<T: Send + 'static>(storage: &Storage, work: impl FnOnce() -> T + Send + 'static) -> T {
    let working = std::thread::spawn(work);
    while !working.is_finished() {
        storage.run_commit();
        std::thread::yield_now();
    }
    working.join().unwrap()
}

fn publish(storage: &Storage, partition: &Partition, path: &str, time_ms: i64, json: &str) {
    let record = RecordRef {
        timestamp: time_ms,
        key: Some(path.as_bytes()),
        value: Some(json.as_bytes()),
        headers: &[],
    };
    partition.append_record(&record).unwrap();
    storage.run_commit();
}

fn known(console: &Console) -> Vec<(String, f64)> {
    let mut known = Vec::new();
    console.each(|latest| {
        let value = latest
            .numbers
            .first()
            .map_or(f64::NAN, |number| number.value);
        known.push((latest.path.to_string(), value));
    });
    known
}

async fn until(console: &Console, wanted: &[(&str, f64)]) {
    let mut revisions = console.revisions();
    let wanted: Vec<(String, f64)> = wanted
        .iter()
        .map(|(path, value)| ((*path).to_owned(), *value))
        .collect();
    while known(console) != wanted {
        console.look();
        revisions.changed().await.unwrap();
    }
}

fn wanted(from_ms: i64, to_ms: i64, after: Option<u64>) -> Wanted<'static> {
    Wanted {
        path: "",
        field: "",
        from_ms,
        to_ms,
        step_ms: 1_000,
        after,
    }
}

#[tokio::test(start_paused = true)]
async fn paths_are_there_with_what_came_before_and_after() {
    let storage = open();
    let partition = topic(&storage, "readings");
    publish(&storage, &partition, "p/a", 1_000, r#"{"value":1}"#);
    publish(&storage, &partition, "p/b", 1_000, "5");
    let console = Console::new(storage.clone());
    until(&console, &[("p/a", 1.0), ("p/b", 5.0)]).await;
    publish(&storage, &partition, "p/b", 2_000, "6");
    until(&console, &[("p/a", 1.0), ("p/b", 6.0)]).await;
    let other = topic(&storage, "others");
    publish(&storage, &other, "q", 2_000, "7");
    until(&console, &[("p/a", 1.0), ("p/b", 6.0), ("q", 7.0)]).await;
    let deleting = storage.clone();
    committed(&storage, move || deleting.delete_topic("others").unwrap());
    publish(&storage, &partition, "p/a", 3_000, "8");
    until(&console, &[("p/a", 8.0), ("p/b", 6.0)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_silent_for_long_is_found_in_the_past() {
    let storage = open();
    let partition = topic(&storage, "readings");
    publish(&storage, &partition, "old", 1_000, "1");
    let filler = format!("\"{}\"", "x".repeat(60_000));
    // More than one step reads.
    for step in 0..200 {
        publish(&storage, &partition, "loud", 2_000 + step, &filler);
    }
    let console = Console::new(storage.clone());
    console.ready().await;
    assert_eq!(known(&console).len(), 1, "the newest come first");
    let mut revisions = console.revisions();
    while known(&console).len() < 2 {
        revisions.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_is_followed_while_somebody_looks_only() {
    let storage = open();
    let partition = topic(&storage, "readings");
    publish(&storage, &partition, "p", 1_000, "1");
    let console = Console::new(storage.clone());
    until(&console, &[("p", 1.0)]).await;
    // Virtual time: nobody looks for longer than the log is followed.
    tokio::time::sleep(LOOK * 2).await;
    assert!(!console.shared.looks.lock().is_followed);
    publish(&storage, &partition, "p", 2_000, "2");
    until(&console, &[("p", 2.0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_series_has_its_numbers_in_steps() {
    let storage = open();
    let partition = topic(&storage, "readings");
    for (time_ms, value) in [(500, 1), (1_200, 2), (1_900, 6), (3_000, 7), (4_000, 9)] {
        let json = format!(r#"{{"value":{value}}}"#);
        publish(&storage, &partition, "p", time_ms, &json);
        publish(&storage, &partition, "other", time_ms, "100");
    }
    let console = Console::new(storage);
    let read = |span| console.series("p".to_owned(), "value".to_owned(), span);
    let series = read(wanted(1_000, 4_000, None)).await.unwrap();
    let expected = [(1_000, 2.0, 6.0, 8.0, 2), (3_000, 7.0, 7.0, 7.0, 1)];
    assert_eq!(series.points, expected);
    assert_eq!(series.next, None);
    assert_eq!(read(wanted(9_000, 10_000, None)).await.unwrap().points, []);
    let missing = console.series("nowhere".to_owned(), String::new(), wanted(0, 1, None));
    assert!(matches!(
        missing.await,
        Err(SeriesError::UnknownPath { path }) if path == "nowhere"
    ));
}

#[tokio::test(start_paused = true)]
async fn a_long_series_comes_in_portions_that_add_up() {
    let storage = open();
    let partition = topic(&storage, "readings");
    let filler = "x".repeat(200_000);
    for step in 0..120_i64 {
        let json = format!(r#"{{"value":{step},"note":"{filler}"}}"#);
        publish(&storage, &partition, "p", step * 1_000, &json);
    }
    let console = Console::new(storage);
    let mut points = Vec::new();
    let mut after = None;
    let mut portions = 0;
    loop {
        let span = wanted(0, 120_000, after);
        let series = console.series("p".to_owned(), "value".to_owned(), span);
        let series = series.await.unwrap();
        points.extend(series.points);
        portions += 1;
        after = series.next;
        if after.is_none() {
            break;
        }
    }
    assert!(portions > 1);
    let expected: Vec<_> = (0..120_i32)
        .map(|step| {
            let value = f64::from(step);
            (i64::from(step) * 1_000, value, value, value, 1)
        })
        .collect();
    assert_eq!(points, expected);
}

#[tokio::test(start_paused = true)]
async fn events_of_alerts_are_in_order_and_filtered() {
    let storage = open();
    let partition = topic(&storage, "alerts");
    publish(&storage, &partition, "a/1", 1_000, r#"{"state":"raised"}"#);
    publish(&storage, &partition, "a/2", 2_000, r#"{"state":"raised"}"#);
    publish(&storage, &partition, "a/1", 3_000, "no alert");
    publish(&storage, &partition, "a/1", 4_000, r#"{"state":"cleared"}"#);
    let console = Console::new(storage);
    let events = |from| console.alert_events("alerts", from, |path: &str| path == "a/1");
    let texts = |events: Vec<AlertEvent>| -> Vec<String> {
        events.iter().map(|event| event.alert.to_string()).collect()
    };
    let (raised, cleared) = (r#"{"state":"raised"}"#, r#"{"state":"cleared"}"#);
    assert_eq!(texts(events(0).await.unwrap()), [raised, cleared]);
    assert_eq!(texts(events(1_500).await.unwrap()), [cleared]);
    let none = console.alert_events("nothing", 0, |_: &str| true);
    assert_eq!(none.await.unwrap().len(), 0);
}
