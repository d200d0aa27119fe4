//! What a factory does to a session.

use std::time::Duration;

use forebay_opcua::client::Notice;
use forebay_opcua::run::Standing;
use forebay_opcua::sample::{AWAY, Quality};

use super::plant::{Options, Plant};
use super::proxy::Proxy;
use super::watcher::{DEADLINE, Watcher, node, settings};

fn options(variables: u32) -> Options {
    Options {
        variables,
        ..Options::default()
    }
}

fn is_down(standing: &Standing) -> bool {
    matches!(standing, Standing::Down(_) | Standing::Away(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_with_other_namespace_indexes_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("server");
    let plant = Plant::start(&pki, &options(2));
    let mut settings = settings(plant.port, dir.path());
    settings.nodes = vec![node("v0"), node("v1")];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    plant.set(&[("v0", 1.0), ("v1", 2.0)]);
    watcher.value("v0", 1.0).await;
    watcher.value("v1", 2.0).await;
    watcher.forget();
    let port = plant.kill();
    watcher
        .until("uncertain values", |seen| {
            ["v0", "v1"].iter().all(|name| {
                seen.newest(name).is_some_and(|sample| {
                    sample.quality == Quality::Uncertain
                        && sample.status.as_deref() == Some(AWAY)
                        && sample.timestamp_ms.is_none()
                })
            })
        })
        .await;
    let again = Options {
        port,
        others: 3,
        ..options(2)
    };
    let plant = Plant::start(&pki, &again);
    watcher.live().await;
    plant.set(&[("v0", 10.0), ("v1", 20.0)]);
    watcher.value("v0", 10.0).await;
    watcher.value("v1", 20.0).await;
    assert!(
        watcher
            .numbers("v0")
            .iter()
            .all(|number| [0.0, 10.0].contains(number))
    );
    assert!(
        watcher
            .numbers("v1")
            .iter()
            .all(|number| [0.0, 20.0].contains(number))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_behind_a_broken_connection_comes_whole() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(&dir.path().join("server"), &options(100));
    let proxy = Proxy::start(plant.port).await;
    let mut settings = settings(proxy.port, dir.path());
    let names: Vec<String> = (0..100).map(|number| format!("v{number}")).collect();
    settings.nodes = names.iter().map(|name| node(name)).collect();
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    watcher.value("v99", 0.0).await;
    proxy.cut();
    watcher
        .until("loss", |seen| seen.has_standing(is_down))
        .await;
    // 3,000 notifications in one message: the library's default is 1,000.
    for round in 1..=30 {
        let values: Vec<(&str, f64)> = names
            .iter()
            .map(|name| (name.as_str(), f64::from(round)))
            .collect();
        plant.set(&values);
    }
    proxy.restore();
    for name in &names {
        watcher.value(name, 30.0).await;
    }
    let expected: Vec<f64> = (0..=30).map(f64::from).collect();
    for name in &names {
        assert_eq!(watcher.numbers(name), expected, "{name}");
    }
    assert!(!watcher.has_standing(|standing| matches!(standing, Standing::Down(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_holds_its_connection_and_says_nothing_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(&dir.path().join("server"), &options(1));
    let proxy = Proxy::start(plant.port).await;
    let mut settings = settings(proxy.port, dir.path());
    settings.nodes = vec![node("v0")];
    settings.request_timeout = Duration::from_millis(500);
    settings.session_timeout = Duration::from_secs(3);
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    watcher.value("v0", 0.0).await;
    proxy.silence();
    watcher
        .until("loss", |seen| seen.has_standing(is_down))
        .await;
    watcher
        .until("uncertain value", |seen| {
            seen.newest("v0")
                .is_some_and(|sample| sample.quality == Quality::Uncertain)
        })
        .await;
    plant.set(&[("v0", 5.0)]);
    proxy.restore();
    watcher.value("v0", 5.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_flaps_loses_no_value_and_no_task() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(&dir.path().join("server"), &options(2));
    let proxy = Proxy::start(plant.port).await;
    let mut settings = settings(proxy.port, dir.path());
    settings.nodes = vec![node("v0"), node("v1")];
    let mut watcher = Watcher::new(settings);
    watcher.live().await;
    watcher.value("v0", 0.0).await;
    watcher.value("v1", -0.0).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for round in 1..=8 {
        proxy.cut();
        watcher
            .until("loss", |seen| seen.has_standing(is_down))
            .await;
        let number = f64::from(round);
        plant.set(&[("v0", number), ("v1", -number)]);
        proxy.restore();
        watcher.notices.clear();
        watcher.value("v0", number).await;
        watcher.value("v1", -number).await;
        watcher.notices.clear();
    }
    let expected: Vec<f64> = (0..=8).map(f64::from).collect();
    assert_eq!(watcher.numbers("v0"), expected);
    let settled = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, settled).await.is_ok(),
        "{} > {before}",
        tasks()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_starts_first_waits_for_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("server");
    // A port that was free a moment ago.
    let port = Plant::start(&pki, &options(1)).kill();
    let mut settings = settings(port, dir.path());
    settings.nodes = vec![node("v0")];
    let mut watcher = Watcher::new(settings);
    watcher
        .until("failure", |seen| {
            seen.has_standing(|standing| matches!(standing, Standing::Down(_)))
        })
        .await;
    assert!(watcher.samples.is_empty(), "nobody knows the nodes yet");
    let _plant = Plant::start(&pki, &Options { port, ..options(1) });
    watcher.value("v0", 0.0).await;
    assert!(
        !watcher
            .notices
            .iter()
            .any(|notice| matches!(notice, Notice::Lost { .. }))
    );
}
