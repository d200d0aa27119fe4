//! `forebay status`.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use super::http::ask;
use super::{CommandError, HttpArgs, print_json};
use crate::client::Endpoint;
use crate::config::quantity::{show_duration, show_size};
use crate::status::{DeviceStatus, QueryStatus, StatusReport, UplinkReport};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay status
  forebay status --http hub:8080 --json | jq .uplink.lag_records")]
pub struct StatusArgs {
    #[command(flatten)]
    node: HttpArgs,
    /// Print the node's answer as it is
    #[arg(long)]
    json: bool,
}

/// Asks the node and prints what it says.
///
/// # Errors
/// The node does not answer.
pub async fn execute(args: StatusArgs) -> Result<bool, CommandError> {
    let answer = fetch(&args.node.endpoint()).await?;
    if args.json {
        print_json(&answer)?;
        return Ok(true);
    }
    let report: StatusReport = serde_json::from_value(answer)
        .map_err(|error| CommandError::Usage(not_a_node(&args.node.endpoint(), &error)))?;
    io::stdout().lock().write_all(render(&report).as_bytes())?;
    Ok(true)
}

/// Renders a report for a person.
#[must_use]
pub fn render(report: &StatusReport) -> String {
    let mut lines = vec![format!(
        "{} {}, version {}, up {}",
        report.role,
        report.node,
        report.version,
        show_duration(Duration::from_secs(report.uptime_seconds))
    )];
    let mut listeners = format!(
        "kafka {}, http {}",
        report.listeners.kafka, report.listeners.http
    );
    for (name, address) in [
        ("https", &report.listeners.http_tls),
        ("kafka over TLS", &report.listeners.kafka_tls),
        ("wss", &report.listeners.mqtt_websocket_tls),
        ("mqtts", &report.listeners.mqtt_tls),
        ("websocket", &report.listeners.mqtt_websocket),
    ] {
        if let Some(address) = address {
            listeners = format!("{name} {address}, {listeners}");
        }
    }
    if let Some(mqtt) = &report.listeners.mqtt {
        listeners = format!("mqtt {mqtt}, {listeners}");
    }
    lines.push(format!("listens   {listeners}"));
    lines.push(format!(
        "disk      {} used, {} free{}",
        show_size(report.storage.used_bytes),
        show_size(report.storage.free_bytes),
        if report.storage.full { ", FULL" } else { "" }
    ));
    if let Some(mqtt) = &report.mqtt {
        lines.push(format!(
            "mqtt      {} connections, {} sessions, {} publishes in, {} out",
            mqtt.connections,
            mqtt.sessions,
            mqtt.publishes_in.iter().sum::<u64>(),
            mqtt.publishes_out.iter().sum::<u64>()
        ));
    }
    let kafka = &report.kafka;
    if kafka.connections_total > 0 {
        lines.push(format!(
            "kafka     {} connections, {} requests, {} in, {} out",
            kafka.connections,
            kafka.requests.values().sum::<u64>(),
            show_size(kafka.bytes_in),
            show_size(kafka.bytes_out)
        ));
    }
    if report.clock_synchronised == Some(false) {
        lines.push("clock     NOT SYNCHRONISED, records are marked until it is".to_owned());
    }
    if let Some(uplink) = &report.uplink {
        render_uplink(uplink, &mut lines);
    }
    for device in &report.devices {
        render_device(device, &mut lines);
    }
    for query in &report.queries {
        render_query(query, &mut lines);
    }
    let tls = report.tls.iter().flat_map(|tls| &tls.alarms);
    for alarm in report.storage.alarms.iter().chain(tls) {
        lines.push(format!("ALARM     {alarm}"));
    }
    if !report.topics.is_empty() {
        lines.push(String::new());
        render_topics(report, &mut lines);
    }
    lines.join("\n") + "\n"
}

fn render_uplink(uplink: &UplinkReport, lines: &mut Vec<String>) {
    let buffer = match uplink.hours_of_buffer_left {
        Some(hours) if hours >= 48.0 => format!("{:.0} days of buffer left", hours / 24.0),
        Some(hours) => format!("{hours:.1} hours of buffer left"),
        None => "nothing comes in".to_owned(),
    };
    lines.push(format!(
        "uplink    {}, {} records ({}) behind, {:.0}/s in, {:.0}/s out, {buffer}",
        if uplink.connected {
            "connected"
        } else {
            "DISCONNECTED"
        },
        uplink.lag_records,
        show_size(uplink.lag_bytes),
        uplink.ingest_records_per_second,
        uplink.drain_records_per_second,
    ));
    if let Some(error) = &uplink.last_error
        && !uplink.connected
    {
        lines.push(format!("          {error}"));
    }
    for partition in uplink
        .partitions
        .iter()
        .filter(|partition| partition.stopped)
    {
        lines.push(format!(
            "STOPPED   {}/{}: {}",
            partition.topic, partition.partition, partition.state
        ));
    }
}

fn render_device(device: &DeviceStatus, lines: &mut Vec<String>) {
    let state = match device.state.as_str() {
        "connected" => "connected".to_owned(),
        other => other.to_uppercase(),
    };
    let reason = match device.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    lines.push(format!(
        "{:<9} {} {state}, {} tags, {} readings, {} errors{reason}",
        device.protocol, device.name, device.tags, device.readings, device.errors
    ));
    for alarm in &device.alarms {
        lines.push(format!("ALARM     {}: {alarm}", device.name));
    }
}

fn render_query(query: &QueryStatus, lines: &mut Vec<String>) {
    let state = match query.state.as_str() {
        "connected" => "running".to_owned(),
        other => other.to_uppercase(),
    };
    let mut line = format!(
        "query     {} {state}, {} rows in, {} out, {} of state",
        query.name,
        query.rows_in,
        query.rows_out,
        show_size(query.state_bytes)
    );
    for (count, what) in [
        (query.late, "late"),
        (query.ahead, "ahead of time"),
        (query.malformed, "malformed"),
        (query.no_memory, "without memory"),
        (query.lag_records, "records behind"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    match query.active_alerts {
        0 => {}
        1 => line.push_str(", 1 ALERT"),
        several => line.push_str(&format!(", {several} ALERTS")),
    }
    if !query.reason.is_empty() {
        line.push_str(&format!(": {}", query.reason));
    }
    lines.push(line);
    for alarm in &query.alarms {
        lines.push(format!("ALARM     {}: {alarm}", query.name));
    }
}

fn render_topics(report: &StatusReport, lines: &mut Vec<String>) {
    let width = report
        .topics
        .iter()
        .map(|topic| topic.name.len())
        .max()
        .unwrap_or(0)
        .max("topic".len());
    lines.push(format!(
        "{:width$}  {:>4}  {:>12}  {:>12}  {:>10}  {:>4}",
        "topic", "part", "start", "durable", "size", "gaps"
    ));
    for topic in &report.topics {
        for partition in &topic.partitions {
            lines.push(format!(
                "{:width$}  {:>4}  {:>12}  {:>12}  {:>10}  {:>4}",
                topic.name,
                partition.partition,
                partition.log_start,
                partition.durable,
                show_size(partition.size_bytes),
                partition.gaps.len()
            ));
        }
    }
}

/// Asks a node for its status.
///
/// # Errors
/// The node does not answer, or what answers is not a node.
pub async fn fetch(address: &Endpoint) -> Result<serde_json::Value, CommandError> {
    let answer = ask(address, "GET", "/api/v1/status").await?;
    let body = answer.success(address)?;
    serde_json::from_slice(&body).map_err(|error| CommandError::Usage(not_a_node(address, &error)))
}

fn not_a_node(address: &Endpoint, error: &serde_json::Error) -> String {
    format!("{address} does not answer as a forebay node does: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{
        KafkaStatus, Listeners, PartitionStatus, StorageStatus, TlsStatus, TopicStatus,
    };

    #[test]
    fn a_report_is_one_screen() {
        let report = StatusReport {
            node: "press-shop-1".to_owned(),
            role: "gateway".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_seconds: 93_784,
            clock_synchronised: Some(false),
            listeners: Listeners {
                mqtt_tls: Some("127.0.0.1:8883".to_owned()),
                kafka: "127.0.0.1:9092".to_owned(),
                http: "127.0.0.1:8080".to_owned(),
                ..Listeners::default()
            },
            tls: Some(TlsStatus {
                alarms: vec!["the certificate a expires tomorrow".to_owned()],
                ..TlsStatus::default()
            }),
            storage: StorageStatus {
                free_bytes: 3 << 30,
                used_bytes: 5 << 20,
                alarms: vec!["topic a/0: offsets 3..5 are damaged".to_owned()],
                ..StorageStatus::default()
            },
            topics: vec![TopicStatus {
                name: "vibration".to_owned(),
                partitions: vec![PartitionStatus {
                    durable: 42,
                    size_bytes: 1 << 20,
                    ..PartitionStatus::default()
                }],
            }],
            uplink: Some(UplinkReport {
                lag_records: 7,
                lag_bytes: 700,
                ingest_records_per_second: 12.0,
                hours_of_buffer_left: Some(13.25),
                last_error: Some("connection refused".to_owned()),
                ..UplinkReport::default()
            }),
            mqtt: None,
            kafka: KafkaStatus {
                connections: 2,
                connections_total: 3,
                bytes_in: 2 << 10,
                bytes_out: 1 << 20,
                requests: [("Fetch".to_owned(), 7), ("Metadata".to_owned(), 2)].into(),
                ..KafkaStatus::default()
            },
            devices: vec![DeviceStatus {
                name: "press-7".to_owned(),
                protocol: "modbus".to_owned(),
                state: "degraded".to_owned(),
                reason: "unit 3 does not answer".to_owned(),
                tags: 12,
                readings: 340,
                errors: 2,
                ..DeviceStatus::default()
            }],
            queries: vec![QueryStatus {
                name: "bearing".to_owned(),
                state: "connected".to_owned(),
                rows_in: 9_000,
                rows_out: 30,
                late: 2,
                state_bytes: 2 << 10,
                active_alerts: 1,
                ..QueryStatus::default()
            }],
        };
        assert_eq!(
            render(&report),
            "gateway press-shop-1, version 0.1.0, up 1d2h\n\
             listens   mqtts 127.0.0.1:8883, kafka 127.0.0.1:9092, http 127.0.0.1:8080\n\
             disk      5MiB used, 3GiB free\n\
             kafka     2 connections, 9 requests, 2KiB in, 1MiB out\n\
             clock     NOT SYNCHRONISED, records are marked until it is\n\
             uplink    DISCONNECTED, 7 records (700B) behind, 12/s in, 0/s out, 13.2 hours of buffer left\n\
             \x20         connection refused\n\
             modbus    press-7 DEGRADED, 12 tags, 340 readings, 2 errors: unit 3 does not answer\n\
             query     bearing running, 9000 rows in, 30 out, 2KiB of state, 2 late, 1 ALERT\n\
             ALARM     topic a/0: offsets 3..5 are damaged\n\
             ALARM     the certificate a expires tomorrow\n\
             \n\
             topic      part         start       durable        size  gaps\n\
             vibration     0             0            42        1MiB     0\n"
        );
    }
}
