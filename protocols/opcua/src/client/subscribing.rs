//! From node ids to monitored items.

use std::sync::Arc;
use std::time::Instant;

use opcua::client::{OnSubscriptionNotificationCore, Session};
use opcua::types::custom::DataTypeTree;
use opcua::types::{
    AttributeId, DataChangeFilter, DataChangeTrigger, DataValue, ExtensionObject,
    MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, ReadValueId,
    StatusCode, TimestampsToReturn, Variant,
};

use crate::batch::Batch;
use crate::deadband::Deadband;
use crate::items::{Item, Items, Refusal};
use crate::settings::Settings;
use crate::value::status_name;

/// Priority among the subscriptions of a session: there is one.
const PRIORITY: u8 = 0;

/// Creates an empty subscription.
///
/// # Errors
/// The status of the request.
pub(super) async fn create(
    session: &Session,
    settings: &Settings,
    is_publishing: bool,
    inlet: impl OnSubscriptionNotificationCore + 'static,
) -> Result<u32, StatusCode> {
    let created = session.create_subscription(
        settings.publishing_interval,
        settings.lifetime_count(),
        settings.keep_alive_count(),
        // No limit: one that servers ignore is no protection.
        0,
        PRIORITY,
        is_publishing,
        inlet,
    );
    created.await.map_err(|error| error.status())
}

/// What the server said to items.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) active: Vec<usize>,
    pub(super) refused: Vec<Refusal>,
}

impl Answers {
    /// The answer to a request that failed as a whole.
    pub(super) fn refusing(asked: &[usize], status: StatusCode) -> Self {
        let refused = asked.iter().map(|&index| Refusal {
            index,
            status: status_name(status).into(),
        });
        Self {
            active: Vec::new(),
            refused: refused.collect(),
        }
    }

    /// Brings the items up to date. Returns the refusals that are news.
    pub(super) fn apply(self, items: &mut Items, now: Instant) -> Vec<Refusal> {
        for index in self.active {
            items.handle_active(index);
        }
        let mut news = self.refused;
        news.retain(|refusal| items.handle_refused(refusal.index, now));
        news
    }
}

/// Asks the server to monitor items, in batches that it takes.
///
/// # Errors
/// The status of a request that failed, when a smaller batch cannot help.
pub(super) async fn monitor(
    session: &Session,
    subscription: u32,
    items: &[(usize, Item)],
    has_filter: bool,
    batch: &mut Batch,
) -> Result<Answers, StatusCode> {
    let mut answers = Answers::default();
    let mut at = 0;
    // What a subscription that is nearly full may still take.
    let mut room = usize::MAX;
    // Items whose filter was refused are asked for once more, without.
    let mut bare: Vec<&(usize, Item)> = Vec::new();
    while at < items.len() {
        let count = (items.len() - at).min(batch.size()).min(room);
        let chunk: Vec<&(usize, Item)> = items[at..at + count].iter().collect();
        match monitor_chunk(session, subscription, &chunk, has_filter, &mut answers).await {
            Ok(refused) => {
                bare.extend(refused);
                at += count;
            }
            Err(StatusCode::BadTooManyMonitoredItems) => {
                room = count / 2;
                if room == 0 {
                    let rest = items[at..].iter().map(|(index, _)| *index);
                    let rest: Vec<usize> = rest.collect();
                    let full = Answers::refusing(&rest, StatusCode::BadTooManyMonitoredItems);
                    answers.refused.extend(full.refused);
                    break;
                }
            }
            Err(status) if batch.handle_failure(count, status) => {}
            Err(status) => return Err(status),
        }
    }
    for chunk in bare.chunks(batch.size()) {
        monitor_chunk(session, subscription, chunk, false, &mut answers).await?;
    }
    Ok(answers)
}

async fn monitor_chunk<'a>(
    session: &Session,
    subscription: u32,
    chunk: &[&'a (usize, Item)],
    has_filter: bool,
    answers: &mut Answers,
) -> Result<Vec<&'a (usize, Item)>, StatusCode> {
    let mut asked: Vec<&(usize, Item)> = Vec::with_capacity(chunk.len());
    let mut requests = Vec::with_capacity(chunk.len());
    for one in chunk {
        let (index, item) = one;
        match &item.node {
            Some(node) => {
                asked.push(one);
                requests.push(request(*index, node, item, has_filter));
            }
            None => answers.refused.push(Refusal {
                index: *index,
                status: status_name(StatusCode::BadNodeIdUnknown).into(),
            }),
        }
    }
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let results = session
        .create_monitored_items(subscription, TimestampsToReturn::Both, requests)
        .await
        .map_err(|error| error.status())?;
    if results.len() != asked.len() {
        return Err(StatusCode::BadUnknownResponse);
    }
    let mut bare = Vec::new();
    for (one, result) in asked.into_iter().zip(results) {
        let status = result.result.status_code;
        let is_filter = matches!(
            status,
            StatusCode::BadFilterNotAllowed
                | StatusCode::BadMonitoredItemFilterUnsupported
                | StatusCode::BadMonitoredItemFilterInvalid
                | StatusCode::BadDeadbandFilterInvalid
        );
        if !status.is_bad() {
            answers.active.push(one.0);
        } else if has_filter && is_filter {
            bare.push(one);
        } else {
            answers.refused.push(Refusal {
                index: one.0,
                status: status_name(status).into(),
            });
        }
    }
    Ok(bare)
}

fn request(
    index: usize,
    node: &NodeId,
    item: &Item,
    has_filter: bool,
) -> MonitoredItemCreateRequest {
    let filter = match item.sampling.deadband {
        Deadband::Absolute(limit) if has_filter => {
            ExtensionObject::from_message(DataChangeFilter {
                trigger: DataChangeTrigger::StatusValue,
                // DeadbandType_Absolute (Part 4, 7.22.2).
                deadband_type: 1,
                deadband_value: limit,
            })
        }
        _ => ExtensionObject::null(),
    };
    // Minus one: the publishing interval (Part 4, 7.21).
    let interval = item.sampling.interval;
    MonitoredItemCreateRequest {
        item_to_monitor: value_of(node),
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: Items::handle(index),
            sampling_interval: interval.map_or(-1.0, |interval| interval.as_secs_f64() * 1e3),
            filter,
            queue_size: item.sampling.queue_size,
            discard_oldest: true,
        },
    }
}

/// The Value attribute of a node.
pub(super) fn value_of(node: &NodeId) -> ReadValueId {
    attribute_of(node, AttributeId::Value)
}

/// An attribute of a node.
pub(crate) fn attribute_of(node: &NodeId, attribute: AttributeId) -> ReadValueId {
    ReadValueId {
        node_id: node.clone(),
        attribute_id: attribute as u32,
        ..ReadValueId::default()
    }
}

/// Reads attributes, in batches that the server takes.
///
/// # Errors
/// The status of a request that failed, when a smaller batch cannot help.
pub(crate) async fn read(
    session: &Session,
    asked: &[ReadValueId],
    batch: &mut Batch,
) -> Result<Vec<DataValue>, StatusCode> {
    let mut values = Vec::with_capacity(asked.len());
    while values.len() < asked.len() {
        let rest = &asked[values.len()..];
        let count = rest.len().min(batch.size());
        match session
            .read(&rest[..count], TimestampsToReturn::Both, 0.0)
            .await
        {
            Ok(answer) if answer.len() == count => values.extend(answer),
            Ok(_) => return Err(StatusCode::BadUnknownResponse),
            Err(error) if batch.handle_failure(count, error.status()) => {}
            Err(error) => return Err(error.status()),
        }
    }
    Ok(values)
}

/// The descriptions of structures, when an item's type is not one of OPC UA
/// itself. Servers that do not give them are common; their structures are bad
/// values.
pub(super) async fn types(
    session: &Session,
    items: &Items,
    batch: &mut Batch,
) -> Option<Arc<DataTypeTree>> {
    let asked: Vec<ReadValueId> = items
        .active()
        .map(|(_, node)| attribute_of(node, AttributeId::DataType))
        .collect();
    let answers = read(session, &asked, batch).await.ok()?;
    let is_foreign = answers.iter().any(|answer| match &answer.value {
        Some(Variant::NodeId(data_type)) => data_type.namespace != 0,
        _ => false,
    });
    if !is_foreign {
        return None;
    }
    let tree = opcua::client::custom_types::DataTypeTreeBuilder::new(|_| true)
        .build(session)
        .await;
    let tree = tree
        .inspect_err(|error| tracing::info!("the server does not describe its types: {error}"))
        .ok()?;
    let tree = Arc::new(tree);
    let loader = opcua::types::custom::DynamicTypeLoader::new(Arc::clone(&tree));
    session.add_type_loader(Arc::new(loader));
    Some(tree)
}
