//! Memory of many idle persistent sessions, connected and not.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};

use crate::figures::{Report, ratio};
use crate::machine::Setting;
use crate::process::usage;

/// Sessions, unless `--sessions` says otherwise.
const SESSIONS: usize = 50_000;

/// Sessions of one address of loopback: fewer than there are ephemeral ports.
const PER_ADDRESS: usize = 20_000;

/// Threads that connect; a connect waits for a commit.
const THREADS: usize = 8;

/// Descriptors besides the connections.
const OTHER_FILES: u64 = 1_000;

/// The node settles for this long before its memory is read: it gives memory
/// back to the system five seconds after most connections have ended.
const SETTLE: Duration = Duration::from_secs(8);

/// The time that the node gets to see all connections end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time that the node gets to answer one packet.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// CONNACK (3.2) of a new session and SUBACK (3.9) of identifier 1, QoS 1.
const ANSWERS: [u8; 9] = [0x20, 2, 0, 0, 0x90, 3, 0, 1, 1];

/// Opens the sessions, each with one subscription, and closes them.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let count = setting.sessions.unwrap_or(SESSIONS);
    let together = connections_max(count)?.min(count);
    report.fact(
        "load",
        format!(
            "{count} persistent sessions with one QoS 1 subscription each, idle; {together} \
             of them connected at once, the open files allow no more"
        ),
    );
    let (mut empty, mut connected, mut away) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bytes_connected, mut bytes_away) = (Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let mut spec = Spec::gateway(&setting.program, "sessions", scratch.path());
        spec.mqtt = format!("max_connections = {}\n", count + 100);
        let node = Node::start(&spec)?;
        thread::sleep(SETTLE);
        let before = usage(node.id()).resident_mib;
        let mut with_clients = 0.0;
        for start in (0..count).step_by(together) {
            let end = count.min(start + together);
            let streams = open_all(node.mqtt()?, start..end)?;
            if start == 0 {
                thread::sleep(SETTLE);
                with_clients = usage(node.id()).resident_mib;
            }
            drop(streams);
            wait_until_gone(&node)?;
        }
        thread::sleep(SETTLE);
        let without = usage(node.id()).resident_mib;
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let each = |resident: f64, count: usize| {
            ratio((resident - before) * f64::from(1 << 20), count as f64)
        };
        empty.push(before);
        connected.push(with_clients);
        away.push(without);
        bytes_connected.push(each(with_clients, together));
        bytes_away.push(each(without, count));
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    report.median("resident without sessions MiB", &empty);
    report.median("resident, those connected MiB", &connected);
    report.median("resident, none connected MiB", &away);
    report.median("bytes per connected session", &bytes_connected);
    report.median("bytes per session that is away", &bytes_away);
    Ok(())
}

/// Raises the limit of open files, which the node inherits, as far as allowed
/// and returns how many connections it leaves room for.
fn connections_max(wanted: usize) -> Outcome<usize> {
    let limit = getrlimit(Resource::Nofile);
    let all = wanted as u64 + OTHER_FILES;
    let current = limit.maximum.map_or(all, |maximum| maximum.min(all));
    if limit.current.is_some_and(|soft| soft < current) {
        let raised = Rlimit {
            current: Some(current),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).during(format!("{current} open files"))?;
    }
    let room = current.saturating_sub(OTHER_FILES).max(1);
    Ok(usize::try_from(room).unwrap_or(usize::MAX))
}

fn open_all(address: SocketAddr, numbers: Range<usize>) -> Outcome<Vec<TcpStream>> {
    thread::scope(|scope| {
        let opening: Vec<_> = (0..THREADS)
            .map(|thread| {
                let Range { start, end } = numbers;
                scope.spawn(move || {
                    (start + thread..end)
                        .step_by(THREADS)
                        .map(|number| open(address, number))
                        .collect::<Outcome<Vec<_>>>()
                })
            })
            .collect();
        let mut streams = Vec::with_capacity(numbers.len());
        for thread in opening {
            let opened = thread.join();
            streams.extend(opened.map_err(|_| Failure::new("a connecting thread panicked"))??);
        }
        Ok(streams)
    })
}

/// Opens one session with one subscription (3.1 and 3.8).
fn open(address: SocketAddr, number: usize) -> Outcome<TcpStream> {
    let host = u8::try_from(2 + number / PER_ADDRESS).during("addresses of loopback")?;
    let from = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), 0);
    let socket =
        rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).during("a socket")?;
    rustix::net::bind(&socket, &from).during(from)?;
    rustix::net::connect(&socket, &address).during(address)?;
    let mut stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .during("a socket")?;
    let id = format!("idle-{number}");
    let filter = format!("plant/machine-{number}/command");
    let text = |text: &str| {
        let length = u16::try_from(text.len()).unwrap_or_default();
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    };
    // Both stay below 128 bytes, so the length takes one byte.
    let packet = |first: u8, body: Vec<u8>| {
        let length = u8::try_from(body.len()).unwrap_or_default();
        [vec![first, length], body].concat()
    };
    let connect = [text("MQTT"), vec![4, 0, 0, 0], text(&id)].concat();
    let subscribe = [vec![0, 1], text(&filter), vec![1]].concat();
    let mut answers = [0; ANSWERS.len()];
    stream
        .write_all(&packet(0x10, connect))
        .and_then(|()| stream.read_exact(&mut answers[..4]))
        .and_then(|()| stream.write_all(&packet(0x82, subscribe)))
        .and_then(|()| stream.read_exact(&mut answers[4..]))
        .during(&id)?;
    if answers != ANSWERS {
        return Err(Failure::new(format!("{id}: unexpected {answers:02x?}")));
    }
    Ok(stream)
}

fn wait_until_gone(node: &Node) -> Outcome {
    let started = Instant::now();
    loop {
        let status = node.status()?;
        let left = status.pointer("/mqtt/connections").and_then(Value::as_u64);
        if left == Some(0) {
            return Ok(());
        }
        if started.elapsed() > LEAVE_TIMEOUT {
            return Err(Failure::new(format!("{left:?} connections are left")));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
