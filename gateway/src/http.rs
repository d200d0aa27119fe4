//! The HTTP endpoints: health, readiness, metrics and status, on one port.
//!
//! Everything is read-only and computed when it is asked for; a node that
//! nobody looks at spends nothing on it.

pub mod figures;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use crate::status::StatusReport;
use figures::Figures;

/// What the endpoints show. Implementations answer from memory or with short
/// blocking calls.
pub trait Subject: Send + Sync + 'static {
    /// The node at this moment.
    fn report(&self) -> StatusReport;

    /// Whether the node takes traffic.
    ///
    /// # Errors
    /// A sentence about why it does not.
    fn readiness(&self) -> Result<(), String>;
}

#[derive(Clone)]
struct Shared {
    subject: Arc<dyn Subject>,
    figures: Arc<Figures>,
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// The listener fails for good.
pub async fn serve(
    listener: TcpListener,
    subject: Arc<dyn Subject>,
    figures: Arc<Figures>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(subject, figures))
        .with_graceful_shutdown(shutdown)
        .await
}

fn router(subject: Arc<dyn Subject>, figures: Arc<Figures>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .with_state(Shared { subject, figures })
}

/// The process runs and its runtime answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The node takes traffic.
async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.subject.readiness() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

/// Prometheus text exposition format, version 0.0.4.
async fn metrics(State(shared): State<Shared>) -> Response {
    let text = shared.figures.render(&shared.subject.report());
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, text).into_response()
}

async fn status(State(shared): State<Shared>) -> Json<StatusReport> {
    Json(shared.subject.report())
}
