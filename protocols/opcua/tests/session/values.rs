//! Values in both directions, on a link that holds.

use std::sync::Arc;
use std::time::Duration;

use forebay_opcua::client::{Notice, WriteError};
use forebay_opcua::deadband::Deadband;
use forebay_opcua::pattern::Pattern;
use forebay_opcua::run::Standing;
use forebay_opcua::sample::Quality;
use forebay_opcua::value::Value;

use super::plant::{Options, Plant};
use super::watcher::{DEADLINE, Watcher, node, settings};

fn plant(variables: u32) -> (tempfile::TempDir, Plant) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        variables,
        ..Options::default()
    };
    let plant = Plant::start(&dir.path().join("server"), &options);
    (dir, plant)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_a_node_arrives_once_in_order() {
    let (dir, plant) = plant(3);
    let mut settings = settings(plant.port, dir.path());
    settings.nodes = vec![node("v0"), node("v2")];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    for number in 1..=100 {
        let number = f64::from(number);
        plant.set(&[("v0", number), ("v1", number), ("v2", -number)]);
        if number == 50.0 {
            watcher.value("v0", 50.0).await;
        }
    }
    watcher.value("v0", 100.0).await;
    watcher.value("v2", -100.0).await;
    let expected: Vec<f64> = (0..=100).map(f64::from).collect();
    assert_eq!(watcher.numbers("v0"), expected);
    let negative: Vec<f64> = expected.iter().map(|number| -number).collect();
    assert_eq!(watcher.numbers("v2"), negative);
    assert!(watcher.samples.iter().all(|sample| &*sample.name != "v1"));
    assert!(watcher.newest("v0").unwrap().timestamp_ms.is_some());
    watcher.client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsed_nodes_are_taken_but_for_the_excluded_ones_and_keep_their_names() {
    let (dir, plant) = plant(12);
    let mut settings = settings(plant.port, dir.path());
    settings.browse = vec![Pattern::parse("Objects/Line1/**").unwrap()];
    settings.exclude = vec![Pattern::parse("Objects/Line1/v1*").unwrap()];
    settings.nodes = vec![node("v2")];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    let names = watcher.notices.iter().find_map(|notice| match notice {
        Notice::Nodes {
            names,
            refused: 0,
            is_cut: false,
        } => Some(names.clone()),
        _ => None,
    });
    let names: std::collections::BTreeSet<Arc<str>> = names.unwrap().into_iter().collect();
    // v1, v10 and v11 are excluded; v2 keeps the name that it was given.
    let mut expected: std::collections::BTreeSet<Arc<str>> = [0, 3, 4, 5, 6, 7, 8, 9]
        .iter()
        .map(|number| format!("Objects/Line1/v{number}").into())
        .collect();
    expected.extend(["v2", "Objects/Line1/flag", "Objects/Line1/setpoint"].map(Arc::from));
    assert_eq!(names, expected);
    watcher
        .until("flag", |seen| {
            let flag = seen.newest("Objects/Line1/flag");
            flag.is_some_and(|sample| sample.value == Value::Bool(false))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_items_than_a_server_takes_at_once_go_in_batches() {
    let (dir, plant) = plant(2_500);
    let mut settings = settings(plant.port, dir.path());
    // The server takes 1,000 per request.
    settings.batch = 2_500;
    settings.browse = vec![Pattern::parse("Objects/Line1/v*").unwrap()];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    let names: Vec<String> = (0..2_500).map(|number| format!("v{number}")).collect();
    let values: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 7.5)).collect();
    plant.set(&values);
    watcher
        .until("all values", |seen| {
            let new = seen
                .samples
                .iter()
                .filter(|sample| sample.value == Value::Float(7.5));
            new.count() == 2_500
        })
        .await;
    let mut names: Vec<_> = watcher
        .samples
        .iter()
        .filter(|one| one.value == Value::Float(7.5))
        .collect();
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names.dedup_by(|a, b| a.name == b.name);
    assert_eq!(names.len(), 2_500, "one value each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_refuses_nodes_and_not_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        variables: 130,
        items_max: Some(107),
        ..Options::default()
    };
    let plant = Plant::start(&dir.path().join("server"), &options);
    let mut settings = settings(plant.port, dir.path());
    settings.batch = 50;
    settings.nodes = (0..130).map(|number| node(&format!("v{number}"))).collect();
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    watcher.value("v106", 0.0).await;
    watcher
        .until("refusal", |seen| {
            let last = seen
                .newest("v129")
                .and_then(|sample| sample.status.as_deref());
            last == Some("BadTooManyMonitoredItems")
        })
        .await;
    let refused = watcher
        .samples
        .iter()
        .filter(|sample| sample.quality == Quality::Bad);
    assert_eq!(refused.count(), 23);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_exist_is_bad_and_disturbs_no_other() {
    let (dir, plant) = plant(1);
    let mut settings = settings(plant.port, dir.path());
    let mut foreign = node("foreign");
    foreign.id = forebay_opcua::node::NodeRef::parse("nsu=urn:nobody;s=v0").unwrap();
    settings.nodes = vec![node("missing"), foreign, node("v0")];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    watcher.value("v0", 0.0).await;
    watcher
        .until("both refusals", |seen| {
            ["missing", "foreign"].iter().all(|name| {
                let sample = seen.newest(name);
                sample.is_some_and(|sample| sample.quality == Quality::Bad)
            })
        })
        .await;
    let status = |name: &str| watcher.newest(name).unwrap().status.clone().unwrap();
    assert_eq!(status("missing"), "BadNodeIdUnknown");
    assert_eq!(status("foreign"), "BadNodeIdUnknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_changes_stay_within_a_deadband() {
    let (dir, plant) = plant(1);
    let mut settings = settings(plant.port, dir.path());
    let mut banded = node("v0");
    banded.sampling.deadband = Deadband::Absolute(10.0);
    settings.nodes = vec![banded];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    for number in 1..=40 {
        plant.set(&[("v0", f64::from(number))]);
    }
    watcher.value("v0", 33.0).await;
    // From the last that was reported, not from the one before.
    assert_eq!(watcher.numbers("v0"), [0.0, 11.0, 22.0, 33.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_of_the_nodes_type_and_is_read_back() {
    let (dir, plant) = plant(1);
    let mut settings = settings(plant.port, dir.path());
    settings.nodes = vec![node("setpoint"), node("v0")];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    let written = watcher.write("setpoint", Value::Float(42.0)).await;
    assert_eq!(written, Ok(Value::Signed(42)));
    watcher.value("setpoint", 42.0).await;
    let misfits = [
        Value::Float(1.5),
        Value::Signed(40_000),
        Value::Text("hot".into()),
    ];
    for misfit in misfits {
        let refused = watcher.write("setpoint", misfit.clone()).await;
        assert!(
            matches!(refused, Err(WriteError::Misfit(_))),
            "{misfit:?}: {refused:?}"
        );
    }
    let refused = watcher.write("v0", Value::Float(1.0)).await;
    assert_eq!(refused, Err(WriteError::NotWritable));
    let refused = watcher.write("nobody", Value::Float(1.0)).await;
    assert_eq!(refused, Err(WriteError::NotConnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_configuration_of_nodes_keeps_the_session() {
    let (dir, plant) = plant(3);
    let mut settings = settings(plant.port, dir.path());
    settings.nodes = vec![node("v0"), node("v1")];
    let mut watcher = Watcher::new(settings.clone());
    watcher.live().await;
    let mut number = 0.0;
    let mut next = || {
        number += 1.0;
        number
    };
    for _ in 0..20 {
        plant.set(&[("v0", next())]);
    }
    settings.nodes = vec![node("v2"), node("v0")];
    watcher.client.reconfigure(settings);
    for _ in 0..20 {
        plant.set(&[("v0", next())]);
    }
    watcher.value("v2", 0.0).await;
    plant.set(&[("v0", next()), ("v2", 3.0)]);
    watcher.value("v2", 3.0).await;
    watcher.value("v0", 41.0).await;
    // Nothing is lost, nothing comes twice, and the session is the same.
    let expected: Vec<f64> = (0..=41).map(f64::from).collect();
    assert_eq!(watcher.numbers("v0"), expected);
    assert!(
        !watcher.has_standing(|standing| matches!(standing, Standing::Away(_) | Standing::Down(_)))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_leaves_no_task() {
    let (dir, plant) = plant(1);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let mut settings = settings(plant.port, dir.path());
    settings.nodes = vec![node("v0")];
    for is_closed in [true, false] {
        let mut watcher = Watcher::new(settings.clone());
        watcher.live().await;
        assert!(tasks() > before);
        if is_closed {
            watcher.client.close().await;
        } else {
            drop(watcher);
        }
        let gone = async {
            while tasks() > before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_nothing_to_say_is_not_left() {
    let (dir, plant) = plant(1);
    let mut settings = settings(plant.port, dir.path());
    settings.nodes = vec![node("v0")];
    settings.keep_alive = Duration::from_millis(100);
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    watcher.value("v0", 0.0).await;
    watcher.forget();
    // Ten times the silence that would end a session.
    let quiet = tokio::time::timeout(Duration::from_secs(3), watcher.client.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    plant.set(&[("v0", 1.0)]);
    watcher.value("v0", 1.0).await;
}
