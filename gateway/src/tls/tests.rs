use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::authority::{Authority, CERTIFICATE_LIFETIME, Issued, Purpose, Wanted};
use super::certificate::Facts;
use super::*;
use crate::config::{ClientCertificates, Tls};
use crate::mqtt::stream::{ByteStream, ready};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

/// What a handshake may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn issue(authority: &Authority, name: &str, purpose: Purpose) -> Issued {
    let names = match purpose {
        Purpose::Server => vec![name.to_owned(), "127.0.0.1".to_owned()],
        Purpose::Client => Vec::new(),
    };
    let wanted = Wanted {
        common_name: name,
        names: &names,
        purpose,
        now: SystemTime::now(),
        lifetime: CERTIFICATE_LIFETIME,
    };
    authority.issue(&wanted).unwrap()
}

/// Writes the files of a node into `dir`.
pub(crate) fn write(dir: &Path, ca: &Issued, server: &Issued) -> Tls {
    let put = |name: &str, text: &str| {
        let file = dir.join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    Tls {
        certificate: put("server.crt", &server.certificate),
        key: put("server.key", &server.key),
        client_ca: Some(put("ca.crt", &ca.certificate)),
        client_crl: None,
        client_certificates: ClientCertificates::Optional,
    }
}

fn client(
    ca: &Issued,
    identity: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// An echo behind the byte stream; returns what certificate each client showed.
async fn serve_echo(listener: Arc<SecureListener>) {
    loop {
        let accepted = listener.accept().await.unwrap();
        let door = listener.door();
        tokio::spawn(async move {
            let Some((mut stream, certificate)) = door.open(accepted).await else {
                return;
            };
            let subject = certificate.map_or_else(String::new, |one| one.subject.clone());
            let mut out = BytesMut::from(format!("{subject}\n").as_bytes());
            let mut has_ended = false;
            while !has_ended || !out.is_empty() {
                let writes = !out.is_empty() || stream.wants_write();
                ready(&mut stream, !has_ended, writes).await.unwrap();
                let mut input = BytesMut::with_capacity(1 << 10);
                match stream.try_read(&mut input) {
                    Ok(0) => has_ended = true,
                    Ok(_) => out.extend_from_slice(&input),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
                match stream.try_write(&out) {
                    Ok(len) => drop(out.split_to(len)),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
            stream.close();
            let _ = stream.try_flush();
        });
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    ca: Issued,
    authority: Authority,
    files: Tls,
    tls: Arc<ServerTls>,
    listener: Arc<SecureListener>,
    port: u16,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (authority, ca) = Authority::create("Test CA", SystemTime::now()).unwrap();
    let files = write(dir.path(), &ca, &issue(&authority, "hub", Purpose::Server));
    let tls = ServerTls::open(&files).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let listener = SecureListener::new(tcp, Arc::clone(&tls), "mqtt.tls_listen", LIMIT, 100);
    let listener = Arc::new(listener);
    tokio::spawn(serve_echo(Arc::clone(&listener)));
    Fixture {
        _dir: dir,
        ca,
        authority,
        files,
        tls,
        listener,
        port,
    }
}

impl Fixture {
    /// Connects and returns the subject that the server saw, and whether the
    /// session was resumed.
    async fn subject(&self, connector: &TlsConnector) -> std::io::Result<(String, bool)> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("hub").unwrap();
        let mut stream = connector.connect(name, tcp).await?;
        let mut subject = String::new();
        loop {
            match stream.read_u8().await? {
                b'\n' => break,
                byte => subject.push(char::from(byte)),
            }
        }
        let kind = stream.get_ref().1.handshake_kind();
        stream.shutdown().await?;
        Ok((subject, kind == Some(rustls::HandshakeKind::Resumed)))
    }
}

#[tokio::test]
async fn the_subject_of_a_client_reaches_the_connection_also_when_it_resumes() {
    let fixture = fixture().await;
    let press = issue(&fixture.authority, "press-1", Purpose::Client);
    for versions in VERSIONS {
        let connector = client(&fixture.ca, Some(&press), versions);
        let seen = fixture.subject(&connector).await.unwrap();
        assert_eq!(seen, ("CN=press-1".to_owned(), false));
        let again = fixture.subject(&connector).await.unwrap();
        assert_eq!(again, ("CN=press-1".to_owned(), true));
        let nobody = client(&fixture.ca, None, versions);
        assert_eq!(fixture.subject(&nobody).await.unwrap().0, "");
    }
    let counts = fixture.listener.door().counts();
    assert_eq!((counts.full, counts.resumed), (4, 2));
}

#[tokio::test]
async fn large_messages_pass_both_ways_in_both_versions() {
    let fixture = fixture().await;
    for versions in VERSIONS {
        let tcp = TcpStream::connect(("127.0.0.1", fixture.port))
            .await
            .unwrap();
        let name = ServerName::try_from("hub").unwrap();
        let connector = client(&fixture.ca, None, versions);
        let stream = connector.connect(name, tcp).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..1_000_000u32)
            .map(|n| n.to_le_bytes()[n as usize % 3])
            .collect();
        let sending = sent.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&sending).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        assert_eq!(received[0], b'\n');
        assert!(received[1..] == sent, "{} bytes came", received.len());
    }
}

#[tokio::test]
async fn who_is_not_accepted_is_counted_by_the_reason() {
    let fixture = fixture().await;
    let (other, _) = Authority::create("Other CA", SystemTime::now()).unwrap();
    let stranger = issue(&other, "press-1", Purpose::Client);
    let past = SystemTime::now() - Duration::from_secs(10 * 24 * 3600);
    let wanted = Wanted {
        common_name: "press-2",
        names: &[],
        purpose: Purpose::Client,
        now: past,
        lifetime: Duration::from_secs(24 * 3600),
    };
    let expired = fixture.authority.issue(&wanted).unwrap();
    for versions in VERSIONS {
        for refused in [&stranger, &expired] {
            let connector = client(&fixture.ca, Some(refused), versions);
            assert!(fixture.subject(&connector).await.is_err());
        }
    }
    // The client does not believe the server.
    let (_, unknown) = Authority::create("Unknown CA", SystemTime::now()).unwrap();
    let connector = client(&unknown, None, VERSIONS[1]);
    assert!(fixture.subject(&connector).await.is_err());
    // A client that speaks MQTT without TLS.
    let mut plain = TcpStream::connect(("127.0.0.1", fixture.port))
        .await
        .unwrap();
    plain
        .write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        .await
        .unwrap();
    assert_eq!(plain.read(&mut [0; 16]).await.unwrap_or(0), 0);
    // A client that begins and breaks off.
    let mut garbled = TcpStream::connect(("127.0.0.1", fixture.port))
        .await
        .unwrap();
    garbled
        .write_all(b"\x16\x03\x01\x00\x05hello")
        .await
        .unwrap();
    // An alert and the end.
    let _ = garbled.read_to_end(&mut Vec::new()).await;
    let good = client(&fixture.ca, None, VERSIONS[1]);
    assert!(fixture.subject(&good).await.is_ok());
    let counts = fixture.listener.door().counts();
    let expected = HandshakeCounts {
        full: 1,
        certificate: 5,
        plain_text: 1,
        protocol: 1,
        ..HandshakeCounts::default()
    };
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_none() {
    let fixture = fixture().await;
    let connector = client(&fixture.ca, None, VERSIONS[1]);
    let open = TcpStream::connect(("127.0.0.1", fixture.port))
        .await
        .unwrap();
    let name = ServerName::try_from("hub").unwrap();
    let mut open = connector.connect(name, open).await.unwrap();
    let before = fixture.tls.watched()[0].facts.clone();
    let dir = fixture.files.certificate.parent().unwrap();
    let renewed = issue(&fixture.authority, "hub", Purpose::Server);
    std::fs::write(dir.join("server.crt"), &renewed.certificate).unwrap();
    let error = fixture.tls.reload(&fixture.files).unwrap_err().to_string();
    assert!(
        error.contains("does not belong to the certificate"),
        "{error}"
    );
    assert_eq!(fixture.tls.watched()[0].facts, before);
    assert_eq!(fixture.tls.alarms(SystemTime::now()).len(), 1);
    std::fs::write(dir.join("server.key"), &renewed.key).unwrap();
    fixture.tls.reload(&fixture.files).unwrap();
    assert_eq!(fixture.tls.alarms(SystemTime::now()).len(), 0);
    // A ticket from before the reload is not taken.
    let tcp = TcpStream::connect(("127.0.0.1", fixture.port))
        .await
        .unwrap();
    let name = ServerName::try_from("hub").unwrap();
    let shown = connector.connect(name, tcp).await.unwrap();
    let chain = shown.get_ref().1.peer_certificates().unwrap();
    let wanted = CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap();
    assert_eq!(chain[0], wanted);
    open.write_all(b"still").await.unwrap();
    let mut answer = [0; 6];
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\nstill");
}

#[tokio::test]
async fn a_silent_crowd_does_not_keep_others_out() {
    let fixture = fixture().await;
    // The listener has fifty places.
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(
            TcpStream::connect(("127.0.0.1", fixture.port))
                .await
                .unwrap(),
        );
    }
    let good = client(&fixture.ca, None, VERSIONS[1]);
    assert!(fixture.subject(&good).await.is_ok());
    let counts = fixture.listener.door().counts();
    assert!(counts.crowded_out >= 100, "{counts:?}");
}

#[test]
fn an_end_that_comes_near_is_an_alarm() {
    let (_, ca) = Authority::create("Test CA", SystemTime::now()).unwrap();
    let der = CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap();
    let facts = Facts::of(&der).unwrap();
    assert_eq!(facts.subject, "CN=Test CA");
    let day = Duration::from_secs(24 * 3600);
    let at = |days: u32| facts.expiry_alarm(facts.not_after - day * days);
    assert_eq!(at(22), None);
    assert_eq!(at(21).as_deref(), Some("expires in 21 days"));
    assert_eq!(at(20).as_deref(), Some("expires in 20 days"));
    assert_eq!(at(1).as_deref(), Some("expires tomorrow"));
    let past = facts.expiry_alarm(facts.not_after + day * 3);
    assert_eq!(past.as_deref(), Some("has expired 3 days ago"));
}

#[test]
fn a_wrong_file_is_named_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, ca) = Authority::create("Test CA", SystemTime::now()).unwrap();
    let files = write(dir.path(), &ca, &issue(&authority, "hub", Purpose::Server));
    let shown = dir.path().display();
    let swapped = material::certificates(&files.key).unwrap_err().to_string();
    assert_eq!(
        swapped,
        format!(
            "{shown}/server.key holds a private key, expected certificates in PEM (-----BEGIN CERTIFICATE-----)"
        )
    );
    let swapped = material::private_key(&files.certificate)
        .unwrap_err()
        .to_string();
    assert_eq!(
        swapped,
        format!(
            "{shown}/server.crt holds a certificate, expected a private key in PEM without a password (-----BEGIN PRIVATE KEY-----)"
        )
    );
    let missing = material::private_key(&dir.path().join("no")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with(&format!("cannot read {shown}/no: "))
    );
    let reopened = Authority::open(&ca.certificate, &ca.key).unwrap();
    let client = issue(&reopened, "press-1", Purpose::Client);
    assert!(Authority::open(&ca.certificate, &client.key).is_err());
    assert!(!format!("{client:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_told_in_words() {
    let fixture = fixture().await;
    let ca = fixture.files.client_ca.clone().unwrap();
    let settings = |ca: &Path, server_name: Option<&str>| crate::config::ClientTls {
        ca: Some(ca.to_path_buf()),
        server_name: server_name.map(str::to_owned),
        ..crate::config::ClientTls::default()
    };
    let address = format!("127.0.0.1:{}", fixture.port);
    let connect = async |settings| {
        let tcp = TcpStream::connect(&address).await.unwrap();
        let tls = ClientTls::new(settings);
        let connected = tls.connect("127.0.0.1", &address, tcp).await;
        connected.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(connect(settings(&ca, None)).await, Ok(()));
    assert_eq!(connect(settings(&ca, Some("hub"))).await, Ok(()));
    assert_eq!(
        connect(settings(&ca, Some("other"))).await,
        Err(format!(
            "the certificate of {address} is for hub, 127.0.0.1, expected other"
        ))
    );
    let (_, unknown) = Authority::create("Unknown CA", SystemTime::now()).unwrap();
    let file = ca.with_file_name("unknown.crt");
    std::fs::write(&file, unknown.certificate).unwrap();
    assert_eq!(
        connect(settings(&file, None)).await,
        Err(format!(
            "the certificate of {address} was signed by nobody in {}",
            file.display()
        ))
    );
    // A server that does not speak TLS.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_address = plain.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = plain.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    });
    let tcp = TcpStream::connect(&plain_address).await.unwrap();
    let tls = ClientTls::new(settings(&ca, None));
    let error = tls
        .connect("127.0.0.1", &plain_address, tcp)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{plain_address} does not answer in TLS; is that its TLS port?")
    );
}

#[tokio::test]
async fn a_client_uses_a_renewed_file_with_its_next_connection() {
    let fixture = fixture().await;
    let dir = fixture.files.certificate.parent().unwrap();
    let press = issue(&fixture.authority, "press-1", Purpose::Client);
    std::fs::write(dir.join("client.crt"), &press.certificate).unwrap();
    std::fs::write(dir.join("client.key"), &press.key).unwrap();
    let tls = ClientTls::new(crate::config::ClientTls {
        ca: fixture.files.client_ca.clone(),
        certificate: Some(dir.join("client.crt")),
        key: Some(dir.join("client.key")),
        server_name: None,
    });
    let subject = async |config: Arc<ClientConfig>| {
        fixture
            .subject(&TlsConnector::from(config))
            .await
            .unwrap()
            .0
    };
    let first = tls.config().unwrap();
    assert_eq!(subject(Arc::clone(&first)).await, "CN=press-1");
    assert!(Arc::ptr_eq(&first, &tls.config().unwrap()));
    let renewed = issue(&fixture.authority, "press-1-renewed", Purpose::Client);
    std::fs::write(dir.join("new.crt"), &renewed.certificate).unwrap();
    std::fs::write(dir.join("new.key"), &renewed.key).unwrap();
    std::fs::rename(dir.join("new.crt"), dir.join("client.crt")).unwrap();
    std::fs::rename(dir.join("new.key"), dir.join("client.key")).unwrap();
    assert_eq!(subject(tls.config().unwrap()).await, "CN=press-1-renewed");
    assert_eq!(
        tls.watched("uplink").unwrap().facts.subject,
        "CN=press-1-renewed"
    );
}
