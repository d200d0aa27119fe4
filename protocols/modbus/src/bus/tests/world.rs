//! A bus, a clock that jumps, and devices that answer as they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::address::{Address, Table};
use crate::bus::{
    Bus, BusConfig, Device, Effect, Framing, Moment, Notice, Reading, Status, Tag, WriteFailure,
    WriteId,
};
use crate::frame::{rtu, tcp};
use crate::plan::Limits;
use crate::report::ReportRule;
use crate::value::{DataType, Encoding, Value};

pub const SECOND: Duration = Duration::from_secs(1);
pub const TIMEOUT: Duration = Duration::from_millis(500);

/// What a device does some time after a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// These bytes arrive, on the connection that the request came by.
    Bytes(Vec<u8>),
    /// These bytes arrive on whichever connection there is: a serial converter.
    ToAnyone(Vec<u8>),
    /// The connection breaks.
    Close,
}

/// One request as the device sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub at: Moment,
    pub transaction: u16,
    pub unit: u8,
    pub pdu: Vec<u8>,
}

type Script = Box<dyn FnMut(&Asked) -> Vec<(Duration, Act)>>;

/// Everything around one bus.
pub struct World {
    pub bus: Bus,
    pub now: Moment,
    framing: Framing,
    device: Script,
    /// Whether a connection can be made at this moment, and how fast.
    pub accepts: Option<Duration>,
    connection: u64,
    is_open: bool,
    pending: BTreeMap<(Moment, u64), (u64, Event)>,
    sequence: u64,
    pub asked: Vec<Asked>,
    pub readings: Vec<(Moment, Reading)>,
    pub written: Vec<(WriteId, Result<Value, WriteFailure>)>,
    pub notices: Vec<Notice>,
    pub connects: Vec<Moment>,
    pub disconnects: usize,
}

#[derive(Debug)]
enum Event {
    Connected,
    Refused,
    Act(Act),
}

/// A holding register of one register, read each second.
pub fn register(unit: u8, number: u16) -> Tag {
    Tag {
        device: 0,
        unit,
        address: Address {
            table: Table::Holding,
            number,
        },
        encoding: Encoding::plain(DataType::Uint16),
        interval: SECOND,
        report: ReportRule::Always,
    }
}

pub fn config(framing: Framing, tags: Vec<Tag>) -> BusConfig {
    BusConfig {
        framing,
        pause_after_connect: Duration::ZERO,
        close_after_read: false,
        devices: vec![Device {
            timeout: TIMEOUT,
            retries: 0,
            pause: Duration::ZERO,
            limits: Limits {
                max_registers: 125,
                max_fill: 8,
            },
        }],
        tags,
    }
}

/// What every register of the fake devices holds: no two addresses and no two
/// units of a test share a value.
pub fn held(unit: u8, number: u16) -> u16 {
    u16::from(unit) * 5_000 + number
}

/// The right answer to a read, write or mask write.
pub fn right_pdu(asked: &Asked) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([asked.pdu[at], asked.pdu[at + 1]]);
    let function = asked.pdu[0];
    match function {
        1 | 2 => {
            let bytes = word(3).div_ceil(8);
            let mut pdu = vec![function, u8::try_from(bytes).unwrap()];
            pdu.resize(2 + usize::from(bytes), 0);
            for index in 0..word(3) {
                let on = held(asked.unit, word(1) + index) & 1 == 1;
                pdu[2 + usize::from(index / 8)] |= u8::from(on) << (index % 8);
            }
            pdu
        }
        3 | 4 => {
            let mut pdu = vec![function, u8::try_from(word(3) * 2).unwrap()];
            for index in 0..word(3) {
                let other = if function == 4 { 7 } else { 0 };
                let value = held(asked.unit, word(1) + index) + other;
                pdu.extend_from_slice(&value.to_be_bytes());
            }
            pdu
        }
        15 | 16 => asked.pdu[..5].to_vec(),
        _ => asked.pdu.clone(),
    }
}

impl World {
    pub fn new(
        config: BusConfig,
        device: impl FnMut(&Asked) -> Vec<(Duration, Act)> + 'static,
    ) -> Self {
        Self {
            framing: config.framing,
            bus: Bus::new(config, Moment::ZERO, 7),
            now: Moment::ZERO,
            device: Box::new(device),
            accepts: Some(Duration::from_millis(1)),
            connection: 0,
            is_open: false,
            pending: BTreeMap::new(),
            sequence: 0,
            asked: Vec::new(),
            readings: Vec::new(),
            written: Vec::new(),
            notices: Vec::new(),
            connects: Vec::new(),
            disconnects: 0,
        }
    }

    /// Plays until `end`, events and deadlines in order.
    pub fn run_until(&mut self, end: Moment) {
        self.effects();
        let mut steps = 0u32;
        loop {
            steps += 1;
            assert!(steps < 5_000_000, "the bus spins at {:?}", self.now);
            let event = self.pending.keys().next().map(|(at, _)| *at);
            let deadline = self.bus.next_deadline();
            let next = [event, deadline].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if event.is_some_and(|at| at <= next) {
                self.event();
            } else {
                self.bus.handle_timer(self.now);
            }
            self.effects();
        }
        self.now = end;
    }

    fn event(&mut self) {
        let Some((_, (connection, event))) = self.pending.pop_first() else {
            return;
        };
        let is_current = connection == self.connection;
        match event {
            Event::Connected if is_current => {
                self.is_open = true;
                self.bus.handle_connected(self.now);
            }
            Event::Refused if is_current => {
                self.bus.handle_connect_failed(self.now, "refused");
            }
            Event::Act(Act::Bytes(bytes)) if is_current && self.is_open => {
                self.bus.handle_bytes(self.now, &bytes);
            }
            Event::Act(Act::ToAnyone(bytes)) if self.is_open => {
                self.bus.handle_bytes(self.now, &bytes);
            }
            Event::Act(Act::Close) if is_current && self.is_open => {
                self.is_open = false;
                self.bus.handle_closed(self.now, "closed by the peer");
            }
            _ => {}
        }
    }

    /// Carries out what the bus wants.
    pub fn effects(&mut self) {
        while let Some(effect) = self.bus.poll_effect() {
            match effect {
                Effect::Connect => {
                    self.connects.push(self.now);
                    self.connection += 1;
                    self.is_open = false;
                    match self.accepts {
                        Some(delay) => self.later(delay, Event::Connected),
                        None => self.later(Duration::from_millis(1), Event::Refused),
                    }
                }
                Effect::Disconnect => {
                    self.disconnects += 1;
                    self.connection += 1;
                    self.is_open = false;
                }
                Effect::Send(frame) => {
                    assert!(self.is_open, "sent without a connection");
                    let asked = self.read(&frame);
                    let acts = (self.device)(&asked);
                    self.asked.push(asked);
                    for (delay, act) in acts {
                        self.later(delay, Event::Act(act));
                    }
                }
                Effect::Report(readings) => {
                    let now = self.now;
                    self.readings
                        .extend(readings.into_iter().map(|reading| (now, reading)));
                }
                Effect::Written { id, result } => self.written.push((id, result)),
                Effect::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        let at = (self.now + delay, self.sequence);
        self.pending.insert(at, (self.connection, event));
    }

    fn read(&self, frame: &[u8]) -> Asked {
        if self.framing == Framing::Tcp {
            let read = tcp::decode(frame).unwrap().unwrap();
            assert_eq!(read.size, frame.len());
            Asked {
                at: self.now,
                transaction: read.transaction,
                unit: read.unit,
                pdu: read.pdu.to_vec(),
            }
        } else {
            let (body, sum) = frame.split_at(frame.len() - 2);
            assert_eq!(sum, rtu::crc(body).to_le_bytes());
            Asked {
                at: self.now,
                transaction: 0,
                unit: body[0],
                pdu: body[1..].to_vec(),
            }
        }
    }

    /// The results of one tag, in order.
    pub fn results(&self, tag: usize) -> Vec<Result<Value, Status>> {
        let of_tag = self.readings.iter().filter(|(_, r)| r.tag == tag);
        of_tag.map(|(_, reading)| reading.result.clone()).collect()
    }

    /// No reading may hold anything but what its register holds.
    pub fn assert_right(&self, tags: &[Tag]) {
        for (at, reading) in &self.readings {
            let tag = &tags[reading.tag];
            if let Ok(value) = &reading.result {
                let expected = u64::from(held(tag.unit, tag.address.number));
                assert_eq!(
                    value,
                    &Value::Unsigned(expected),
                    "tag {} at {at:?}",
                    reading.tag
                );
            }
        }
    }

    /// How many readings are good.
    pub fn good(&self) -> usize {
        let good = self.readings.iter().filter(|(_, r)| r.result.is_ok());
        good.count()
    }
}

/// A frame around an answer.
pub fn framed(framing: Framing, asked: &Asked, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    if framing == Framing::Tcp {
        tcp::encode(asked.transaction, asked.unit, pdu, &mut frame);
    } else {
        rtu::encode(asked.unit, pdu, &mut frame);
    }
    frame
}

/// A device that answers correctly after 5 ms.
pub fn honest(framing: Framing) -> impl FnMut(&Asked) -> Vec<(Duration, Act)> {
    move |asked| vec![answer(framing, asked, Duration::from_millis(5))]
}

pub fn answer(framing: Framing, asked: &Asked, delay: Duration) -> (Duration, Act) {
    let frame = framed(framing, asked, &right_pdu(asked));
    (delay, Act::Bytes(frame))
}

pub fn refusal(framing: Framing, asked: &Asked, code: u8) -> Vec<(Duration, Act)> {
    let pdu = [asked.pdu[0] | 0x80, code];
    let frame = framed(framing, asked, &pdu);
    vec![(Duration::from_millis(5), Act::Bytes(frame))]
}
