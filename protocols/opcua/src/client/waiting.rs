//! What the driver waits for besides the server.

use std::time::Instant;

use tokio::sync::watch;

/// Completes when the session is to end. What the channel lends stays in here,
/// because a task that holds it across an await cannot move between threads.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the client is gone, which is the same wish.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Completes at that time; never if there is none.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
