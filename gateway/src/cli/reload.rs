//! `forebay reload`.

use std::io::{self, Write};

use clap::Args;

use super::http::ask;
use super::{CommandError, HttpArgs, print_json};
use crate::status::ReloadReport;

/// Arguments of `reload`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  forebay check --config /etc/forebay/gateway.toml && forebay reload

Works on the machine of the node only. SIGHUP does the same and logs the answer.
Devices whose sections have not changed do not notice. A file with mistakes
changes nothing: exit code 1, all mistakes are printed.")]
pub struct ReloadArgs {
    #[command(flatten)]
    node: HttpArgs,
    /// Print the node's answer as it is
    #[arg(long)]
    json: bool,
}

/// Asks the node and prints what became of it. False when nothing was applied.
///
/// # Errors
/// The node does not answer.
pub async fn execute(args: ReloadArgs) -> Result<bool, CommandError> {
    let answer = ask(&args.node.endpoint(), "POST", "/api/v1/reload").await?;
    let report: ReloadReport = match serde_json::from_slice(&answer.body) {
        Ok(report) => report,
        Err(_) => {
            // The words of a refusal, such as that of another machine.
            answer.success(&args.node.endpoint())?;
            let sentence = format!(
                "{} does not answer as a forebay node does",
                args.node.endpoint()
            );
            return Err(CommandError::Usage(sentence));
        }
    };
    if args.json {
        print_json(&report)?;
    } else {
        io::stdout().lock().write_all(render(&report).as_bytes())?;
    }
    Ok(report.applied)
}

fn render(report: &ReloadReport) -> String {
    if !report.applied {
        let mut text = report.mistakes.join("\n");
        text.push_str("\nnothing has changed\n");
        return text;
    }
    let changes = &report.changes;
    let mut text = String::new();
    for (what, names) in [
        ("added", &changes.added),
        ("changed", &changes.changed),
        ("removed", &changes.removed),
    ] {
        for name in names {
            text.push_str(&format!("{what:<8} {name}\n"));
        }
    }
    if text.is_empty() {
        text.push_str("no device has changed\n");
    }
    if !report.needs_restart.is_empty() {
        let sections: Vec<_> = report
            .needs_restart
            .iter()
            .map(|s| format!("[{s}]"))
            .collect();
        text.push_str(&format!("restart the node for {}\n", sections.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Changes;

    #[test]
    fn a_person_sees_what_changed_and_what_waits() {
        let report = ReloadReport {
            applied: true,
            changes: Changes {
                added: vec!["press-8".to_owned()],
                unchanged: vec!["press-7".to_owned()],
                ..Changes::default()
            },
            needs_restart: vec!["http".to_owned()],
            mistakes: vec![],
        };
        assert_eq!(
            render(&report),
            "added    press-8\nrestart the node for [http]\n"
        );
        let refused = ReloadReport {
            mistakes: vec!["g.toml:3: x".to_owned()],
            ..ReloadReport::default()
        };
        assert_eq!(render(&refused), "g.toml:3: x\nnothing has changed\n");
    }
}
