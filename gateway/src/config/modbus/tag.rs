//! One tag: where it is, what it is, whether it may be written.

use forebay_modbus::address::{Address, Table};
use forebay_modbus::bus::{Framing, Tag};
use forebay_modbus::plan::Limits;
use forebay_modbus::value::{DataType, Encoding};
use toml::de::DeValue;

use super::{ModbusTag, ORDERS, TagDefaults, checks, interval, report_keys};
use crate::config::defaults;
use crate::config::section::Section;
use crate::config::tags::{self, WriteLimits, number, write_limits};

const TABLES: [(&str, Table); 4] = [
    ("holding", Table::Holding),
    ("input", Table::Input),
    ("coil", Table::Coil),
    ("discrete", Table::Discrete),
];

const TYPES: &str = "expected one of BOOL, BIT, INT8H, INT8L, UINT8H, UINT8L, INT16, UINT16, INT32, UINT32, INT64, UINT64, FLOAT16, FLOAT32, FLOAT64, STRING";

/// Reads `tags` of a device.
pub(super) fn tags(
    device: &Section<'_>,
    device_name: Option<&str>,
    framing: Framing,
    limits: Limits,
    shared: &TagDefaults,
) -> Vec<ModbusTag> {
    const TAGS: &str = "expected a list of tables such as [ { name = \"temperature\", register = \"holding\", address = 100, type = \"FLOAT32\" } ]";
    device.missing("tags", TAGS);
    let sections = device.tables("tags", TAGS);
    if sections.len() > defaults::MODBUS_TAGS_MAX {
        let expected = format!("expected at most {} tags", defaults::MODBUS_TAGS_MAX);
        device.mistake("tags", expected);
    }
    let read: Vec<_> = sections
        .iter()
        .map(|section| tag(section, device_name, framing, limits, shared))
        .collect();
    checks::between_tags(&sections, &read);
    read.into_iter().flatten().collect()
}

fn tag(
    section: &Section<'_>,
    device_name: Option<&str>,
    framing: Framing,
    limits: Limits,
    shared: &TagDefaults,
) -> Option<ModbusTag> {
    const NAME: &str = "expected a name such as \"bearing_temp\"";
    const UNIT: &str =
        "expected the unit of measure as a text, such as \"°C\" (the Modbus unit is `unit_id`)";
    let name = section.text("name", NAME, tags::path);
    section.missing("name", NAME);
    let address = address(section);
    let kind = match address {
        Some(address) => kind(section, address.table),
        None => {
            // Without a table nothing can be said about them.
            for key in ["type", "bit", "length"] {
                let _ = section.read(key, |_| Ok(()));
            }
            None
        }
    };
    let order = section.word("byte_order", &ORDERS);
    let scale = number(section, "scale");
    let offset = number(section, "offset");
    let unit = section.text("unit", UNIT, |text| Ok(text.to_owned()));
    let unit_id = super::unit_id(section, "unit_id", framing);
    let interval = interval(section);
    let report = report_keys(section);
    let write = write(section, address);
    section.finish();
    if scale == Some(0.0) {
        section.mistake("scale", "expected a factor other than 0");
        return None;
    }
    let (address, kind) = (address?, kind?);
    if !kind.is_number() {
        for key in ["scale", "offset"]
            .into_iter()
            .filter(|key| section.has(key))
        {
            section.mistake(key, format!("expected none: a {kind} is no number"));
        }
    }
    check_size(section, address, kind, limits);
    Some(ModbusTag {
        path: format!("{}/{}", device_name?, name?),
        unit,
        tag: Tag {
            device: 0,
            unit: unit_id.unwrap_or(shared.unit_id),
            address,
            encoding: Encoding {
                kind,
                order: order.unwrap_or(shared.byte_order),
                scale: scale.unwrap_or(1.0),
                offset: offset.unwrap_or(0.0),
            },
            interval: interval.unwrap_or(shared.interval),
            report: report.or(shared.report),
        },
        write,
    })
}

/// A number counts from 0 within `register`. A text of five or six digits, or
/// a number too large to count from 0, is a reference: it names the table.
fn address(section: &Section<'_>) -> Option<Address> {
    const ADDRESS: &str = "expected an address from 0 to 65535, or a reference in quotes such as \"40101\" (holding register 100)";
    section.missing("address", ADDRESS);
    let table = section.word("register", &TABLES);
    let has_register = section.has("register");
    let address = section.read("address", |value| match value {
        DeValue::Integer(integer) => {
            let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
            let number = number.ok_or(ADDRESS)?;
            match u16::try_from(number) {
                Ok(number) if has_register || number < 10_001 => Ok(Address {
                    table: table.unwrap_or(Table::Holding),
                    number,
                }),
                Ok(number) => Err(format!(
                    "expected `register` beside an address this large, or quotes: \"{number:05}\" is a reference that counts from 1 and names the table, {number} counts from 0"
                )),
                Err(_) => Address::from_reference(&number.to_string())
                    .ok_or_else(|| ADDRESS.to_owned()),
            }
        }
        _ => value
            .as_str()
            .and_then(Address::from_reference)
            .ok_or_else(|| ADDRESS.to_owned()),
    })?;
    if let Some(table) = table
        && table != address.table
    {
        section.mistake(
            "address",
            format!("expected a reference to {table} as `register` says, got {address}"),
        );
        return None;
    }
    Some(address)
}

fn kind(section: &Section<'_>, table: Table) -> Option<DataType> {
    let word = section.text("type", TYPES, |text| {
        let upper = text.to_ascii_uppercase();
        let is_known = upper == "STRING" || DataType::from_name(&upper).is_some();
        if is_known {
            Ok(upper)
        } else {
            Err(TYPES.to_owned())
        }
    });
    let bit = section.number("bit", 0, 15);
    let length = section.number(
        "length",
        1,
        u64::from(forebay_modbus::request::READ_REGISTERS_MAX),
    );
    if table.is_bits() {
        let is_bool = word.as_deref().is_none_or(|word| word == "BOOL");
        if !is_bool {
            section.mistake("type", format!("expected BOOL: {table} holds bits"));
        }
        refuse(section, "bit", "a bit number needs a register of type BIT");
        refuse(section, "length", "only a STRING has a length");
        return Some(DataType::Bool);
    }
    section.missing("type", TYPES);
    let word = word?;
    if word != "BIT" {
        refuse(section, "bit", "a bit number needs the type BIT");
    }
    if word != "STRING" {
        refuse(section, "length", "only a STRING has a length");
    }
    match word.as_str() {
        "BIT" => {
            section.missing("bit", "expected the bit from 0, the lowest, to 15");
            Some(DataType::Bit(u8::try_from(bit?).ok()?))
        }
        "STRING" => {
            section.missing(
                "length",
                "expected the registers of the text, two characters each, from 1 to 125",
            );
            Some(DataType::Text(u16::try_from(length?).ok()?))
        }
        word => DataType::from_name(word),
    }
}

fn refuse(section: &Section<'_>, key: &str, reason: &str) {
    if section.has(key) {
        section.mistake(key, format!("expected none: {reason}"));
    }
}

fn check_size(section: &Section<'_>, address: Address, kind: DataType, limits: Limits) {
    let registers = kind.registers();
    let last = u32::from(address.number) + u32::from(registers) - 1;
    if last > u32::from(u16::MAX) {
        section.mistake(
            "address",
            format!("expected {registers} registers up to address 65535, but they end at {last}"),
        );
    }
    if registers > limits.max_registers {
        let key = if section.has("length") {
            "length"
        } else {
            "type"
        };
        section.mistake(
            key,
            format!(
                "expected at most max_registers = {} registers, a {kind} takes {registers}",
                limits.max_registers
            ),
        );
    }
}

fn write(section: &Section<'_>, address: Option<Address>) -> Option<WriteLimits> {
    let table = section.table("write");
    let write = write_limits(&table);
    table.finish();
    if !table.is_present() {
        return None;
    }
    if let Some(address) = address.filter(|address| !address.table.is_writable()) {
        section.mistake(
            "write",
            format!("expected none: {} can only be read", address.table),
        );
    }
    Some(write)
}
