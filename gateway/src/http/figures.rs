//! The node's figures as Prometheus metrics, named `forebay_*`.
//!
//! The figures are set from a [`StatusReport`] when they are scraped, so the
//! two views of a node agree. Other parts of the program record their own
//! counters through the `metrics` facade into the same recorder.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::status::{
    CommitLatency, DeviceStatus, KafkaStatus, MqttStatus, QueryStatus, StatusReport, TlsStatus,
    TopicStatus, UplinkReport,
};

/// The recorder of this process.
pub struct Figures {
    handle: PrometheusHandle,
}

impl Figures {
    /// Installs the recorder for the process. A second one in the same process
    /// would see nothing, so this is called once, at start.
    ///
    /// # Errors
    /// There is a recorder already.
    pub fn install()
    -> Result<Self, metrics::SetRecorderError<metrics_exporter_prometheus::PrometheusRecorder>>
    {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder)?;
        describe();
        Ok(Self { handle })
    }

    /// Sets the figures of the report and renders all of them.
    #[must_use]
    pub fn render(&self, report: &StatusReport) -> String {
        gauge!("forebay_info", "node" => report.node.clone(), "role" => report.role.clone(), "version" => report.version.clone()).set(1.0);
        gauge!("forebay_uptime_seconds").set(report.uptime_seconds as f64);
        if let Some(is_synchronised) = report.clock_synchronised {
            gauge!("forebay_clock_synchronised").set(f64::from(u8::from(is_synchronised)));
        }
        let storage = &report.storage;
        gauge!("forebay_storage_free_bytes").set(storage.free_bytes as f64);
        gauge!("forebay_storage_used_bytes").set(storage.used_bytes as f64);
        gauge!("forebay_storage_pending_bytes").set(storage.pending_bytes as f64);
        gauge!("forebay_storage_full").set(f64::from(u8::from(storage.full)));
        gauge!("forebay_storage_alarms").set(storage.alarms.len() as f64);
        counter!("forebay_storage_commits_total").absolute(storage.commits);
        counter!("forebay_storage_device_bytes_total").absolute(storage.device_bytes_written);
        for topic in &report.topics {
            set_topic(topic);
        }
        set_kafka(&report.kafka);
        if let Some(mqtt) = &report.mqtt {
            set_mqtt(mqtt);
        }
        if let Some(uplink) = &report.uplink {
            set_uplink(uplink);
        }
        for device in &report.devices {
            set_device(device);
        }
        for query in &report.queries {
            set_query(query);
        }
        if let Some(tls) = &report.tls {
            set_tls(tls);
        }
        self.handle.run_upkeep();
        self.handle.render() + &commit_histogram(&storage.commit_latency)
    }
}

/// The latency of commits as a Prometheus histogram. The log keeps the buckets
/// itself, and the `metrics` facade takes single samples only, so the text is
/// written here.
fn commit_histogram(latency: &CommitLatency) -> String {
    const NAME: &str = "forebay_storage_commit_seconds";
    let mut text = format!(
        "\n# HELP {NAME} From closing a commit window to its being durable\n# TYPE {NAME} histogram\n"
    );
    for (bound_us, count) in &latency.buckets_us {
        let bound = *bound_us as f64 / 1e6;
        text.push_str(&format!("{NAME}_bucket{{le=\"{bound}\"}} {count}\n"));
    }
    let (count, sum) = (latency.count, latency.sum_us as f64 / 1e6);
    text.push_str(&format!(
        "{NAME}_bucket{{le=\"+Inf\"}} {count}\n{NAME}_sum {sum}\n{NAME}_count {count}\n"
    ));
    text
}

fn set_topic(topic: &TopicStatus) {
    for partition in &topic.partitions {
        let labels = [
            ("topic", topic.name.clone()),
            ("partition", partition.partition.to_string()),
        ];
        gauge!("forebay_partition_log_start_offset", &labels).set(partition.log_start as f64);
        gauge!("forebay_partition_durable_offset", &labels).set(partition.durable as f64);
        gauge!("forebay_partition_log_end_offset", &labels).set(partition.log_end as f64);
        gauge!("forebay_partition_size_bytes", &labels).set(partition.size_bytes as f64);
        gauge!("forebay_partition_gaps", &labels).set(partition.gaps.len() as f64);
    }
}

fn set_kafka(kafka: &KafkaStatus) {
    gauge!("forebay_kafka_connections").set(kafka.connections as f64);
    counter!("forebay_kafka_connections_total").absolute(kafka.connections_total);
    counter!("forebay_kafka_connections_refused_total").absolute(kafka.connections_refused);
    counter!("forebay_kafka_violations_total").absolute(kafka.violations);
    counter!("forebay_kafka_received_bytes_total").absolute(kafka.bytes_in);
    counter!("forebay_kafka_sent_bytes_total").absolute(kafka.bytes_out);
    for (api, count) in &kafka.requests {
        counter!("forebay_kafka_requests_total", "api" => api.clone()).absolute(*count);
    }
}

fn set_mqtt(mqtt: &MqttStatus) {
    gauge!("forebay_mqtt_connections").set(mqtt.connections as f64);
    gauge!("forebay_mqtt_sessions").set(mqtt.sessions as f64);
    gauge!("forebay_mqtt_subscriptions").set(mqtt.subscriptions as f64);
    gauge!("forebay_mqtt_retained").set(mqtt.retained as f64);
    counter!("forebay_mqtt_connections_total").absolute(mqtt.connections_total);
    counter!("forebay_mqtt_connections_refused_total").absolute(mqtt.connections_refused);
    counter!("forebay_mqtt_violations_total").absolute(mqtt.violations);
    let limits = &mqtt.limits;
    for (limit, count) in [
        ("connections_per_address", limits.addresses),
        ("connect_rate", limits.connects),
        ("subscriptions", limits.subscriptions),
        ("publish_rate", limits.throttled),
        ("websocket", limits.websockets),
    ] {
        counter!("forebay_mqtt_limited_total", "limit" => limit).absolute(count);
    }
    counter!("forebay_mqtt_deliveries_lost_total").absolute(mqtt.deliveries_lost);
    counter!("forebay_mqtt_backpressure_total").absolute(mqtt.backpressure);
    counter!("forebay_mqtt_publishes_refused_total").absolute(mqtt.publishes_refused);
    for (qos, name) in ["0", "1", "2"].into_iter().enumerate() {
        counter!("forebay_mqtt_publishes_in_total", "qos" => name).absolute(mqtt.publishes_in[qos]);
        counter!("forebay_mqtt_publishes_out_total", "qos" => name)
            .absolute(mqtt.publishes_out[qos]);
    }
}

fn set_uplink(uplink: &UplinkReport) {
    gauge!("forebay_uplink_connected").set(f64::from(u8::from(uplink.connected)));
    gauge!("forebay_uplink_lag_records").set(uplink.lag_records as f64);
    gauge!("forebay_uplink_lag_bytes").set(uplink.lag_bytes as f64);
    gauge!("forebay_uplink_drain_records_per_second").set(uplink.drain_records_per_second);
    gauge!("forebay_uplink_ingest_records_per_second").set(uplink.ingest_records_per_second);
    // Infinity is how Prometheus writes "never".
    let hours = uplink.hours_of_buffer_left.unwrap_or(f64::INFINITY);
    gauge!("forebay_uplink_buffer_hours_left").set(hours);
    for partition in &uplink.partitions {
        let labels = [
            ("topic", partition.topic.clone()),
            ("partition", partition.partition.to_string()),
        ];
        gauge!("forebay_uplink_acknowledged_offset", &labels).set(partition.acknowledged as f64);
        gauge!("forebay_uplink_stopped", &labels).set(f64::from(u8::from(partition.stopped)));
    }
}

fn set_device(device: &DeviceStatus) {
    let labels = [
        ("device", device.name.clone()),
        ("protocol", device.protocol.clone()),
    ];
    let is_up = matches!(device.state.as_str(), "connected" | "degraded");
    gauge!("forebay_device_up", &labels).set(f64::from(u8::from(is_up)));
    let is_degraded = device.state == "degraded";
    gauge!("forebay_device_degraded", &labels).set(f64::from(u8::from(is_degraded)));
    gauge!("forebay_device_alarms", &labels).set(device.alarms.len() as f64);
    gauge!("forebay_device_tags", &labels).set(device.tags as f64);
    counter!("forebay_device_readings_total", &labels).absolute(device.readings);
    counter!("forebay_device_requests_total", &labels).absolute(device.requests);
    counter!("forebay_device_errors_total", &labels).absolute(device.errors);
    counter!("forebay_device_reconnects_total", &labels).absolute(device.reconnects);
    if let Some(newest) = device.last_reading_ms {
        let seconds = newest as f64 / 1e3;
        gauge!("forebay_device_last_reading_timestamp_seconds", &labels).set(seconds);
    }
}

fn set_tls(tls: &TlsStatus) {
    gauge!("forebay_tls_alarms").set(tls.alarms.len() as f64);
    for certificate in &tls.certificates {
        let role = certificate.role.clone();
        gauge!("forebay_tls_certificate_expiry_seconds", "certificate" => role)
            .set(certificate.expires_at as f64);
    }
    for one in &tls.listeners {
        for (kind, count) in [("full", one.full), ("resumed", one.resumed)] {
            let labels = [
                ("listener", one.listener.clone()),
                ("kind", kind.to_owned()),
            ];
            counter!("forebay_tls_handshakes_total", &labels).absolute(count);
        }
        for (reason, count) in &one.failures {
            let labels = [
                ("listener", one.listener.clone()),
                ("reason", reason.clone()),
            ];
            counter!("forebay_tls_handshake_failures_total", &labels).absolute(*count);
        }
    }
}

fn set_query(query: &QueryStatus) {
    let labels = [("query", query.name.clone())];
    let is_up = query.state == "connected";
    gauge!("forebay_query_up", &labels).set(f64::from(u8::from(is_up)));
    gauge!("forebay_query_alarms", &labels).set(query.alarms.len() as f64);
    gauge!("forebay_query_lag_records", &labels).set(query.lag_records as f64);
    gauge!("forebay_query_state_bytes", &labels).set(query.state_bytes as f64);
    gauge!("forebay_query_active_alerts", &labels).set(query.active_alerts as f64);
    counter!("forebay_query_rows_in_total", &labels).absolute(query.rows_in);
    counter!("forebay_query_rows_out_total", &labels).absolute(query.rows_out);
    counter!("forebay_query_shed_total", &labels).absolute(query.shed);
    for (reason, count) in [
        ("late", query.late),
        ("ahead", query.ahead),
        ("malformed", query.malformed),
        ("memory", query.no_memory),
    ] {
        let labels = [("query", query.name.clone()), ("reason", reason.to_owned())];
        counter!("forebay_query_rows_refused_total", &labels).absolute(count);
    }
    gauge!("forebay_query_cpu_seconds_total", &labels).set(query.cpu_us as f64 / 1e6);
    if let Some(newest) = query.newest_ms {
        // Silence moves the watermark past the newest row.
        let watermark = query.watermark_ms.unwrap_or(newest);
        let lag = newest.saturating_sub(watermark).max(0);
        gauge!("forebay_query_newest_timestamp_seconds", &labels).set(newest as f64 / 1e3);
        gauge!("forebay_query_watermark_lag_seconds", &labels).set(lag as f64 / 1e3);
    }
}

fn describe() {
    describe_counter!(
        crate::access::DENIED_METRIC,
        "Logins and actions that were refused, by protocol and kind"
    );
    describe_gauge!("forebay_query_up", "Whether the query runs");
    describe_gauge!("forebay_query_alarms", "Alarms that need a person");
    describe_gauge!("forebay_query_lag_records", "Records it has not read yet");
    describe_gauge!("forebay_query_state_bytes", "Bytes of its state");
    describe_gauge!("forebay_query_active_alerts", "Alerts that are active");
    describe_counter!("forebay_query_rows_in_total", "Records that became rows");
    describe_counter!("forebay_query_rows_out_total", "Result rows");
    describe_counter!(
        "forebay_query_shed_total",
        "Windows ended early and keys forgotten to save memory"
    );
    describe_counter!(
        "forebay_query_rows_refused_total",
        "Rows and records that were not taken, by reason"
    );
    describe_gauge!(
        "forebay_query_cpu_seconds_total",
        "Processor time that it took"
    );
    describe_gauge!(
        "forebay_query_newest_timestamp_seconds",
        "The newest event time"
    );
    describe_gauge!(
        "forebay_query_watermark_lag_seconds",
        "How far the watermark is behind the newest event time"
    );
    describe_gauge!("forebay_device_up", "Whether the device answers");
    describe_gauge!(
        "forebay_device_degraded",
        "Whether something of the device does not work"
    );
    describe_gauge!("forebay_device_alarms", "Alarms that need a person");
    describe_gauge!("forebay_device_tags", "Tags that are read");
    describe_counter!("forebay_device_readings_total", "Readings published");
    describe_counter!("forebay_device_requests_total", "Requests sent");
    describe_counter!("forebay_device_errors_total", "Requests that failed");
    describe_counter!(
        "forebay_device_reconnects_total",
        "Connections opened after the first"
    );
    describe_gauge!(
        "forebay_device_last_reading_timestamp_seconds",
        "When the newest reading was taken"
    );
    describe_gauge!(
        "forebay_kafka_connections",
        "Kafka connections that are open"
    );
    describe_counter!(
        "forebay_kafka_connections_total",
        "Kafka connections accepted"
    );
    describe_counter!(
        "forebay_kafka_connections_refused_total",
        "Kafka connections closed because there were too many"
    );
    describe_counter!(
        "forebay_kafka_violations_total",
        "Kafka connections closed because the client broke the protocol"
    );
    describe_counter!(
        "forebay_kafka_received_bytes_total",
        "Bytes of Kafka requests"
    );
    describe_counter!("forebay_kafka_sent_bytes_total", "Bytes of Kafka responses");
    describe_counter!("forebay_kafka_requests_total", "Kafka requests, by API");
    describe_gauge!("forebay_info", "The node, its role and version; always 1");
    describe_gauge!("forebay_uptime_seconds", "Seconds since the node was ready");
    describe_gauge!(
        "forebay_clock_synchronised",
        "Whether records are stored without a mark of the clock"
    );
    describe_counter!("forebay_commands_total", "Commands, by their outcome");
    describe_counter!(
        "forebay_readings_refused_total",
        "Readings of devices that were not stored, by the reason"
    );
    describe_gauge!(
        "forebay_storage_free_bytes",
        "Free bytes of the file system that holds the log"
    );
    describe_gauge!("forebay_storage_used_bytes", "Bytes of all segments");
    describe_gauge!(
        "forebay_storage_pending_bytes",
        "Bytes appended and not yet durable"
    );
    describe_gauge!("forebay_storage_full", "Whether the disk counts as full");
    describe_gauge!("forebay_storage_alarms", "Alarms that need a person");
    describe_counter!(
        "forebay_storage_commits_total",
        "Commit windows made durable"
    );
    describe_counter!(
        "forebay_storage_device_bytes_total",
        "Bytes written to files by commits"
    );
    describe_gauge!(
        "forebay_partition_log_start_offset",
        "First offset that is kept"
    );
    describe_gauge!(
        "forebay_partition_durable_offset",
        "Every record below this offset is on disk and visible"
    );
    describe_gauge!(
        "forebay_partition_log_end_offset",
        "Offset that the next record gets"
    );
    describe_gauge!(
        "forebay_partition_size_bytes",
        "Bytes of the partition's segments"
    );
    describe_gauge!(
        "forebay_partition_gaps",
        "Recorded ranges of offsets without records"
    );
    describe_gauge!("forebay_mqtt_connections", "Open MQTT connections");
    describe_gauge!("forebay_mqtt_sessions", "MQTT sessions, connected or not");
    describe_gauge!(
        "forebay_mqtt_subscriptions",
        "Subscriptions of connected sessions"
    );
    describe_gauge!("forebay_mqtt_retained", "Retained messages");
    describe_counter!(
        "forebay_mqtt_connections_total",
        "MQTT connections accepted"
    );
    describe_counter!(
        "forebay_mqtt_connections_refused_total",
        "MQTT connections over the limit"
    );
    describe_counter!(
        "forebay_mqtt_limited_total",
        "Connections and requests that a limit refused, and pauses of publishers over their rate"
    );
    describe_counter!(
        "forebay_mqtt_violations_total",
        "Connections closed because the client broke the protocol"
    );
    describe_counter!(
        "forebay_mqtt_deliveries_lost_total",
        "Offsets that retention removed before a session had read them"
    );
    describe_counter!(
        "forebay_mqtt_backpressure_total",
        "Times a connection was not read because the disk was behind"
    );
    describe_counter!(
        "forebay_mqtt_publishes_refused_total",
        "Publishes refused: full disk, quota, size, topic"
    );
    describe_counter!(
        "forebay_mqtt_publishes_in_total",
        "Publishes appended to the log"
    );
    describe_counter!(
        "forebay_mqtt_publishes_out_total",
        "Messages sent to subscribers"
    );
    describe_gauge!(
        "forebay_tls_certificate_expiry_seconds",
        "When the certificate ends, in seconds since the Unix epoch"
    );
    describe_gauge!(
        "forebay_tls_alarms",
        "Certificates that end soon or were not taken up"
    );
    describe_counter!("forebay_tls_handshakes_total", "TLS connections opened");
    describe_counter!(
        "forebay_tls_handshake_failures_total",
        "Connections to a TLS listener that did not become one"
    );
    describe_gauge!(
        "forebay_uplink_connected",
        "Whether the connection to the hub is up"
    );
    describe_gauge!(
        "forebay_uplink_lag_records",
        "Records that are here and not yet at the hub"
    );
    describe_gauge!(
        "forebay_uplink_lag_bytes",
        "Stored bytes that are not yet at the hub, estimated"
    );
    describe_gauge!(
        "forebay_uplink_drain_records_per_second",
        "Records per second acknowledged by the hub"
    );
    describe_gauge!(
        "forebay_uplink_ingest_records_per_second",
        "Records per second that come in"
    );
    describe_gauge!(
        "forebay_uplink_buffer_hours_left",
        "Hours until the buffer is full with the link down"
    );
    describe_gauge!(
        "forebay_uplink_acknowledged_offset",
        "Every record below this offset is at the hub"
    );
    describe_gauge!(
        "forebay_uplink_stopped",
        "Whether the link of this partition waits for a person"
    );
}

#[cfg(test)]
mod tests {
    use super::commit_histogram;
    use crate::status::CommitLatency;

    #[test]
    fn the_commit_latency_is_a_prometheus_histogram() {
        let latency = CommitLatency {
            buckets_us: vec![(100, 1), (2_500, 3)],
            count: 4,
            sum_us: 5_000_000,
            last_us: 7,
        };
        assert_eq!(
            commit_histogram(&latency),
            "\n# HELP forebay_storage_commit_seconds From closing a commit window to its being durable\n\
             # TYPE forebay_storage_commit_seconds histogram\n\
             forebay_storage_commit_seconds_bucket{le=\"0.0001\"} 1\n\
             forebay_storage_commit_seconds_bucket{le=\"0.0025\"} 3\n\
             forebay_storage_commit_seconds_bucket{le=\"+Inf\"} 4\n\
             forebay_storage_commit_seconds_sum 5\n\
             forebay_storage_commit_seconds_count 4\n"
        );
    }
}
