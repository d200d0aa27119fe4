//! The link: a TCP relay that can be cut, restored and pointed elsewhere.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They pass.
    Fair,
    /// Requests pass; the first answer after this is lost with its connection.
    AnswersLost,
    /// Nothing passes, connections end.
    Cut,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    hub: SocketAddr,
    open: Vec<TcpStream>,
}

/// A relay that lives as long as the test process.
#[derive(Debug, Clone)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    lost_answers: Arc<AtomicU64>,
}

impl Relay {
    pub fn open(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let relay = Self {
            address: listener.local_addr().expect("a bound socket"),
            state: Arc::new(Mutex::new(State {
                weather: Weather::Fair,
                hub,
                open: Vec::new(),
            })),
            lost_answers: Arc::default(),
        };
        let acceptor = relay.clone();
        thread::spawn(move || {
            for gateway in listener.incoming().flatten() {
                acceptor.join(gateway);
            }
        });
        relay
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of answers that were lost on purpose.
    pub fn lost_answers(&self) -> u64 {
        self.lost_answers.load(Ordering::SeqCst)
    }

    /// Leads new connections to another address.
    pub fn lead_to(&self, hub: SocketAddr) {
        self.state.lock().expect("no panic under the lock").hub = hub;
    }

    pub fn weather(&self) -> Weather {
        self.state.lock().expect("no panic under the lock").weather
    }

    pub fn set(&self, weather: Weather) {
        let mut state = self.state.lock().expect("no panic under the lock");
        state.weather = weather;
        if weather == Weather::Cut {
            for stream in state.open.drain(..) {
                // It may have ended already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn join(&self, gateway: TcpStream) {
        let mut state = self.state.lock().expect("no panic under the lock");
        if state.weather == Weather::Cut {
            return;
        }
        let Ok(hub) = TcpStream::connect(state.hub) else {
            return;
        };
        let copy = |stream: &TcpStream| stream.try_clone().expect("descriptors are left");
        state.open.extend([copy(&gateway), copy(&hub)]);
        let (requests, answers) = ((copy(&gateway), copy(&hub)), (hub, gateway));
        drop(state);
        let relay = self.clone();
        thread::spawn(move || pump(requests.0, requests.1, || true));
        thread::spawn(move || pump(answers.0, answers.1, || relay.lets_answer_pass()));
    }

    fn lets_answer_pass(&self) -> bool {
        let weather = self.weather();
        let passes = weather == Weather::Fair;
        if weather == Weather::AnswersLost {
            self.lost_answers.fetch_add(1, Ordering::SeqCst);
        }
        passes
    }
}

/// Copies until either side ends or `passes` refuses, then closes both.
fn pump(mut from: TcpStream, mut to: TcpStream, passes: impl Fn() -> bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || !passes() || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
