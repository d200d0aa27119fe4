use std::path::Path;
use std::time::Duration;

use forebay_modbus::address::Table;
use forebay_modbus::report::{Deadband, ReportRule};
use forebay_modbus::value::{ByteOrder, DataType};

use super::Modbus;
use crate::config::Config;

const NODE: &str = "[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/var/lib/forebay\"\n";

fn parsed(text: &str) -> Result<Vec<Modbus>, String> {
    Config::parse(Path::new("f.toml"), &format!("{NODE}{text}"))
        .map(|config| config.modbus)
        .map_err(|error| error.to_string())
}

/// The mistakes about a device with these tags, without file and line.
fn mistakes(tags: &str) -> Vec<String> {
    let text = format!("[[modbus]]\nname = \"d\"\nendpoint = \"tcp://h\"\ntags = [\n{tags}\n]\n");
    let report = parsed(&text).expect_err("the tags hold mistakes");
    let lines = report
        .lines()
        .filter_map(|line| line.split_once("modbus[0]."));
    lines.map(|(_, rest)| rest.to_owned()).collect()
}

#[test]
fn the_example_of_the_reference_is_read() {
    let text = r#"
[[modbus]]
name = "press-7"
endpoint = "tcp://10.0.0.7:502"
interval = "1s"
unit = 1
byte_order = "ABCD"
max_fill = 8
tags = [
  { name = "bearing_temp", register = "holding", address = 100, type = "FLOAT32", scale = 0.1, unit = "°C" },
  { name = "running",      register = "coil",    address = 3 },
]
"#;
    let devices = parsed(text).unwrap();
    let [press] = devices.as_slice() else {
        panic!("one device");
    };
    let [temperature, running] = press.tags.as_slice() else {
        panic!("two tags");
    };
    assert_eq!(temperature.path, "press-7/bearing_temp");
    assert_eq!(temperature.unit.as_deref(), Some("°C"));
    assert_eq!(temperature.tag.encoding.kind, DataType::Float32);
    assert_eq!(temperature.tag.address.to_string(), "holding 100 (40101)");
    assert_eq!(temperature.tag.report, ReportRule::Always);
    assert_eq!(running.tag.address.table, Table::Coil);
    assert_eq!(running.tag.encoding.kind, DataType::Bool);
    assert_eq!(running.write, None);
}

#[test]
fn every_key_is_read_and_a_tag_overrides_its_section() {
    let text = r#"
[[modbus]]
name = "hall/line-2"
endpoint = "rtu:///dev/ttyUSB0?baud=9600&parity=none"
interval = "2s"
unit = 7
byte_order = "CDAB"
max_fill = 0
max_registers = 60
timeout = "300ms"
retries = 3
pause = "20ms"
pause_after_connect = "1s"
close_after_read = true
report = "change"
report_interval = "1m"
tags = [
  { name = "a", address = "40001", type = "int16", unit_id = 9, interval = "10s", byte_order = "DCBA", offset = -40, deadband = "2%" },
  { name = "b", address = 400_011, type = "STRING", length = 10, report = "always" },
  { name = "c", register = "input", address = 40_001, type = "BIT", bit = 3, deadband = 0.5, report_interval = "unlimited" },
  { name = "d", address = 5, type = "UINT16", write = { min = 0, max = 99.5, min_interval = "5s" } },
]
"#;
    let devices = parsed(text).unwrap();
    let device = &devices[0];
    assert_eq!(device.device.timeout, Duration::from_millis(300));
    assert_eq!(
        (device.device.retries, device.device.limits.max_registers),
        (3, 60)
    );
    assert!(device.close_after_read);
    let [a, b, c, d] = device.tags.as_slice() else {
        panic!("four tags");
    };
    assert_eq!((a.tag.unit, a.tag.address.number), (9, 0));
    assert_eq!(a.tag.encoding.order, ByteOrder::Dcba);
    assert_eq!(
        a.tag.report,
        ReportRule::Change {
            deadband: Deadband::Percent(2.0),
            max_interval: Some(Duration::from_secs(60)),
        }
    );
    assert_eq!(
        (b.tag.address.number, b.tag.encoding.kind),
        (10, DataType::Text(10))
    );
    assert_eq!(b.tag.report, ReportRule::Always);
    assert_eq!(
        (c.tag.address.number, c.tag.encoding.kind),
        (40_001, DataType::Bit(3))
    );
    assert_eq!(
        c.tag.report,
        ReportRule::Change {
            deadband: Deadband::Absolute(0.5),
            max_interval: None,
        }
    );
    assert_eq!(d.tag.address.table, Table::Holding);
    let write = d.write.unwrap();
    assert_eq!((write.min, write.max), (Some(0.0), Some(99.5)));
    assert_eq!(write.min_interval, Duration::from_secs(5));
}

#[test]
fn mistakes_of_a_device_are_told_together() {
    let text = r#"
[[modbus]]
nam = "x"
endpoint = "modbus://10.0.0.7"
unit = 256
byte_order = "LITTLE"
max_registers = 126
timeout = "5"
"#;
    let report = parsed(text).expect_err("all of it is wrong");
    for expected in [
        "modbus[0].name: missing",
        "modbus[0].nam = \"x\": unknown key; did you mean `modbus[0].name`?",
        "modbus[0].endpoint = \"modbus://10.0.0.7\": expected tcp://HOST",
        "modbus[0].unit = 256: expected a whole number from 0 to 255",
        "modbus[0].byte_order = \"LITTLE\": expected \"ABCD\" or \"DCBA\" or \"BADC\" or \"CDAB\"",
        "modbus[0].max_registers = 126: expected a whole number from 1 to 125",
        "modbus[0].timeout = \"5\": expected a duration from \"10ms\" to \"1m\"",
        "modbus[0].tags: missing; expected a list of tables",
    ] {
        assert!(report.contains(expected), "{expected}\n{report}");
    }
    assert!(report.ends_with("8 mistakes"), "{report}");
}

#[test]
fn mistakes_of_tags_name_key_value_and_what_was_expected() {
    for (tags, expected) in [
        (
            "{ address = 1, type = \"INT16\" }",
            "tags[0].name: missing; expected a name",
        ),
        (
            "{ name = \"a\", type = \"INT16\" }",
            "tags[0].address: missing; expected an address",
        ),
        (
            "{ name = \"a\", address = 1 }",
            "tags[0].type: missing; expected one of BOOL",
        ),
        (
            "{ name = \"a\", address = 1, type = \"REAL\" }",
            "tags[0].type = \"REAL\": expected one of BOOL",
        ),
        (
            "{ name = \"a\", address = 70000, type = \"INT16\" }",
            "tags[0].address = 70000: expected an address from 0",
        ),
        (
            "{ name = \"a\", address = \"40000\", type = \"INT16\" }",
            "tags[0].address = \"40000\": expected an address from 0",
        ),
        (
            "{ name = \"a\", address = 40001, type = \"INT16\" }",
            "tags[0].address = 40001: expected `register` beside an address this large",
        ),
        (
            "{ name = \"a\", register = \"input\", address = \"40001\", type = \"INT16\" }",
            "tags[0].address = \"40001\": expected a reference to input",
        ),
        (
            "{ name = \"a\", address = 65535, type = \"FLOAT32\", register = \"holding\" }",
            "tags[0].address = 65535: expected 2 registers up to address 65535",
        ),
        (
            "{ name = \"a\", address = 1, type = \"STRING\" }",
            "tags[0].length: missing; expected the registers",
        ),
        (
            "{ name = \"a\", address = 1, type = \"STRING\", length = 126 }",
            "tags[0].length = 126: expected a whole number from 1 to 125",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", length = 2 }",
            "tags[0].length = 2: expected none: only a STRING has a length",
        ),
        (
            "{ name = \"a\", address = 1, type = \"BIT\" }",
            "tags[0].bit: missing; expected the bit",
        ),
        (
            "{ name = \"a\", address = 1, type = \"BIT\", bit = 16 }",
            "tags[0].bit = 16: expected a whole number from 0 to 15",
        ),
        (
            "{ name = \"a\", register = \"coil\", address = 1, type = \"INT16\" }",
            "tags[0].type = \"INT16\": expected BOOL: coil holds bits",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", scale = 0 }",
            "tags[0].scale = 0: expected a factor other than 0",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", scale = inf }",
            "tags[0].scale = inf: expected a finite number",
        ),
        (
            "{ name = \"a\", address = 1, type = \"STRING\", length = 2, offset = 1 }",
            "tags[0].offset = 1: expected none: a STRING(2) is no number",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", unit = 3 }",
            "tags[0].unit = 3: expected the unit of measure as a text, such as \"°C\" (the Modbus unit is `unit_id`)",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", deadband = \"2\" }",
            "tags[0].deadband = \"2\": expected a number such as 0.5",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", deadband = -1 }",
            "tags[0].deadband = -1: expected a number such as 0.5",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", report = \"always\", deadband = 1 }",
            "tags[0].report = \"always\": expected \"change\"",
        ),
        (
            "{ name = \"a\", register = \"input\", address = 1, type = \"INT16\", write = {} }",
            "tags[0].write = {}: expected none: input can only be read",
        ),
        (
            "{ name = \"a\", address = 1, type = \"INT16\", write = { min = 2, max = 1 } }",
            "tags[0].write.min = 2: expected at most max = 1",
        ),
        (
            "{ name = \"a+b\", address = 1, type = \"INT16\" }",
            "tags[0].name = \"a+b\": expected levels without",
        ),
    ] {
        let found = mistakes(tags);
        assert_eq!(found.len(), 1, "{tags}: {found:?}");
        assert!(found[0].starts_with(expected), "{tags}: {found:?}");
    }
}

#[test]
fn clashes_between_tags_are_mistakes() {
    let twice = "{ name = \"a\", address = 1, type = \"INT16\" },\n{ name = \"a\", address = 2, type = \"INT16\" }";
    assert_eq!(
        mistakes(twice),
        ["tags[1].name = \"a\": expected each path once, modbus[0].tags[0] is \"d/a\" as well"]
    );
    let off_by_one = "{ name = \"a\", address = 100, type = \"FLOAT32\" },\n{ name = \"b\", address = 101, type = \"FLOAT32\" }";
    assert_eq!(
        mistakes(off_by_one),
        [
            "tags[1].address = 101: expected an address that does not lie inside tags[0], which takes 2 registers from 100"
        ]
    );
    let command = "{ name = \"a\", address = 1, type = \"INT16\", write = {} },\n{ name = \"a/set\", address = 2, type = \"INT16\" }";
    assert!(mistakes(command)[0].contains("it is the command path"));
    // Another view of the same registers is wanted, not a mistake.
    let views = "[[modbus]]\nname = \"d\"\nendpoint = \"tcp://h\"\ntags = [ { name = \"a\", address = 100, type = \"UINT32\" }, { name = \"b\", address = 101, type = \"BIT\", bit = 1 }, { name = \"c\", address = 100, type = \"FLOAT32\" } ]\n";
    assert!(parsed(views).is_ok());
}

#[test]
fn one_port_is_opened_in_one_way() {
    let device = |name: &str, baud: u32| {
        format!(
            "[[modbus]]\nname = \"{name}\"\nendpoint = \"rtu:///dev/ttyS1?baud={baud}\"\ntags = [ {{ name = \"t\", address = 1, type = \"INT16\" }} ]\n"
        )
    };
    assert!(parsed(&format!("{}{}", device("a", 9_600), device("b", 9_600))).is_ok());
    let report = parsed(&format!("{}{}", device("a", 9_600), device("b", 19_200)));
    let report = report.expect_err("two rates");
    assert!(report.contains("modbus[1].endpoint"), "{report}");
}
