//! A sensor that publishes at QoS 1 and remembers what was acknowledged.
//!
//! A reading whose acknowledgement was lost is given up and never repeated, so
//! each reading is published once and may be in the log at most once.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Publishes without an acknowledgement at any time.
const WINDOW: usize = 16;

/// A silent gateway counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause before the next attempt to connect, as a real sensor makes one.
const RETRY: Duration = Duration::from_millis(10);

/// Where the gateway is; changes with each restart.
pub type Address = Arc<Mutex<SocketAddr>>;

/// A publishing thread.
pub struct Publisher {
    thread: Option<JoinHandle<BTreeSet<u64>>>,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    /// Publishes the numbers from `first` on, even ones to `path/0` and odd
    /// ones to `path/1`, until `goal` readings are acknowledged.
    pub fn start(address: Address, path: &'static str, first: u64, goal: usize) -> Self {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut known = BTreeSet::new();
            let mut next = first;
            while known.len() < goal && !stopped.load(Ordering::SeqCst) {
                let to = *address.lock().expect("no panic under the lock");
                let mut note = |reading| {
                    known.insert(reading);
                    count.store(known.len(), Ordering::SeqCst);
                    known.len() < goal
                };
                // The gateway is down or went down; the next turn sees where
                // it came up again.
                if publish(to, path, &mut next, &mut note).is_err() {
                    thread::sleep(RETRY);
                }
            }
            known
        });
        Self {
            thread: Some(thread),
            acknowledged,
            stop,
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits for the goal and returns the acknowledged readings.
    pub fn finish(mut self) -> BTreeSet<u64> {
        let thread = self.thread.take().expect("it is taken once");
        thread.join().expect("the publisher does not panic")
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// One connection: publishes until `note` has enough.
fn publish(
    to: SocketAddr,
    path: &str,
    next: &mut u64,
    note: &mut impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // CONNECT of MQTT 3.1.1: clean session, keep alive of 60 s, client "s".
    stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01s")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer != [0x20, 2, 0, 0] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut waiting = std::collections::VecDeque::new();
    loop {
        let mut packets = Vec::new();
        while waiting.len() < WINDOW {
            let packet_id = (*next % 60_000) as u16 + 1;
            push_publish(&mut packets, path, *next, packet_id);
            waiting.push_back((*next, packet_id));
            *next += 1;
        }
        stream.write_all(&packets)?;
        stream.read_exact(&mut answer)?;
        // PUBACKs come in the order of the publishes.
        let (reading, packet_id) = waiting.pop_front().ok_or(io::ErrorKind::InvalidData)?;
        let [high, low] = packet_id.to_be_bytes();
        if answer != [0x40, 2, high, low] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !note(reading) {
            return Ok(());
        }
    }
}

fn push_publish(packets: &mut Vec<u8>, path: &str, reading: u64, packet_id: u16) {
    let topic = format!("{path}/{}", reading % 2);
    let payload = reading.to_string();
    // Below 128 bytes the remaining length is one byte.
    packets.extend([0x32, (2 + topic.len() + 2 + payload.len()) as u8]);
    packets.extend((topic.len() as u16).to_be_bytes());
    packets.extend(topic.as_bytes());
    packets.extend(packet_id.to_be_bytes());
    packets.extend(payload.as_bytes());
}
