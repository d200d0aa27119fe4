//! MQTT publishers on one thread around one epoll.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use rustls::ClientConfig;
use xtask::failure::{During, Failure, Outcome};

use super::wire::Wire;
use super::{Pace, READING_SIZE};

/// A paced fleet looks this often at who is due. Shorter would take the CPU
/// from the measured process, longer would send bursts that sensors do not.
const TICK: Duration = Duration::from_micros(250);

/// Epoll wakes at least this often, so that the end of a measurement is seen.
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Events taken at once: all connections and the timer.
const EVENTS_MAX: usize = 128;

/// The tag of the timer among the connections' indexes.
const TIMER: u64 = u64::MAX;

/// PUBACK without properties (MQTT 3.1.1, 3.4): type, length 2, identifier.
const PUBACK: [u8; 2] = [0x40, 2];

/// Connected publishers.
pub struct Fleet {
    /// From sending to PUBACK, of each acknowledged publish.
    pub latencies: Vec<Duration>,
    /// Acknowledgements so far.
    pub acknowledged: u64,
    publishers: Vec<Publisher>,
    pace: Pace,
    interval: Duration,
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Fleet {
    /// Connects `count` clean sessions.
    pub fn connect(
        address: SocketAddr,
        count: u32,
        pace: Pace,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Outcome<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("epoll")?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).during("timerfd")?;
        let interval = match pace {
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            Pace::Rate { rate, burst } => {
                Duration::from_secs_f64(f64::from(count) * burst as f64 / rate)
            }
            Pace::Window(_) => Duration::ZERO,
        };
        let started = Instant::now();
        let mut publishers = Vec::new();
        for number in 0..count {
            // Senders are spread over the interval, as sensors are.
            let due = started + interval.mul_f64(f64::from(number) / f64::from(count));
            let publisher = Publisher::connect(address, number, due, tls).during("publisher")?;
            let tag = epoll::EventData::new_u64(u64::from(number));
            epoll::add(
                &epoll,
                publisher.stream.socket(),
                tag,
                epoll::EventFlags::IN,
            )
            .during("epoll")?;
            publishers.push(publisher);
        }
        if matches!(pace, Pace::Rate { .. }) {
            let tag = epoll::EventData::new_u64(TIMER);
            epoll::add(&epoll, &timer, tag, epoll::EventFlags::IN).during("epoll")?;
            tick(&timer)?;
        }
        Ok(Self {
            latencies: Vec::new(),
            acknowledged: 0,
            publishers,
            pace,
            interval,
            epoll,
            timer,
        })
    }

    /// Publishes until `end`.
    pub fn drive(&mut self, end: Instant) -> Outcome {
        if let Pace::Window(window) = self.pace {
            let now = Instant::now();
            for publisher in &mut self.publishers {
                publisher.fill(window, now);
                publisher.flush().during("publish")?;
            }
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while Instant::now() < end {
            events.clear();
            let into = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, into, Some(&WAIT)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).during("epoll"),
            }
            for event in &events {
                match event.data.u64() {
                    TIMER => self.send_due()?,
                    number => self.acknowledge(usize::try_from(number).unwrap_or(usize::MAX))?,
                }
            }
        }
        Ok(())
    }

    /// Sends what is due by now on each connection.
    fn send_due(&mut self) -> Outcome {
        let mut expirations = [0; 8];
        // Reading only disarms the level; how many ticks passed does not matter.
        let _ = rustix::io::read(&self.timer, &mut expirations);
        let Pace::Rate { burst, .. } = self.pace else {
            return Ok(());
        };
        for publisher in &mut self.publishers {
            let now = Instant::now();
            while publisher.due <= now {
                for _ in 0..burst {
                    publisher.push(now);
                }
                publisher.due += self.interval;
            }
            publisher.flush().during("publish")?;
        }
        Ok(())
    }

    /// Takes the acknowledgements that arrived on one connection.
    fn acknowledge(&mut self, number: usize) -> Outcome {
        let Some(publisher) = self.publishers.get_mut(number) else {
            return Ok(());
        };
        self.acknowledged += publisher.receive(&mut self.latencies)?;
        if let Pace::Window(window) = self.pace {
            publisher.fill(window, Instant::now());
        }
        publisher.flush().during("publish")
    }
}

fn tick(timer: &OwnedFd) -> Outcome {
    let period = Timespec {
        tv_sec: 0,
        tv_nsec: TICK.subsec_nanos().into(),
    };
    let setting = Itimerspec {
        it_interval: period,
        it_value: period,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &setting).during("timerfd")?;
    Ok(())
}

struct Publisher {
    stream: Wire,
    /// A whole PUBLISH; the two bytes at `id_at` change.
    packet: Vec<u8>,
    id_at: usize,
    id: u16,
    in_flight: VecDeque<(u16, Instant)>,
    output: Vec<u8>,
    input: Vec<u8>,
    due: Instant,
}

impl Publisher {
    fn connect(
        address: SocketAddr,
        number: u32,
        due: Instant,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let stream = Wire::open(address, &format!("load-{number}"), tls)?;
        let (packet, id_at) = encode(&format!("plant/line-{number}/vibration"));
        Ok(Self {
            stream,
            packet,
            id_at,
            id: 0,
            in_flight: VecDeque::new(),
            output: Vec::new(),
            input: Vec::new(),
            due,
        })
    }

    fn fill(&mut self, window: usize, now: Instant) {
        while self.in_flight.len() < window {
            self.push(now);
        }
    }

    fn push(&mut self, now: Instant) {
        // The identifiers 1 to 60000 in turn: far more than are in flight.
        self.id = self.id % 60_000 + 1;
        let start = self.output.len();
        self.output.extend_from_slice(&self.packet);
        let id = start + self.id_at;
        self.output[id..id + 2].copy_from_slice(&self.id.to_be_bytes());
        self.in_flight.push_back((self.id, now));
    }

    /// Writes what the socket takes; the rest waits for the next call.
    fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.output) {
            Ok(written) => {
                self.output.drain(..written);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads PUBACKs; they come in the order of the publishes (4.6).
    fn receive(&mut self, latencies: &mut Vec<Duration>) -> Outcome<u64> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Failure::new("the server closed a publisher")),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).during("publisher"),
            }
            // The socket tells of the rest; what TLS holds back it does not.
            if !self.stream.holds_more() {
                break;
            }
        }
        let now = Instant::now();
        let whole = self.input.len() / 4 * 4;
        let mut count = 0;
        for packet in self.input[..whole].chunks_exact(4) {
            let id = u16::from_be_bytes([packet[2], packet[3]]);
            match self.in_flight.pop_front() {
                Some((sent, at)) if packet[..2] == PUBACK && sent == id => {
                    latencies.push(now.duration_since(at));
                    count += 1;
                }
                expected => {
                    let text = format!("expected PUBACK of {expected:?}, got {packet:02x?}");
                    return Err(Failure::new(text));
                }
            }
        }
        self.input.drain(..whole);
        Ok(count)
    }
}

/// A PUBLISH at QoS 1 and where its identifier is (3.3).
fn encode(topic: &str) -> (Vec<u8>, usize) {
    let mut packet = vec![0x32];
    let mut rest = 2 + topic.len() + 2 + READING_SIZE;
    while rest > 0x7f {
        packet.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    packet.push(u8::try_from(rest).unwrap_or_default());
    packet.extend(u16::try_from(topic.len()).unwrap_or_default().to_be_bytes());
    packet.extend_from_slice(topic.as_bytes());
    let id_at = packet.len();
    packet.extend([0, 0]);
    packet.extend([b'x'; READING_SIZE]);
    (packet, id_at)
}

#[cfg(test)]
mod tests {
    use super::{READING_SIZE, encode};

    #[test]
    fn the_publish_has_its_length_and_a_place_for_the_identifier() {
        let (packet, id_at) = encode("plant/line-1/vibration");
        // 2 + 22 + 2 + 100 = 126 fits one byte of remaining length.
        assert_eq!(packet[..4], [0x32, 126, 0, 22]);
        assert_eq!(packet.len(), 2 + 126);
        assert_eq!(id_at, packet.len() - READING_SIZE - 2);
        let (longer, _) = encode("plant/line-100/vibration");
        // 128 is 0x80 0x01 (2.2.3).
        assert_eq!(longer[..3], [0x32, 0x80, 0x01]);
        assert_eq!(longer.len(), 3 + 128);
    }
}
