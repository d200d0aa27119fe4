//! Rows and alerts as JSON.

use std::fmt::Write;

use crate::alerts::{AlertEvent, Transition};
use crate::batch::Batch;
use crate::plan::Field;
use crate::value::Value;

/// Appends a row as a JSON object with its columns in order. Times are
/// milliseconds since the Unix epoch, waveforms are arrays.
pub fn write_row(fields: &[Field], batch: &Batch, row: usize, out: &mut String) {
    out.push('{');
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(&field.name, out);
        out.push(':');
        match batch.column(index).value(row) {
            Value::Text(text) if field.json => out.push_str(&text),
            value => write_value(&value, out),
        }
    }
    out.push('}');
}

/// Appends an alert as a JSON object. `query` is the name of the query; the
/// identifier is the same when the alert is raised and when it is cleared.
pub fn write_alert(query: &str, event: &AlertEvent, out: &mut String) {
    let state = match event.transition {
        Transition::Raised => "raised",
        Transition::Cleared => "cleared",
    };
    let mut id = format!("{query}/{}", event.alert);
    for (_, value) in &event.key {
        id.push('/');
        match value {
            Value::Text(text) => id.push_str(text),
            other => write_value(other, &mut id),
        }
    }
    let _ = write!(id, "/{}", event.since_ms);
    out.push_str("{\"id\":");
    write_text(&id, out);
    out.push_str(",\"query\":");
    write_text(query, out);
    out.push_str(",\"alert\":");
    write_text(&event.alert, out);
    let _ = write!(out, ",\"state\":\"{state}\",\"severity\":");
    write_text(&event.severity, out);
    out.push_str(",\"key\":{");
    for (index, (name, value)) in event.key.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        write_value(value, out);
    }
    let _ = write!(
        out,
        "}},\"time\":{},\"since\":{}",
        event.time_ms, event.since_ms
    );
    if let Some((start, end)) = event.window {
        let _ = write!(out, ",\"window_start\":{start},\"window_end\":{end}");
    }
    out.push_str(",\"value\":");
    write_value(&event.value, out);
    out.push_str(",\"threshold\":");
    write_value(&event.threshold, out);
    if let Some(message) = &event.message {
        out.push_str(",\"message\":");
        write_text(message, out);
    }
    if let Some(evidence) = &event.evidence {
        let _ = write!(
            out,
            ",\"evidence\":{{\"partition\":{},\"first_offset\":{},\"last_offset\":{}}}",
            evidence.partition, evidence.first_offset, evidence.last_offset
        );
    }
    out.push('}');
}

fn write_value(value: &Value, out: &mut String) {
    let _ = match value {
        Value::Null => write!(out, "null"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int(number) | Value::Timestamp(number) | Value::Interval(number) => {
            write!(out, "{number}")
        }
        Value::Float(number) => write!(out, "{number}"),
        Value::Text(text) => {
            write_text(text, out);
            Ok(())
        }
        Value::Waveform(waveform) => {
            out.push('[');
            for (index, sample) in waveform.samples().iter().enumerate() {
                let separator = if index > 0 { "," } else { "" };
                let _ = write!(out, "{separator}{sample}");
            }
            out.push(']');
            Ok(())
        }
    };
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if u32::from(other) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(other));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
