//! `forebay alerts`.

use std::io::{self, Write};

use clap::{Args, Subcommand};

use super::http::{ask, send};
use super::{CommandError, HttpArgs, moment, print_json};
use crate::client::Endpoint;
use crate::status::AlertStatus;

/// Arguments of `alerts`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay alerts
  forebay alerts --json | jq -r .[].id
  forebay alerts acknowledge bearing/worn/press-7/1763856059999 --by mia

Exit code 1 from the list means that an alert is active and nobody has
acknowledged it.")]
pub struct AlertsArgs {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    #[command(flatten)]
    node: HttpArgs,
    /// Print the node's answer as it is
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Write down that somebody has seen an alert; it stays active until its
    /// condition ends
    Acknowledge {
        /// The id, as the list has it
        id: String,
        /// Who has seen it; your user name if not given
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

/// Lists the active alerts, or acknowledges one. False when an alert is active
/// that nobody has acknowledged.
///
/// # Errors
/// The node does not answer, or there is no such alert.
pub async fn execute(args: AlertsArgs) -> Result<bool, CommandError> {
    if let Some(AlertsCommand::Acknowledge { id, by }) = &args.command {
        let by = match by.clone().or_else(|| std::env::var("USER").ok()) {
            Some(by) => by,
            None => {
                return Err(CommandError::Usage(
                    "--by is missing: who are you?".to_owned(),
                ));
            }
        };
        let body = serde_json::json!({ "id": id, "by": by }).to_string();
        let path = "/api/v1/alerts/acknowledge";
        let answer = send(&args.node.endpoint(), "POST", path, &body).await?;
        let body = answer.success(&args.node.endpoint())?;
        let mut out = io::stdout().lock();
        match args.json {
            true => out.write_all(&[&body[..], b"\n"].concat())?,
            false => writeln!(out, "{id} acknowledged by {by}")?,
        }
        return Ok(true);
    }
    let alerts = fetch(&args.node.endpoint()).await?;
    if args.json {
        print_json(&alerts)?;
    } else {
        io::stdout().lock().write_all(render(&alerts).as_bytes())?;
    }
    Ok(alerts.iter().all(|alert| alert.acknowledged.is_some()))
}

/// Asks a node for the alerts that are active.
///
/// # Errors
/// The node does not answer, or what answers is not a node.
pub async fn fetch(address: &Endpoint) -> Result<Vec<AlertStatus>, CommandError> {
    let answer = ask(address, "GET", "/api/v1/alerts").await?;
    serde_json::from_slice(&answer.success(address)?).map_err(|_| {
        CommandError::Usage(format!("{address} does not answer as a forebay node does"))
    })
}

fn render(alerts: &[AlertStatus]) -> String {
    if alerts.is_empty() {
        return "no alert is active\n".to_owned();
    }
    let mut text = String::new();
    for one in alerts {
        let alert = &one.alert;
        let severity = alert["severity"].as_str().unwrap_or("alert");
        let since = alert["since"].as_i64().unwrap_or_default();
        text.push_str(&format!(
            "{} {} since {}: {} is {}",
            severity.to_uppercase(),
            one.id,
            moment::show(since),
            alert["alert"].as_str().unwrap_or_default(),
            alert["value"],
        ));
        if !alert["threshold"].is_null() {
            text.push_str(&format!(", limit {}", alert["threshold"]));
        }
        if let Some(message) = alert["message"].as_str() {
            text.push_str(&format!(" ({message})"));
        }
        if let Some(seen) = &one.acknowledged {
            let (by, at) = (&seen.by, moment::show(seen.time));
            text.push_str(&format!(", acknowledged by {by} {at}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queries::board::Acknowledged;

    #[test]
    fn a_person_sees_what_is_wrong_and_who_knows() {
        let mut alert = AlertStatus {
            id: "bearing/worn/m1/0".to_owned(),
            query: "bearing".to_owned(),
            path: "forebay/alerts/bearing/worn/m1".to_owned(),
            alert: serde_json::json!({
                "alert": "worn", "severity": "critical", "since": 0, "value": 7.5,
                "threshold": 7.1, "message": "replace it",
            }),
            acknowledged: None,
        };
        let line = format!(
            "CRITICAL bearing/worn/m1/0 since {}: worn is 7.5, limit 7.1 (replace it)",
            moment::show(0)
        );
        assert_eq!(render(&[alert.clone()]), format!("{line}\n"));
        alert.acknowledged = Some(Acknowledged {
            by: "mia".to_owned(),
            time: 0,
        });
        let seen = format!("{line}, acknowledged by mia {}\n", moment::show(0));
        assert_eq!(render(&[alert]), seen);
        assert_eq!(render(&[]), "no alert is active\n");
    }
}
