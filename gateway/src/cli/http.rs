//! What commands ask a node over HTTP.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::CommandError;
use crate::client::Endpoint;

/// The node answers from memory, and a reload waits for devices to stop; more
/// than this means that it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A report of 1,000 topics with 1,000 partitions would be some 100 MB; what a
/// person looks at is far smaller.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// An HTTP answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let code = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        Some(Self {
            code: std::str::from_utf8(code).ok()?.parse().ok()?,
            body: bytes[end + 4..].to_vec(),
        })
    }

    /// The body of an answer 200.
    ///
    /// # Errors
    /// Any other answer, with its words.
    pub fn success(self, address: &Endpoint) -> Result<Vec<u8>, CommandError> {
        if self.code == 200 {
            return Ok(self.body);
        }
        let words = String::from_utf8_lossy(&self.body);
        let (code, words) = (self.code, words.trim());
        let sentence = format!("{address} answered {code}: {words}");
        Err(CommandError::Usage(sentence))
    }
}

/// Makes one HTTP/1.1 request without a body.
///
/// # Errors
/// Nobody answers in HTTP.
pub async fn ask(address: &Endpoint, method: &str, path: &str) -> Result<Answer, CommandError> {
    send(address, method, path, "").await
}

/// Makes one HTTP/1.1 request with a body of JSON.
///
/// # Errors
/// Nobody answers in HTTP.
pub async fn send(
    address: &Endpoint,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Answer, CommandError> {
    let session = log_in(address).await?;
    let answer = exchange(address, method, path, &session, body).await?;
    let (_, answer) = parsed(address, &answer)?;
    Ok(answer)
}

/// Logs in when the endpoint says as whom. Returns the header that requests have
/// afterwards.
async fn log_in(address: &Endpoint) -> Result<String, CommandError> {
    let Some(login) = &address.login else {
        return Ok(String::new());
    };
    let password = login.password().map_err(CommandError::Usage)?;
    let body = serde_json::json!({ "user": login.user, "password": password });
    let path = "/api/v1/login";
    let answer = exchange(address, "POST", path, "", &body.to_string()).await?;
    let (head, answer) = parsed(address, &answer)?;
    // Where everybody may do everything there is nothing to log in to.
    if answer.code == 204 || answer.code == 200 {
        let cookie = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_cookie = name.eq_ignore_ascii_case("set-cookie");
            is_cookie.then(|| value.split(';').next().unwrap_or_default().trim())
        });
        return Ok(cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n")));
    }
    answer.success(address).map(|_| String::new())
}

fn parsed(address: &Endpoint, bytes: &[u8]) -> Result<(String, Answer), CommandError> {
    let answer = Answer::parse(bytes)
        .ok_or_else(|| CommandError::Usage(format!("{address} does not answer in HTTP")))?;
    let head = &bytes[..bytes.len() - answer.body.len()];
    Ok((String::from_utf8_lossy(head).into_owned(), answer))
}

/// Sends a request with more headers, and returns what comes back.
async fn exchange(
    address: &Endpoint,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<Vec<u8>, CommandError> {
    let exchange = async {
        let mut stream = address.open().await?;
        let authorization = match &address.token {
            Some(token) => format!("Authorization: Bearer {}\r\n", token.0),
            None => String::new(),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             {authorization}Content-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        Ok::<_, io::Error>(answer)
    };
    match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(CommandError::Usage(format!(
                "nothing listens on {address} (connection refused); is forebay running, and is that its [http] listen address?"
            )))
        }
        Ok(Err(error)) => {
            let explained = address.explain(&error);
            Err(CommandError::Usage(explained.unwrap_or_else(|| {
                format!("cannot ask {address}: {error}")
            })))
        }
        Err(_) => Err(CommandError::Usage(format!(
            "{address} did not answer within {} s",
            ANSWER_TIMEOUT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostPort;

    #[test]
    fn an_answer_has_a_code_and_a_body() {
        let answer = Answer::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}").unwrap();
        assert_eq!(
            (answer.code, answer.body.as_slice()),
            (200, b"{}".as_slice())
        );
        let address = Endpoint::from(&HostPort {
            host: "hub".to_owned(),
            port: 8080,
        });
        let refused = Answer::parse(b"HTTP/1.1 503 no\r\n\r\nstopping\n").unwrap();
        let error = refused.success(&address).unwrap_err();
        assert_eq!(error.to_string(), "hub:8080 answered 503: stopping");
        assert_eq!(Answer::parse(b"garbage"), None);
    }
}
