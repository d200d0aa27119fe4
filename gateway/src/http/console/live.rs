//! News about paths, as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::console::{Console, Latest};
use crate::http::Shared;
use crate::http::login::Viewer;

/// Pages that are told at the same time.
pub const LIVE_MAX: usize = 32;
/// How often a page is told.
const TICK: Duration = Duration::from_secs(1);
/// Paths of one event; the others are in the next.
const CHANGES_MAX: usize = 2_000;
/// Events that wait for a slow page. More are not made before it takes them.
const WAITING_MAX: usize = 1;
/// How long a page may take none.
const STUCK: Duration = Duration::from_secs(30);
/// Silent ticks after which a comment shows that the connection lives.
const SILENT_MAX: u32 = 15;

#[derive(Deserialize)]
pub(super) struct LiveQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    under: String,
}

/// What became of a path, without what a page knows already.
#[derive(Serialize)]
struct Change<'a> {
    path: &'a str,
    topic: &'a str,
    time: i64,
    numbers: Vec<(&'a str, f64)>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
}

/// The body of the answer.
struct Events(mpsc::Receiver<Bytes>);

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|event| event.map(Ok))
    }
}

pub(super) async fn live(
    State(shared): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<LiveQuery>,
) -> Response {
    let Ok(permit) = shared.live.clone().try_acquire_owned() else {
        let reason = format!("{LIVE_MAX} pages are open already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    };
    shared.console.ready().await;
    let (events, receiver) = mpsc::channel(WAITING_MAX);
    let mut closing = shared.closing.clone();
    tokio::spawn(async move {
        let telling = tell(shared.console.clone(), viewer, query, events);
        tokio::select! {
            () = telling => {}
            // Also when the server is gone.
            _ = closing.wait_for(|is_closing| *is_closing) => {}
        }
        drop(permit);
    });
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (head, Body::from_stream(Events(receiver))).into_response()
}

/// Sends what changes until nobody takes it.
async fn tell(console: Console, viewer: Viewer, query: LiveQuery, events: mpsc::Sender<Bytes>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut revision = query.after;
    let mut silent = 0;
    loop {
        ticks.tick().await;
        console.look();
        if !viewer.is_welcome() {
            return;
        }
        let admits = |path: &str| path.starts_with(&query.under) && viewer.sees(path);
        let (event, reached) = event(&console, revision, admits);
        revision = reached;
        let event = match event {
            Some(event) => event,
            None if silent < SILENT_MAX && !events.is_closed() => {
                silent += 1;
                continue;
            }
            None => Bytes::from_static(b":\n\n"),
        };
        silent = 0;
        match timeout(STUCK, events.send(event)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// One event with everything that `admits` and that changed after a revision.
fn event(console: &Console, after: u64, admits: impl Fn(&str) -> bool) -> (Option<Bytes>, u64) {
    let mut data = String::new();
    let reached = console.since(after, CHANGES_MAX, admits, |latest| {
        let separator = if data.is_empty() { "" } else { "," };
        // Numbers and texts always have a representation.
        if let Ok(change) = serde_json::to_string(&Change::of(latest)) {
            data.push_str(separator);
            data.push_str(&change);
        }
    });
    if data.is_empty() {
        return (None, reached);
    }
    let event = format!("id: {reached}\ndata: [{data}]\n\n");
    (Some(event.into()), reached)
}

impl<'a> Change<'a> {
    fn of(latest: &'a Latest) -> Self {
        let numbers = latest.numbers.iter();
        Self {
            path: &latest.path,
            topic: &latest.topic,
            time: latest.time,
            numbers: numbers
                .map(|number| (number.field.as_str(), number.value))
                .collect(),
            text: &latest.text,
            quality: latest.quality.as_deref(),
            unit: latest.unit.as_deref(),
        }
    }
}
