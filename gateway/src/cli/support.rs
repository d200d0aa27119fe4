//! `forebay support-bundle`: what somebody who helps wants to see, in one file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::http::ask;
use super::{CommandError, HttpArgs};
use crate::config::Config;

/// Lines of the journal that are taken.
const JOURNAL_LINES: &str = "5000";
/// Files of the data directory that are listed.
const FILES_MAX: usize = 10_000;
/// How deep the data directory is listed.
const DEPTH_MAX: usize = 4;
/// Parts of keys whose values are not taken. Secrets are in files of their own,
/// but somebody may have put one here.
const SECRET_KEYS: [&str; 5] = ["password", "secret", "token", "passphrase", "credential"];

/// Arguments of `support-bundle`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  forebay support-bundle --output forebay-support.tar.gz

The archive has the configuration without secrets, versions, status, metrics,
alerts, groups, a list of the log's files, and the journal of the service. It has
no records, no file of users, no keys and no passwords. Look at it before you
send it: paths, topics and addresses of your plant are in it.")]
pub struct SupportArgs {
    /// The node's TOML file
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "/etc/forebay/forebay.toml"
    )]
    config: PathBuf,
    /// The archive to write
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "forebay-support.tar.gz"
    )]
    output: PathBuf,
    #[command(flatten)]
    node: HttpArgs,
}

/// Writes the archive. What cannot be had is said in its place.
///
/// # Errors
/// The archive cannot be written.
pub async fn execute(args: SupportArgs) -> Result<bool, CommandError> {
    let mut parts: Vec<(&str, String)> = vec![
        (
            "version.txt",
            format!("forebay {}\n", env!("CARGO_PKG_VERSION")),
        ),
        ("system.txt", system()),
        ("config.toml", config_text(&args.config)),
        ("check.txt", check(&args.config)),
        ("files.txt", files(&args.config)),
        (
            "journal.txt",
            run(
                "journalctl",
                &[
                    "-u",
                    "forebay",
                    "-n",
                    JOURNAL_LINES,
                    "--no-pager",
                    "-o",
                    "short-iso-precise",
                ],
            ),
        ),
    ];
    for (name, path) in [
        ("status.json", "/api/v1/status"),
        ("metrics.txt", "/metrics"),
        ("alerts.json", "/api/v1/alerts"),
        ("groups.json", "/api/v1/groups"),
    ] {
        let answer = ask(&args.node.endpoint(), "GET", path).await;
        let body = answer.and_then(|answer| answer.success(&args.node.endpoint()));
        parts.push((
            name,
            match body {
                Ok(body) => String::from_utf8_lossy(&body).into_owned(),
                Err(error) => format!("not had: {error}\n"),
            },
        ));
    }
    let failed =
        |error: io::Error| CommandError::Usage(format!("{}: {error}", args.output.display()));
    let file = File::create(&args.output).map_err(failed)?;
    write(file, &parts).map_err(failed)?;
    writeln!(io::stdout(), "{}", args.output.display())?;
    Ok(true)
}

fn write(file: File, parts: &[(&str, String)]) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO).as_secs();
    for (name, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        let path = Path::new("forebay-support").join(name);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}

fn system() -> String {
    let mut text = String::new();
    for file in [
        "/etc/os-release",
        "/proc/version",
        "/proc/meminfo",
        "/proc/loadavg",
        "/proc/mounts",
    ] {
        let content =
            std::fs::read_to_string(file).unwrap_or_else(|error| format!("not had: {error}\n"));
        text.push_str(&format!("== {file}\n{content}\n"));
    }
    text.push_str(&format!("== df\n{}", run("df", &["-k"])));
    text
}

fn run(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => format!(
            "not had: {}\n",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => format!("not had: {program}: {error}\n"),
    }
}

fn config_text(path: &Path) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) => without_secrets(&text),
        Err(error) => format!("# not had: {error}\n"),
    }
}

/// The text with values of keys that name a secret taken out, and with those
/// that are written into addresses.
fn without_secrets(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for line in text.lines() {
        clean.push_str(&without_login(&without_values(line)));
        clean.push('\n');
    }
    clean
}

/// A line without the values of keys that name a secret. The name of a file that
/// has one stays.
fn without_values(line: &str) -> String {
    let mut clean = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at + 1);
        let is_part = |letter: char| letter.is_alphanumeric() || "_-.\"".contains(letter);
        let key = before[..at]
            .trim_end()
            .rsplit(|letter| !is_part(letter))
            .next();
        let key = key.unwrap_or_default().trim_matches('"').to_lowercase();
        let is_secret =
            SECRET_KEYS.iter().any(|secret| key.contains(secret)) && !key.ends_with("_file");
        clean.push_str(before);
        rest = after;
        if is_secret {
            clean.push_str(" \"removed\"");
            rest = behind_value(after);
        }
    }
    clean + rest
}

/// What follows a value of TOML that is on one line.
fn behind_value(text: &str) -> &str {
    let value = text.trim_start();
    let quote = value.chars().next().filter(|first| "\"'".contains(*first));
    let end = match quote {
        Some(quote) => {
            let mut is_escaped = false;
            let end = value.char_indices().skip(1).find(|(_, letter)| {
                let ends = *letter == quote && !is_escaped;
                is_escaped = *letter == '\\' && quote == '"' && !is_escaped;
                ends
            });
            end.map_or(value.len(), |(at, _)| at + 1)
        }
        None => value.find([',', '}', ']', '#']).unwrap_or(value.len()),
    };
    &value[end..]
}

/// A line without what is before an `@` in an address.
fn without_login(line: &str) -> String {
    let Some(start) = line.find("://").map(|at| at + 3) else {
        return line.to_owned();
    };
    let end = line[start..]
        .find(['/', '"', '\'', ' '])
        .map_or(line.len(), |at| start + at);
    match line[start..end].rfind('@') {
        Some(at) => format!("{}removed{}", &line[..start], &line[start + at..]),
        None => line.to_owned(),
    }
}

fn check(path: &Path) -> String {
    match Config::load(path) {
        Ok(config) => format!(
            "fine\n{}",
            config
                .warnings
                .iter()
                .map(|warning| format!("{warning}\n"))
                .collect::<String>()
        ),
        Err(error) => format!("{error}\n"),
    }
}

/// Sizes of the files of the log.
fn files(config: &Path) -> String {
    let Ok(config) = Config::load(config) else {
        return "not had: the configuration has mistakes\n".to_owned();
    };
    let mut lines = Vec::new();
    list(&config.node.data_dir, &config.node.data_dir, 0, &mut lines);
    lines.sort();
    lines.concat()
}

fn list(root: &Path, directory: &Path, depth: usize, lines: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        lines.push(format!("{}: not had\n", directory.display()));
        return;
    };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if lines.len() >= FILES_MAX {
            return;
        }
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap_or(&path).display();
        lines.push(format!("{name} {}\n", metadata.len()));
        if metadata.is_dir() && depth < DEPTH_MAX {
            list(root, &path, depth + 1, lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_are() {
        for (line, expected) in [
            ("password = \"hush\"", "password = \"removed\""),
            ("api_token='hush' # x", "api_token= \"removed\" # x"),
            (
                "a = { user = \"mia\", password = \"hu\\\"sh\", b = 1 }",
                "a = { user = \"mia\", password = \"removed\", b = 1 }",
            ),
            (
                "\"Client-Secret\" = hush",
                "\"Client-Secret\" = \"removed\"",
            ),
            ("password_file = \"pw\"", "password_file = \"pw\""),
            (
                "broker = \"mqtts://mia:hush@old.example:8883\"",
                "broker = \"mqtts://removed@old.example:8883\"",
            ),
            (
                "endpoint = \"tcp://10.0.0.7:502\"",
                "endpoint = \"tcp://10.0.0.7:502\"",
            ),
            ("name = \"a@b\"", "name = \"a@b\""),
        ] {
            assert_eq!(without_secrets(line), format!("{expected}\n"));
        }
    }

    #[test]
    fn the_archive_has_its_parts() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("b.tar.gz");
        let parts = [("a.txt", "one".to_owned()), ("b.txt", String::new())];
        write(File::create(&path).expect("writable"), &parts).expect("writable");
        let file = File::open(&path).expect("it was written");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut found = Vec::new();
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            let name = entry.path().expect("a path").display().to_string();
            found.push((name, text));
        }
        let expected = [
            ("forebay-support/a.txt", "one"),
            ("forebay-support/b.txt", ""),
        ];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(found, expected);
    }
}
