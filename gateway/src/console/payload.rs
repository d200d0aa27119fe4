//! What can be shown of a payload: its numbers, and a line of text.

use serde_json::Value;

/// Payloads beyond this are not parsed: they are shown by their size. The
/// largest waveforms as JSON are of this order.
const PARSED_LEN_MAX: usize = 1 << 20;
/// Numbers taken from one payload. A person looks at one or a few of them.
const NUMBERS_MAX: usize = 16;
/// How deep objects are followed.
const DEPTH_MAX: usize = 3;
/// Characters of the line of text.
const TEXT_MAX: usize = 120;

/// Members that say when, not what.
const TIMES: [&str; 6] = [
    "timestamp",
    "time",
    "ts",
    "since",
    "window_start",
    "window_end",
];

/// What a payload says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    /// The numbers by the place of their member, `""` for a payload that is a
    /// number itself, `a.b` for a member of a member. True and false are 1 and
    /// 0. A list of numbers is its root mean square, named `a.rms`.
    pub numbers: Vec<(String, f64)>,
    /// A line of text when there is no number, or the beginning of one.
    pub text: String,
    /// The quality of a reading of a device.
    pub quality: Option<String>,
    /// Its unit.
    pub unit: Option<String>,
}

/// Reads a payload of any kind.
#[must_use]
pub fn read(payload: &[u8]) -> Shown {
    let size = || Shown {
        text: format!("{} bytes", payload.len()),
        ..Shown::default()
    };
    if payload.len() > PARSED_LEN_MAX {
        return size();
    }
    let Ok(text) = std::str::from_utf8(payload) else {
        return size();
    };
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Shown {
            text: line(text.trim()),
            ..Shown::default()
        };
    };
    let member = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let mut shown = Shown {
        quality: member("quality"),
        unit: member("unit"),
        ..Shown::default()
    };
    gather(&value, "", 0, &mut shown.numbers);
    shown.text = match &value {
        Value::String(text) => line(text),
        Value::Object(_) => match value.get("value") {
            Some(Value::String(text)) => line(text),
            Some(Value::Null) => String::new(),
            _ => line(text.trim()),
        },
        _ => line(text.trim()),
    };
    shown
}

/// The number at one place of a payload.
#[must_use]
pub fn number(payload: &[u8], field: &str) -> Option<f64> {
    let shown = read(payload);
    let found = shown.numbers.into_iter().find(|(name, _)| name == field);
    found.map(|(_, number)| number)
}

fn gather(value: &Value, name: &str, depth: usize, numbers: &mut Vec<(String, f64)>) {
    if numbers.len() >= NUMBERS_MAX {
        return;
    }
    match value {
        Value::Bool(is_set) => numbers.push((name.to_owned(), f64::from(u8::from(*is_set)))),
        Value::Number(number) => {
            numbers.extend(number.as_f64().map(|number| (name.to_owned(), number)));
        }
        Value::Array(items) => {
            if let Some(rms) = root_mean_square(items) {
                numbers.push((below(name, "rms"), rms));
            }
        }
        Value::Object(members) if depth < DEPTH_MAX => {
            let shown = members
                .iter()
                .filter(|(member, _)| !TIMES.contains(&member.as_str()));
            for (member, value) in shown {
                gather(value, &below(name, member), depth + 1, numbers);
            }
        }
        Value::Object(_) | Value::String(_) | Value::Null => {}
    }
}

fn below(name: &str, member: &str) -> String {
    match name {
        "" => member.to_owned(),
        name => format!("{name}.{member}"),
    }
}

fn root_mean_square(items: &[Value]) -> Option<f64> {
    let squares = items
        .iter()
        .map(|item| item.as_f64().map(|number| number * number));
    let sum: f64 = squares.sum::<Option<f64>>()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a list in memory has fewer items than a double has whole numbers"
    )]
    let count = items.len() as f64;
    (count > 0.0).then(|| (sum / count).sqrt())
}

/// The first line, cut where it gets long.
fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let clean = first.chars().filter(|letter| !letter.is_control());
    let mut line: String = clean.take(TEXT_MAX).collect();
    if first.chars().count() > TEXT_MAX || text.lines().nth(1).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(payload: &str) -> Vec<(String, f64)> {
        read(payload.as_bytes()).numbers
    }

    #[test]
    fn numbers_are_found_where_they_are() {
        let at = |name: &str, number: f64| (name.to_owned(), number);
        assert_eq!(numbers("21.5"), [at("", 21.5)]);
        assert_eq!(numbers("true"), [at("", 1.0)]);
        assert_eq!(
            numbers(r#"{"value":7,"timestamp":1763856000123,"quality":"good","unit":"°C"}"#),
            [at("value", 7.0)]
        );
        assert_eq!(
            numbers(r#"{"motor":{"rpm":1480,"on":false},"name":"m1"}"#),
            [at("motor.on", 0.0), at("motor.rpm", 1480.0)]
        );
        assert_eq!(numbers("[3,-3,3,-3]"), [at("rms", 3.0)]);
        assert_eq!(numbers(r#"{"x":[3,-3]}"#), [at("x.rms", 3.0)]);
        assert_eq!(numbers(r#"[1,"a"]"#), []);
        assert_eq!(numbers("[]"), []);
        assert_eq!(number(br#"{"a":{"b":4}}"#, "a.b"), Some(4.0));
        assert_eq!(number(br#"{"a":{"b":4}}"#, "a"), None);
    }

    #[test]
    fn readings_keep_quality_and_unit() {
        let shown = read(r#"{"value":null,"quality":"bad","unit":"bar"}"#.as_bytes());
        assert_eq!(shown.numbers, []);
        assert_eq!(shown.text, "");
        assert_eq!(shown.quality.as_deref(), Some("bad"));
        assert_eq!(shown.unit.as_deref(), Some("bar"));
    }

    #[test]
    fn what_is_no_number_is_a_line_of_text() {
        assert_eq!(read(b"running").text, "running");
        assert_eq!(read(b"\"on\"").text, "on");
        assert_eq!(read(b"two\nlines").text, "two…");
        assert_eq!(read(&[0xff, 0x00]).text, "2 bytes");
        assert_eq!(read(&vec![b'1'; PARSED_LEN_MAX + 1]).text, "1048577 bytes");
        let long = read("x".repeat(200).as_bytes()).text;
        assert_eq!(long.chars().count(), TEXT_MAX + 1);
    }

    #[test]
    fn a_payload_with_many_members_is_cut() {
        let members: Vec<String> = (0..40).map(|n| format!("\"m{n:02}\":{n}")).collect();
        assert_eq!(
            numbers(&format!("{{{}}}", members.join(","))).len(),
            NUMBERS_MAX
        );
        let deep = r#"{"a":{"b":{"c":{"d":1}}}}"#;
        assert_eq!(numbers(deep), []);
    }
}
