//! Readings of polled devices: one value at one time on one path.
//!
//! Whatever the wire was, a reading becomes a publish on its path: a record in
//! the topic that the routes name, with the path as its key and this JSON, in
//! this order and without spaces, as its value:
//!
//! ```json
//! {"value":21.5,"timestamp":1763856000123,"quality":"good","unit":"°C"}
//! {"value":null,"timestamp":1763856001123,"quality":"bad","status":"timeout"}
//! ```
//!
//! `timestamp` is in milliseconds since the Unix epoch. `unit` is there when
//! the tag has one; `status` names the cause of a quality that is not good, or
//! what a device says beyond it. MQTT payloads pass through untouched and do
//! not take this form.

mod publisher;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use forebay_mqtt::{Text, TopicName};
use parking_lot::Mutex;
use thiserror::Error;

use crate::ingest::Target;
pub use publisher::{Closing, PublishError, Publisher};

/// Lists in lists of one value. Devices send matrices at most; the limit stops
/// a hostile one.
const DEPTH_MAX: usize = 8;

/// A value as a device has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value, as with a failed read.
    Null,
    /// A coil, a bit, a flag.
    Bool(bool),
    /// A signed integer.
    Signed(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A number; what is not finite is written as null with a bad quality.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// An array.
    List(Vec<Value>),
}

impl From<f32> for Value {
    /// The shortest decimal that is this single: 0.1 and not
    /// 0.10000000149011612.
    fn from(single: f32) -> Self {
        let shortest = single.to_string().parse();
        Self::Float(shortest.unwrap_or(f64::from(single)))
    }
}

/// How far a value can be trusted, in the three steps of OPC UA (Part 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// As the device has it.
    Good,
    /// Old or doubtful, for instance while the device is away.
    Uncertain,
    /// Not a value of the process.
    Bad,
}

impl Quality {
    /// The word in the JSON form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }
}

/// A path that cannot be a tag's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("tag path is {path:?}, expected an MQTT topic name: not empty, without +, # and NUL")]
pub struct PathError {
    /// The path.
    pub path: String,
}

/// What a reading is of: a path and a unit, with the place in the log that the
/// routes gave it last.
#[derive(Debug)]
pub struct Tag {
    path: TopicName,
    unit: Option<Box<str>>,
    has_device_time: bool,
    target: Mutex<Option<Target>>,
}

impl Tag {
    /// A tag at `path`, with a unit as people write it.
    ///
    /// # Errors
    /// [`PathError`] when the path is no topic name.
    pub fn new(path: &str, unit: Option<&str>) -> Result<Arc<Self>, PathError> {
        Self::build(path, unit, false).map(Arc::new)
    }

    /// A tag whose readings carry a time of the device's clock, which is never
    /// marked nor stamped anew.
    ///
    /// # Errors
    /// As [`Tag::new`].
    pub fn with_device_time(path: &str, unit: Option<&str>) -> Result<Arc<Self>, PathError> {
        Self::build(path, unit, true).map(Arc::new)
    }

    fn build(path: &str, unit: Option<&str>, has_device_time: bool) -> Result<Self, PathError> {
        let name = Text::from_bytes(Bytes::copy_from_slice(path.as_bytes())).ok();
        let name = name.and_then(|text| TopicName::new(text).ok());
        let path = name.ok_or_else(|| PathError {
            path: path.to_owned(),
        })?;
        Ok(Self {
            path,
            unit: unit.map(Box::from),
            has_device_time,
            target: Mutex::new(None),
        })
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Whether its readings carry a time of the device's clock.
    pub fn has_device_time(&self) -> bool {
        self.has_device_time
    }

    /// The unit.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }
}

/// One value of a tag.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Of what.
    pub tag: Arc<Tag>,
    /// The value.
    pub value: Value,
    /// When it was so, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// How far it can be trusted.
    pub quality: Quality,
    /// Machine-readable cause: `timeout`, `illegal-data-address`,
    /// `BadNodeIdUnknown`.
    pub status: Option<Cow<'static, str>>,
}

impl Reading {
    /// Appends the JSON form to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_json_at(self.timestamp_ms, out);
    }

    /// Appends the JSON form with another time.
    fn write_json_at(&self, timestamp_ms: i64, out: &mut Vec<u8>) {
        let (quality, status) = match (&self.value, self.quality) {
            (Value::Float(float), _) if float.is_nan() => (Quality::Bad, Some("not-a-number")),
            (Value::Float(float), _) if float.is_infinite() => (Quality::Bad, Some("infinite")),
            (_, quality) => (quality, self.status.as_deref()),
        };
        out.extend_from_slice(b"{\"value\":");
        write_value(&self.value, out, 0);
        out.extend_from_slice(b",\"timestamp\":");
        write(out, &timestamp_ms);
        out.extend_from_slice(b",\"quality\":\"");
        out.extend_from_slice(quality.name().as_bytes());
        out.push(b'"');
        if let Some(status) = status {
            out.extend_from_slice(b",\"status\":");
            write(out, status);
        }
        if let Some(unit) = self.tag.unit() {
            out.extend_from_slice(b",\"unit\":");
            write(out, unit);
        }
        out.push(b'}');
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>, depth: usize) {
    match value {
        Value::Bool(flag) => write(out, flag),
        Value::Signed(number) => write(out, number),
        Value::Unsigned(number) => write(out, number),
        // The library writes null for what is not finite.
        Value::Float(number) => write(out, number),
        Value::Text(text) => write(out, text.as_ref()),
        Value::List(items) if depth < DEPTH_MAX => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out, depth + 1);
            }
            out.push(b']');
        }
        Value::Null | Value::List(_) => out.extend_from_slice(b"null"),
    }
}

fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("numbers, flags and texts have a JSON form");
}
