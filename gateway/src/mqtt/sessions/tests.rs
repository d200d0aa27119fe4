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
        user: None,
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
        let mut claim = sessions.claim(client, &Claimant::Anybody).await.unwrap();
        let written = tokio::task::block_in_place(|| claim.reset(Some(&fresh(expiry)), None));
        assert!(written.unwrap().is_some());
        claim.release(0, expiry);
    }
    let mut here = sessions.claim("here", &Claimant::Anybody).await.unwrap();
    sessions.compact();
    assert_eq!(sessions.count(), 4);
    assert_eq!(sessions.next_expired(9_999), None);
    assert_eq!(sessions.next_expired(10_000).as_deref(), Some("soon"));
    assert!(tokio::task::block_in_place(|| sessions.end(&"soon".into())));
    assert_eq!(sessions.next_expired(59_999), None);
    assert_eq!(sessions.next_expired(60_000).as_deref(), Some("later"));
    let later = sessions.claim("later", &Claimant::Anybody).await.unwrap();
    assert!(later.is_stored(), "the state holds it");
    assert_eq!(sessions.next_expired(i64::MAX), None, "it is connected");
    // A connection that was there before is still found by the next.
    let again = tokio::spawn({
        let sessions = Arc::clone(&sessions);
        async move {
            sessions
                .claim("here", &Claimant::Anybody)
                .await
                .map(|claim| claim.number())
        }
    });
    here.taken_over().await;
    let number = here.number();
    drop(here);
    assert!(again.await.unwrap().unwrap() > number);
    drop(later);
    tokio::task::block_in_place(|| sessions.storage.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_belongs_to_its_user() {
    let scratch = tempfile::tempdir().unwrap();
    let sessions = tokio::task::block_in_place(|| sessions(scratch.path()));
    let user = |name: &str| Claimant::Visitor(Some(name.into()));
    let claimed = |claimant: Claimant| {
        let sessions = Arc::clone(&sessions);
        async move { sessions.claim("c", &claimant).await }
    };
    let mut mine = claimed(user("mia")).await.unwrap();
    for other in [user("max"), Claimant::Visitor(None)] {
        assert!(matches!(claimed(other).await, Err(ClaimError::Foreign)));
    }
    // Its connection was not told to leave.
    let left = tokio::time::timeout(Duration::ZERO, mine.taken_over()).await;
    assert!(left.is_err());
    let record = SessionRecord {
        user: Some("mia".to_owned()),
        ..fresh(60)
    };
    let written = tokio::task::block_in_place(|| mine.reset(Some(&record), None));
    assert!(written.unwrap().is_some());
    mine.release(0, 60);
    // Neither does it change hands while nobody is connected, or after a restart.
    assert!(matches!(
        claimed(user("max")).await,
        Err(ClaimError::Foreign)
    ));
    let (storage, shares) = (sessions.storage.clone(), Arc::clone(&sessions.shares));
    let restarted = tokio::task::block_in_place(|| Sessions::load(storage, shares, 0));
    let foreign = restarted.claim("c", &user("max")).await;
    assert!(matches!(foreign, Err(ClaimError::Foreign)));
    assert!(
        restarted
            .claim("c", &user("mia"))
            .await
            .unwrap()
            .is_stored()
    );
    // Where nobody logs in there are no owners.
    assert!(restarted.claim("c", &Claimant::Anybody).await.is_ok());
    tokio::task::block_in_place(|| sessions.storage.close());
}
