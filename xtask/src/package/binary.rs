//! What a program that is shipped must be, read from its headers by readelf.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Target;
use crate::failure::{During, Failure, Outcome};

/// The C library of Debian 12 and of the Raspberry Pi OS made from it.
const GLIBC_MAX: Glibc = Glibc(2, 36);

/// Libraries that every Debian has. Anything else would be a dependency that
/// nobody wrote down.
const LIBRARIES: [&str; 6] = [
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "ld-linux-armhf.so.3",
];

/// A version of the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(u32, u32);

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Properties {
    /// Bytes of the file.
    pub size: u64,
    /// The newest version of a symbol that it asks the C library for.
    pub glibc: Glibc,
}

/// Checks the stripped program at `path`, which may have `size_max` bytes.
///
/// # Errors
/// Names every promise that it breaks.
pub fn check(target: Target, path: &Path, size_max: u64) -> Outcome<Properties> {
    let headers = readelf(target, path)?;
    let size = fs::metadata(path).during(path.display())?.len();
    let mut complaints = complaints(target, &headers);
    if size > size_max {
        complaints.push(format!("{size} bytes, expected at most {size_max}"));
    }
    let Some(glibc) = newest_glibc(&headers).filter(|_| complaints.is_empty()) else {
        let complaints = complaints.join("\n  ");
        return Err(Failure::new(format!("{target}: {complaints}")));
    };
    Ok(Properties { size, glibc })
}

/// The newest version of a symbol that `path` asks the C library for.
///
/// # Errors
/// It is not a program.
pub fn glibc(target: Target, path: &Path) -> Outcome<Glibc> {
    newest_glibc(&readelf(target, path)?)
        .ok_or_else(|| Failure::new(format!("{}: no C library", path.display())))
}

fn readelf(target: Target, path: &Path) -> Outcome<String> {
    let tool = target.tool("readelf");
    let output = Command::new(&tool)
        .args([
            "--wide",
            "--file-header",
            "--program-headers",
            "--dynamic",
            "--version-info",
        ])
        .arg(path)
        .env("LC_ALL", "C")
        .output()
        .during(format!("{tool} (binutils)"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("{tool}: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Everything that the headers say and a shipped program must not.
fn complaints(target: Target, headers: &str) -> Vec<String> {
    let mut found = Vec::new();
    if newest_glibc(headers).is_none() {
        found.push("it does not use the C library".to_owned());
    }
    let line = |name: &str| headers.lines().find(|line| line.trim().starts_with(name));
    if !line("Machine:").is_some_and(|line| line.contains(target.machine())) {
        found.push(format!("not a program for {}", target.machine()));
    }
    if !line("Type:").is_some_and(|line| line.contains("DYN")) {
        found.push("not position independent".to_owned());
    }
    if line("GNU_RELRO").is_none() {
        found.push("no GNU_RELRO segment".to_owned());
    }
    if !headers.lines().any(binds_now) {
        found.push("symbols are bound lazily, so relocations stay writable".to_owned());
    }
    if !line("GNU_STACK").is_some_and(|line| line.contains(" RW ")) {
        found.push("the stack may be executed".to_owned());
    }
    if headers.contains("(RPATH)") || headers.contains("(RUNPATH)") {
        found.push("it names a directory to search for libraries in".to_owned());
    }
    let needed = headers.lines().filter(|line| line.contains("(NEEDED)"));
    for library in needed.filter_map(|line| line.split(['[', ']']).nth(1)) {
        if !LIBRARIES.contains(&library) {
            found.push(format!("it needs {library}"));
        }
    }
    if let Some(glibc) = newest_glibc(headers).filter(|glibc| *glibc > GLIBC_MAX) {
        found.push(format!(
            "it needs C library {glibc}, expected at most {GLIBC_MAX}"
        ));
    }
    found
}

fn binds_now(line: &str) -> bool {
    line.contains("BIND_NOW") || (line.contains("(FLAGS_1)") && line.contains("NOW"))
}

fn newest_glibc(headers: &str) -> Option<Glibc> {
    let words = headers.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
    let versions = words.filter_map(|word| {
        let mut parts = word.strip_prefix("GLIBC_")?.split('.');
        let mut number = || parts.next()?.parse().ok();
        Some(Glibc(number()?, number()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::{Glibc, Target, complaints, newest_glibc};

    /// What readelf says of a program that keeps every promise, cut short.
    const GOOD: &str = "\
  Type:                              DYN (Position-Independent Executable file)
  Machine:                           AArch64
  GNU_STACK      0x000000 0x0000000000000000 0x0000000000000000 0x000000 0x000000 RW  0x10
  GNU_RELRO      0xfc1e50 0x0000000000fd1e50 0x0000000000fd1e50 0x0b81b0 0x0b81b0 R   0x1
 0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000001e (FLAGS)              BIND_NOW
 0x000000006ffffffb (FLAGS_1)            Flags: NOW PIE
  0x0010:   Name: GLIBC_2.17  Flags: none  Version: 7
  0x0020:   Name: GLIBC_2.34  Flags: none  Version: 3
";

    fn count(from: &str, to: &str) -> usize {
        assert!(GOOD.contains(from), "{from}");
        complaints(Target::Arm64, &GOOD.replace(from, to)).len()
    }

    #[test]
    fn a_program_that_keeps_every_promise_has_no_complaints() {
        assert_eq!(complaints(Target::Arm64, GOOD), [""; 0]);
        assert_eq!(newest_glibc(GOOD), Some(Glibc(2, 34)));
    }

    #[test]
    fn each_broken_promise_is_told() {
        assert_eq!(count("AArch64", "ARM"), 1);
        assert_eq!(count("DYN", "EXEC"), 1);
        assert_eq!(count("GNU_RELRO", "NOTE"), 1);
        assert_eq!(count("RW  0x10", "RWE 0x10"), 1);
        assert_eq!(count("libgcc_s.so.1", "libssl.so.3"), 1);
        assert_eq!(count("GLIBC_2.34", "GLIBC_2.41"), 1);
        let lazy = GOOD.replace("BIND_NOW", "").replace("NOW PIE", "PIE");
        assert_eq!(complaints(Target::Arm64, &lazy).len(), 1);
        let path = format!("{GOOD} 0x1d (RUNPATH)  Library runpath: [/opt]\n");
        assert_eq!(complaints(Target::Arm64, &path).len(), 1);
    }
}
