//! `[[query]]`: continuous SQL in files beside the configuration.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use forebay_analytics::bind;
use forebay_analytics::plan::Plan;

use super::Route;
use super::defaults;
use super::names::check_topic;
use super::node::size_within;
use super::section::Section;
use crate::commands::journal::TOPIC as COMMANDS_TOPIC;
use crate::ingest::routes::DEFAULT_TOPIC;
use crate::queries::ALERTS_TOPIC;

/// One `[[query]]`, bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its name in status, metrics, alerts and paths.
    pub name: String,
    /// The text of the file.
    pub text: String,
    /// The log topic of its results; what is late goes to `<topic>.late`.
    pub topic: String,
    /// Where a query begins that has not run before.
    pub from: Beginning,
    /// Bytes that its state may take.
    pub memory: usize,
}

/// `query.from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// With what comes from now on.
    Latest,
    /// With the oldest record of the log.
    Earliest,
}

/// A query with what the checks across queries need.
struct Bound {
    query: Query,
    /// Log topics that it names as sources.
    reads: Vec<String>,
}

/// Reads every `[[query]]` and its file.
pub(super) fn queries(root: &Section<'_>, routes: &[Route]) -> Vec<Query> {
    const QUERIES: &str = "expected [[query]] tables with file";
    let sections = root.tables("query", QUERIES);
    if sections.len() > defaults::QUERIES_MAX {
        let expected = format!("expected at most {} queries", defaults::QUERIES_MAX);
        root.mistake("query", expected);
        return Vec::new();
    }
    let mut found: Vec<Bound> = Vec::new();
    for section in &sections {
        let Some(bound) = query(section) else {
            continue;
        };
        let same = |other: &Bound| other.query.name == bound.query.name;
        if found.iter().any(same) {
            let name = &bound.query.name;
            section.mistake(
                if section.has("name") { "name" } else { "file" },
                format!("expected another name than {name:?}, which a query before has"),
            );
            continue;
        }
        check_result_topic(section, &bound.query.topic, routes, &found);
        found.push(bound);
    }
    check_circles(root, &found);
    found.into_iter().map(|bound| bound.query).collect()
}

fn query(section: &Section<'_>) -> Option<Bound> {
    const FILE: &str = "expected the name of a file with SQL";
    const NAME: &str = "expected a name such as \"bearing\"";
    let file = section.text("file", FILE, |text| Ok(PathBuf::from(text)));
    section.missing("file", FILE);
    let name = section.text("name", NAME, name);
    let topic = section.text("topic", "expected a log topic", |text| {
        check_topic(text).map(|()| text.to_owned())
    });
    let from = section.word(
        "from",
        &[
            ("latest", Beginning::Latest),
            ("earliest", Beginning::Earliest),
        ],
    );
    let memory = size_within(
        section,
        "memory",
        defaults::QUERY_MEMORY_MIN,
        defaults::QUERY_MEMORY_MAX,
    );
    section.finish();
    let file = file?;
    if name.is_none() && section.has("name") {
        return None;
    }
    let (text, plan) = match load(&section.directory().join(&file), &file) {
        Ok(loaded) => loaded,
        Err(expected) => {
            section.mistake("file", expected);
            return None;
        }
    };
    let name = match name.or(plan.name).map_or_else(|| stem(&file), Ok) {
        Ok(name) => name,
        Err(expected) => {
            section.mistake("file", expected);
            return None;
        }
    };
    let topic = topic.or(plan.topic).unwrap_or_else(|| name.clone());
    // The longest topic has ".late" behind it.
    if let Err(expected) = check_topic(&late_topic(&topic)) {
        section.mistake("file", format!("INTO TOPIC: {expected}"));
        return None;
    }
    let reads = plan.scans.into_iter().flat_map(|scan| scan.topics);
    Some(Bound {
        reads: reads.collect(),
        query: Query {
            name,
            text,
            topic,
            from: from.unwrap_or(Beginning::Latest),
            memory: usize::try_from(memory.unwrap_or(defaults::QUERY_MEMORY)).unwrap_or(usize::MAX),
        },
    })
}

/// Results have their topics for themselves: other queries read all topics but
/// those.
fn check_result_topic(section: &Section<'_>, topic: &str, routes: &[Route], before: &[Bound]) {
    let key = if section.has("topic") {
        "topic"
    } else {
        "file"
    };
    for own in [topic, &late_topic(topic)] {
        let is_taken = [ALERTS_TOPIC, DEFAULT_TOPIC, COMMANDS_TOPIC].contains(&own)
            || routes.iter().any(|route| route.topic == own)
            || before
                .iter()
                .any(|other| other.query.topic == own || late_topic(&other.query.topic) == own);
        if is_taken {
            let expected = format!("expected a topic for results alone, {own:?} has other records");
            section.mistake(key, expected);
            return;
        }
    }
}

/// The topic of rows that were not taken.
pub fn late_topic(topic: &str) -> String {
    format!("{topic}.late")
}

/// Reads and binds a file.
fn load(path: &Path, shown: &Path) -> Result<(String, Plan), String> {
    let shown = shown.display();
    let mut text = String::new();
    let limit = defaults::QUERY_TEXT_MAX;
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_string(&mut text))
        .map_err(|error| format!("expected a file with SQL, {}: {error}", path.display()))?;
    if text.len() as u64 > limit {
        return Err(format!("expected at most {limit} bytes of SQL in {shown}"));
    }
    let plan = bind::plan(&text).map_err(|error| {
        let (line, column) = (error.at.line, error.at.column);
        format!("expected SQL: {shown}:{line}:{column}: {}", error.message)
    })?;
    Ok((text, plan))
}

/// A name is a level of a path and part of a topic name.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let max = defaults::QUERY_NAME_MAX;
    if text.is_empty() || text.len() > max || !text.chars().all(is_plain) || text.starts_with('.') {
        return Err(format!(
            "expected 1 to {max} characters of a-z, A-Z, 0-9, '.', '_' or '-'"
        ));
    }
    Ok(text.to_owned())
}

/// The name of a query that has none: that of its file.
fn stem(file: &Path) -> Result<String, String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    name(stem.unwrap_or_default())
        .map_err(|expected| format!("expected `name`, or a file name that is one: {expected}"))
}

/// A query that reads what it writes, through others or itself, never ends.
fn check_circles(root: &Section<'_>, queries: &[Bound]) {
    let writers: BTreeMap<String, usize> = queries
        .iter()
        .enumerate()
        .flat_map(|(index, bound)| {
            let topic = &bound.query.topic;
            [(topic.clone(), index), (late_topic(topic), index)]
        })
        .collect();
    for (start, bound) in queries.iter().enumerate() {
        let mut open = vec![start];
        let mut seen = vec![false; queries.len()];
        while let Some(index) = open.pop() {
            for writer in queries[index].reads.iter().filter_map(|t| writers.get(t)) {
                if *writer == start {
                    let name = &bound.query.name;
                    root.mistake(
                        "query",
                        format!("expected no circle: query {name:?} reads what it writes"),
                    );
                    return;
                }
                if !std::mem::replace(&mut seen[*writer], true) {
                    open.push(*writer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError};

    fn parse(files: &[(&str, &str)], sections: &str) -> Result<Config, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let text =
            format!("[node]\nname = \"n\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n{sections}");
        match Config::parse(&dir.path().join("gateway.toml"), &text) {
            Ok(config) => Ok(config),
            Err(ConfigError::Mistakes(mistakes)) => Err(mistakes
                .iter()
                .map(|mistake| format!("{} {} {}", mistake.line, mistake.key, mistake.expected))
                .collect()),
            Err(other) => panic!("{other}"),
        }
    }

    const PLAIN: &str = "SELECT path, value FROM \"plant/#\" WHERE value > 3";

    #[test]
    fn names_and_topics_come_from_the_file_unless_they_are_given() {
        let named = "CREATE QUERY worn INTO TOPIC 'plant.worn' AS SELECT path FROM \"a/+\"";
        let config = parse(
            &[("hot.sql", PLAIN), ("b.sql", named)],
            "[[query]]\nfile = \"hot.sql\"\n[[query]]\nfile = \"b.sql\"\nfrom = \"earliest\"\n\
             [[query]]\nfile = \"b.sql\"\nname = \"other\"\ntopic = \"t\"\nmemory = \"8MiB\"",
        );
        let queries = config.unwrap().queries;
        let shown: Vec<_> = queries
            .iter()
            .map(|query| (&*query.name, &*query.topic, query.from, query.memory))
            .collect();
        let default = usize::try_from(defaults::QUERY_MEMORY).unwrap();
        assert_eq!(
            shown,
            [
                ("hot", "hot", Beginning::Latest, default),
                ("worn", "plant.worn", Beginning::Earliest, default),
                ("other", "t", Beginning::Latest, 8 << 20),
            ]
        );
    }

    #[test]
    fn mistakes_in_the_sql_name_file_line_and_column() {
        let mistakes = parse(
            &[(
                "hot.sql",
                "CREATE STREAM s (rms double) FROM 'a/#';\nSELECT rsm FROM s",
            )],
            "[[query]]\nfile = \"hot.sql\"",
        );
        let mistakes = mistakes.unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        let start = "6 query[0].file expected SQL: hot.sql:2:8: ";
        assert!(mistakes[0].starts_with(start), "{mistakes:?}");
        assert!(mistakes[0].contains("rms"), "{mistakes:?}");
    }

    #[test]
    fn what_is_missing_or_twice_is_a_mistake() {
        let mistakes = parse(
            &[("hot.sql", PLAIN)],
            "[[query]]\nfile = \"hot.sql\"\n[[query]]\nfile = \"hot.sql\"\n[[query]]\n\
             file = \"cold.sql\"\n[[query]]\nname = \"x\"\n[[query]]\nfile = \"hot.sql\"\n\
             name = \"a/b\"\n",
        )
        .unwrap_err();
        let keys: Vec<&str> = mistakes
            .iter()
            .map(|mistake| mistake.split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(
            keys,
            [
                "query[1].file",
                "query[2].file",
                "query[3].file",
                "query[4].name"
            ]
        );
    }

    #[test]
    fn results_have_their_topic_for_themselves() {
        let sections = "[[query]]\nfile = \"a.sql\"\ntopic = \"readings\"\n[[query]]\nname = \"b\"\n\
                        file = \"a.sql\"\ntopic = \"x\"\n[[query]]\nname = \"c\"\nfile = \"a.sql\"\n\
                        topic = \"x.late\"\n[[query]]\nname = \"alerts\"\nfile = \"a.sql\"\n";
        let mistakes = parse(&[("a.sql", PLAIN)], sections).unwrap_err();
        let keys: Vec<&str> = mistakes
            .iter()
            .map(|mistake| mistake.split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(keys, ["query[0].topic", "query[2].topic", "query[3].file"]);
    }

    #[test]
    fn a_circle_of_queries_is_refused() {
        let a = "CREATE STREAM s FROM '#' TOPIC 'b'; SELECT path FROM s";
        let b = "CREATE STREAM s FROM '#' TOPIC 'a.late'; SELECT path FROM s";
        let sections = "[[query]]\nfile = \"a.sql\"\n[[query]]\nfile = \"b.sql\"";
        let mistakes = parse(&[("a.sql", a), ("b.sql", b)], sections).unwrap_err();
        assert!(mistakes[0].contains("circle"), "{mistakes:?}");
        assert!(parse(&[("a.sql", a), ("b.sql", PLAIN)], sections).is_ok());
    }
}
