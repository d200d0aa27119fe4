//! A running node as the HTTP endpoints see it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Instant, SystemTime};

use forebay_broker::{Broker, GroupOverview};
use forebay_storage::{GapReason, Storage};
use forebay_uplink::Uplink;

use super::intake::Intake;
use super::reload::Reloader;
use super::secured::Secured;
use crate::config::Config;
use crate::devices::{HealthSnapshot, QUERY};
use crate::http::Subject;
use crate::mqtt;
use crate::queries::board::{AcknowledgeError, Acknowledged, Active, Board};
use crate::status::{
    AlertStatus, CommitLatency, DeviceStatus, GapStatus, GroupOffsetStatus, GroupStatus,
    KafkaStatus, Listeners, MqttLimited, MqttStatus, PartitionStatus, QueryStatus, ReloadReport,
    StatusReport, StorageStatus, TopicStatus, UplinkPartition, UplinkReport,
};

/// The parts of a node, held for as long as it runs.
pub struct Node {
    config: Config,
    listeners: Listeners,
    storage: Storage,
    broker: Arc<Broker>,
    uplink: Option<Arc<Uplink>>,
    intake: Option<Intake>,
    reloader: Arc<Reloader>,
    secured: Secured,
    started: Instant,
    is_stopping: AtomicBool,
}

impl Node {
    /// A node whose listeners are open.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "the parts of a node, once")]
    pub fn new(
        config: Config,
        listeners: Listeners,
        storage: Storage,
        broker: Arc<Broker>,
        uplink: Option<Arc<Uplink>>,
        intake: Option<Intake>,
        reloader: Arc<Reloader>,
        secured: Secured,
    ) -> Self {
        Self {
            config,
            listeners,
            storage,
            broker,
            uplink,
            intake,
            reloader,
            secured,
            started: Instant::now(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// From here on the node is not ready any more.
    pub fn begin_stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    fn storage_status(&self) -> StorageStatus {
        let stats = self.storage.stats();
        StorageStatus {
            free_bytes: stats.free_bytes,
            used_bytes: stats.used_bytes,
            pending_bytes: stats.pending_bytes,
            commits: stats.windows,
            commit_latency: CommitLatency {
                buckets_us: stats.commit_latency.buckets_us,
                count: stats.commit_latency.count,
                sum_us: stats.commit_latency.sum_us,
                last_us: stats.commit_latency.last_us,
            },
            device_bytes_written: stats.device_bytes_written,
            full: stats.full,
            alarms: stats.alarms,
        }
    }

    fn topics(&self) -> Vec<TopicStatus> {
        let mut topics: Vec<TopicStatus> = self
            .storage
            .topics()
            .iter()
            .map(|topic| TopicStatus {
                name: topic.name().to_owned(),
                partitions: (0..topic.partition_count())
                    .filter_map(|index| topic.partition(index))
                    .map(|partition| partition_status(&partition))
                    .collect(),
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }
}

impl Subject for Node {
    fn report(&self) -> StatusReport {
        let intake = self.intake.as_ref();
        let healths = intake.map(|intake| intake.devices.healths());
        let healths = healths.unwrap_or_default();
        StatusReport {
            node: self.config.node.name.clone(),
            role: self.config.node.role.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            clock_synchronised: intake.map(|intake| intake.clock.is_trusted()),
            listeners: self.listeners.clone(),
            storage: self.storage_status(),
            topics: self.topics(),
            uplink: self.uplink.as_deref().map(uplink_report),
            mqtt: intake.map(|intake| mqtt_status(&intake.stats)),
            kafka: kafka_status(self.broker.stats()),
            devices: healths
                .iter()
                .filter(|health| health.protocol != QUERY)
                .map(device_status)
                .collect(),
            queries: healths
                .iter()
                .filter(|health| health.protocol == QUERY)
                .filter_map(|health| Some(query_status(health, &intake?.board)))
                .collect(),
            tls: self.secured.status(),
        }
    }

    fn readiness(&self) -> Result<(), String> {
        if self.is_stopping.load(Ordering::Relaxed) {
            Err("stopping".to_owned())
        } else {
            Ok(())
        }
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = ReloadReport> + Send + '_>> {
        Box::pin(self.reloader.reload())
    }

    fn groups(&self) -> Vec<GroupStatus> {
        let groups = self.broker.group_overviews().into_iter();
        groups.map(group_status).collect()
    }

    fn alerts(&self) -> Vec<AlertStatus> {
        let intake = self.intake.as_ref();
        let alerts = intake.map(|intake| intake.board.alerts());
        let alerts = alerts.unwrap_or_default().into_iter();
        alerts.map(alert_status).collect()
    }

    fn acknowledge<'a>(
        &'a self,
        id: &'a str,
        by: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Acknowledged, AcknowledgeError>> + Send + 'a>> {
        Box::pin(async move {
            match &self.intake {
                Some(intake) => intake.board.acknowledge(&intake.publisher, id, by).await,
                None => Err(AcknowledgeError::Unknown { id: id.to_owned() }),
            }
        })
    }
}

fn kafka_status(stats: forebay_broker::Stats) -> KafkaStatus {
    KafkaStatus {
        connections: stats.connections,
        connections_total: stats.connections_total,
        connections_refused: stats.connections_refused,
        violations: stats.violations,
        bytes_in: stats.bytes_in,
        bytes_out: stats.bytes_out,
        requests: stats
            .requests
            .into_iter()
            .map(|(key, count)| (key.to_string(), count))
            .collect(),
    }
}

fn group_status(group: GroupOverview) -> GroupStatus {
    let offsets = group.offsets.into_iter().map(|offset| GroupOffsetStatus {
        topic: offset.topic,
        partition: offset.partition,
        committed: offset.committed,
        lag: offset.lag,
    });
    GroupStatus {
        group: group.group_id,
        state: group.state,
        members: group.members,
        offsets: offsets.collect(),
    }
}

fn alert_status((id, active): (String, Active)) -> AlertStatus {
    AlertStatus {
        id,
        query: active.query,
        path: active.path,
        alert: serde_json::from_str(active.alert.get()).unwrap_or_default(),
        acknowledged: active.acknowledged,
    }
}

fn query_status(health: &HealthSnapshot, board: &Board) -> QueryStatus {
    let mut status = QueryStatus {
        name: health.name.clone(),
        state: health.state.name().to_owned(),
        reason: health.reason.clone(),
        alarms: health.alarms.values().cloned().collect(),
        active_alerts: board.active(&health.name) as u64,
        ..QueryStatus::default()
    };
    let Some(meter) = board.find_meter(&health.name) else {
        return status;
    };
    let known = |time: &AtomicI64| Some(time.load(Ordering::Relaxed)).filter(|at| *at > 0);
    let counts = meter.counts();
    status.topic.clone_from(&meter.topic.lock());
    status.rows_in = counts.decode.rows;
    status.rows_out = counts.rows_out;
    status.late = counts.late;
    status.ahead = counts.ahead;
    status.malformed = counts.decode.malformed;
    status.no_memory = counts.no_memory;
    status.shed = counts.shed;
    status.lag_records = meter.lag.load(Ordering::Relaxed);
    status.watermark_ms = known(&meter.watermark_ms);
    status.newest_ms = known(&meter.newest_ms);
    status.state_bytes = meter.state_bytes.load(Ordering::Relaxed);
    status.cpu_us = meter.cpu_us.load(Ordering::Relaxed);
    status
}

fn device_status(health: &HealthSnapshot) -> DeviceStatus {
    let health = health.clone();
    DeviceStatus {
        name: health.name,
        protocol: health.protocol.to_owned(),
        state: health.state.name().to_owned(),
        reason: health.reason,
        alarms: health.alarms.into_values().collect(),
        tags: health.tags,
        readings: health.readings,
        requests: health.requests,
        errors: health.errors,
        reconnects: health.reconnects,
        last_reading_ms: health.last_reading_ms,
    }
}

fn partition_status(partition: &forebay_storage::Partition) -> PartitionStatus {
    let offsets = partition.offsets();
    PartitionStatus {
        partition: partition.index(),
        log_start: offsets.log_start,
        durable: offsets.high_watermark,
        log_end: offsets.log_end,
        size_bytes: partition.size_bytes(),
        gaps: partition
            .gaps()
            .iter()
            .map(|gap| GapStatus {
                from: gap.from,
                to: gap.to,
                reason: gap_reason(gap.reason).to_owned(),
            })
            .collect(),
    }
}

fn uplink_report(uplink: &Uplink) -> UplinkReport {
    let status = uplink.status();
    UplinkReport {
        connected: status
            .connected_since
            .is_some_and(|since| since <= SystemTime::now()),
        lag_records: status.lag_records,
        lag_bytes: status.lag_bytes,
        drain_records_per_second: status.drain_records_per_second,
        ingest_records_per_second: status.ingest_records_per_second,
        hours_of_buffer_left: status.buffer_hours_left,
        last_error: status.last_error,
        partitions: status
            .partitions
            .into_iter()
            .map(|partition| UplinkPartition {
                topic: partition.topic,
                partition: partition.partition,
                acknowledged: partition.acked,
                lag_records: partition.lag_records,
                state: partition.state,
                stopped: partition.stopped,
            })
            .collect(),
    }
}

fn gap_reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Damage => "damaged",
        GapReason::DroppedWhenFull => "dropped when the disk was full",
        GapReason::Source => "missing at the source",
    }
}

fn mqtt_status(stats: &mqtt::Stats) -> MqttStatus {
    let counted = stats.snapshot();
    MqttStatus {
        connections: counted.connections,
        connections_total: counted.connections_total,
        connections_refused: counted.connections_refused,
        limits: MqttLimited {
            addresses: counted.addresses_refused,
            connects: counted.connects_refused,
            subscriptions: counted.subscriptions_refused,
            throttled: counted.throttled,
            websockets: counted.websockets_refused,
        },
        violations: counted.violations,
        sessions: counted.sessions,
        subscriptions: counted.subscriptions,
        retained: counted.retained,
        publishes_in: counted.publishes_in,
        publishes_out: counted.deliveries_out,
        deliveries_lost: counted.deliveries_lost,
        backpressure: counted.backpressure,
        publishes_refused: counted.refused.total(),
    }
}
