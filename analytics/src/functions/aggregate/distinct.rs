//! How many different values there are.

use super::super::cells::{Cell, Cells, State};
use super::super::{Body, Function, Kind, Returns, Rows};
use super::ANY;
use crate::column::{Column, Values};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::DataType;

/// Up to this many different values the count is exact (but for two values with
/// one 64-bit hash): as many hashes take as much memory as the registers that
/// follow.
pub const SMALL_MAX: usize = 512;

/// Registers are chosen by 12 bits of the hash: 4,096 of one byte, a standard
/// error of 1.04 / sqrt(4096) = 1.6 %.
const REGISTER_BITS: u32 = 12;
const REGISTERS: usize = 1 << REGISTER_BITS;

pub(in crate::functions) static CATALOGUE: &[Function] = &[Function {
    name: "count_distinct",
    aliases: &["approx_distinct", "approx_count_distinct"],
    kind: Kind::Aggregate,
    parameters: ANY,
    variadic: false,
    returns: Returns::Type(DataType::Int),
    summary: "how many different values there are: exact up to 512, then within 1.6 % (standard error)",
    formula: "HyperLogLog of 4,096 registers over 64-bit hashes, linear counting below 2.5 per register",
    units: "values",
    source: "Flajolet et al., AofA (2007); Heule, Nunkesser, Hall, EDBT (2013)",
    body: Body::Aggregate(|_| {
        Ok(Cells::boxed(Distinct::Small(Vec::new()), |cells| {
            Column::from_optional_ints(cells.map(|cell| Some(cell.count())))
        }))
    }),
}];

#[derive(Clone)]
enum Distinct {
    /// Hashes in order.
    Small(Vec<u64>),
    /// The largest number of leading zeros, plus one, by register.
    Large(Box<[u8; REGISTERS]>),
}

impl Distinct {
    fn count(&self) -> i64 {
        match self {
            Self::Small(hashes) => hashes.len() as i64,
            Self::Large(registers) => estimate(registers).round() as i64,
        }
    }

    fn add(&mut self, hash: u64) {
        match self {
            Self::Small(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    if hashes.len() < SMALL_MAX {
                        hashes.insert(at, hash);
                        return;
                    }
                    let mut registers = Box::new([0; REGISTERS]);
                    for &hash in hashes.iter() {
                        note(&mut registers, hash);
                    }
                    note(&mut registers, hash);
                    *self = Self::Large(registers);
                }
            }
            Self::Large(registers) => note(registers, hash),
        }
    }
}

fn note(registers: &mut [u8; REGISTERS], hash: u64) {
    let at = (hash >> (64 - REGISTER_BITS)) as usize;
    // The bit behind the register's number ends the zeros at the latest.
    let rest = (hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1));
    let rank = rest.leading_zeros() as u8 + 1;
    registers[at] = registers[at].max(rank);
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let m = REGISTERS as f64;
    let sum: f64 = registers
        .iter()
        .map(|&rank| (-f64::from(rank)).exp2())
        .sum();
    let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
    let empty = registers.iter().filter(|&&rank| rank == 0).count();
    if raw <= 2.5 * m && empty > 0 {
        m * (m / empty as f64).ln()
    } else {
        raw
    }
}

/// FNV-1a with the finaliser of MurmurHash3, the same on every machine and in
/// every version, because it is in the encoded state.
fn hash(kind: u8, bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ u64::from(kind);
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The hash of a row; null for null.
fn hash_of(column: &Column, row: usize) -> Option<u64> {
    if !column.is_valid(row) {
        return None;
    }
    Some(match column.values() {
        Values::Null(_) => return None,
        Values::Bool(values) => hash(1, &[u8::from(values[row])]),
        Values::Int(values) => hash(2, &values[row].to_le_bytes()),
        // Zero has two signs and is one value.
        Values::Float(values) => hash(3, &(values[row] + 0.0).to_bits().to_le_bytes()),
        Values::Text { .. } => hash(4, column.text(row).unwrap_or_default().as_bytes()),
        Values::Timestamp(values) => hash(5, &values[row].to_le_bytes()),
        Values::Interval(values) => hash(6, &values[row].to_le_bytes()),
        Values::Waveform(values) => {
            let bytes: Vec<u8> = values[row]
                .samples()
                .iter()
                .flat_map(|x| (x + 0.0).to_bits().to_le_bytes())
                .collect();
            hash(7, &bytes)
        }
    })
}

impl State for Distinct {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Small(hashes) => {
                out.put_bool(false);
                out.put_count(hashes.len());
                for &hash in hashes {
                    out.put_u64(hash);
                }
            }
            Self::Large(registers) => {
                out.put_bool(true);
                out.put_bytes(&registers[..]);
            }
        }
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let refuse = |what, found: usize| StateError::Invalid {
            what,
            found: found as u64,
        };
        if input.take_bool()? {
            let bytes = input.take_bytes()?;
            let registers: [u8; REGISTERS] = bytes
                .try_into()
                .map_err(|_| refuse("number of registers", bytes.len()))?;
            *self = Self::Large(Box::new(registers));
        } else {
            let length = input.take_count(8)?;
            let hashes: Result<Vec<u64>, _> = (0..length).map(|_| input.take_u64()).collect();
            let hashes = hashes?;
            if length > SMALL_MAX || !hashes.is_sorted_by(|a, b| a < b) {
                return Err(refuse("list of hashes", length));
            }
            *self = Self::Small(hashes);
        }
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Small(hashes) => 8 * hashes.capacity(),
            Self::Large(_) => REGISTERS,
        }
    }
}

impl Cell for Distinct {
    fn take(cells: &mut [Self], rows: Rows<'_>, held: &mut usize) {
        let Some(column) = rows.arguments.first() else {
            return;
        };
        for (row, &group) in rows.groups.iter().enumerate() {
            if let Some(hash) = hash_of(column, row) {
                let cell = &mut cells[group as usize];
                let before = cell.heap_bytes();
                cell.add(hash);
                *held = (*held + cell.heap_bytes()).saturating_sub(before);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Small(hashes)) => {
                for &hash in hashes {
                    self.add(hash);
                }
            }
            (Self::Large(own), Self::Large(theirs)) => {
                for (own, theirs) in own.iter_mut().zip(theirs.iter()) {
                    *own = (*own).max(*theirs);
                }
            }
            (Self::Small(hashes), Self::Large(theirs)) => {
                let mut registers = theirs.clone();
                for &hash in hashes.iter() {
                    note(&mut registers, hash);
                }
                *self = Self::Large(registers);
            }
        }
    }
}
