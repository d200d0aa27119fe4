//! The HTTP endpoints: health, readiness, metrics, status and the web console,
//! on one port.
//!
//! What is posted changes the node; everything else is read-only, and computed when it is asked
//! for; a node that nobody looks at spends nothing on it.

mod console;
pub mod figures;
mod login;
mod secure;

#[cfg(test)]
mod tests;

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use forebay_access::rules::{Action, Place};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::access::Access;
use crate::console::Console;
use crate::queries::board::{AcknowledgeError, Acknowledged};
use crate::status::{AlertStatus, GroupStatus, ReloadReport, StatusReport};
use crate::tls::SecureListener;
use figures::Figures;
use login::{Sessions, Viewer};

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

    /// Reads the configuration file again and applies what can be applied.
    fn reload(&self) -> Pin<Box<dyn Future<Output = ReloadReport> + Send + '_>>;

    /// Consumer groups.
    fn groups(&self) -> Vec<GroupStatus>;

    /// The alerts that are active.
    fn alerts(&self) -> Vec<AlertStatus>;

    /// Writes down that somebody has seen an alert.
    fn acknowledge<'a>(
        &'a self,
        id: &'a str,
        by: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Acknowledged, AcknowledgeError>> + Send + 'a>>;
}

#[derive(Clone)]
struct Shared {
    subject: Arc<dyn Subject>,
    figures: Arc<Figures>,
    console: Console,
    access: Access,
    sessions: Arc<Sessions>,
    /// Of pages that are told what changes.
    live: Arc<Semaphore>,
    /// Turns true when the server stops.
    closing: watch::Receiver<bool>,
}

/// Where the server takes connections.
pub struct Listeners {
    /// HTTP.
    pub plain: TcpListener,
    /// HTTPS.
    pub secure: Option<SecureListener>,
}

impl From<TcpListener> for Listeners {
    fn from(plain: TcpListener) -> Self {
        Self {
            plain,
            secure: None,
        }
    }
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// The listener fails for good.
pub async fn serve(
    listeners: impl Into<Listeners>,
    subject: Arc<dyn Subject>,
    figures: Arc<Figures>,
    console: Console,
    access: Access,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listeners = listeners.into();
    let (close, closing) = watch::channel(false);
    let shared = Shared {
        subject,
        figures,
        console,
        access,
        sessions: Arc::default(),
        live: Arc::new(Semaphore::new(console::LIVE_MAX)),
        closing: closing.clone(),
    };
    let shutdown = async move {
        shutdown.await;
        // Without a page that is told there is nobody to tell.
        let _ = close.send(true);
    };
    let router = router(shared);
    let secure = async {
        let Some(listener) = listeners.secure else {
            return Ok(());
        };
        let router = secure::identified(router.clone());
        // The adapter is what lets axum ask any listener for its addresses.
        let listener = secure::Ready::new(listener).tap_io(|_| {});
        let service = router.into_make_service_with_connect_info::<secure::Peer>();
        axum::serve(listener, service)
            .with_graceful_shutdown(closed(closing))
            .await
    };
    let service = router
        .clone()
        .into_make_service_with_connect_info::<SocketAddr>();
    let plain = axum::serve(listeners.plain, service).with_graceful_shutdown(shutdown);
    tokio::try_join!(plain.into_future(), secure).map(|_| ())
}

async fn closed(mut closing: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same wish.
    let _ = closing.wait_for(|closed| *closed).await;
}

fn router(shared: Shared) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/alerts/acknowledge", post(acknowledge))
        .merge(console::routes())
        .layer(from_fn_with_state(shared.clone(), login::guard));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(login::routes())
        .merge(console::page())
        .merge(guarded)
        .with_state(shared)
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

async fn reload(
    State(shared): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = wrong_kind(&headers) {
        return refusal;
    }
    // The file belongs to the machine; whoever is there may have it read.
    if !viewer.is_here()
        && let Err(refusal) = viewer.may(Action::Admin, Place::Node)
    {
        return *refusal;
    }
    let report = shared.subject.reload().await;
    let status = match report.applied {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(report)).into_response()
}

/// What needs a person.
async fn alerts(
    State(shared): State<Shared>,
    Extension(viewer): Extension<Viewer>,
) -> Json<Vec<AlertStatus>> {
    let mut alerts = shared.subject.alerts();
    alerts.retain(|alert| viewer.sees(&alert.path));
    Json(alerts)
}

/// The body of an acknowledgement.
#[derive(Deserialize)]
struct Acknowledgement {
    id: String,
    by: String,
}

async fn acknowledge(
    State(shared): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = wrong_kind(&headers) {
        return refusal;
    }
    let Ok(wanted) = serde_json::from_slice::<Acknowledgement>(&body) else {
        let reason = "expected {\"id\": the alert, \"by\": a name}\n";
        return (StatusCode::BAD_REQUEST, reason).into_response();
    };
    let alerts = shared.subject.alerts();
    let path = alerts.iter().find(|alert| alert.id == wanted.id);
    let path = path.map_or("", |alert| alert.path.as_str());
    if let Err(refusal) = viewer.may(Action::Write, Place::Path(path)) {
        return *refusal;
    }
    // Whoever is logged in signs with that name.
    let by = viewer.user().unwrap_or(&wanted.by);
    match shared.subject.acknowledge(&wanted.id, by).await {
        Ok(acknowledged) => Json(acknowledged).into_response(),
        Err(error) => {
            let status = match error {
                AcknowledgeError::Unknown { .. } => StatusCode::NOT_FOUND,
                AcknowledgeError::Name { .. } => StatusCode::BAD_REQUEST,
                AcknowledgeError::Publish(_) | AcknowledgeError::Append(_) => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

/// The content type keeps web pages of elsewhere out: a browser asks first before
/// it sends this one to another origin.
fn wrong_kind(headers: &HeaderMap) -> Option<Response> {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/json") {
        let reason = "expected the header Content-Type: application/json\n";
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).into_response());
    }
    None
}

async fn status(State(shared): State<Shared>) -> Json<StatusReport> {
    Json(shared.subject.report())
}
