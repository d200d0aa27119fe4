//! The opening handshake of a WebSocket (RFC 6455 section 4.2 and MQTT
//! section 6).
//!
//! The request asks for `/` or `/mqtt`, names the sub-protocol `mqtt`, and
//! comes from an origin that is allowed. Origins are what browsers send: any
//! page that a person on the plant network opens could otherwise talk to the
//! gateway in that person's place. A client that is not a browser sends none
//! and passes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;

/// Longest request head. Cookies of other services on the same host travel
/// along; most servers of the web draw the line here as well.
pub const HEAD_LEN_MAX: usize = 8 << 10;

/// Most header lines of a request.
const HEADERS_MAX: usize = 64;

/// What is hashed with the client's key (section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not an HTTP/1.1 GET request.
    #[error("websocket request is not HTTP/1.1 GET")]
    Request,
    /// The head is longer than it may be.
    #[error("websocket request head is longer than 8192 bytes or 64 lines")]
    TooLong,
    /// The path is not one that MQTT is served on.
    #[error("websocket path {path:?}, expected / or /mqtt")]
    Path {
        /// The path that was asked for.
        path: String,
    },
    /// The request does not ask for a WebSocket of version 13.
    #[error("websocket request without {header}")]
    Upgrade {
        /// The header that is missing or has another value.
        header: &'static str,
    },
    /// The request does not offer the sub-protocol `mqtt` \[MQTT-6.0.0-3\].
    #[error("websocket request does not offer the sub-protocol mqtt")]
    Protocol,
    /// A page of a site that is not allowed.
    #[error("websocket origin {origin:?} is not allowed, see mqtt.websocket_origins")]
    Origin {
        /// The origin that the browser sent.
        origin: String,
    },
}

impl HandshakeError {
    /// The whole answer to the client, which ends the connection.
    pub fn response(&self) -> String {
        let (status, extra) = match self {
            Self::Path { .. } => ("404 Not Found", ""),
            Self::TooLong => ("431 Request Header Fields Too Large", ""),
            Self::Origin { .. } => ("403 Forbidden", ""),
            Self::Upgrade { .. } => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            ),
            Self::Request | Self::Protocol => ("400 Bad Request", ""),
        };
        let reason = self.to_string();
        format!(
            "HTTP/1.1 {status}\r\n{extra}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reason}",
            reason.len()
        )
    }
}

/// A request that becomes a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes of the request head.
    pub head_len: usize,
    /// The answer, the sub-protocol `mqtt` in it \[MQTT-6.0.0-4\].
    pub response: String,
}

/// Looks at what has come of a request. `None` while it is incomplete.
///
/// # Errors
/// See [`HandshakeError`].
pub fn accept(bytes: &[u8], origins: &[String]) -> Result<Option<Accepted>, HandshakeError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_LEN_MAX => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LEN_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HandshakeError::TooLong),
        Err(_) => return Err(HandshakeError::Request),
    };
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(HandshakeError::Request);
    }
    let path = request.path.unwrap_or_default();
    if !matches!(path.split('?').next(), Some("/" | "/mqtt")) {
        let path = path.to_owned();
        return Err(HandshakeError::Path { path });
    }
    let headers = Headers(request.headers);
    let key = check_upgrade(&headers)?;
    check_origin(&headers, origins)?;
    if !headers.lists("Sec-WebSocket-Protocol", |name| name == "mqtt") {
        return Err(HandshakeError::Protocol);
    }
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        accept_key(key)
    );
    Ok(Some(Accepted { head_len, response }))
}

/// Section 4.2.2, point 5.4.
fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(KEY_SUFFIX);
    STANDARD.encode(hash.digest().bytes())
}

/// Section 4.2.1, points 2 to 6. Returns the key.
fn check_upgrade<'a>(headers: &Headers<'a>) -> Result<&'a [u8], HandshakeError> {
    let missing = |header| HandshakeError::Upgrade { header };
    if headers.first("Host").is_none() {
        return Err(HandshakeError::Request);
    }
    if !headers.lists("Upgrade", |name| name.eq_ignore_ascii_case("websocket")) {
        return Err(missing("Upgrade: websocket"));
    }
    if !headers.lists("Connection", |name| name.eq_ignore_ascii_case("upgrade")) {
        return Err(missing("Connection: Upgrade"));
    }
    if headers.first("Sec-WebSocket-Version") != Some(b"13") {
        return Err(missing("Sec-WebSocket-Version: 13"));
    }
    let key = headers.first("Sec-WebSocket-Key");
    key.filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
        .ok_or(HandshakeError::Request)
}

/// A page may talk to the host it came from, and to what the configuration
/// allows.
fn check_origin(headers: &Headers<'_>, origins: &[String]) -> Result<(), HandshakeError> {
    let Some(origin) = headers.first("Origin") else {
        return Ok(());
    };
    let origin = String::from_utf8_lossy(origin).to_ascii_lowercase();
    let host = headers.first("Host").unwrap_or_default();
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let is_same = origin.split_once("://").is_some_and(|(scheme, of)| {
        let port = if scheme == "https" { ":443" } else { ":80" };
        let bare = |text: &str| text.strip_suffix(port).unwrap_or(text).to_owned();
        bare(of) == bare(&host)
    });
    let is_allowed = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(&origin);
    if is_same || origins.iter().any(is_allowed) {
        return Ok(());
    }
    Err(HandshakeError::Origin { origin })
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    fn first(&self, name: &'static str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether a comma-separated list has an element.
    fn lists(&self, name: &'static str, is_it: impl Fn(&str) -> bool) -> bool {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .any(|element| is_it(element.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "Host: gateway:8083";
    const UPGRADE: &str = "Upgrade: WebSocket";
    const CONNECTION: &str = "Connection: keep-alive, Upgrade";
    const VERSION: &str = "Sec-WebSocket-Version: 13";
    /// The example of RFC 6455 section 1.3.
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const PROTOCOL: &str = "Sec-WebSocket-Protocol: mqttv3.1, mqtt";
    const LINES: [&str; 6] = [HOST, UPGRADE, CONNECTION, VERSION, KEY, PROTOCOL];

    fn request(path: &str, lines: &[&str]) -> String {
        format!("GET {path} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
    }

    fn without(line: &str, instead: &str) -> Result<Option<Accepted>, HandshakeError> {
        let lines = LINES.map(|l| if l == line { instead } else { l });
        accept(request("/mqtt", &lines).as_bytes(), &[])
    }

    #[test]
    fn the_answer_carries_the_hashed_key_and_the_sub_protocol() {
        for path in ["/", "/mqtt", "/mqtt?x=1"] {
            let text = request(path, &LINES);
            let accepted = accept(format!("{text}more").as_bytes(), &[])
                .unwrap()
                .unwrap();
            assert_eq!(accepted.head_len, text.len());
            assert_eq!(
                accepted.response,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            );
        }
    }

    #[test]
    fn a_request_in_parts_is_waited_for() {
        let text = request("/mqtt", &LINES);
        for end in 0..text.len() {
            assert_eq!(accept(&text.as_bytes()[..end], &[]), Ok(None), "{end}");
        }
    }

    #[test]
    fn a_request_without_the_sub_protocol_is_refused() {
        for other in [
            "X: y",
            "Sec-WebSocket-Protocol: mqttv3.1",
            "Sec-WebSocket-Protocol: MQTT5",
        ] {
            let refused = without(PROTOCOL, other).unwrap_err();
            assert_eq!(refused, HandshakeError::Protocol);
            assert!(refused.response().starts_with("HTTP/1.1 400 "));
        }
    }

    #[test]
    fn a_request_that_is_no_websocket_is_told_so() {
        for (line, instead, status) in [
            (UPGRADE, "X: y", "426"),
            (CONNECTION, "Connection: close", "426"),
            (VERSION, "Sec-WebSocket-Version: 8", "426"),
            (KEY, "Sec-WebSocket-Key: c2hvcnQ=", "400"),
            (KEY, "Sec-WebSocket-Key: ????", "400"),
            (HOST, "X: y", "400"),
        ] {
            let response = without(line, instead).unwrap_err().response();
            assert!(
                response.starts_with(&format!("HTTP/1.1 {status} ")),
                "{line}: {response}"
            );
        }
        let elsewhere = accept(request("/other", &LINES).as_bytes(), &[]);
        assert!(matches!(elsewhere, Err(HandshakeError::Path { .. })));
        let mqtt = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
        assert_eq!(accept(mqtt, &[]), Err(HandshakeError::Request));
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_LEN_MAX));
        assert_eq!(accept(long.as_bytes(), &[]), Err(HandshakeError::TooLong));
    }

    #[test]
    fn a_page_of_another_site_is_refused_unless_allowed() {
        let from = |origin: &str, allowed: &[&str]| {
            let line = format!("Origin: {origin}");
            let mut lines = LINES.to_vec();
            lines.push(&line);
            let allowed: Vec<String> = allowed.iter().map(|o| (*o).to_owned()).collect();
            accept(request("/", &lines).as_bytes(), &allowed).is_ok()
        };
        assert!(from("http://gateway:8083", &[]));
        assert!(from("http://Gateway:8083", &[]));
        assert!(!from("http://gateway", &[]));
        assert!(!from("http://evil.example", &[]));
        assert!(!from("null", &[]));
        assert!(from("http://panel.example", &["http://panel.example"]));
        assert!(!from("https://panel.example", &["http://panel.example"]));
        assert!(from("http://anything.example", &["*"]));
    }
}
