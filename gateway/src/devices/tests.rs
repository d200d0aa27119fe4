//! The fleet with a device that only notes what happens to it.

use std::sync::atomic::{AtomicU64, Ordering};

use forebay_storage::Storage;
use forebay_storage::disk::SimDisk;
use tokio::sync::{mpsc, watch};

use std::collections::BTreeMap;

use super::fleet::{Fleet, Kind, Life, Wanted};
use super::*;
use crate::ingest::routes::Routes;
use crate::queries::board::Board;

/// What a device was through. Its number tells one task from another.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Started(String, u64),
    Told(u64),
    Stopped(u64),
}

/// A configuration of the noting device.
#[derive(Clone)]
struct Noting {
    name: &'static str,
    tags: u32,
    panics: bool,
    events: mpsc::Sender<Event>,
}

impl PartialEq for Noting {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.tags) == (other.name, other.tags)
    }
}

/// Events that wait for the test at most; a test has fewer.
const EVENTS: usize = 64;

static TASKS: AtomicU64 = AtomicU64::new(0);

fn run(
    mut config: watch::Receiver<Arc<Noting>>,
    _context: DeviceContext,
    mut stop: watch::Receiver<bool>,
) -> Life {
    Box::pin(async move {
        let task = TASKS.fetch_add(1, Ordering::SeqCst);
        let first = Arc::clone(&config.borrow_and_update());
        let note = |event| first.events.try_send(event).expect("the test listens");
        note(Event::Started(first.name.to_owned(), task));
        assert!(!first.panics, "as the test wants it");
        loop {
            tokio::select! {
                _ = config.changed() => note(Event::Told(task)),
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        note(Event::Stopped(task));
    })
}

fn surroundings() -> (Storage, Surroundings) {
    let (storage, _) = Storage::open(
        forebay_storage::Config::new("/data"),
        Arc::new(SimDisk::new(1)),
    )
    .unwrap();
    let routes = Arc::new(Routes::new(&[]).unwrap());
    let publisher = Publisher::open(storage.clone(), routes);
    let around = Surroundings {
        publisher: publisher.clone(),
        commands: Commands::default(),
        queries: Board::open(&publisher),
        data_dir: Path::new("/data").into(),
        config_dir: Path::new("/etc").into(),
    };
    (storage, around)
}

fn wanted(devices: &[&Noting]) -> Wanted<Noting> {
    let entry = |one: &&Noting| (one.name.to_owned(), (one.name.to_owned(), (*one).clone()));
    devices.iter().map(entry).collect()
}

#[tokio::test]
async fn a_changed_device_is_told_and_the_others_do_not_notice() {
    let (storage, around) = surroundings();
    let (events, mut seen) = mpsc::channel(EVENTS);
    let device = |name, tags| Noting {
        name,
        tags,
        panics: false,
        events: events.clone(),
    };
    let mut fleet = Fleet::new("noting", |_| BTreeMap::new(), run);
    let mut changes = Changes::default();
    let [a, b] = [device("a", 1), device("b", 1)];
    fleet.change(wanted(&[&a, &b]), &around, &mut changes).await;
    assert_eq!(changes.added, ["a", "b"]);
    let mut tasks = BTreeMap::new();
    for _ in 0..2 {
        let Some(Event::Started(name, task)) = seen.recv().await else {
            panic!("both start");
        };
        tasks.insert(name, task);
    }

    let mut changes = Changes::default();
    let [b, c] = [device("b", 2), device("c", 1)];
    fleet
        .change(wanted(&[&a, &b, &c]), &around, &mut changes)
        .await;
    let expected = Changes {
        added: vec!["c".to_owned()],
        changed: vec!["b".to_owned()],
        removed: vec![],
        unchanged: vec!["a".to_owned()],
    };
    assert_eq!(changes, expected);
    let mut got = [seen.recv().await.unwrap(), seen.recv().await.unwrap()];
    got.sort_by_key(|event| matches!(event, Event::Started(..)));
    assert_eq!(got[0], Event::Told(tasks["b"]));

    let mut changes = Changes::default();
    fleet.change(wanted(&[&b, &c]), &around, &mut changes).await;
    assert_eq!(changes.removed, ["a"]);
    assert_eq!(seen.recv().await, Some(Event::Stopped(tasks["a"])));
    fleet.stop().await;
    storage.close();
}

#[tokio::test(start_paused = true)]
async fn a_device_that_panics_is_started_again() {
    let (storage, around) = surroundings();
    let (events, mut seen) = mpsc::channel(EVENTS);
    let broken = Noting {
        name: "broken",
        tags: 1,
        panics: true,
        events,
    };
    let mut fleet = Fleet::new("noting", |_| BTreeMap::new(), run);
    fleet
        .change(wanted(&[&broken]), &around, &mut Changes::default())
        .await;
    let started = tokio::time::Instant::now();
    for _ in 0..5 {
        assert!(matches!(seen.recv().await, Some(Event::Started(..))));
    }
    // Pauses of 1, 2, 4 and 8 seconds, each at least halved by the jitter.
    assert!(started.elapsed().as_secs_f64() > 7.4);
    let health = fleet.healths()[0].snapshot();
    assert_eq!(health.state, DeviceState::Down);
    fleet.stop().await;
    storage.close();
}
