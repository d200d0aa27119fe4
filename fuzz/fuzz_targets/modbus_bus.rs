//! Whatever a device sends and whenever it closes, a bus neither panics nor
//! spins, and only reports tags that exist.
#![no_main]

use std::time::Duration;

use forebay_modbus::address::{Address, Table};
use forebay_modbus::bus::{Bus, BusConfig, Device, Effect, Framing, Tag};
use forebay_modbus::plan::Limits;
use forebay_modbus::report::ReportRule;
use forebay_modbus::value::{DataType, Encoding, Value};
use libfuzzer_sys::fuzz_target;

const SERIAL: Framing = Framing::Rtu {
    silence: Duration::from_millis(2),
};

fn config(framing: Framing) -> BusConfig {
    let tag = |unit, number, kind| Tag {
        device: 0,
        unit,
        address: Address {
            table: Table::Holding,
            number,
        },
        encoding: Encoding::plain(kind),
        interval: Duration::from_millis(100),
        report: ReportRule::Always,
    };
    BusConfig {
        framing,
        pause_after_connect: Duration::ZERO,
        close_after_read: false,
        devices: vec![Device {
            timeout: Duration::from_millis(300),
            retries: 1,
            pause: Duration::ZERO,
            limits: Limits {
                max_registers: 10,
                max_fill: 2,
            },
        }],
        tags: vec![
            tag(1, 0, DataType::Uint16),
            tag(1, 1, DataType::Text(3)),
            tag(1, 40, DataType::Float64),
            tag(2, 0, DataType::Bit(3)),
        ],
    }
}

fuzz_target!(|data: &[u8]| {
    for framing in [Framing::Tcp, Framing::RtuOverTcp, SERIAL] {
        let mut bus = Bus::new(config(framing), Duration::ZERO, 1);
        let mut now = Duration::ZERO;
        let mut rest = data;
        let mut sent = Vec::new();
        for _ in 0..400 {
            let mut effects = 0;
            while let Some(effect) = bus.poll_effect() {
                effects += 1;
                assert!(effects < 1_000, "effects without an end");
                match effect {
                    Effect::Connect => bus.handle_connected(now),
                    Effect::Send(frame) => sent = frame,
                    Effect::Report(readings) => {
                        assert!(readings.iter().all(|reading| reading.tag < 4));
                    }
                    _ => {}
                }
            }
            let Some((&what, more)) = rest.split_first() else {
                break;
            };
            rest = more;
            match what {
                // The answer starts right: the id or the unit and the function.
                0..=63 => {
                    let start = sent.len().min(if framing == Framing::Tcp { 8 } else { 2 });
                    bus.handle_bytes(now, &sent[..start]);
                }
                64..=159 => {
                    let (bytes, more) = rest.split_at(rest.len().min(usize::from(what - 63)));
                    rest = more;
                    bus.handle_bytes(now, bytes);
                }
                160..=179 => bus.handle_closed(now, "closed"),
                180..=189 => {
                    let _ = bus.write(now, usize::from(what & 3), &Value::Unsigned(1), now * 2);
                }
                190..=194 => bus.reconfigure(now, config(framing)),
                195..=225 => now += Duration::from_millis(u64::from(what)),
                _ => {
                    let deadline = bus.next_deadline().expect("polls go on for ever");
                    now = now.max(deadline);
                    bus.handle_timer(now);
                    let next = bus.next_deadline().expect("polls go on for ever");
                    assert!(next > now || bus.poll_effect().is_some(), "the bus spins");
                }
            }
        }
    }
});
