//! Writes: first in the queue, sent once, read back.

use super::{
    Bus, Effect, Moment, Reading, Status, Tag, WRITES_MAX, WriteError, WriteFailure, WriteId,
};
use crate::address::Table;
use crate::request::Request;
use crate::value::{Stored, Value};

/// A write on its way. It holds its tag, so that a changed configuration does
/// not redirect it.
#[derive(Debug)]
pub(super) struct Write {
    id: WriteId,
    tag: Tag,
    request: Request,
    pub(super) expires: Moment,
    pub(super) stage: Stage,
    /// How often the read-back was sent without success.
    pub(super) attempts: u32,
}

/// How far a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Sent,
    Confirmed,
}

impl Write {
    /// What to send at this stage.
    pub(super) fn request(&self) -> Request {
        match self.stage {
            Stage::Waiting | Stage::Sent => self.request.clone(),
            Stage::Confirmed => Request::Read {
                table: self.tag.address.table,
                start: self.tag.address.number,
                count: self.tag.encoding.kind.registers(),
            },
        }
    }

    pub(super) const fn unit(&self) -> u8 {
        self.tag.unit
    }

    pub(super) const fn device(&self) -> usize {
        self.tag.device
    }

    /// The failure that `status` means at this stage.
    pub(super) const fn failure(&self, status: Status) -> WriteFailure {
        match self.stage {
            Stage::Waiting => WriteFailure::NotSent(status),
            Stage::Sent => WriteFailure::NotConfirmed(status),
            Stage::Confirmed => WriteFailure::NotReadBack(status),
        }
    }
}

impl Bus {
    pub(super) fn queue_write(
        &mut self,
        tag: usize,
        value: &Value,
        expires: Moment,
    ) -> Result<WriteId, WriteError> {
        let tag = self
            .config
            .tags
            .get(tag)
            .ok_or(WriteError::UnknownTag(tag))?;
        if !tag.address.table.is_writable() {
            return Err(WriteError::ReadOnly(tag.address));
        }
        if self.writes.len() >= WRITES_MAX {
            return Err(WriteError::Full);
        }
        let address = tag.address.number;
        let request = match tag.encoding.encode(value)? {
            Stored::Coil(on) if tag.address.table == Table::Coil => {
                Request::WriteCoil { address, on }
            }
            Stored::Coil(on) => Request::WriteRegister {
                address,
                value: u16::from(on),
            },
            Stored::Bits { and, or } => Request::MaskWrite { address, and, or },
            Stored::Registers(values) => match values.as_slice() {
                [value] => Request::WriteRegister {
                    address,
                    value: *value,
                },
                _ => Request::WriteRegisters { address, values },
            },
        };
        request.encode(&mut Vec::new())?;
        let id = WriteId(self.next_write);
        self.next_write += 1;
        self.writes.push_back(Write {
            id,
            tag: tag.clone(),
            request,
            expires,
            stage: Stage::Waiting,
            attempts: 0,
        });
        Ok(id)
    }

    /// Fails the writes that waited too long. The one under way has its own
    /// deadline.
    pub(super) fn expire_writes(&mut self, now: Moment) {
        self.writes.retain(|write| {
            let is_expired = write.stage == Stage::Waiting && now >= write.expires;
            if is_expired {
                self.effects.push_back(Effect::Written {
                    id: write.id,
                    result: Err(WriteFailure::NotSent(Status::Expired)),
                });
            }
            !is_expired
        });
    }

    /// Ends the first write. Returns whether there was one.
    pub(super) fn end_write(&mut self, result: Result<Value, WriteFailure>) -> bool {
        let Some(write) = self.writes.pop_front() else {
            return false;
        };
        let result = match result {
            // Who asks for everything to fail does not know each one's stage.
            Err(WriteFailure::NotSent(status)) => Err(write.failure(status)),
            other => other,
        };
        let id = write.id;
        self.effects.push_back(Effect::Written { id, result });
        true
    }

    /// The value that was read back: the result, and a reading of the tag.
    pub(super) fn read_back(&mut self, now: Moment, data: &[u8]) {
        let Some(write) = self.writes.front() else {
            return;
        };
        let tag = &write.tag;
        let value = if tag.address.table.is_bits() {
            data.first().map(|byte| Value::Bool(byte & 1 == 1))
        } else {
            tag.encoding.decode(data)
        };
        let Some(value) = value else {
            self.end_write(Err(WriteFailure::NotReadBack(Status::WrongAnswer)));
            return;
        };
        // The tag may have moved in the configuration since.
        let position = self.config.tags.iter().position(|other| other == tag);
        if let Some(position) = position {
            let result = Ok(value.clone());
            let rule = &self.config.tags[position].report;
            if self.reported[position].admit(now, rule, &result) {
                let tag = position;
                self.effects
                    .push_back(Effect::Report(vec![Reading { tag, result }]));
            }
        }
        self.end_write(Ok(value));
    }
}
