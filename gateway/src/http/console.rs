//! The web console: its files, and the endpoints that only it uses.
//!
//! | endpoint | answer |
//! |---|---|
//! | `GET /` and `/console/…` | the page, from the program itself |
//! | `GET /api/v1/paths` | all paths with their newest values |
//! | `GET /api/v1/live?after=N&under=PREFIX` | what changes, as server-sent events |
//! | `GET /api/v1/series?path=…&field=…&from=…&to=…&step=…&after=…` | a number over time, in portions |
//! | `GET /api/v1/alerts/history?from=…` | events of alerts |
//! | `GET /api/v1/groups` | consumer groups with their lag |
//!
//! Times are milliseconds since the Unix epoch.

mod assets;
mod live;

pub(super) use live::LIVE_MAX;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::login::Viewer;
use crate::console::{POINTS_MAX, SeriesError, Wanted};
use crate::queries::ALERTS_TOPIC;
use crate::status::GroupStatus;

/// The page itself, which says nothing about the node.
pub(super) fn page() -> Router<Shared> {
    assets::routes()
}

/// The endpoints of the console.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/paths", get(paths))
        .route("/api/v1/live", get(live::live))
        .route("/api/v1/series", get(series))
        .route("/api/v1/alerts/history", get(alert_history))
        .route("/api/v1/groups", get(groups))
}

/// All paths.
#[derive(Serialize)]
struct PathList {
    /// The time of the node.
    now: i64,
    /// What to follow from.
    revision: u64,
    /// Records for whose paths there was no room.
    left_out: u64,
    /// The paths, in order.
    paths: Vec<crate::console::Latest>,
}

async fn paths(
    State(shared): State<Shared>,
    Extension(viewer): Extension<Viewer>,
) -> Json<PathList> {
    shared.console.ready().await;
    let mut paths = Vec::new();
    let (revision, left_out) = shared.console.each(|latest| {
        if viewer.sees(&latest.path) {
            paths.push(latest.clone());
        }
    });
    Json(PathList {
        now: now_ms(),
        revision,
        left_out,
        paths,
    })
}

#[derive(Deserialize)]
struct SeriesQuery {
    path: String,
    #[serde(default)]
    field: String,
    from: i64,
    to: i64,
    step: i64,
    after: Option<u64>,
}

async fn series(
    State(shared): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<SeriesQuery>,
) -> Response {
    if !viewer.sees(&query.path) {
        let reason = format!("you have no permission to read {}\n", query.path);
        return (StatusCode::FORBIDDEN, reason).into_response();
    }
    let span = query.to.saturating_sub(query.from);
    let is_fine = query.from >= 0 && query.to > query.from && query.step >= 1;
    if !is_fine || span / query.step > POINTS_MAX {
        let reason = format!(
            "expected 0 <= from < to in milliseconds, and a step that makes at most {POINTS_MAX} points of them\n"
        );
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    let wanted = Wanted {
        path: "",
        field: "",
        from_ms: query.from,
        to_ms: query.to,
        step_ms: query.step,
        after: query.after,
    };
    let reading = shared.console.series(query.path, query.field, wanted);
    match reading.await {
        Ok(series) => Json(series).into_response(),
        Err(error) => refused(&error),
    }
}

#[derive(Deserialize)]
struct HistoryQuery {
    #[serde(default)]
    from: i64,
}

async fn alert_history(
    State(shared): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<HistoryQuery>,
) -> Response {
    let sees = move |path: &str| viewer.sees(path);
    let reading = shared.console.alert_events(ALERTS_TOPIC, query.from, sees);
    match reading.await {
        Ok(events) => Json(events).into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &SeriesError) -> Response {
    let status = match error {
        SeriesError::UnknownPath { .. } => StatusCode::NOT_FOUND,
        SeriesError::Read(_) | SeriesError::Closing => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n")).into_response()
}

async fn groups(State(shared): State<Shared>) -> Json<Vec<GroupStatus>> {
    Json(shared.subject.groups())
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
