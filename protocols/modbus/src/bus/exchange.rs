//! One request and its answer.

use super::unit::Ask;
use super::writes::Stage;
use super::{Bus, Effect, Framing, Moment, Notice, Status, WriteFailure};
use crate::address::Address;
use crate::exception::Exception;
use crate::frame::{rtu, tcp};
use crate::request::{Answer, Misfit, Request};

/// Bytes behind an RTU answer that are taken for noise: driving a two-wire line
/// leaves a stray byte or two, and the shortest frame has five.
const NOISE_SIZE_MAX: usize = 4;

/// Bytes of an RTU frame beside its data: unit and CRC.
const RTU_SIZE_AROUND: usize = 3;

/// The request under way.
#[derive(Debug)]
pub(super) struct Exchange {
    unit: u8,
    device: usize,
    request: Request,
    purpose: Purpose,
    transaction: u16,
    pub(super) deadline: Moment,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The next request of this group's cycle.
    Poll(usize),
    /// To be sure that nothing old comes, before this group's next request.
    ClearPoll(usize),
    /// The first write, at whichever stage it is.
    Write,
    /// To be sure that nothing old comes, before the first write goes on.
    ClearWrite,
    /// A poll of a former configuration.
    Nothing,
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Timeout,
    Garbled,
    WrongAnswer,
    Disconnected,
}

impl Failure {
    const fn status(self) -> Status {
        match self {
            Self::Timeout => Status::Timeout,
            Self::Garbled => Status::Garbled,
            Self::WrongAnswer => Status::WrongAnswer,
            Self::Disconnected => Status::Disconnected,
        }
    }
}

impl Bus {
    /// Bytes came.
    pub fn handle_bytes(&mut self, now: Moment, bytes: &[u8]) {
        if !self.link.is_up() {
            return;
        }
        if self.link.is_draining() {
            self.counters.discarded += 1;
            self.drained_bytes(now);
        } else if self.config.framing == Framing::Tcp {
            self.handle_tcp(now, bytes);
        } else {
            self.handle_rtu(now, bytes);
        }
        self.advance(now);
    }

    /// Sends the next request if one may be sent at this moment.
    pub(super) fn send_next(&mut self, now: Moment) {
        while self.current.is_none() && self.link.is_usable() && now >= self.quiet_until {
            if let Some(write) = self.writes.front() {
                let (unit, device, request) = (write.unit(), write.device(), write.request());
                let timed_out = write.failure(Status::Timeout);
                match self.ask(now, unit, &request) {
                    Ask::First(first) => {
                        self.send(now, unit, device, first, Purpose::ClearWrite);
                    }
                    Ask::Nothing => {
                        self.end_write(Err(timed_out));
                    }
                    Ask::Freely => {
                        if let Some(write) = self.writes.front_mut()
                            && write.stage == Stage::Waiting
                        {
                            write.stage = Stage::Sent;
                            write.expires = Moment::MAX;
                        }
                        self.send(now, unit, device, request, Purpose::Write);
                    }
                }
            } else if let Some(index) = self.ready.pop_front() {
                self.send_poll(now, index);
            } else {
                return;
            }
        }
    }

    fn send_poll(&mut self, now: Moment, index: usize) {
        let group = &self.groups[index];
        let Some(cycle) = group.cycle else {
            return;
        };
        let (unit, device) = (group.unit, group.device);
        let request = group.reads[cycle.next].request();
        match self.ask(now, unit, &request) {
            Ask::Freely => self.send(now, unit, device, request, Purpose::Poll(index)),
            Ask::First(first) => self.send(now, unit, device, first, Purpose::ClearPoll(index)),
            Ask::Nothing => {
                self.read_failed(now, index, Status::Timeout);
                self.unit_failed(now, unit, Status::Timeout);
            }
        }
    }

    fn ask(&mut self, now: Moment, unit: u8, request: &Request) -> Ask {
        let start = match request {
            Request::Read { start, .. } => *start,
            _ => 0,
        };
        self.units.entry(unit).or_default().ask(now, start)
    }

    fn send(&mut self, now: Moment, unit: u8, device: usize, request: Request, purpose: Purpose) {
        let mut pdu = Vec::with_capacity(8);
        if request.encode(&mut pdu).is_err() {
            // The plan keeps to the limits and writes were encoded when they
            // were queued, so this only ends what cannot be asked.
            self.fail_purpose(now, unit, device, purpose, Failure::WrongAnswer);
            return;
        }
        self.transaction = self.transaction.wrapping_add(1);
        let mut frame = Vec::with_capacity(16);
        if self.config.framing == Framing::Tcp {
            tcp::encode(self.transaction, unit, &pdu, &mut frame);
        } else {
            rtu::encode(unit, &pdu, &mut frame);
        }
        if self.config.framing.is_rtu() {
            // Over TCP the start of a late answer may be in there.
            self.inbox.clear();
        }
        self.counters.requests += 1;
        let answer_size = request.answer_size() + RTU_SIZE_AROUND;
        let transfer = self.transfer_time(frame.len() + answer_size);
        self.current = Some(Exchange {
            unit,
            device,
            request,
            purpose,
            transaction: self.transaction,
            deadline: now + self.timeout_of(device) + transfer,
        });
        self.effects.push_back(Effect::Send(frame));
    }

    fn handle_tcp(&mut self, now: Moment, bytes: &[u8]) {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.extend_from_slice(bytes);
        let mut from = 0;
        loop {
            match tcp::decode(&inbox[from..]) {
                Ok(Some(frame)) => {
                    from += frame.size;
                    self.link.heard();
                    let is_ours = |current: &mut Exchange| current.transaction == frame.transaction;
                    let Some(current) = self.current.take_if(is_ours) else {
                        self.counters.discarded += 1;
                        continue;
                    };
                    if current.unit == frame.unit {
                        let answer = current.request.answer(frame.pdu);
                        self.settle(now, &current, answer);
                    } else {
                        self.fail(now, &current, Failure::WrongAnswer);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    self.drop_link(now, "the peer does not speak Modbus TCP");
                    self.abandon_exchange(now, Status::Garbled);
                    return;
                }
            }
        }
        inbox.drain(..from);
        self.inbox = inbox;
    }

    fn handle_rtu(&mut self, now: Moment, bytes: &[u8]) {
        let Some(current) = self.current.take() else {
            // Nobody was asked: a late answer, or another master on the line.
            self.counters.discarded += 1;
            self.distrust_link(now, false);
            return;
        };
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.extend_from_slice(bytes);
        match rtu::decode(&inbox, current.unit, &current.request) {
            Ok(Some(frame)) if inbox.len() - frame.size <= NOISE_SIZE_MAX => {
                self.link.heard();
                let answer = current.request.answer(frame.pdu);
                self.settle(now, &current, answer);
            }
            Ok(None) => {
                self.inbox = inbox;
                self.current = Some(current);
            }
            Ok(Some(_)) | Err(rtu::FrameError::Crc { .. }) => {
                self.fail(now, &current, Failure::Garbled);
            }
            Err(_) => self.fail(now, &current, Failure::WrongAnswer),
        }
    }

    /// The request got its answer.
    fn settle(&mut self, now: Moment, current: &Exchange, answer: Result<Answer<'_>, Misfit>) {
        let Ok(answer) = answer else {
            self.fail(now, current, Failure::WrongAnswer);
            return;
        };
        self.counters.answers += 1;
        self.quiet(now, current.device);
        if let Some(unit) = self.units.get_mut(&current.unit)
            && matches!(current.purpose, Purpose::ClearPoll(_) | Purpose::ClearWrite)
        {
            unit.trust();
        }
        if let Answer::Refused(exception) = answer {
            self.counters.refusals += 1;
            self.refused(now, current, exception);
            return;
        }
        self.unit_answered(now, current.unit);
        match (current.purpose, answer) {
            (Purpose::Poll(index), Answer::Data(data)) => self.read_succeeded(now, index, data),
            (Purpose::ClearPoll(index), _) => self.ready.push_front(index),
            (Purpose::Write, Answer::Data(data)) => self.read_back(now, data),
            (Purpose::Write, _) => {
                if let Some(write) = self.writes.front_mut() {
                    write.stage = Stage::Confirmed;
                }
            }
            _ => {}
        }
    }

    /// The device, or a gateway before it, said no.
    fn refused(&mut self, now: Moment, current: &Exchange, exception: Exception) {
        let status = Status::Refused(exception);
        if !exception.is_unit_away() {
            self.unit_answered(now, current.unit);
        }
        match current.purpose {
            Purpose::ClearPoll(index) if !exception.is_unit_away() => self.ready.push_front(index),
            Purpose::ClearWrite | Purpose::Nothing => {}
            Purpose::Write => {
                let failure = self.writes.front().map(|write| write.failure(status));
                self.end_write(Err(failure.unwrap_or(WriteFailure::NotSent(status))));
            }
            Purpose::Poll(index) | Purpose::ClearPoll(index) => {
                let is_repeatable = exception.is_busy() && self.retry(index);
                if is_repeatable || self.split_refused(current, index, exception) {
                    return;
                }
                self.read_failed(now, index, status);
                if exception.is_unit_away() {
                    self.unit_failed(now, current.unit, status);
                }
            }
        }
    }

    /// Splits a read that the device refused for its addresses. Some devices
    /// say illegal value for a count that runs over a hole.
    fn split_refused(&mut self, current: &Exchange, index: usize, exception: Exception) -> bool {
        let is_about_addresses = matches!(
            exception,
            Exception::IllegalDataAddress | Exception::IllegalDataValue
        );
        let Request::Read {
            table,
            start,
            count,
        } = current.request
        else {
            return false;
        };
        let is_split = is_about_addresses && self.split_request(index);
        if is_split {
            self.notice(Notice::RequestSplit {
                unit: current.unit,
                from: Address {
                    table,
                    number: start,
                },
                count,
            });
        }
        is_split
    }

    /// The deadline of the request under way passed.
    pub(super) fn expire_exchange(&mut self, now: Moment) {
        let is_over = |current: &mut Exchange| now >= current.deadline;
        let Some(current) = self.current.take_if(is_over) else {
            return;
        };
        self.counters.timeouts += 1;
        // Half an answer is no silence, and as broken as a wrong checksum.
        let failure = if self.inbox.is_empty() {
            Failure::Timeout
        } else {
            Failure::Garbled
        };
        let is_dead = self.link.timed_out();
        if self.config.framing == Framing::Tcp {
            if is_dead || failure == Failure::Garbled {
                self.drop_link(now, "requests are not answered");
            }
        } else {
            self.distrust_link(now, true);
        }
        self.end_failed(now, &current, failure);
    }

    /// What came is no answer.
    fn fail(&mut self, now: Moment, current: &Exchange, failure: Failure) {
        self.counters.broken += 1;
        if self.config.framing.is_rtu() {
            self.distrust_link(now, false);
        }
        self.end_failed(now, current, failure);
    }

    /// The connection went away under the request.
    pub(super) fn abandon_exchange(&mut self, now: Moment, status: Status) {
        let Some(current) = self.current.take() else {
            return;
        };
        if self.config.framing.is_rtu() {
            self.distrust_link(now, false);
        }
        let failure = match status {
            Status::Garbled => Failure::Garbled,
            _ => Failure::Disconnected,
        };
        self.end_failed(now, &current, failure);
    }

    fn end_failed(&mut self, now: Moment, current: &Exchange, failure: Failure) {
        self.quiet(now, current.device);
        let timeout = self.timeout_of(current.device);
        if self.config.framing.is_rtu() {
            let unit = self.units.entry(current.unit).or_default();
            unit.suspect(now, &current.request, timeout);
        }
        self.fail_purpose(now, current.unit, current.device, current.purpose, failure);
    }

    /// Repeats what may be repeated and ends the rest.
    fn fail_purpose(
        &mut self,
        now: Moment,
        unit: u8,
        device: usize,
        purpose: Purpose,
        failure: Failure,
    ) {
        let status = failure.status();
        match purpose {
            Purpose::Poll(index) | Purpose::ClearPoll(index) => {
                if !self.retry(index) {
                    self.read_failed(now, index, status);
                    self.unit_failed(now, unit, status);
                }
            }
            Purpose::Write | Purpose::ClearWrite => {
                let retries = self.config.devices.get(device).map_or(0, |d| d.retries);
                let Some(write) = self.writes.front_mut() else {
                    return;
                };
                write.attempts += 1;
                let is_read = purpose == Purpose::ClearWrite || write.stage == Stage::Confirmed;
                if !is_read || write.attempts > retries {
                    let failure = write.failure(status);
                    self.end_write(Err(failure));
                }
            }
            Purpose::Nothing => {}
        }
    }

    /// Puts a failed request of a group at the end of the queue, if it has
    /// attempts left. A unit that is probed has none.
    fn retry(&mut self, index: usize) -> bool {
        let group = &mut self.groups[index];
        let unit = self.units.get(&group.unit);
        let retries = self.config.devices[group.device].retries;
        let Some(cycle) = &mut group.cycle else {
            return false;
        };
        cycle.attempts += 1;
        let may = cycle.attempts <= retries && !unit.is_some_and(super::Unit::is_degraded);
        if may {
            self.ready.push_back(index);
        }
        may
    }

    /// The poll under way belongs to no tag any more.
    pub(super) fn disown_poll(&mut self) {
        if let Some(current) = &mut self.current
            && matches!(current.purpose, Purpose::Poll(_) | Purpose::ClearPoll(_))
        {
            current.purpose = Purpose::Nothing;
        }
    }

    fn quiet(&mut self, now: Moment, device: usize) {
        let pause = self.config.devices.get(device).map(|device| device.pause);
        let silence = self.config.framing.silence();
        self.quiet_until = now + pause.unwrap_or_default().max(silence);
    }

    /// The time that bytes need on a serial line, where a character takes 2/7
    /// of the silence of 3.5. Above 19200 baud the silence is longer than that,
    /// and so is this.
    fn transfer_time(&self, bytes: usize) -> std::time::Duration {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.config.framing.silence() * bytes * 2 / 7
    }

    fn timeout_of(&self, device: usize) -> std::time::Duration {
        // A write of a former configuration may name rules that are gone.
        let device = self.config.devices.get(device);
        let device = device.or_else(|| self.config.devices.first());
        device.map_or(std::time::Duration::from_secs(1), |device| device.timeout)
    }
}
