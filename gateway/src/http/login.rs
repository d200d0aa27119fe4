//! Who asks over HTTP: sessions of people, tokens of programs.
//!
//! | endpoint | what it does |
//! |---|---|
//! | `POST /api/v1/login` | `{"user","password"}` for a cookie |
//! | `POST /api/v1/logout` | ends the session |
//! | `GET /api/v1/me` | `{"user","login"}`: who is logged in, and whether one can |
//!
//! Programs send `Authorization: Bearer TOKEN` instead. Where everybody may do
//! everything nobody logs in. Where that is not so, whoever is on the machine of
//! the node may look without a login, and not change anything.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use forebay_access::rules::{Action, Place};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::access::{Access, LoginError, Protocol, Visitor, chance};
use crate::tls::ClientCertificate;

/// How long a session lasts: a shift.
const SESSION_LIFE: Duration = Duration::from_hours(12);
/// Sessions at once. Beyond it the oldest ends.
const SESSIONS_MAX: usize = 256;
/// Bytes of chance in the name of a session.
const SESSION_LEN: usize = 32;
const COOKIE: &str = "forebay_session";

/// What requests over TLS have, with the certificate of the client if it showed
/// one.
type Secured = Option<Arc<ClientCertificate>>;

struct Session {
    user: Arc<str>,
    until: Instant,
}

/// The sessions of a node. They end with it.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    fn begin(&self, user: Arc<str>) -> std::io::Result<String> {
        let name = BASE64_URL_SAFE_NO_PAD.encode(chance::<SESSION_LEN>()?);
        let mut open = self.open.lock();
        let now = Instant::now();
        open.retain(|_, session| session.until > now);
        if open.len() >= SESSIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, session)| session.until);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                open.remove(&oldest);
            }
        }
        let session = Session {
            user,
            until: now + SESSION_LIFE,
        };
        open.insert(name.clone(), session);
        Ok(name)
    }

    fn user(&self, name: &str) -> Option<Arc<str>> {
        let open = self.open.lock();
        let session = open.get(name)?;
        (session.until > Instant::now()).then(|| Arc::clone(&session.user))
    }

    fn end(&self, name: &str) {
        self.open.lock().remove(name);
    }
}

/// Who asks, and what it may see.
#[derive(Clone)]
pub(super) struct Viewer {
    access: Access,
    visitor: Visitor,
    /// Whoever is on the machine of the node sees everything.
    is_local: bool,
    /// Whether it asks on the machine of the node, and for nobody else.
    is_here: bool,
}

impl Viewer {
    /// Whether values of a path are for it.
    pub(super) fn sees(&self, path: &str) -> bool {
        self.is_local || self.allows(Action::Read, Place::Path(path))
    }

    /// Whether it may look at all, also after the users have changed.
    pub(super) fn is_welcome(&self) -> bool {
        self.is_local || self.access.is_welcome(&self.visitor)
    }

    /// Whether it may change something, with a refusal that is counted.
    pub(super) fn may(&self, action: Action, place: Place<'_>) -> Result<(), Box<Response>> {
        // Without logins it is for whoever is on the machine, as it ever was.
        let is_allowed = match self.access.is_open() {
            true => self.is_here,
            false => {
                self.visitor.user.is_some() && self.access.may(&self.visitor, None, action, place)
            }
        };
        if is_allowed {
            return Ok(());
        }
        let refused = match (self.access.is_open(), &self.visitor.user) {
            (true, _) => {
                let reason = "this can be asked for on the machine of the node only, at localhost or a loopback address, without a proxy\n";
                (StatusCode::FORBIDDEN, reason.to_owned()).into_response()
            }
            (false, None) => unauthorized(LoginError::Needed),
            (false, Some(user)) => {
                let reason = format!("{user} has no permission to {} this\n", action.name());
                (StatusCode::FORBIDDEN, reason).into_response()
            }
        };
        Err(Box::new(refused))
    }

    /// The user who is logged in.
    pub(super) fn user(&self) -> Option<&str> {
        self.visitor.user.as_deref()
    }

    /// Whether it asks on the machine of the node, and not as a proxy.
    pub(super) fn is_here(&self) -> bool {
        self.is_here
    }

    fn allows(&self, action: Action, place: Place<'_>) -> bool {
        self.access.allows(&self.visitor, None, action, place)
    }
}

/// The routes of logins.
pub(super) fn routes() -> Router<Shared> {
    use axum::routing::{get, post};
    Router::new()
        .route("/api/v1/login", post(login))
        .route("/api/v1/logout", post(logout))
        .route("/api/v1/me", get(me))
}

/// Finds out who asks, and lets it through when it may look.
pub(super) async fn guard(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    certificate: Option<Extension<Secured>>,
    mut request: Request,
    next: Next,
) -> Response {
    let certificate = certificate.and_then(|Extension(certificate)| certificate);
    let viewer = match identify(
        &shared,
        peer.ip(),
        certificate.as_deref(),
        request.headers(),
    ) {
        Ok(viewer) => viewer,
        Err(error) => return unauthorized(error),
    };
    let may_look = viewer.is_local || viewer.allows(Action::Read, Place::Anywhere);
    // What changes something asks for itself.
    if request.method() == Method::GET && !may_look {
        let reason = "you have no permission to read anything\n";
        return (StatusCode::FORBIDDEN, reason).into_response();
    }
    request.extensions_mut().insert(viewer);
    next.run(request).await
}

fn identify(
    shared: &Shared,
    address: IpAddr,
    certificate: Option<&ClientCertificate>,
    headers: &HeaderMap,
) -> Result<Viewer, LoginError> {
    let access = &shared.access;
    let is_here = is_here(address, headers);
    let viewer = |visitor, is_local| Viewer {
        access: access.clone(),
        visitor,
        is_local,
        is_here,
    };
    let session = cookie(headers).and_then(|name| shared.sessions.user(name));
    if let Some(user) = session {
        let visitor = Visitor {
            user: Some(user),
            by_certificate: false,
            address,
            protocol: Protocol::Http,
        };
        if access.is_welcome(&visitor) {
            return Ok(viewer(visitor, false));
        }
    }
    if let Some(token) = bearer(headers) {
        let visitor = access.login_with_token(Protocol::Http, address, token)?;
        return Ok(viewer(visitor, false));
    }
    let common_name = certificate.and_then(|certificate| certificate.common_name.as_deref());
    if let Some(user) = common_name {
        return Ok(viewer(
            access.enter_as(Protocol::Http, address, user)?,
            false,
        ));
    }
    let anonymous = Visitor {
        user: None,
        by_certificate: false,
        address,
        protocol: Protocol::Http,
    };
    match access.is_open() {
        true => Ok(viewer(anonymous, true)),
        false if is_here => Ok(viewer(anonymous, true)),
        false => Ok(viewer(access.enter(Protocol::Http, address)?, false)),
    }
}

/// Whether somebody on the machine of the node asks. A proxy there asks for
/// somebody else, and a page of elsewhere can only pretend with another name.
fn is_here(address: IpAddr, headers: &HeaderMap) -> bool {
    let is_forwarded = headers.contains_key("x-forwarded-for")
        || headers.contains_key(header::FORWARDED)
        || headers.contains_key(header::VIA);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_named_so = host.is_some_and(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            match port.bytes().all(|digit| digit.is_ascii_digit()) {
                true => name,
                false => host,
            }
        });
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || address.parse().is_ok_and(|at: IpAddr| at.is_loopback())
    });
    address.to_canonical().is_loopback() && !is_forwarded && is_named_so
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim)
}

fn unauthorized(error: LoginError) -> Response {
    let status = match error {
        LoginError::Wrong | LoginError::Needed => StatusCode::UNAUTHORIZED,
        LoginError::Limited => StatusCode::TOO_MANY_REQUESTS,
        LoginError::Busy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let head = [(header::WWW_AUTHENTICATE, "Bearer realm=\"forebay\"")];
    (status, head, format!("{error}\n")).into_response()
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    secured: Option<Extension<Secured>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = super::wrong_kind(&headers) {
        return refusal;
    }
    let Ok(login) = serde_json::from_slice::<Login>(&body) else {
        let reason = "expected {\"user\": a name, \"password\": its password}\n";
        return (StatusCode::BAD_REQUEST, reason).into_response();
    };
    if shared.access.is_open() {
        return (StatusCode::NO_CONTENT, ()).into_response();
    }
    let password = login.password.as_bytes();
    let checking = shared
        .access
        .login(Protocol::Http, peer.ip(), &login.user, password);
    let user = match checking.await {
        Ok(visitor) => visitor.user.unwrap_or_default(),
        Err(error) => return unauthorized(error),
    };
    match shared.sessions.begin(user) {
        Ok(name) => {
            let secure = if secured.is_some() { "; Secure" } else { "" };
            let seconds = SESSION_LIFE.as_secs();
            let cookie = format!(
                "{COOKIE}={name}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}"
            );
            (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
        }
        Err(error) => {
            let reason = format!("the system has no random numbers: {error}\n");
            (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
        }
    }
}

async fn logout(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Some(refusal) = super::wrong_kind(&headers) {
        return refusal;
    }
    if let Some(name) = cookie(&headers) {
        shared.sessions.end(name);
    }
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// Who asks.
#[derive(Serialize)]
struct Me {
    /// The user, when somebody is logged in.
    user: Option<String>,
    /// Whether there are logins here.
    login: bool,
}

async fn me(State(shared): State<Shared>, headers: HeaderMap) -> Json<Me> {
    let user = cookie(&headers).and_then(|name| shared.sessions.user(name));
    Json(Me {
        user: user.map(|user| user.to_string()),
        login: !shared.access.is_open(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, value.parse().expect("a header"))
        });
        pairs.collect()
    }

    #[test]
    fn only_somebody_on_the_machine_itself_is_here() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_here(loopback, &headers(&[("host", host)])), "{host}");
        }
        for host in ["evil.example:8080", "10.0.0.1", "localhost.evil.example"] {
            assert!(!is_here(loopback, &headers(&[("host", host)])), "{host}");
        }
        let other = "10.0.0.9".parse().unwrap();
        assert!(!is_here(other, &headers(&[("host", "localhost")])));
        assert!(!is_here(loopback, &HeaderMap::new()));
        for proxy in ["x-forwarded-for", "forwarded", "via"] {
            let asked = headers(&[("host", "localhost"), (proxy, "10.0.0.9")]);
            assert!(!is_here(loopback, &asked), "{proxy}");
        }
    }

    #[test]
    fn sessions_are_bounded_and_end() {
        let sessions = Sessions::default();
        let first = sessions.begin("mia".into()).unwrap();
        assert_eq!(sessions.user(&first).as_deref(), Some("mia"));
        assert_eq!(sessions.user("another"), None);
        let jar = headers(&[("cookie", &format!("a=b; {COOKIE}={first}"))]);
        assert_eq!(cookie(&jar), Some(first.as_str()));
        for _ in 0..SESSIONS_MAX {
            sessions.begin("max".into()).unwrap();
        }
        assert_eq!(sessions.open.lock().len(), SESSIONS_MAX);
        assert_eq!(sessions.user(&first), None, "the oldest has ended");
        let last = sessions.begin("mia".into()).unwrap();
        sessions.end(&last);
        assert_eq!(sessions.user(&last), None);
    }
}
