//! Zones of vibration severity after ISO 20816-3 and its relatives.

use std::sync::LazyLock;

use super::is_positive;

/// The shipped table; its comments say what the groups are and where the
/// limits come from.
const TABLE: &str = include_str!("../../../data/vibration-severity.csv");

/// What a velocity means for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    /// As new machines.
    A,
    /// Fit for long operation.
    B,
    /// Fit until there is an opportunity to repair.
    C,
    /// Damage may happen.
    D,
}

impl Zone {
    /// The letter of the zone.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        }
    }
}

/// The limits between the four zones, RMS velocity in mm/s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Between zones A and B.
    pub a_to_b: f64,
    /// Between zones B and C.
    pub b_to_c: f64,
    /// Between zones C and D.
    pub c_to_d: f64,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineGroup {
    /// The name a query gives, as `group-1`.
    pub name: &'static str,
    /// `rigid`, `flexible`, or `any` where the standard does not tell them
    /// apart.
    pub foundation: &'static str,
    /// Its limits.
    pub limits: Limits,
}

impl Limits {
    /// The zone of an RMS velocity in mm/s; a value on a limit belongs to the
    /// worse zone. Null when it is negative, NaN or infinite.
    #[must_use]
    pub fn zone(&self, velocity_mm_s: f64) -> Option<Zone> {
        if velocity_mm_s != 0.0 && !is_positive(velocity_mm_s) {
            return None;
        }
        Some(if velocity_mm_s < self.a_to_b {
            Zone::A
        } else if velocity_mm_s < self.b_to_c {
            Zone::B
        } else if velocity_mm_s < self.c_to_d {
            Zone::C
        } else {
            Zone::D
        })
    }
}

/// All machine groups of the shipped table.
#[must_use]
pub fn machine_groups() -> &'static [MachineGroup] {
    static GROUPS: LazyLock<Vec<MachineGroup>> = LazyLock::new(|| {
        TABLE
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .map(|line| parse(line).expect("a test reads every row of the shipped table"))
            .collect()
    });
    &GROUPS
}

/// The limits of a group of machines on a foundation. A group that does not
/// tell foundations apart has the same limits for each.
#[must_use]
pub fn limits(group: &str, foundation: &str) -> Option<Limits> {
    machine_groups()
        .iter()
        .find(|row| row.name == group && (row.foundation == foundation || row.foundation == "any"))
        .map(|row| row.limits)
}

fn parse(line: &'static str) -> Option<MachineGroup> {
    let mut fields = line.split(',').map(str::trim);
    let name = fields.next()?;
    let foundation = fields.next()?;
    let mut limit = || fields.next()?.parse::<f64>().ok();
    let limits = Limits {
        a_to_b: limit()?,
        b_to_c: limit()?,
        c_to_d: limit()?,
    };
    Some(MachineGroup {
        name,
        foundation,
        limits,
    })
}
