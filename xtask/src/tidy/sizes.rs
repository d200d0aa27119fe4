//! File sizes: a limit, and a list of exceptions that may only shrink.

use std::collections::BTreeMap;

use super::tree::Tree;

/// Lines of a source file. Past this a file holds more than one concept.
const LINES_MAX: usize = 600;

const RATCHET: &str = "xtask/ratchet.txt";

pub fn check(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut allowed = ratchet(tree.text(RATCHET).unwrap_or_default(), &mut complaints);
    for file in tree.ending(&[".rs", ".py"]) {
        let lines = file.text.lines().count();
        let path = file.path.as_str();
        match allowed.remove(path) {
            None if lines > LINES_MAX => complaints.push(format!(
                "{path}: {lines} lines, expected at most {LINES_MAX}; split it by concept"
            )),
            Some(limit) if lines > limit => complaints.push(format!(
                "{path}: {lines} lines, {RATCHET} allows {limit} and may only shrink"
            )),
            Some(_) if lines <= LINES_MAX => complaints.push(format!(
                "{path}: {lines} lines need no entry in {RATCHET}; remove it"
            )),
            Some(limit) if lines < limit => complaints.push(format!(
                "{path}: shrank to {lines} lines; lower its entry in {RATCHET} from {limit}"
            )),
            _ => {}
        }
    }
    for path in allowed.keys() {
        complaints.push(format!("{RATCHET}: {path} does not exist"));
    }
    complaints
}

fn ratchet(text: &str, complaints: &mut Vec<String>) -> BTreeMap<String, usize> {
    let mut allowed = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match line
            .split_once(' ')
            .map(|(path, n)| (path, n.trim().parse()))
        {
            Some((path, Ok(lines))) => {
                allowed.insert(path.to_owned(), lines);
            }
            _ => complaints.push(format!("{RATCHET}: expected PATH LINES, got {line:?}")),
        }
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::super::tree::{File, Tree};
    use super::check;

    fn tree(lines: usize, ratchet: &str) -> Tree {
        let file = |path: &str, text: String| File {
            path: path.to_owned(),
            text,
        };
        Tree {
            files: vec![
                file("a.rs", "x\n".repeat(lines)),
                file("xtask/ratchet.txt", ratchet.to_owned()),
            ],
        }
    }

    #[test]
    fn a_long_file_needs_an_entry_that_only_shrinks() {
        assert_eq!(check(&tree(600, "")).len(), 0);
        assert_eq!(check(&tree(601, "")).len(), 1);
        assert_eq!(check(&tree(601, "a.rs 601")).len(), 0);
        assert_eq!(check(&tree(602, "a.rs 601")).len(), 1, "it grew");
        assert_eq!(check(&tree(601, "a.rs 700")).len(), 1, "the entry is stale");
        assert_eq!(
            check(&tree(10, "a.rs 601")).len(),
            1,
            "the entry is needless"
        );
        assert_eq!(check(&tree(10, "b.rs 601")).len(), 1, "the file is gone");
    }
}
