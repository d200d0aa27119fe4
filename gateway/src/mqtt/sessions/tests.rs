use forebay_storage::disk::RealDisk;
use forebay_storage::{Config, Preallocation};

use super::super::dispatch::Dispatch;
use super::*;

fn sessions(dir: &std::path::Path) -> Arc<Sessions> {
    let mut config = Config::new(dir);
    config.preallocation = Preallocation::None;
    config.retention.keep_free = 0;
    config.ballast_bytes = 0;
    let (storage, _) = Storage::open(config, Arc::new(RealDisk::new())).unwrap();
    let dispatch = Dispatch::start(storage.clone(), Arc::default()).unwrap();
    let shares = Shares::new(storage.clone(), dispatch, Arc::default());
    Sessions::load(storage, shares, 0)
}

fn fresh(expiry_seconds: u32) -> SessionRecord {
    SessionRecord {
        expiry_seconds,
        subscriptions: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn compacting_changes_nothing_for_sessions() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().to_owned();
    let opening = tokio::task::spawn_blocking(move || sessions(&dir));
    let sessions = opening.await.unwrap();
    for (client, expiry) in [("soon", 10), ("later", 60), ("never", EXPIRY_NEVER)] {
        let mut claim = sessions.claim(client).await.unwrap();
        let written = tokio::task::block_in_place(|| claim.reset(Some(&fresh(expiry)), None));
        assert!(written.unwrap().is_some());
        claim.release(0, expiry);
    }
    let mut here = sessions.claim("here").await.unwrap();
    sessions.compact();
    assert_eq!(sessions.count(), 4);
    assert_eq!(sessions.next_expired(9_999), None);
    assert_eq!(sessions.next_expired(10_000).as_deref(), Some("soon"));
    assert!(tokio::task::block_in_place(|| sessions.end(&"soon".into())));
    assert_eq!(sessions.next_expired(59_999), None);
    assert_eq!(sessions.next_expired(60_000).as_deref(), Some("later"));
    let later = sessions.claim("later").await.unwrap();
    assert!(later.is_stored(), "the state holds it");
    assert_eq!(sessions.next_expired(i64::MAX), None, "it is connected");
    // A connection that was there before is still found by the next.
    let again = tokio::spawn({
        let sessions = Arc::clone(&sessions);
        async move { sessions.claim("here").await.map(|claim| claim.number()) }
    });
    here.taken_over().await;
    let number = here.number();
    drop(here);
    assert!(again.await.unwrap().unwrap() > number);
    drop(later);
    tokio::task::block_in_place(|| sessions.storage.close());
}
