//! `[[modbus]]`: devices that are polled, and their tags.

mod checks;
mod tag;

#[cfg(test)]
mod tests;

use std::time::Duration;

use forebay_modbus::bus::{Device, Framing, Tag};
use forebay_modbus::endpoint::Endpoint;
use forebay_modbus::plan::Limits;
use forebay_modbus::report::{Deadband, ReportRule};
use forebay_modbus::value::ByteOrder;
use toml::de::DeValue;

use super::defaults;
use super::node::duration_within;
use super::quantity::duration;
use super::section::Section;
use super::tags::{self, WriteLimits, float};

/// One `[[modbus]]`: tags of one bus that share their rules. Several of them
/// may name the same endpoint; they share its connection then.
#[derive(Debug, Clone, PartialEq)]
pub struct Modbus {
    /// The first levels of the paths.
    pub name: String,
    /// The bus.
    pub endpoint: Endpoint,
    /// How long a new connection is left alone.
    pub pause_after_connect: Duration,
    /// Whether the connection is closed between the polls.
    pub close_after_read: bool,
    /// Rules of all tags.
    pub device: Device,
    /// What is read.
    pub tags: Vec<ModbusTag>,
}

/// One element of `tags`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusTag {
    /// The path: the section's name, `/`, the tag's name.
    pub path: String,
    /// The engineering unit, such as `°C`.
    pub unit: Option<String>,
    /// Where and what it is. Its `device` is 0: the rules of its section.
    pub tag: Tag,
    /// Whether and how it may be written.
    pub write: Option<WriteLimits>,
}

/// What a section sets for all its tags, and a tag may set for itself.
#[derive(Debug, Clone, Copy)]
struct TagDefaults {
    unit_id: u8,
    interval: Duration,
    byte_order: ByteOrder,
    report: ReportKeys,
}

/// The three keys that make up a [`ReportRule`].
#[derive(Debug, Clone, Copy, Default)]
struct ReportKeys {
    on_change: Option<bool>,
    deadband: Option<Deadband>,
    longest: Option<Duration>,
}

const ORDERS: [(&str, ByteOrder); 4] = [
    ("ABCD", ByteOrder::Abcd),
    ("DCBA", ByteOrder::Dcba),
    ("BADC", ByteOrder::Badc),
    ("CDAB", ByteOrder::Cdab),
];

/// Reads every `[[modbus]]`.
pub(super) fn modbus(root: &Section<'_>) -> Vec<Modbus> {
    const MODBUS: &str = "expected [[modbus]] tables with name, endpoint and tags";
    let sections = root.tables("modbus", MODBUS);
    if sections.len() > defaults::MODBUS_DEVICES_MAX {
        root.mistake(
            "modbus",
            format!("expected at most {} devices", defaults::MODBUS_DEVICES_MAX),
        );
    }
    let read: Vec<_> = sections.iter().map(device).collect();
    checks::between_devices(&sections, &read);
    read.into_iter().flatten().collect()
}

fn device(section: &Section<'_>) -> Option<Modbus> {
    const NAME: &str = "expected a path such as \"press-7\" or \"hall/press-7\"";
    const ENDPOINT: &str = "expected the URL of a bus, such as \"tcp://10.0.0.7:502\"";
    let name = section.text("name", NAME, tags::path);
    let endpoint = section.text("endpoint", ENDPOINT, |text| {
        Endpoint::parse(text).map_err(|error| error.to_string())
    });
    section.missing("name", NAME);
    section.missing("endpoint", ENDPOINT);
    let framing = endpoint.as_ref().map_or(Framing::Tcp, Endpoint::framing);
    let limits = limits(section);
    let pause = |key| {
        let expected = "expected a duration of at most \"1m\", such as \"20ms\"";
        duration_within(
            section,
            key,
            Duration::ZERO,
            defaults::MODBUS_PAUSE_MAX,
            expected,
        )
    };
    let device = Device {
        timeout: duration_within(
            section,
            "timeout",
            defaults::MODBUS_TIMEOUT_MIN,
            defaults::MODBUS_TIMEOUT_MAX,
            "expected a duration from \"10ms\" to \"1m\"",
        )
        .unwrap_or(defaults::MODBUS_TIMEOUT),
        retries: section
            .number("retries", 0, defaults::MODBUS_RETRIES_MAX)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(defaults::MODBUS_RETRIES),
        pause: pause("pause").unwrap_or_default(),
        limits,
    };
    let pause_after_connect = pause("pause_after_connect").unwrap_or_default();
    let close_after_read = section.flag("close_after_read").unwrap_or(false);
    let shared = TagDefaults {
        unit_id: unit_id(section, "unit", framing).unwrap_or(defaults::MODBUS_UNIT),
        interval: interval(section).unwrap_or(defaults::MODBUS_INTERVAL),
        byte_order: section.word("byte_order", &ORDERS).unwrap_or_default(),
        report: report_keys(section),
    };
    let tags = tag::tags(section, name.as_deref(), framing, limits, &shared);
    section.finish();
    Some(Modbus {
        name: name?,
        endpoint: endpoint?,
        pause_after_connect,
        close_after_read,
        device,
        tags,
    })
}

fn limits(section: &Section<'_>) -> Limits {
    let registers = |key, min, max: u16, default| {
        let number = section.number(key, min, u64::from(max));
        number
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(default)
    };
    let max = forebay_modbus::request::READ_REGISTERS_MAX;
    Limits {
        max_registers: registers("max_registers", 1, max, max),
        max_fill: registers("max_fill", 0, max, defaults::MODBUS_FILL),
    }
}

/// Unit 0 means everyone on a serial line, and 248 to 255 are reserved there;
/// over TCP all are met.
fn unit_id(section: &Section<'_>, key: &'static str, framing: Framing) -> Option<u8> {
    let (min, max) = if framing.is_rtu() { (1, 247) } else { (0, 255) };
    let number = section.number(key, min, max)?;
    u8::try_from(number).ok()
}

fn interval(section: &Section<'_>) -> Option<Duration> {
    duration_within(
        section,
        "interval",
        defaults::MODBUS_INTERVAL_MIN,
        defaults::MODBUS_INTERVAL_MAX,
        "expected a duration from \"10ms\" to \"7d\", such as \"1s\"",
    )
}

fn report_keys(section: &Section<'_>) -> ReportKeys {
    const LONGEST: &str = "expected a duration such as \"10m\", or \"unlimited\"";
    let keys = ReportKeys {
        on_change: section.word("report", &[("always", false), ("change", true)]),
        deadband: section.read("deadband", deadband),
        longest: section.parsed("report_interval", LONGEST, |text| match text {
            "unlimited" => Some(Duration::MAX),
            _ => duration(text).filter(|longest| !longest.is_zero()),
        }),
    };
    if keys.on_change == Some(false) && (keys.deadband.is_some() || keys.longest.is_some()) {
        section.mistake(
            "report",
            "expected \"change\" beside deadband or report_interval",
        );
    }
    keys
}

/// A number, or a text such as `2%`.
fn deadband(value: &DeValue<'_>) -> Result<Deadband, String> {
    const DEADBAND: &str = "expected a number such as 0.5, or percent such as \"2%\"";
    let found = match value {
        DeValue::String(text) => {
            let percent = text.strip_suffix('%').and_then(|n| n.trim().parse().ok());
            percent.map(Deadband::Percent)
        }
        _ => float(value).map(Deadband::Absolute),
    };
    let is_sane = |number: f64| number.is_finite() && number >= 0.0;
    found
        .filter(|deadband| match deadband {
            Deadband::None => true,
            Deadband::Absolute(number) | Deadband::Percent(number) => is_sane(*number),
        })
        .ok_or_else(|| DEADBAND.to_owned())
}

impl ReportKeys {
    /// The rule of a tag: its own keys, else those of its section.
    fn or(self, section: Self) -> ReportRule {
        let deadband = self.deadband.or(section.deadband);
        let longest = self.longest.or(section.longest);
        let on_change = self.on_change.or_else(|| {
            let own = self.deadband.is_some() || self.longest.is_some();
            own.then_some(true)
        });
        let implied = deadband.is_some() || longest.is_some();
        if on_change.or(section.on_change).unwrap_or(implied) {
            ReportRule::Change {
                deadband: deadband.unwrap_or(Deadband::None),
                max_interval: longest
                    .or(Some(defaults::MODBUS_REPORT_INTERVAL))
                    .filter(|longest| *longest != Duration::MAX),
            }
        } else {
            ReportRule::Always
        }
    }
}
