//! Registers as people compare them: one line per address and type, one column
//! per byte order.

use std::io::{self, Write};

use forebay_modbus::address::Address;
use forebay_modbus::value::{ByteOrder, DataType, Encoding, Value};
use serde_json::{Map, json};

/// Types of one register that all orders but the byte swap leave alone, and
/// those of several registers.
const WIDE: [DataType; 9] = [
    DataType::Int16,
    DataType::Uint16,
    DataType::Float16,
    DataType::Int32,
    DataType::Uint32,
    DataType::Float32,
    DataType::Int64,
    DataType::Uint64,
    DataType::Float64,
];

/// Types of half a register, which no order moves.
const HALVES: [DataType; 4] = [
    DataType::Int8High,
    DataType::Uint8High,
    DataType::Int8Low,
    DataType::Uint8Low,
];

/// Width of a value: a sign, 17 digits, a point and an exponent.
const VALUE_WIDTH: usize = 24;

/// What was read.
pub(super) struct Registers<'a> {
    pub(super) address: Address,
    pub(super) unit: u8,
    pub(super) count: u16,
    /// As in an answer: registers in two bytes, or bits.
    pub(super) data: &'a [u8],
}

impl Registers<'_> {
    /// Writes the table.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.address.table.is_bits() {
            for index in 0..self.count {
                let on = u8::from(self.bit(index));
                writeln!(out, "{:<28}{on}", self.at(index).to_string())?;
            }
            return Ok(());
        }
        for index in 0..self.count {
            let data = self.from(index);
            let word = u16::from_be_bytes([data[0], data[1]]);
            let halves: Vec<String> = HALVES
                .into_iter()
                .filter_map(|kind| {
                    Some(format!("{kind} {}", decoded(kind, ByteOrder::Abcd, data)?))
                })
                .collect();
            writeln!(
                out,
                "{:<28}0x{word:04X}  0b{word:016b}  {}",
                self.at(index).to_string(),
                halves.join("  ")
            )?;
        }
        let widths = WIDE.map(DataType::registers);
        for registers in [1, 2, 4] {
            if registers > self.count || !widths.contains(&registers) {
                continue;
            }
            writeln!(out)?;
            self.print_width(out, registers)?;
        }
        writeln!(out)?;
        for order in [ByteOrder::Abcd, ByteOrder::Badc] {
            let text = decoded(DataType::Text(self.count), order, self.data);
            writeln!(
                out,
                "STRING length {} {}  {}",
                self.count,
                order.name(),
                text.map(|text| text.to_string()).unwrap_or_default()
            )?;
        }
        Ok(())
    }

    /// The lines of all types that take so many registers.
    fn print_width(&self, out: &mut impl Write, registers: u16) -> io::Result<()> {
        write!(out, "{:<28}{:<9}", "", "")?;
        for order in orders(registers) {
            write!(out, "{:<VALUE_WIDTH$}", order.name())?;
        }
        writeln!(out)?;
        for index in 0..=self.count - registers {
            let kinds = WIDE.iter().filter(|kind| kind.registers() == registers);
            for (line, kind) in kinds.enumerate() {
                let at = if line == 0 {
                    self.at(index).to_string()
                } else {
                    String::new()
                };
                write!(out, "{at:<28}{:<9}", kind.to_string())?;
                for order in orders(registers) {
                    let value = decoded(*kind, *order, self.from(index));
                    write!(
                        out,
                        "{:<VALUE_WIDTH$}",
                        value.as_ref().map_or_else(String::new, short)
                    )?;
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }

    /// The same as one object.
    pub(super) fn json(&self) -> serde_json::Value {
        let rows: Vec<serde_json::Value> = (0..self.count)
            .map(|index| {
                let at = self.at(index);
                let mut row = Map::new();
                row.insert("address".to_owned(), at.number.into());
                row.insert("reference".to_owned(), at.reference().into());
                if self.address.table.is_bits() {
                    row.insert("BOOL".to_owned(), self.bit(index).into());
                } else {
                    self.json_of(index, &mut row);
                }
                row.into()
            })
            .collect();
        json!({
            "unit": self.unit,
            "register": self.address.table.name(),
            "values": rows,
        })
    }

    fn json_of(&self, index: u16, row: &mut Map<String, serde_json::Value>) {
        let data = self.from(index);
        let word = u16::from_be_bytes([data[0], data[1]]);
        row.insert("raw".to_owned(), word.into());
        for kind in HALVES {
            if let Some(value) = decoded(kind, ByteOrder::Abcd, data) {
                row.insert(kind.to_string(), as_json(&value));
            }
        }
        for kind in WIDE {
            let mut by_order = Map::new();
            for order in orders(kind.registers()) {
                if let Some(value) = decoded(kind, *order, data) {
                    by_order.insert(order.name().to_owned(), as_json(&value));
                }
            }
            if !by_order.is_empty() {
                row.insert(kind.to_string(), by_order.into());
            }
        }
    }

    fn at(&self, index: u16) -> Address {
        Address {
            table: self.address.table,
            number: self.address.number.saturating_add(index),
        }
    }

    /// The registers from `index` on. The answer's length was checked.
    fn from(&self, index: u16) -> &[u8] {
        self.data.get(usize::from(index) * 2..).unwrap_or(&[0, 0])
    }

    fn bit(&self, index: u16) -> bool {
        let byte = self.data.get(usize::from(index / 8)).copied();
        byte.unwrap_or(0) >> (index % 8) & 1 == 1
    }
}

/// The orders that differ for a number of so many registers.
const fn orders(registers: u16) -> &'static [ByteOrder] {
    if registers == 1 {
        &[ByteOrder::Abcd, ByteOrder::Badc]
    } else {
        &ByteOrder::ALL
    }
}

fn decoded(kind: DataType, order: ByteOrder, data: &[u8]) -> Option<Value> {
    let plain = Encoding::plain(kind);
    Encoding { order, ..plain }.decode(data)
}

/// A number that fits its column.
fn short(value: &Value) -> String {
    let Value::Float(number) = value else {
        return value.to_string();
    };
    let plain = number.to_string();
    if plain.len() < VALUE_WIDTH - 4 {
        plain
    } else {
        format!("{number:.6e}")
    }
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(on) => (*on).into(),
        Value::Signed(number) => (*number).into(),
        Value::Unsigned(number) => (*number).into(),
        // What is not finite becomes null.
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_ref().into(),
    }
}
