//! Writing payloads: what a host application sends, and what tests need.

use crate::decode::DecodeError;
use crate::payload::{
    DataSet, Metric, Parameter, Payload, Property, PropertyValue, RawValue, Template,
};
use crate::wire::{Fields, put_bytes, put_fixed32, put_fixed64, put_message, put_varint};

impl Payload<'_> {
    /// The protobuf form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(timestamp) = self.timestamp {
            put_varint(&mut out, 1, timestamp);
        }
        for metric in &self.metrics {
            put_message(&mut out, 2, |out| put_metric(out, metric));
        }
        if let Some(seq) = self.seq {
            put_varint(&mut out, 3, seq);
        }
        put_text(&mut out, 4, self.uuid);
        if let Some(body) = self.body {
            put_bytes(&mut out, 5, body);
        }
        out
    }

    /// The request for births: an NCMD with `Node Control/Rebirth` set to true
    /// (section 5.18).
    pub fn rebirth_request(now_ms: u64) -> Payload<'static> {
        Payload {
            timestamp: Some(now_ms),
            metrics: vec![Metric {
                name: Some(crate::edge::REBIRTH_METRIC),
                timestamp: Some(now_ms),
                datatype: Some(crate::DataType::Boolean as u32),
                value: Some(RawValue::Boolean(true)),
                ..Metric::default()
            }],
            ..Payload::default()
        }
    }
}

/// The same payload with another timestamp; everything else stays as it is,
/// fields unknown here included.
///
/// # Errors
/// When the bytes are no sequence of protobuf fields.
pub fn with_timestamp(payload: &[u8], timestamp: u64) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    put_varint(&mut out, 1, timestamp);
    let mut fields = Fields::new(payload);
    while let Some(field) = fields.next()? {
        if field.number != 1 {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

fn put_text(out: &mut Vec<u8>, number: u32, text: Option<&str>) {
    if let Some(text) = text {
        put_bytes(out, number, text.as_bytes());
    }
}

fn put_flag(out: &mut Vec<u8>, number: u32, flag: bool) {
    if flag {
        put_varint(out, number, 1);
    }
}

fn put_metric(out: &mut Vec<u8>, metric: &Metric<'_>) {
    put_text(out, 1, metric.name);
    for (number, value) in [(2, metric.alias), (3, metric.timestamp)] {
        if let Some(value) = value {
            put_varint(out, number, value);
        }
    }
    if let Some(datatype) = metric.datatype {
        put_varint(out, 4, u64::from(datatype));
    }
    put_flag(out, 5, metric.is_historical);
    put_flag(out, 6, metric.is_transient);
    put_flag(out, 7, metric.is_null);
    if !metric.properties.is_empty() {
        put_message(out, 9, |out| put_properties(out, &metric.properties));
    }
    match &metric.value {
        None => {}
        Some(RawValue::Bytes(bytes)) => put_bytes(out, 16, bytes),
        Some(RawValue::DataSet(set)) => put_message(out, 17, |out| put_data_set(out, set)),
        Some(RawValue::Template(template)) => {
            put_message(out, 18, |out| put_template(out, template));
        }
        Some(RawValue::Extension) => put_bytes(out, 19, &[]),
        Some(plain) => put_plain(out, 10, plain),
    }
}

/// Writes one of the values that all messages have in the same order.
fn put_plain(out: &mut Vec<u8>, first: u32, value: &RawValue<'_>) {
    match value {
        RawValue::Int(bits) => put_varint(out, first, u64::from(*bits)),
        RawValue::Long(bits) => put_varint(out, first + 1, *bits),
        RawValue::Float(float) => put_fixed32(out, first + 2, float.to_bits()),
        RawValue::Double(double) => put_fixed64(out, first + 3, double.to_bits()),
        RawValue::Boolean(boolean) => put_varint(out, first + 4, u64::from(*boolean)),
        RawValue::String(text) => put_bytes(out, first + 5, text.as_bytes()),
        // The specification has these only as values of metrics.
        RawValue::Bytes(_) | RawValue::DataSet(_) | RawValue::Template(_) | RawValue::Extension => {
        }
    }
}

fn put_data_set(out: &mut Vec<u8>, set: &DataSet<'_>) {
    if let Some(count) = set.column_count {
        put_varint(out, 1, count);
    }
    for column in &set.columns {
        put_bytes(out, 2, column.as_bytes());
    }
    for datatype in &set.types {
        put_varint(out, 3, u64::from(*datatype));
    }
    for row in &set.rows {
        put_message(out, 4, |out| {
            for cell in row {
                put_message(out, 1, |out| match cell {
                    None => {}
                    Some(RawValue::Extension) => put_bytes(out, 7, &[]),
                    Some(plain) => put_plain(out, 1, plain),
                });
            }
        });
    }
}

fn put_template(out: &mut Vec<u8>, template: &Template<'_>) {
    put_text(out, 1, template.version);
    for metric in &template.metrics {
        put_message(out, 2, |out| put_metric(out, metric));
    }
    for parameter in &template.parameters {
        put_message(out, 3, |out| put_parameter(out, parameter));
    }
    put_text(out, 4, template.template_ref);
    put_flag(out, 5, template.is_definition);
}

fn put_parameter(out: &mut Vec<u8>, parameter: &Parameter<'_>) {
    put_text(out, 1, parameter.name);
    if let Some(datatype) = parameter.datatype {
        put_varint(out, 2, u64::from(datatype));
    }
    match &parameter.value {
        None => {}
        Some(RawValue::Extension) => put_bytes(out, 9, &[]),
        Some(plain) => put_plain(out, 3, plain),
    }
}

fn put_properties(out: &mut Vec<u8>, properties: &[Property<'_>]) {
    for property in properties {
        put_bytes(out, 1, property.key.as_bytes());
    }
    for property in properties {
        put_message(out, 2, |out| put_property_value(out, property));
    }
}

fn put_property_value(out: &mut Vec<u8>, property: &Property<'_>) {
    if let Some(datatype) = property.datatype {
        put_varint(out, 1, u64::from(datatype));
    }
    match &property.value {
        None => put_flag(out, 2, true),
        Some(PropertyValue::Plain(RawValue::Extension)) => put_bytes(out, 11, &[]),
        Some(PropertyValue::Plain(plain)) => put_plain(out, 3, plain),
        Some(PropertyValue::Set(set)) => put_message(out, 9, |out| put_properties(out, set)),
        Some(PropertyValue::Sets(sets)) => put_message(out, 10, |out| {
            for set in sets {
                put_message(out, 1, |out| put_properties(out, set));
            }
        }),
    }
}
