//! From configuration to what one bus reads and writes.

use std::sync::Arc;
use std::time::Duration;

use forebay_modbus::bus::BusConfig;
use forebay_modbus::endpoint::Endpoint;
use forebay_modbus::value::DataType;

use crate::commands::{WriteKind, WriteRule};
use crate::config;
use crate::readings::Tag;

/// Everything that one bus reads and writes.
pub(super) struct Plan {
    pub(super) endpoint: Endpoint,
    pub(super) config: BusConfig,
    /// What readings are of, in the order of the bus's tags.
    pub(super) tags: Vec<Arc<Tag>>,
    /// Tags that commands may write: position, path and rule.
    pub(super) writable: Vec<(usize, String, WriteRule)>,
}

impl Plan {
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.tags.len()).unwrap_or(u64::MAX)
    }
}

/// The plan of sections that name one endpoint; `None` without sections.
pub(super) fn of(sections: &[config::Modbus]) -> Option<Plan> {
    let endpoint = sections.first()?.endpoint.clone();
    let pauses = sections.iter().map(|section| section.pause_after_connect);
    let mut plan = Plan {
        config: BusConfig {
            framing: endpoint.framing(),
            pause_after_connect: pauses.max().unwrap_or(Duration::ZERO),
            close_after_read: sections.iter().any(|section| section.close_after_read),
            devices: sections.iter().map(|section| section.device).collect(),
            tags: Vec::new(),
        },
        endpoint,
        tags: Vec::new(),
        writable: Vec::new(),
    };
    for (device, section) in sections.iter().enumerate() {
        for tag in &section.tags {
            // The configuration checked the path by stricter rules.
            let Ok(named) = Tag::new(&tag.path, tag.unit.as_deref()) else {
                continue;
            };
            if let Some(write) = &tag.write {
                let rule = rule(tag, write);
                plan.writable
                    .push((plan.tags.len(), tag.path.clone(), rule));
            }
            plan.tags.push(named);
            let mut tag = tag.tag.clone();
            tag.device = device;
            plan.config.tags.push(tag);
        }
    }
    Some(plan)
}

fn rule(tag: &config::ModbusTag, write: &config::WriteLimits) -> WriteRule {
    let encoding = &tag.tag.encoding;
    let is_scaled = encoding.scale != 1.0 || encoding.offset != 0.0;
    let kind = match encoding.kind {
        DataType::Bool | DataType::Bit(_) => WriteKind::Bool,
        DataType::Text(_) => WriteKind::Text,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => WriteKind::Float,
        _ if is_scaled => WriteKind::Float,
        _ => WriteKind::Integer,
    };
    WriteRule {
        kind,
        min: write.min,
        max: write.max,
        min_interval: write.min_interval,
    }
}
