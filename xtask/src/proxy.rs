//! A TCP proxy that breaks links on purpose.
//!
//! netem is not available everywhere; this needs nothing. Each connection has
//! two pump threads that look at the wanted fault between reads. A connection
//! that swallowed a byte is never used again: what follows would be garbage.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often a pump looks at the wanted fault.
const LOOK: Duration = Duration::from_millis(20);

/// What the link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Passes everything.
    None = 0,
    /// Resets connections and refuses new ones.
    Cut = 1,
    /// Keeps connections open and passes nothing; goes on afterwards.
    Stall = 2,
    /// Takes what the client sends and lets it vanish, as a link does whose
    /// other end lost its memory; the connections end afterwards.
    HalfOpen = 3,
    /// Passes requests and lets the answers vanish, so that what was done is
    /// not known to be done; the connections end afterwards.
    LostAnswers = 4,
}

impl Fault {
    /// All that is not `None`.
    pub const ALL: [Self; 4] = [Self::Cut, Self::Stall, Self::HalfOpen, Self::LostAnswers];

    fn from_code(code: u8) -> Self {
        let known = Self::ALL.into_iter().find(|fault| *fault as u8 == code);
        known.unwrap_or(Self::None)
    }
}

#[derive(Debug)]
struct Shared {
    fault: AtomicU8,
    target: Mutex<SocketAddr>,
    closed: AtomicBool,
    bytes: AtomicU64,
}

impl Shared {
    fn fault(&self) -> Fault {
        Fault::from_code(self.fault.load(Ordering::Relaxed))
    }
}

/// A proxy in front of one address. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port and passes connections to `target`.
    ///
    /// # Errors
    /// No port can be listened on.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            fault: AtomicU8::new(0),
            target: Mutex::new(target),
            closed: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes new connections to another address.
    pub fn retarget(&self, target: SocketAddr) {
        *self
            .shared
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Makes the link do `fault` until told otherwise.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.store(fault as u8, Ordering::Relaxed);
    }

    /// Bytes passed in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.set(Fault::Cut);
        // The accepting thread wakes up by a connection and sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.fault() == Fault::Cut {
            continue;
        }
        let target = *shared.target.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(server) = TcpStream::connect(target) else {
            continue;
        };
        if let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) {
            let (up, down) = (Arc::clone(shared), Arc::clone(shared));
            thread::spawn(move || pump(client, server, &up, Fault::HalfOpen));
            thread::spawn(move || pump(server_too, client_too, &down, Fault::LostAnswers));
        }
    }
}

/// Copies one direction; `swallowing` is the fault that makes it vanish.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, swallowing: Fault) {
    let _ = to.set_nodelay(true);
    let _ = from.set_read_timeout(Some(LOOK));
    let mut buffer = vec![0; 64 << 10];
    let mut spoilt = false;
    loop {
        match shared.fault() {
            Fault::Cut => break,
            Fault::Stall => {
                thread::sleep(LOOK);
                continue;
            }
            fault if spoilt && fault != swallowing => break,
            _ => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                // The fault may have changed while the read waited.
                if shared.fault() == swallowing {
                    spoilt = true;
                    continue;
                }
                if spoilt || to.write_all(&buffer[..count]).is_err() {
                    break;
                }
                shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    // Either side may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::{Fault, Proxy};

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut reader = stream.try_clone().unwrap();
                    io::copy(&mut reader, &mut stream)
                });
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    /// Sends `bytes` and returns as many as come back before the end.
    fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
        // A write to a connection that was cut may fail, which says the same.
        let _ = stream.write_all(bytes);
        let mut back = vec![0; bytes.len()];
        match stream.read_exact(&mut back) {
            Ok(()) => back,
            Err(_) => Vec::new(),
        }
    }

    #[test]
    fn a_whole_link_passes_bytes_and_a_cut_one_ends() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        assert_eq!(exchange(&mut stream, b"one"), b"one");
        proxy.set(Fault::Cut);
        assert_eq!(
            exchange(&mut stream, b"two"),
            b"",
            "the old connection ends"
        );
        assert_eq!(
            exchange(&mut connect(&proxy), b"three"),
            b"",
            "a new one too"
        );
        proxy.set(Fault::None);
        assert_eq!(exchange(&mut connect(&proxy), b"four"), b"four");
    }

    #[test]
    fn a_connection_that_lost_bytes_is_not_used_again() {
        for fault in [Fault::HalfOpen, Fault::LostAnswers] {
            let proxy = Proxy::start(echo()).unwrap();
            let mut stream = connect(&proxy);
            assert_eq!(exchange(&mut stream, b"one"), b"one");
            proxy.set(fault);
            stream
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            assert_eq!(
                exchange(&mut stream, b"lost"),
                b"",
                "{fault:?} answers nothing"
            );
            proxy.set(Fault::None);
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            assert_eq!(
                exchange(&mut stream, b"late"),
                b"",
                "{fault:?} ends the connection"
            );
        }
    }

    #[test]
    fn a_stalled_link_goes_on_where_it_was() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        assert_eq!(exchange(&mut stream, b"one"), b"one");
        proxy.set(Fault::Stall);
        stream.write_all(b"two").unwrap();
        proxy.set(Fault::None);
        let mut back = [0; 3];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"two");
    }
}
