//! Tables and addresses, on the wire and as people write them.
//!
//! The wire counts from 0 within a table (*App* section 4.4). Manuals count
//! from 1 and put the table before the number: `40001` or `400001` is holding
//! register 0, `30001` input register 0, `10001` discrete input 0, `00001`
//! coil 0. Both forms are accepted and both are printed, because guessing
//! between them is what costs people afternoons.

use std::fmt;

/// One of the four tables of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Bits that can be written; functions 1, 5 and 15.
    Coil,
    /// Bits that can only be read; function 2.
    Discrete,
    /// Registers that can only be read; function 4.
    Input,
    /// Registers that can be written; functions 3, 6, 16 and 22.
    Holding,
}

impl Table {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Coil, Self::Discrete, Self::Input, Self::Holding];

    /// Whether the table holds bits and not registers.
    #[must_use]
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// Whether the table can be written.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::Coil | Self::Holding)
    }

    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
        }
    }

    /// The table of a word of the configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The digit in front of a reference number.
    const fn digit(self) -> u32 {
        match self {
            Self::Coil => 0,
            Self::Discrete => 1,
            Self::Input => 3,
            Self::Holding => 4,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in a device: a table and the address on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The table.
    pub table: Table,
    /// The address in the table, from 0.
    pub number: u16,
}

impl Address {
    /// Reads a reference of five or six digits: the table's digit and the
    /// address from 1. `None` for everything else.
    #[must_use]
    pub fn from_reference(text: &str) -> Option<Self> {
        if !(5..=6).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (digit, number) = text.split_at(1);
        let table = Table::ALL
            .into_iter()
            .find(|table| digit == table.digit().to_string())?;
        let number: u32 = number.parse().ok()?;
        let number = u16::try_from(number.checked_sub(1)?).ok()?;
        Some(Self { table, number })
    }

    /// The reference that manuals print: five digits while they suffice.
    #[must_use]
    pub fn reference(self) -> String {
        let number = u32::from(self.number) + 1;
        let digit = self.table.digit();
        if number <= 9_999 {
            format!("{digit}{number:04}")
        } else {
            format!("{digit}{number:05}")
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.table, self.number, self.reference())
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Table};

    #[test]
    fn references_count_from_one_and_name_the_table() {
        let read = |text| Address::from_reference(text).map(|at| (at.table, at.number));
        assert_eq!(read("40001"), Some((Table::Holding, 0)));
        assert_eq!(read("400001"), Some((Table::Holding, 0)));
        assert_eq!(read("49999"), Some((Table::Holding, 9_998)));
        assert_eq!(read("465536"), Some((Table::Holding, 65_535)));
        assert_eq!(read("30101"), Some((Table::Input, 100)));
        assert_eq!(read("10001"), Some((Table::Discrete, 0)));
        assert_eq!(read("00004"), Some((Table::Coil, 3)));
        for bad in [
            "", "1", "4001", "40000", "400000", "465537", "20001", "50001", "4000A", "4000001",
            "+4001", " 40001",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_forms_are_printed_and_the_reference_reads_back() {
        let at = Address {
            table: Table::Holding,
            number: 100,
        };
        assert_eq!(at.to_string(), "holding 100 (40101)");
        for table in Table::ALL {
            for number in [0, 1, 9_997, 9_998, 9_999, 65_535] {
                let at = Address { table, number };
                assert_eq!(Address::from_reference(&at.reference()), Some(at));
            }
        }
    }
}
