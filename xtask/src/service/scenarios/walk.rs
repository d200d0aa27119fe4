//! What docs/security.md tells people to type, typed on a machine where the package
//! was just installed, and what it says comes out.

use std::fmt::Write as _;
use std::fs;

use super::super::Stage;
use crate::failure::{During, Failure, Outcome};
use crate::tidy::repository;

/// The document, and the section whose blocks are run.
const DOCUMENT: &str = "docs/security.md";
const SECTION: &str = "## From an installed package to a guarded port";

/// The fewest commands that the section can have: an empty one must not pass.
const COMMANDS_MIN: usize = 20;

/// Stands before the output of each command.
const MARK: &str = "=== command ";

/// The machine has one account, root, and need not have `sudo`: there the word does
/// what it does for root, it runs the command. That an account without rights needs
/// it is not tried. The directory is new, as the document says.
const ACCOUNT: &str = "sudo() { \"$@\"; }\n\
    export HOME=/root USER=root DEBIAN_FRONTEND=noninteractive\n\
    cd \"$(mktemp -d)\"\nexec 2>&1\n";

/// One command of the document and the lines below it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: Vec<String>,
}

/// Runs the section.
///
/// # Errors
/// A command fails where the document shows no refusal, or says something else.
pub fn run(stage: &mut Stage) -> Outcome {
    let text = fs::read_to_string(repository().join(DOCUMENT)).during(DOCUMENT)?;
    let steps = steps(&text);
    if steps.len() < COMMANDS_MIN {
        let found = steps.len();
        return Err(Failure::new(format!("{DOCUMENT}: {found} commands")));
    }
    let machine = &stage.machine;
    // Nothing is left of what others did to the service.
    machine.run(&["dpkg", "--purge", "forebay"])?;
    machine.run(&["apt-get", "install", "-y", &stage.packages[0]])?;
    let script = machine.path("var/tmp/walk.sh");
    fs::write(&script, script_of(&steps)).during(script.display())?;
    let said = machine.run(&["bash", "/var/tmp/walk.sh"])?;
    let mut outputs = said.split(MARK).skip(1);
    for step in &steps {
        let output = outputs.next().unwrap_or_default();
        let lines: Vec<&str> = output.lines().skip(1).collect();
        check(step, &lines)?;
    }
    let journal = machine.run(&["journalctl", "--no-pager", "-u", "forebay"])?;
    let complaints = ["Operation not permitted", "Permission denied", "Read-only"];
    let is_complaint = |line: &&str| complaints.iter().any(|word| line.contains(word));
    match journal.lines().find(is_complaint) {
        None => Ok(()),
        Some(line) => Err(Failure::new(format!("the sandbox is in the way: {line}"))),
    }
}

/// All commands in one shell, as somebody has it open. The exit code of each is
/// the last line of its output.
fn script_of(steps: &[Step]) -> String {
    let mut script = ACCOUNT.to_owned();
    for (number, step) in steps.iter().enumerate() {
        let command = &step.command;
        // Writing to a string does not fail.
        let _ = writeln!(script, "echo '{MARK}{number}'\n{command}\necho \"exit $?\"");
    }
    script
}

/// What the document shows has to come, and nothing else; a line `...` stands for
/// any lines. What it shows nothing of has to succeed, whatever it says.
fn check(step: &Step, lines: &[&str]) -> Outcome {
    let (exit, said) = lines.split_last().unwrap_or((&"", &[]));
    let is_right = match step.output.as_slice() {
        [] => *exit == "exit 0",
        output => are_like(said, output),
    };
    if is_right {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{DOCUMENT}: {}\n  shows {:?}\n  and there came {lines:?}",
        step.command, step.output
    )))
}

fn are_like(lines: &[&str], documented: &[String]) -> bool {
    let Some((first, others)) = documented.split_first() else {
        return lines.is_empty();
    };
    if first == "..." {
        return (0..=lines.len()).any(|skipped| are_like(&lines[skipped..], others));
    }
    let Some((line, left)) = lines.split_first() else {
        return false;
    };
    is_like(line, first) && are_like(left, others)
}

/// Whether a line is the documented one, where `...` is any text.
fn is_like(line: &str, documented: &str) -> bool {
    let mut pieces = documented.split("...");
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut is_open = false;
    for piece in pieces {
        is_open = piece.is_empty();
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    is_open || rest.is_empty()
}

/// The commands in the blocks `console` of the section. A command goes on to the
/// end of its here-document.
fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let lines = document.lines().skip_while(|line| *line != SECTION).skip(1);
    let mut is_block = false;
    let mut is_here = false;
    for line in lines.take_while(|line| !line.starts_with("## ")) {
        if line.starts_with("```") {
            is_block = line == "```console";
        } else if !is_block {
            continue;
        } else if let (false, Some(command)) = (is_here, line.strip_prefix("$ ")) {
            is_here = command.ends_with("<<'EOF'");
            steps.push(Step {
                command: command.to_owned(),
                output: Vec::new(),
            });
        } else if let Some(step) = steps.last_mut() {
            if is_here {
                step.command.push('\n');
                step.command.push_str(line);
                is_here = line != "EOF";
            } else {
                step.output.push(line.to_owned());
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(command: &str, output: &[&str]) -> Step {
        Step {
            command: command.to_owned(),
            output: output.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn commands_and_their_output_are_told_apart() {
        let text = format!(
            "$ not here\n{SECTION}\n```sh\n$ nor here\n```\n\
             ```console\n$ a <<'EOF'\n$ b\nEOF\n$ c\nd\n```\n\
             ## Next\n```console\n$ e\n```\n"
        );
        let expected = [step("a <<'EOF'\n$ b\nEOF", &[]), step("c", &["d"])];
        assert_eq!(steps(&text), expected);
    }

    #[test]
    fn dots_stand_for_any_text() {
        assert!(is_like("% ERROR: x: refused", "% ERROR: ...refused"));
        assert!(is_like("a b c", "...b..."));
        assert!(!is_like("a c", "...b..."));
        assert!(!is_like("21.50", "21.5"));
        assert!(!is_like("refused not", "...refused"));
    }

    #[test]
    fn a_silent_failure_and_another_word_are_found() {
        assert!(check(&step("c", &[]), &["noise", "exit 0"]).is_ok());
        assert!(check(&step("c", &[]), &["exit 1"]).is_err());
        assert!(check(&step("c", &["21.5"]), &["21.5", "exit 0"]).is_ok());
        assert!(check(&step("c", &["21.5"]), &["21.5", "99", "exit 0"]).is_err());
        assert!(check(&step("c", &["21.5"]), &["exit 0"]).is_err());
        assert!(check(&step("c", &["...", "21.5"]), &["noise", "21.5", "exit 0"]).is_ok());
        assert!(check(&step("c", &["...", "21.5"]), &["noise", "99", "exit 0"]).is_err());
    }
}
