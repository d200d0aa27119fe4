//! Alerts on their way into the log, the retained messages and the board.

use bytes::Bytes;
use forebay_mqtt::TopicName;
use forebay_storage::Transaction;

use super::board::{Board, Staging};
use super::results::{Change, topic_name};
use crate::ingest::{Ingest, MissingTopic};
use crate::mqtt::message::Message;
use crate::mqtt::retained::{Retained, Staged};
use crate::readings::Publisher;

/// Adds alerts of a query to a transaction: the record, the retained message,
/// which is there for as long as the alert is active, and the line on the board.
///
/// # Errors
/// A topic has to be created first.
pub fn stage(
    ingest: &Ingest,
    retained: &Retained,
    board: &mut Staging<'_>,
    (query, changes): (&str, &[&Change]),
    transaction: &mut Transaction,
) -> Result<Vec<(TopicName, Staged)>, MissingTopic> {
    let mut staged = Vec::new();
    for change in changes {
        let message = &change.message;
        let target = ingest.target(message.path.as_str())?;
        let mut kept = message.clone();
        if !change.is_raised {
            kept.payload = Bytes::new();
        }
        match retained.stage(&kept, transaction) {
            Ok(one) => staged.push((message.path.clone(), one)),
            Err(error) => tracing::warn!(query, %error, "an alert is not retained"),
        }
        message.with_record(target.key.as_deref(), |record| {
            transaction.append_record(&target.partition, record);
        });
        board.change(query, change, transaction);
    }
    Ok(staged)
}

/// The ends of all alerts of a query that is not what raised them any more.
pub fn ended(board: &Staging<'_>, query: &str) -> Vec<Change> {
    let active = board.of(query).into_iter();
    let ended = active.filter_map(|(id, active)| {
        let mut alert: serde_json::Value = serde_json::from_str(active.alert.get()).ok()?;
        alert["state"] = "withdrawn".into();
        Some(Change {
            id,
            is_raised: false,
            message: Message {
                path: topic_name(&active.path)?,
                payload: Bytes::from(alert.to_string()),
                qos: 1,
                retain: false,
                timestamp_ms: alert["time"].as_i64().unwrap_or_default(),
                properties: None,
            },
        })
    });
    ended.collect()
}

/// Commits the ends of all alerts of a query together with `transaction`.
///
/// # Errors
/// Why the storage does not take it; nothing has changed.
pub fn withdraw(
    publisher: &Publisher,
    board: &Board,
    query: &str,
    mut transaction: Transaction,
) -> Result<(), String> {
    let (ingest, retained) = (publisher.ingest(), publisher.retained());
    let mut staging = board.stage();
    let ended = ended(&staging, query);
    if let Some(first) = ended.first()
        && let Err(missing) = ingest.target(first.message.path.as_str())
    {
        ingest.create(&missing).map_err(|error| error.to_string())?;
    }
    let changes: Vec<&Change> = ended.iter().collect();
    let staged = stage(
        ingest,
        retained,
        &mut staging,
        (query, &changes),
        &mut transaction,
    )
    .map_err(|missing| format!("topic {} is missing", missing.name))?;
    let committed = publisher.storage().commit(transaction);
    committed.map_err(|error| error.to_string())?;
    staging.apply();
    for (path, one) in staged {
        retained.apply(&path, one);
    }
    Ok(())
}
