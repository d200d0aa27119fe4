//! What the tests read, and how long they wait for it.

use std::time::Duration;

use forebay_modbus::address::{Address, Table};
use forebay_modbus::bus::{BusConfig, Device, Notice, Reading, Tag};
use forebay_modbus::client::{Client, Event};
use forebay_modbus::endpoint::Endpoint;
use forebay_modbus::plan::Limits;
use forebay_modbus::report::ReportRule;
use forebay_modbus::value::{DataType, Encoding};

/// Far above what loopback needs, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn tag(table: Table, number: u16, kind: DataType) -> Tag {
    Tag {
        device: 0,
        unit: 1,
        address: Address { table, number },
        encoding: Encoding::plain(kind),
        interval: Duration::from_millis(50),
        report: ReportRule::Always,
    }
}

pub fn config(endpoint: &Endpoint, tags: Vec<Tag>) -> BusConfig {
    BusConfig {
        framing: endpoint.framing(),
        pause_after_connect: Duration::ZERO,
        close_after_read: false,
        devices: vec![Device {
            timeout: Duration::from_secs(2),
            retries: 1,
            pause: Duration::ZERO,
            limits: Limits {
                max_registers: 125,
                max_fill: 8,
            },
        }],
        tags,
    }
}

/// Waits for an event that `wanted` turns into something.
pub async fn wait_for<T>(client: &mut Client, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = wanted(client.next().await) {
                return found;
            }
        }
    })
    .await
    .expect("the event comes")
}

/// Waits for `count` readings, good or bad.
pub async fn readings(client: &mut Client, count: usize) -> Vec<Reading> {
    let mut all = Vec::new();
    wait_for(client, |event| {
        if let Event::Report(readings) = event {
            all.extend(readings);
        }
        (all.len() >= count).then_some(())
    })
    .await;
    all
}

/// Waits until the connection is lost.
pub async fn down(client: &mut Client) -> String {
    wait_for(client, |event| match event {
        Event::Notice(Notice::Down(reason)) => Some(reason.into_owned()),
        _ => None,
    })
    .await
}
