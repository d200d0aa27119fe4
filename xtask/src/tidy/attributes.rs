//! Attributes: `forbid(unsafe_code)` in every crate, a reason on every ignored
//! test and every silenced lint.

use super::tree::{File, Tree};

/// The files that may hold unsafe code; the root of their crate says `deny`
/// instead of `forbid`.
const UNSAFE_FILES: [&str; 4] = [
    "gateway/src/clock/kernel.rs",
    "gateway/src/memory.rs",
    "storage/src/disk/sys.rs",
    "xtask/src/loopfs/shutdown.rs",
];

pub fn check(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.ending(&[".rs"]) {
        if is_crate_root(&file.path) {
            root(file, &mut complaints);
        }
        lines(file, &mut complaints);
    }
    complaints
}

fn is_crate_root(path: &str) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.ends_with("/build.rs")
}

fn root(file: &File, complaints: &mut Vec<String>) {
    let path = file.path.as_str();
    let krate = path.split("/src/").next().unwrap_or_default();
    let excepted = UNSAFE_FILES.iter().any(|file| file.starts_with(krate));
    let forbids = file.text.contains("#![forbid(unsafe_code)]");
    let denies = file.text.contains("#![deny(unsafe_code)]");
    // A build script is compiled for the developer's machine and never shipped.
    if path.ends_with("/build.rs") || path.starts_with("fuzz/") {
        return;
    }
    if !(forbids || excepted && denies) {
        complaints.push(format!("{path}: expected #![forbid(unsafe_code)]"));
    }
}

fn lines(file: &File, complaints: &mut Vec<String>) {
    let path = file.path.as_str();
    // This file names the attributes that it looks for.
    if path == "xtask/src/tidy/attributes.rs" {
        return;
    }
    let all: Vec<&str> = file.text.lines().collect();
    for (index, line) in all.iter().enumerate() {
        let line = line.trim();
        let number = index + 1;
        if line.starts_with("#[ignore]") {
            complaints.push(format!(
                "{path}:{number}: #[ignore] without a reason; write #[ignore = \"...\"]"
            ));
        }
        let silences = line.starts_with("#[allow(")
            || line.starts_with("#![allow(")
            || line.starts_with("#[expect(");
        // Integration tests silence the unwrap lint as a whole: clippy.toml's
        // permission reaches only functions marked as tests.
        let in_tests = path.contains("/tests/") && line.contains("clippy::unwrap_used");
        // An attribute may be wrapped over a few lines.
        let whole = all[index..all.len().min(index + 6)].join(" ");
        let whole = whole.split(']').next().unwrap_or_default();
        if silences && !in_tests && !whole.contains("reason") {
            complaints.push(format!("{path}:{number}: a silenced lint needs a reason"));
        }
        let holds_unsafe = line.contains("unsafe {") || line.contains("unsafe impl");
        if holds_unsafe && !UNSAFE_FILES.contains(&path) {
            complaints.push(format!(
                "{path}:{number}: unsafe code belongs in {}",
                UNSAFE_FILES.join(" or ")
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{File, Tree};
    use super::check;

    fn count(path: &str, text: &str) -> usize {
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&Tree { files: vec![file] }).len()
    }

    #[test]
    fn a_crate_root_forbids_unsafe_code() {
        assert_eq!(count("broker/src/lib.rs", "#![forbid(unsafe_code)]"), 0);
        assert_eq!(count("broker/src/lib.rs", ""), 1);
        assert_eq!(count("broker/src/lib.rs", "#![deny(unsafe_code)]"), 1);
        assert_eq!(count("storage/src/lib.rs", "#![deny(unsafe_code)]"), 0);
    }

    #[test]
    fn an_ignored_test_and_a_silenced_lint_have_a_reason() {
        assert_eq!(count("a/src/x.rs", "#[ignore]"), 1);
        assert_eq!(count("a/src/x.rs", "#[ignore = \"needs root\"]"), 0);
        assert_eq!(count("a/src/x.rs", "#[expect(dead_code)]"), 1);
        assert_eq!(
            count("a/src/x.rs", "#[expect(\n dead_code,\n reason = \"x\")]"),
            0
        );
    }
}
