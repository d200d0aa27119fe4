//! What no single tag can tell: names that clash, registers that overlap,
//! ports that are opened in two ways.

use std::collections::BTreeMap;

use forebay_modbus::endpoint::Endpoint;

use super::{Modbus, ModbusTag};
use crate::config::section::Section;

/// Tags of one device: each name once, and no number that lies half in
/// another one, which is an address that is off by one.
pub(super) fn between_tags(sections: &[Section<'_>], tags: &[Option<ModbusTag>]) {
    let mut order: Vec<(usize, &ModbusTag)> = tags
        .iter()
        .enumerate()
        .filter_map(|(index, tag)| Some((index, tag.as_ref()?)))
        .collect();
    order.sort_by_key(|(index, tag)| (tag.tag.unit, tag.tag.address, *index));
    let mut widest: Option<(usize, &ModbusTag)> = None;
    for (index, tag) in order {
        if let Some((other, before)) = widest {
            let is_same = (before.tag.unit, before.tag.address.table)
                == (tag.tag.unit, tag.tag.address.table);
            let starts_inside = start(tag) > start(before) && start(tag) < end(before);
            if is_same && starts_inside && end(tag) > end(before) {
                let message = format!(
                    "expected an address that does not lie inside tags[{other}], which takes {} registers from {}",
                    end(before) - start(before),
                    start(before)
                );
                sections[index].mistake("address", message);
            }
            if is_same && end(before) >= end(tag) {
                continue;
            }
        }
        widest = Some((index, tag));
    }
}

fn start(tag: &ModbusTag) -> u32 {
    u32::from(tag.tag.address.number)
}

fn end(tag: &ModbusTag) -> u32 {
    start(tag) + u32::from(tag.tag.encoding.kind.registers())
}

/// All devices: each path once, commands with a path of their own, and one way
/// to open a port.
pub(super) fn between_devices(sections: &[Section<'_>], devices: &[Option<Modbus>]) {
    let mut paths: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let all = || {
        let devices = devices.iter().enumerate();
        devices.filter_map(|(index, device)| Some((index, device.as_ref()?)))
    };
    for (index, device) in all() {
        for (position, tag) in device.tags.iter().enumerate() {
            if let Some((other, at)) = paths.insert(&tag.path, (index, position)) {
                sections[index].mistake(
                    &format!("tags[{position}].name"),
                    format!(
                        "expected each path once, modbus[{other}].tags[{at}] is {:?} as well",
                        tag.path
                    ),
                );
            }
        }
    }
    for (index, device) in all() {
        for tag in device.tags.iter().filter(|tag| tag.write.is_some()) {
            let command = format!("{}/set", tag.path);
            if paths.contains_key(command.as_str()) {
                sections[index].mistake(
                    "name",
                    format!(
                        "expected no tag {command:?}: it is the command path of a tag with `write`"
                    ),
                );
            }
        }
    }
    let mut ports: BTreeMap<_, (usize, &Endpoint)> = BTreeMap::new();
    for (index, device) in all() {
        let Endpoint::Serial(port) = &device.endpoint else {
            continue;
        };
        let (other, first) = *ports.entry(&port.path).or_insert((index, &device.endpoint));
        if *first != device.endpoint {
            sections[index].mistake(
                "endpoint",
                format!(
                    "expected the settings of modbus[{other}], which opens the same port as {first}"
                ),
            );
        }
    }
}
