//! Each endpoint over a socket.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_storage::Storage;
use forebay_storage::disk::SimDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::figures::Figures;
use super::{Subject, serve};
use crate::access::Access;
use crate::console::Console;
use crate::queries::board::{AcknowledgeError, Acknowledged};
use crate::status::{
    AlertStatus, GroupStatus, PartitionStatus, ReloadReport, StatusReport, TopicStatus,
};

struct Sample {
    is_ready: AtomicBool,
}

impl Subject for Sample {
    fn report(&self) -> StatusReport {
        StatusReport {
            node: "press-shop-1".to_owned(),
            topics: vec![TopicStatus {
                name: "vibration".to_owned(),
                partitions: vec![PartitionStatus {
                    durable: 42,
                    ..PartitionStatus::default()
                }],
            }],
            ..StatusReport::default()
        }
    }

    fn groups(&self) -> Vec<GroupStatus> {
        Vec::new()
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = ReloadReport> + Send + '_>> {
        Box::pin(async {
            ReloadReport {
                applied: true,
                ..ReloadReport::default()
            }
        })
    }

    fn alerts(&self) -> Vec<AlertStatus> {
        vec![AlertStatus {
            id: "bearing/worn/m1/7".to_owned(),
            query: "bearing".to_owned(),
            path: "forebay/alerts/bearing/worn/m1".to_owned(),
            alert: serde_json::json!({"value": 7.5}),
            acknowledged: None,
        }]
    }

    fn acknowledge<'a>(
        &'a self,
        id: &'a str,
        by: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Acknowledged, AcknowledgeError>> + Send + 'a>> {
        let known = id == "bearing/worn/m1/7";
        let acknowledged = Acknowledged {
            by: by.to_owned(),
            time: 8,
        };
        let unknown = AcknowledgeError::Unknown { id: id.to_owned() };
        Box::pin(async move {
            if known {
                Ok(acknowledged)
            } else {
                Err(unknown)
            }
        })
    }

    fn readiness(&self) -> Result<(), String> {
        if self.is_ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("stopping".to_owned())
        }
    }
}

fn storage() -> Storage {
    let mut config = forebay_storage::Config::new(Path::new("/data"));
    config.threads = false;
    config.retention.keep_free = 0;
    config.ballast_bytes = 0;
    config.preallocation = forebay_storage::Preallocation::None;
    Storage::open(config, Arc::new(SimDisk::new(7))).unwrap().0
}

/// What only the web console asks for, on an empty node.
async fn console_answers(port: u16) {
    let (status, page) = get(port, "/").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(page.contains("/console/main.js"), "{page}");
    let (status, _) = get(port, "/console/main.js").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (status, _) = get(port, "/console/secrets.js").await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    let (_, paths) = get(port, "/api/v1/paths").await;
    assert!(paths.contains("\"paths\":[]"), "{paths}");
    assert_eq!(get(port, "/api/v1/groups").await.1, "[]");
    assert_eq!(get(port, "/api/v1/alerts/history").await.1, "[]");
    let series = "/api/v1/series?path=p&from=0&step=1";
    for (span, expected) in [
        ("&to=1000", "404 Not Found"),
        ("&to=0", "400 Bad Request"),
        ("&to=9999999", "400 Bad Request"),
        ("", "400 Bad Request"),
    ] {
        let (status, _) = get(port, &format!("{series}{span}")).await;
        assert_eq!(status, format!("HTTP/1.1 {expected}"), "{span}");
    }
}

async fn get(port: u16, path: &str) -> (String, String) {
    ask(port, "GET", path, "").await
}

async fn ask(port: u16, method: &str, path: &str, headers: &str) -> (String, String) {
    send(port, method, path, headers, "").await
}

async fn send(port: u16, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the server listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n{body}"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("the server answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.lines().next().expect("a status line");
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_endpoints_answer_until_the_server_is_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let subject = Arc::new(Sample {
        is_ready: AtomicBool::new(true),
    });
    let figures = Arc::new(Figures::install().expect("the only recorder of this process"));
    let (stop, stopped) = oneshot::channel::<()>();
    let console = Console::new(storage());
    let shutdown = async move {
        let _ = stopped.await;
    };
    let server = tokio::spawn(serve(
        listener,
        subject.clone(),
        figures,
        console,
        Access::everybody(),
        shutdown,
    ));

    assert_eq!(
        get(port, "/healthz").await,
        ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned())
    );
    assert_eq!(
        get(port, "/readyz").await,
        ("HTTP/1.1 200 OK".to_owned(), "ready\n".to_owned())
    );
    subject.is_ready.store(false, Ordering::Relaxed);
    assert_eq!(
        get(port, "/readyz").await,
        (
            "HTTP/1.1 503 Service Unavailable".to_owned(),
            "stopping\n".to_owned()
        )
    );
    let (_, metrics) = get(port, "/metrics").await;
    let wanted = "forebay_partition_durable_offset{topic=\"vibration\",partition=\"0\"} 42";
    assert!(metrics.lines().any(|line| line == wanted), "{metrics}");
    let (_, status) = get(port, "/api/v1/status").await;
    let report: StatusReport = serde_json::from_str(&status).expect("the status is JSON");
    assert_eq!(report, subject.report());
    // A web page of another origin cannot send this header without asking.
    let (refused, _) = ask(port, "POST", "/api/v1/reload", "").await;
    assert_eq!(refused, "HTTP/1.1 415 Unsupported Media Type");
    let kind = "Content-Type: application/json\r\n";
    let (reloaded, report) = ask(port, "POST", "/api/v1/reload", kind).await;
    assert_eq!(reloaded, "HTTP/1.1 200 OK");
    let report: ReloadReport = serde_json::from_str(&report).expect("the answer is JSON");
    assert!(report.applied);
    assert_eq!(
        get(port, "/api/v1/reload").await.0,
        "HTTP/1.1 405 Method Not Allowed"
    );
    let (_, alerts) = get(port, "/api/v1/alerts").await;
    assert!(alerts.contains("\"alert\":{\"value\":7.5}"), "{alerts}");
    let seen = "{\"id\": \"bearing/worn/m1/7\", \"by\": \"mia\"}";
    let unknown = "{\"id\": \"bearing/worn/m1/8\", \"by\": \"mia\"}";
    for (body, kind, expected) in [
        (seen, kind, "200 OK"),
        (unknown, kind, "404 Not Found"),
        ("{}", kind, "400 Bad Request"),
        (seen, "", "415 Unsupported Media Type"),
    ] {
        let headers = format!("{kind}Content-Length: {}\r\n", body.len());
        let path = "/api/v1/alerts/acknowledge";
        let (status, _) = send(port, "POST", path, &headers, body).await;
        assert_eq!(status, format!("HTTP/1.1 {expected}"));
    }
    console_answers(port).await;
    assert_eq!(get(port, "/nothing").await.0, "HTTP/1.1 404 Not Found");

    stop.send(()).expect("the server waits");
    assert!(server.await.expect("it does not panic").is_ok());
}
