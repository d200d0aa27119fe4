//! `docs/mqtt-conformance.md` names every normative statement of MQTT once,
//! and only tests that exist.

use std::collections::BTreeMap;

use super::tree::Tree;

const DOCUMENT: &str = "docs/mqtt-conformance.md";
const VECTORS: &str = "protocols/mqtt/tests/vectors.txt";

/// Sections of a specification with their first and last statement.
type Sections = &'static [(&'static str, u32, u32)];

/// The statements of appendix B of MQTT 5.0 (OASIS Standard, 7 March 2019).
const MQTT_5: Sections = &[
    ("1.5.4", 1, 3),
    ("1.5.5", 1, 1),
    ("1.5.7", 1, 1),
    ("2.1.3", 1, 1),
    ("2.2.1", 2, 6),
    ("2.2.2", 1, 1),
    ("3.1.0", 1, 2),
    ("3.1.2", 1, 30),
    ("3.1.3", 1, 12),
    ("3.1.4", 1, 6),
    ("3.2.0", 1, 2),
    ("3.2.2", 1, 22),
    ("3.3.1", 1, 13),
    ("3.3.2", 1, 20),
    ("3.3.4", 1, 10),
    ("3.4.2", 1, 3),
    ("3.5.2", 1, 3),
    ("3.6.1", 1, 1),
    ("3.6.2", 1, 3),
    ("3.7.2", 1, 3),
    ("3.8.1", 1, 1),
    ("3.8.3", 1, 5),
    ("3.8.4", 1, 8),
    ("3.9.2", 1, 2),
    ("3.9.3", 1, 2),
    ("3.10.1", 1, 1),
    ("3.10.3", 1, 2),
    ("3.10.4", 1, 6),
    ("3.11.2", 1, 2),
    ("3.11.3", 1, 2),
    ("3.12.4", 1, 1),
    ("3.14.0", 1, 1),
    ("3.14.1", 1, 1),
    ("3.14.2", 1, 4),
    ("3.14.4", 1, 3),
    ("3.15.1", 1, 1),
    ("3.15.2", 1, 3),
    ("4.1.0", 1, 2),
    ("4.2", 1, 1),
    ("4.3.1", 1, 1),
    ("4.3.2", 1, 5),
    ("4.3.3", 1, 13),
    ("4.4.0", 1, 2),
    ("4.5.0", 1, 2),
    ("4.6.0", 1, 6),
    ("4.7.0", 1, 1),
    ("4.7.1", 1, 2),
    ("4.7.2", 1, 1),
    ("4.7.3", 1, 4),
    ("4.8.2", 1, 6),
    ("4.9.0", 1, 3),
    ("4.12.0", 1, 7),
    ("4.12.1", 1, 2),
    ("4.13.1", 1, 1),
    ("4.13.2", 1, 1),
    ("6.0.0", 1, 4),
];

/// The statements of appendix B of MQTT 3.1.1 (OASIS Standard, 29 October
/// 2014).
const MQTT_3_1_1: Sections = &[
    ("1.5.3", 1, 3),
    ("2.2.2", 1, 2),
    ("2.3.1", 1, 7),
    ("3.1.0", 1, 2),
    ("3.1.2", 1, 24),
    ("3.1.3", 1, 11),
    ("3.1.4", 1, 5),
    ("3.2.0", 1, 1),
    ("3.2.2", 1, 6),
    ("3.3.1", 1, 12),
    ("3.3.2", 1, 3),
    ("3.3.4", 1, 1),
    ("3.3.5", 1, 2),
    ("3.6.1", 1, 1),
    ("3.8.1", 1, 1),
    ("3.8.3", 1, 4),
    ("3.8.4", 1, 6),
    ("3.9.3", 1, 2),
    ("3.10.1", 1, 1),
    ("3.10.3", 1, 2),
    ("3.10.4", 1, 6),
    ("3.12.4", 1, 1),
    ("3.14.1", 1, 1),
    ("3.14.4", 1, 3),
    ("4.1.0", 1, 2),
    ("4.3.1", 1, 1),
    ("4.3.2", 1, 2),
    ("4.3.3", 1, 2),
    ("4.4.0", 1, 1),
    ("4.5.0", 1, 2),
    ("4.6.0", 1, 6),
    ("4.7.1", 1, 3),
    ("4.7.2", 1, 1),
    ("4.7.3", 1, 4),
    ("4.8.0", 1, 2),
    ("6.0.0", 1, 4),
    ("7.0.0", 1, 2),
    ("7.1.1", 1, 1),
    ("7.1.2", 1, 1),
];

const VERSIONS: [(&str, Sections); 2] = [("MQTT 5", MQTT_5), ("MQTT 3.1.1", MQTT_3_1_1)];

/// The first part of a test's name and the directory it stands for.
const PLACES: [(&str, &str); 6] = [
    ("session", "protocols/mqtt/tests/session"),
    ("codec", "protocols/mqtt/tests/codec"),
    ("mqtt", "protocols/mqtt/src"),
    ("server", "gateway/tests/mqtt"),
    ("bridge", "gateway/tests/bridge"),
    ("gateway", "gateway/src/mqtt"),
];

/// `scenarios` are the names of `cargo xtask interop`.
pub fn check(tree: &Tree, scenarios: &[String]) -> Vec<String> {
    let Some(text) = tree.text(DOCUMENT) else {
        return vec![format!("{DOCUMENT}: missing")];
    };
    let mut complaints = Vec::new();
    let mut seen: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut version = "";
    for (index, line) in text.lines().enumerate() {
        let mut complain = |what: String| {
            complaints.push(format!("{DOCUMENT}:{}: {what}", index + 1));
        };
        if let Some(title) = line.strip_prefix("## ") {
            version = title;
        }
        let Some(row) = Row::parse(line) else {
            continue;
        };
        if row.is_shown && row.tests.is_empty() {
            complain("a statement in a table names the test that shows it".to_owned());
        }
        for test in row.tests {
            if let Err(what) = find(tree, scenarios, test) {
                complain(what);
            }
        }
        for number in row.numbers {
            let count = seen.entry((version, number)).or_default();
            *count += 1;
            if *count > 1 {
                complain(format!("{number} of {version} was named before"));
            }
        }
    }
    complaints.extend(compare(&seen));
    complaints
}

/// What there is and what there should be.
fn compare(seen: &BTreeMap<(&str, &str), u32>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut known = 0;
    for (version, sections) in VERSIONS {
        for (section, first, last) in sections {
            for number in (*first..=*last).map(|number| format!("{section}-{number}")) {
                match seen.contains_key(&(version, number.as_str())) {
                    true => known += 1,
                    false => {
                        complaints.push(format!("{DOCUMENT}: {number} of {version} is missing"))
                    }
                }
            }
        }
    }
    if known < seen.len() {
        let exists = |version: &str, number: &str| {
            let sections = VERSIONS.iter().filter(|(title, _)| *title == version);
            let mut sections = sections.flat_map(|(_, sections)| sections.iter());
            let (of, number) = number.rsplit_once('-').unwrap_or_default();
            let number = number.parse().unwrap_or(0);
            sections
                .any(|(section, first, last)| of == *section && (*first..=*last).contains(&number))
        };
        let unknown = seen
            .keys()
            .filter(|(version, number)| !exists(version, number));
        complaints.extend(
            unknown.map(|(version, number)| {
                format!("{DOCUMENT}: {version:?} has no statement {number}")
            }),
        );
    }
    complaints
}

/// A line with statements: of a table, or of a list of those without a test.
struct Row<'a> {
    numbers: Vec<&'a str>,
    tests: Vec<&'a str>,
    is_shown: bool,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let is_shown = line.starts_with("| ");
        let listed = match is_shown {
            true => line[2..].split(" | ").next()?,
            false => line.strip_prefix("- ")?.split(':').next()?,
        };
        let numbers: Vec<&str> = listed.split(", ").map(str::trim).collect();
        if !numbers.iter().all(|number| is_number(number)) {
            return None;
        }
        Some(Self {
            numbers,
            // Every second part is between a pair of backticks.
            tests: line.split('`').skip(1).step_by(2).collect(),
            is_shown,
        })
    }
}

fn is_number(word: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    word.rsplit_once('-')
        .is_some_and(|(section, number)| digits(number) && section.split('.').all(digits))
}

/// Says what is wrong with the name of a test.
fn find(tree: &Tree, scenarios: &[String], test: &str) -> Result<(), String> {
    if let Some(what) = test.strip_prefix("vector: ") {
        let vectors = tree.text(VECTORS).unwrap_or_default();
        let is_there = |line: &str| line.split(" | ").nth(3) == Some(what);
        return match vectors.lines().any(is_there) {
            true => Ok(()),
            false => Err(format!("{VECTORS} has no {what:?}")),
        };
    }
    if let Some(name) = test.strip_prefix("interop: ") {
        return match scenarios.iter().any(|scenario| scenario == name) {
            true => Ok(()),
            false => Err(format!("cargo xtask interop has no scenario {name:?}")),
        };
    }
    let parts: Vec<&str> = test.split("::").collect();
    let [place, modules @ .., function] = &parts[..] else {
        return Err(format!("{test:?} is not the name of a test"));
    };
    let Some((_, directory)) = PLACES.iter().find(|(name, _)| name == place) else {
        return Err(format!("{test:?} begins with none of the places of tests"));
    };
    let path = format!("{directory}/{}.rs", modules.join("/"));
    let text = tree
        .text(&path)
        .ok_or_else(|| format!("{test:?}: no file {path}"))?;
    match is_test(text, function) {
        true => Ok(()),
        false => Err(format!("{path} has no test {function}")),
    }
}

fn is_test(text: &str, function: &str) -> bool {
    let opening = format!("fn {function}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let found = lines.iter().position(|line| line.contains(&opening));
    found.is_some_and(|at| {
        let above = lines[..at].iter().rev();
        let mut attributes =
            above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        attributes.any(|line| matches!(*line, "#[test]" | "#[tokio::test]"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::File;
    use super::*;

    fn complaints(document: &str) -> Vec<String> {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let tree = Tree {
            files: vec![
                file(DOCUMENT, document),
                file(VECTORS, "4 | 81 | a3.1 | half a packet | 10"),
                file(
                    "gateway/tests/mqtt/wills.rs",
                    "#[tokio::test]\nasync fn a_will() {}\nfn no_test() {}\n",
                ),
            ],
        };
        check(&tree, &["mqtt-shared".to_owned()])
            .into_iter()
            .filter(|complaint| !complaint.contains("is missing"))
            .collect()
    }

    #[test]
    fn what_exists_is_found() {
        let rows = "| 3.1.2-7, 3.1.2-8 | a will | `server::wills::a_will`, `vector: half a packet` |\n\
             | 4.8.2-3 | shares | `interop: mqtt-shared` |\n- 4.2-1: for clients\n";
        let found = complaints(&format!("## MQTT 5\n{rows}"));
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn each_mistake_is_told() {
        for (row, told) in [
            ("| 3.1.2-7 | a will | none |", "names the test"),
            (
                "| 3.1.2-7 | x | `server::wills::no_test` |",
                "has no test no_test",
            ),
            (
                "| 3.1.2-7 | x | `server::wills::other` |",
                "has no test other",
            ),
            (
                "| 3.1.2-7 | x | `server::none::a_will` |",
                "no file gateway",
            ),
            ("| 3.1.2-7 | x | `vector: packet` |", "has no \"packet\""),
            ("| 3.1.2-7 | x | `interop: mqtt` |", "no scenario \"mqtt\""),
            ("- 3.1.2-7, 3.1.2-7: twice", "was named before"),
            ("- 3.1.2-31: no such", "has no statement 3.1.2-31"),
            ("- 2.2.1-1: begins at 2", "has no statement 2.2.1-1"),
        ] {
            let found = complaints(&format!("## MQTT 5\n{row}\n"));
            assert!(
                found.len() == 1 && found[0].contains(told),
                "{row}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let tree = Tree {
            files: vec![File {
                path: DOCUMENT.to_owned(),
                text: "## MQTT 5\n- 4.2-1: x\n## MQTT 3.1.1\n".to_owned(),
            }],
        };
        let count = |sections: Sections| {
            let counts = sections.iter().map(|(_, first, last)| last - first + 1);
            counts.sum::<u32>() as usize
        };
        assert_eq!((count(MQTT_5), count(MQTT_3_1_1)), (251, 141));
        assert_eq!(check(&tree, &[]).len(), 251 + 141 - 1);
    }
}
