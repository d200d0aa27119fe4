use clap::Parser;
use forebay_modbus::address::{Address, Table};

use super::table::Registers;
use super::{ModbusArgs, place};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: ModbusArgs,
}

fn placed(words: &str) -> Result<(Table, u16), String> {
    let line = format!("probe tcp://h {words}");
    let line = Line::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
    let address = place(&line.args).map_err(|error| error.to_string())?;
    Ok((address.table, address.number))
}

#[test]
fn an_address_counts_from_zero_unless_it_is_a_reference() {
    assert_eq!(placed("--address 100"), Ok((Table::Holding, 100)));
    assert_eq!(placed("--address 40101"), Ok((Table::Holding, 100)));
    assert_eq!(placed("--address 30001"), Ok((Table::Input, 0)));
    assert_eq!(placed("-a 40101 -r input"), Ok((Table::Input, 40_101)));
    assert_eq!(placed("-a 9 -r coil"), Ok((Table::Coil, 9)));
    for (words, said) in [
        ("--address 70000", "expected a number from 0 to 65535"),
        ("--address 65535 --count 2", "expected the last address"),
        (
            "--register coils",
            "expected holding, input, coil or discrete",
        ),
        ("--count 126", "126 is not in 1..=125"),
        ("--timeout 5", "expected a duration"),
        ("--units 1-247", "--scan-units"),
    ] {
        let error = placed(words).expect_err(words);
        assert!(error.contains(said), "{words}: {error}");
    }
}

/// 123.456 as a binary32 is 0x42F6E979; its registers swapped are CDAB.
#[test]
fn the_right_order_shows_the_right_number() {
    let registers = Registers {
        address: Address {
            table: Table::Holding,
            number: 100,
        },
        unit: 1,
        count: 2,
        data: &[0xE9, 0x79, 0x42, 0xF6],
    };
    let mut text = Vec::new();
    registers.print(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("holding 100 (40101)"), "{text}");
    assert!(lines[0].contains("0xE979"), "{text}");
    let header = lines.iter().find(|line| line.contains("CDAB")).unwrap();
    let floats = lines.iter().find(|line| line.contains("FLOAT32")).unwrap();
    let column = header.find("CDAB").unwrap();
    assert!(floats[column..].starts_with("123.456"), "{text}");
    let json = registers.json();
    let number = &json["values"][0]["FLOAT32"]["CDAB"];
    assert_eq!(number.as_f64(), Some(123.456));
    assert_eq!(json["values"][1]["reference"], "40102");
    assert_eq!(json["values"][0]["UINT16"]["BADC"], 0x79E9);
    assert_eq!(json["values"][0]["INT8L"], 0x79);
}

#[test]
fn bits_are_listed_one_by_one() {
    let registers = Registers {
        address: Address {
            table: Table::Coil,
            number: 7,
        },
        unit: 1,
        count: 3,
        data: &[0b101],
    };
    let mut text = Vec::new();
    registers.print(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let bits: Vec<char> = text
        .lines()
        .filter_map(|line| line.chars().last())
        .collect();
    assert_eq!(bits, ['1', '0', '1']);
    assert_eq!(registers.json()["values"][2]["BOOL"], true);
}
