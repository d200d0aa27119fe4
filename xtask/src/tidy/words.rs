//! Words that have no place in the repository.
//!
//! The lists are assembled from halves, so that this file does not trip over
//! itself.

use super::tree::{File, Tree};

/// A word and why it is refused.
struct Banned {
    word: &'static str,
    reason: &'static str,
}

const fn banned(word: &'static str, reason: &'static str) -> Banned {
    Banned { word, reason }
}

const UNFINISHED: &str = "unfinished work is not committed; open an issue";
const MACHINE: &str = "a path of one machine means nothing on another";
const REGISTRY: &str = "where packages come from is the machine's setting";
const PROCESS: &str = "the repository describes the program, not how it was written";

/// Refused everywhere, upper and lower case apart.
const ANYWHERE: [Banned; 16] = [
    banned(concat!("TO", "DO"), UNFINISHED),
    banned(concat!("FIX", "ME"), UNFINISHED),
    banned(concat!("XX", "X:"), UNFINISHED),
    banned(concat!("HA", "CK:"), UNFINISHED),
    banned(concat!("/wo", "rk/"), MACHINE),
    banned(concat!("/ro", "ot/"), MACHINE),
    banned(concat!("/ho", "me/"), MACHINE),
    banned(concat!("/tmp/", "t-"), MACHINE),
    banned(concat!("index.crates", ".io"), REGISTRY),
    banned(concat!("static.crates", ".io"), REGISTRY),
    banned(concat!("files.python", "hosted"), REGISTRY),
    banned(concat!("py", "pi.org"), REGISTRY),
    banned(concat!("--index", "-url"), REGISTRY),
    banned(concat!("deb.deb", "ian.org"), REGISTRY),
    banned(concat!("Co-authored", "-by"), PROCESS),
    banned(concat!("language ", "model"), PROCESS),
];

/// Refused in Rust outside of tests.
const IN_CODE: [Banned; 3] = [
    banned(concat!("to", "do!("), UNFINISHED),
    banned(concat!("unimple", "mented!("), UNFINISHED),
    banned(concat!("db", "g!("), "a debugging aid"),
];

/// File and module names that say nothing about what they own.
const VAGUE_NAMES: [&str; 6] = ["util", "utils", "helper", "helpers", "common", "misc"];

pub fn check(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in &tree.files {
        // The lock file and the licence are not ours to word.
        if file.path.ends_with("Cargo.lock") || file.path == "LICENSE" {
            continue;
        }
        scan(file, &mut complaints);
        name(file, &mut complaints);
    }
    complaints
}

fn scan(file: &File, complaints: &mut Vec<String>) {
    let path = file.path.as_str();
    let code = path.ends_with(".rs") && !path.contains("tests");
    for (index, line) in file.text.lines().enumerate() {
        let number = index + 1;
        for entry in &ANYWHERE {
            if contains_word(line, entry.word) {
                complaints.push(format!(
                    "{path}:{number}: {:?}: {}",
                    entry.word, entry.reason
                ));
            }
        }
        for entry in IN_CODE.iter().filter(|_| code) {
            if line.contains(entry.word) {
                complaints.push(format!(
                    "{path}:{number}: {:?}: {}",
                    entry.word, entry.reason
                ));
            }
        }
    }
}

/// Whether `word` stands in `line` and is not the middle of a longer name.
/// Boundaries matter only where the word itself begins or ends with a letter.
fn contains_word(line: &str, word: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    line.match_indices(word).any(|(at, _)| {
        let open = is_letter(word.chars().next()) && is_letter(line[..at].chars().next_back());
        let tail = &line[at + word.len()..];
        let close = is_letter(word.chars().next_back()) && is_letter(tail.chars().next());
        !open && !close
    })
}

fn name(file: &File, complaints: &mut Vec<String>) {
    let Some(stem) = file.path.strip_suffix(".rs") else {
        return;
    };
    if let Some(vague) = stem.split('/').find(|part| VAGUE_NAMES.contains(part)) {
        complaints.push(format!(
            "{}: {vague:?} says nothing; name it by the noun it owns",
            file.path
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{File, Tree};
    use super::{check, contains_word};

    fn count(path: &str, text: &str) -> usize {
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&Tree { files: vec![file] }).len()
    }

    #[test]
    fn banned_words_are_found_where_they_count() {
        assert_eq!(count("a.md", concat!("one\nTO", "DO: two")), 1);
        assert_eq!(count("a.rs", concat!("db", "g!(x)")), 1);
        assert_eq!(count("a/tests.rs", concat!("db", "g!(x)")), 0);
        assert_eq!(count("a.md", "nothing to see"), 0);
    }

    #[test]
    fn a_word_inside_a_longer_name_is_another_word() {
        assert!(contains_word("a HACK b", "HACK"));
        assert!(!contains_word("a HACKS b", "HACK"));
    }

    #[test]
    fn vague_file_names_are_refused() {
        assert_eq!(count(concat!("broker/src/ut", "il.rs"), ""), 1);
        assert_eq!(count("broker/src/topic.rs", ""), 0);
    }
}
