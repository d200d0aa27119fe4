//! The poll plan: which requests read which tags.
//!
//! Tags of one unit and one interval that lie near each other travel in one
//! request, because a request costs a round trip, and on a serial line tens of
//! milliseconds. Sorted by address, each request starts at the first tag that
//! no request reads yet and takes in all that follow while the holes and the
//! size allow it. That is the least number of requests: any plan must read that
//! first tag, a request that starts earlier reads nothing more, and what this
//! one cannot take in, no other request that reads the first tag can.

use crate::address::{Address, Table};
use crate::request::{READ_BITS_MAX, READ_REGISTERS_MAX, Request};

/// Bits that count as one register where a limit is given in registers.
const BITS_PER_REGISTER: u16 = 16;

/// The registers or bits of one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first address.
    pub address: Address,
    /// Registers or bits, from 1. The last one must lie in the table.
    pub count: u16,
    /// What the caller knows the tag by.
    pub tag: usize,
}

/// How far requests may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registers of one request at most, up to 125. For bits, sixteen times
    /// that, up to 2,000.
    pub max_registers: u16,
    /// Unwanted registers between two tags that are read along at most. For
    /// bits, sixteen times that.
    pub max_fill: u16,
}

/// One request of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The table.
    pub table: Table,
    /// The first address.
    pub start: u16,
    /// Registers or bits.
    pub count: u16,
    /// What it reads, in the order of addresses. Never empty.
    pub spans: Vec<Span>,
}

impl Limits {
    /// The largest request and the largest hole in a table.
    fn of(self, table: Table) -> (u32, u32) {
        let (unit, max) = if table.is_bits() {
            (BITS_PER_REGISTER, READ_BITS_MAX)
        } else {
            (1, READ_REGISTERS_MAX)
        };
        let size = u32::from(self.max_registers) * u32::from(unit);
        let fill = u32::from(self.max_fill) * u32::from(unit);
        (size.clamp(1, u32::from(max)), fill)
    }
}

impl Span {
    const fn start(self) -> u32 {
        self.address.number as u32
    }

    const fn end(self) -> u32 {
        self.start() + self.count as u32
    }
}

/// The fewest requests for tags of one unit and one interval.
///
/// A tag that is larger than a request may be, gets a request of its own.
#[must_use]
pub fn plan(mut spans: Vec<Span>, limits: Limits) -> Vec<Read> {
    spans.sort_unstable();
    let mut reads = Vec::new();
    let mut rest = spans.as_slice();
    while let Some(first) = rest.first() {
        let (size_max, fill_max) = limits.of(first.address.table);
        let mut end = first.end();
        let fits = |span: &Span| {
            let together = end.max(span.end());
            let ok = span.address.table == first.address.table
                && span.start() <= end + fill_max
                && together - first.start() <= size_max;
            if ok {
                end = together;
            }
            ok
        };
        let taken = 1 + rest[1..].iter().copied().map_while(with(fits)).count();
        reads.push(Read::of(&rest[..taken]));
        rest = &rest[taken..];
    }
    reads
}

/// Turns a predicate over references into one that `map_while` takes.
fn with(mut fits: impl FnMut(&Span) -> bool) -> impl FnMut(Span) -> Option<()> {
    move |span| fits(&span).then_some(())
}

impl Read {
    /// The request that reads exactly these spans of one table, sorted.
    fn of(spans: &[Span]) -> Self {
        let start = spans.iter().map(|span| span.start()).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end()).max().unwrap_or(0);
        Self {
            table: spans.first().map_or(Table::Holding, |s| s.address.table),
            start: u16::try_from(start).unwrap_or(u16::MAX),
            count: u16::try_from(end - start).unwrap_or(u16::MAX),
            spans: spans.to_vec(),
        }
    }

    /// The request on the wire.
    #[must_use]
    pub const fn request(&self) -> Request {
        Request::Read {
            table: self.table,
            start: self.start,
            count: self.count,
        }
    }

    /// The requests instead of this one when the device refuses an address of
    /// it: without the holes if there are any, else the two halves. `None` for
    /// a single tag, which is then itself what the device does not have.
    #[must_use]
    pub fn split(&self) -> Option<Vec<Self>> {
        let mut parts = Vec::new();
        let mut from = 0;
        let mut end = self.spans.first()?.end();
        for (index, span) in self.spans.iter().enumerate() {
            if span.start() > end {
                parts.push(Self::of(&self.spans[from..index]));
                from = index;
            }
            end = end.max(span.end());
        }
        parts.push(Self::of(&self.spans[from..]));
        if parts.len() > 1 {
            return Some(parts);
        }
        if self.spans.len() == 1 {
            return None;
        }
        let (low, high) = self.spans.split_at(self.spans.len() / 2);
        Some(vec![Self::of(low), Self::of(high)])
    }

    /// The data of one of the spans in the data of the whole answer.
    /// Registers: their bytes. Bits: two bytes with the bit, so that it reads
    /// like a register. `None` when the answer is too short.
    #[must_use]
    pub fn data_of<'a>(&self, span: Span, data: &'a [u8]) -> Option<SpanData<'a>> {
        let from = usize::from(span.address.number.checked_sub(self.start)?);
        if self.table.is_bits() {
            let byte = *data.get(from / 8)?;
            return Some(SpanData::Bit(byte >> (from % 8) & 1 == 1));
        }
        let end = from + usize::from(span.count);
        Some(SpanData::Registers(data.get(from * 2..end * 2)?))
    }
}

/// What an answer holds for one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanData<'a> {
    /// A coil or a discrete input.
    Bit(bool),
    /// Registers, two bytes each as on the wire.
    Registers(&'a [u8]),
}

#[cfg(test)]
mod tests;
