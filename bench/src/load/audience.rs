//! Subscribers on one thread around one epoll, and one publisher for them.
//!
//! Each delivery is the same packet, so what arrived is counted in bytes and
//! nothing is decoded. The publisher goes on when all but a window of what it
//! sent has arrived, so that no server has a reason to drop.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use xtask::failure::{During, Failure, Outcome};
use xtask::wire::mqtt::{Client, Packet};

use super::{READING_SIZE, Reached, WARM_UP};
use crate::process::usage;

/// The topic of all messages.
const TOPIC: &str = "plant/line-1/announcement";

/// Bytes of a delivery: type, length, topic with its length, payload (3.3). The
/// remaining length stays below 128 or takes a second byte.
const DELIVERY_LEN: u64 = {
    let rest = 2 + TOPIC.len() + READING_SIZE;
    (1 + if rest < 128 { 1 } else { 2 } + rest) as u64
};

/// Epoll wakes at least this often, so that the end of a measurement is seen.
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Events taken at once.
const EVENTS_MAX: usize = 256;

/// A delivery that takes longer was dropped.
const STALL: Duration = Duration::from_secs(10);

struct Audience {
    epoll: OwnedFd,
    subscribers: Vec<TcpStream>,
    publisher: TcpStream,
    message: Vec<u8>,
    sent: u64,
    bytes: u64,
}

/// Publishes at QoS 0 to `count` QoS 0 subscribers of `process` with at most
/// `window` messages not delivered. The rate that is reached is that of
/// deliveries.
pub fn fan_out(
    address: SocketAddr,
    process: u32,
    count: usize,
    window: usize,
    length: Duration,
) -> Outcome<Reached> {
    let mut audience = Audience::gather(address, count)?;
    audience.drive(window, Instant::now() + WARM_UP)?;
    let own = std::process::id();
    let (before, own_before) = (usage(process), usage(own));
    let (started, bytes) = (Instant::now(), audience.bytes);
    audience.drive(window, started + length)?;
    let elapsed = started.elapsed().as_secs_f64();
    let used = usage(process).since(before);
    let own_used = usage(own).since(own_before);
    let delivered = (audience.bytes - bytes) / DELIVERY_LEN;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = delivered as f64 / elapsed;
    audience.drain()?;
    Ok(Reached {
        rate,
        used,
        generator_cores: own_used.cpu_s / elapsed,
        generator_waits: own_used.core_wait_s / elapsed,
        acknowledged: audience.sent,
        ..Reached::default()
    })
}

impl Audience {
    fn gather(address: SocketAddr, count: usize) -> Outcome<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("epoll")?;
        let mut subscribers = Vec::with_capacity(count);
        for number in 0..count {
            let id = format!("audience-{number}");
            let (mut client, _) = Client::connect(address, &id, true).during("subscriber")?;
            client.subscribe(1, TOPIC, 0);
            client.flush().during("subscriber")?;
            match client.read().during("subscriber")? {
                Packet::SubAck(1, 0) => {}
                other => return Err(Failure::new(format!("expected SUBACK, got {other:?}"))),
            }
            let stream = client.stream().try_clone().during("subscriber")?;
            stream.set_nonblocking(true).during("subscriber")?;
            let tag = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, tag, epoll::EventFlags::IN).during("epoll")?;
            subscribers.push(stream);
        }
        let (publisher, _) = Client::connect(address, "announcer", true).during("publisher")?;
        let publisher = publisher.stream().try_clone().during("publisher")?;
        let mut message = vec![0x30];
        let mut rest = 2 + TOPIC.len() + READING_SIZE;
        while rest > 0x7f {
            message.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
            rest >>= 7;
        }
        message.push(u8::try_from(rest).unwrap_or_default());
        message.extend(u16::try_from(TOPIC.len()).unwrap_or_default().to_be_bytes());
        message.extend_from_slice(TOPIC.as_bytes());
        message.extend([b'x'; READING_SIZE]);
        Ok(Self {
            epoll,
            subscribers,
            publisher,
            message,
            sent: 0,
            bytes: 0,
        })
    }

    fn delivered(&self) -> u64 {
        self.bytes / DELIVERY_LEN / self.subscribers.len() as u64
    }

    /// Publishes and receives until `end`.
    fn drive(&mut self, window: usize, end: Instant) -> Outcome {
        while Instant::now() < end {
            let room = (self.delivered() + window as u64).saturating_sub(self.sent);
            if room > 0 {
                let batch = self.message.repeat(usize::try_from(room).unwrap_or(1));
                self.publisher.write_all(&batch).during("publish")?;
                self.sent += room;
            }
            self.receive()?;
        }
        Ok(())
    }

    /// Waits until everything has arrived, as it must within a window.
    fn drain(&mut self) -> Outcome {
        let wanted = self.sent * self.subscribers.len() as u64 * DELIVERY_LEN;
        let started = Instant::now();
        while self.bytes < wanted {
            self.receive()?;
            if started.elapsed() > STALL {
                let missing = (wanted - self.bytes) / DELIVERY_LEN;
                return Err(Failure::new(format!("{missing} deliveries are missing")));
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Outcome {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let into = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, into, Some(&WAIT)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during("epoll"),
        }
        let mut buffer = [0; 16 << 10];
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(mut stream) = self.subscribers.get(number) else {
                continue;
            };
            match stream.read(&mut buffer) {
                Ok(0) => return Err(Failure::new("the server closed a subscriber")),
                Ok(length) => self.bytes += length as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).during("subscriber"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{DELIVERY_LEN, TOPIC};

    #[test]
    fn a_delivery_is_as_long_as_its_publish() {
        // 0x30, length, 0x0019, 25 bytes of topic, 100 bytes of payload.
        assert_eq!(TOPIC.len(), 25);
        assert_eq!(DELIVERY_LEN, 1 + 1 + 127);
    }
}
