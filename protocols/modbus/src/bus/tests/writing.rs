use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::world::{Act, Asked, SECOND, World, answer, config, framed, honest, refusal, register};
use crate::address::Table;
use crate::bus::{Framing, Status, WRITES_MAX, WriteError, WriteFailure};
use crate::exception::Exception;
use crate::value::{DataType, Encoding, Value};

/// A device whose registers keep what is written to them.
fn keeping(framing: Framing) -> impl FnMut(&Asked) -> Vec<(Duration, Act)> {
    let held = RefCell::new(vec![0u16; 1 << 16]);
    move |asked| {
        let word = |at: usize| u16::from_be_bytes([asked.pdu[at], asked.pdu[at + 1]]);
        let mut held = held.borrow_mut();
        let at = usize::from(word(1));
        let pdu = match asked.pdu[0] {
            3 => {
                let count = usize::from(word(3));
                let mut pdu = vec![3, u8::try_from(count * 2).unwrap()];
                pdu.extend(held[at..at + count].iter().flat_map(|v| v.to_be_bytes()));
                pdu
            }
            1 => vec![1, 1, u8::from(held[at] == 0xFF00)],
            5 | 6 => {
                held[at] = word(3);
                asked.pdu.clone()
            }
            16 => {
                for index in 0..usize::from(word(3)) {
                    held[at + index] = word(6 + index * 2);
                }
                asked.pdu[..5].to_vec()
            }
            22 => {
                held[at] = held[at] & word(3) | word(5) & !word(3);
                asked.pdu.clone()
            }
            other => panic!("function {other}"),
        };
        vec![(
            Duration::from_millis(5),
            Act::Bytes(framed(framing, asked, &pdu)),
        )]
    }
}

#[test]
fn every_kind_of_tag_is_written_with_its_function_and_read_back() {
    let of = |number, kind, table| {
        let mut tag = register(1, number);
        tag.encoding = Encoding::plain(kind);
        tag.address.table = table;
        tag.interval = SECOND * 1_000;
        tag
    };
    let tags = vec![
        of(3, DataType::Bool, Table::Coil),
        of(10, DataType::Int16, Table::Holding),
        of(20, DataType::Float32, Table::Holding),
        of(30, DataType::Bit(4), Table::Holding),
        of(30, DataType::Bit(7), Table::Holding),
        of(40, DataType::Uint8High, Table::Holding),
        of(50, DataType::Text(4), Table::Holding),
    ];
    let values = [
        Value::Bool(true),
        Value::Signed(-5),
        Value::Float(21.5),
        Value::Bool(true),
        Value::Bool(true),
        Value::Unsigned(200),
        Value::Text("forebay".into()),
    ];
    let mut world = World::new(config(Framing::Tcp, tags), keeping(Framing::Tcp));
    world.run_until(SECOND * 2);
    let polls = world.asked.len();
    for (tag, value) in values.iter().enumerate() {
        let now = world.now;
        world.bus.write(now, tag, value, now + SECOND).unwrap();
    }
    world.run_until(SECOND * 3);
    let results: Vec<_> = world.written.iter().map(|(_, r)| r.clone()).collect();
    assert_eq!(results, values.map(Ok));
    let functions: Vec<u8> = world.asked[polls..].iter().map(|a| a.pdu[0]).collect();
    assert_eq!(functions, [5, 1, 6, 3, 16, 3, 22, 3, 22, 3, 22, 3, 16, 3]);
    // What was read back is a reading as well.
    assert_eq!(world.results(1).last(), Some(&Ok(Value::Signed(-5))));
}

#[test]
fn a_write_goes_before_the_polls_that_wait() {
    let tags: Vec<_> = (0..100).map(|n| register(1, n * 50)).collect();
    let mut world = World::new(config(Framing::Tcp, tags), |asked| {
        vec![answer(Framing::Tcp, asked, Duration::from_millis(9))]
    });
    world.run_until(SECOND * 2);
    let now = world.now;
    world
        .bus
        .write(now, 5, &Value::Unsigned(7), now + SECOND)
        .unwrap();
    world.run_until(now + Duration::from_millis(30));
    // At most the request under way goes first.
    let behind: Vec<u8> = world
        .asked
        .iter()
        .filter(|asked| asked.at >= now)
        .map(|asked| asked.pdu[0])
        .collect();
    assert_eq!(behind[..2], [6, 3]);
}

#[test]
fn a_refused_write_is_not_repeated() {
    let tags = vec![register(1, 10)];
    let mut configuration = config(Framing::Tcp, tags);
    configuration.devices[0].retries = 3;
    let mut world = World::new(configuration, |asked| {
        if asked.pdu[0] == 6 {
            return refusal(Framing::Tcp, asked, 4);
        }
        vec![answer(Framing::Tcp, asked, Duration::from_millis(5))]
    });
    world.run_until(SECOND);
    let now = world.now;
    world
        .bus
        .write(now, 0, &Value::Unsigned(1), now + SECOND)
        .unwrap();
    world.run_until(SECOND * 3);
    let status = Status::Refused(Exception::ServerDeviceFailure);
    assert_eq!(world.written[0].1, Err(WriteFailure::NotConfirmed(status)));
    assert_eq!(world.asked.iter().filter(|a| a.pdu[0] == 6).count(), 1);
}

#[test]
fn a_write_without_an_answer_is_sent_once_and_reported_open() {
    for framing in [Framing::Tcp, Framing::RtuOverTcp] {
        let mut configuration = config(framing, vec![register(1, 10)]);
        configuration.devices[0].retries = 3;
        let mut world = World::new(configuration, move |asked| {
            if asked.pdu[0] == 6 {
                return Vec::new();
            }
            vec![answer(framing, asked, Duration::from_millis(5))]
        });
        world.run_until(SECOND * 2);
        let now = world.now;
        world
            .bus
            .write(now, 0, &Value::Unsigned(1), now + SECOND)
            .unwrap();
        world.run_until(SECOND * 10);
        assert_eq!(
            world.written[0].1,
            Err(WriteFailure::NotConfirmed(Status::Timeout))
        );
        assert_eq!(world.asked.iter().filter(|a| a.pdu[0] == 6).count(), 1);
        // Polling goes on.
        assert!(world.results(0).last().unwrap().is_ok());
    }
}

#[test]
fn a_write_that_cannot_leave_expires() {
    let mut world = World::new(
        config(Framing::Tcp, vec![register(1, 10)]),
        honest(Framing::Tcp),
    );
    // The connection takes longer than the command may wait.
    world.accepts = Some(SECOND * 4);
    world
        .bus
        .write(world.now, 0, &Value::Unsigned(1), SECOND * 2)
        .unwrap();
    world.run_until(SECOND * 3);
    assert_eq!(
        world.written[0].1,
        Err(WriteFailure::NotSent(Status::Expired))
    );
    world.run_until(SECOND * 10);
    assert!(world.asked.iter().all(|asked| asked.pdu[0] == 3));
}

#[test]
fn a_write_to_a_bus_that_cannot_be_reached_fails_at_once() {
    let mut world = World::new(
        config(Framing::Tcp, vec![register(1, 10)]),
        honest(Framing::Tcp),
    );
    world.accepts = None;
    world
        .bus
        .write(world.now, 0, &Value::Unsigned(1), SECOND * 60)
        .unwrap();
    world.run_until(SECOND);
    assert_eq!(
        world.written[0].1,
        Err(WriteFailure::NotSent(Status::Disconnected))
    );
}

#[test]
fn the_queue_of_writes_is_bounded() {
    let mut input = register(1, 10);
    input.address.table = Table::Input;
    let mut world = World::new(config(Framing::Tcp, vec![register(1, 10), input]), |_| {
        Vec::new()
    });
    let one = Value::Unsigned(1);
    let write = |world: &mut World, tag| world.bus.write(world.now, tag, &one, SECOND * 9);
    for _ in 0..WRITES_MAX {
        write(&mut world, 0).unwrap();
    }
    assert_eq!(write(&mut world, 0), Err(WriteError::Full));
    assert_eq!(
        write(&mut world, 1),
        Err(WriteError::ReadOnly(crate::address::Address {
            table: Table::Input,
            number: 10
        }))
    );
    assert_eq!(write(&mut world, 2), Err(WriteError::UnknownTag(2)));
}

#[test]
fn a_new_configuration_does_not_redirect_a_write() {
    let functions = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&functions);
    let mut device = keeping(Framing::Tcp);
    let mut world = World::new(config(Framing::Tcp, vec![register(1, 10)]), move |asked| {
        if asked.pdu[0] == 6 {
            seen.borrow_mut().push(asked.pdu.clone());
        }
        device(asked)
    });
    world
        .bus
        .write(world.now, 0, &Value::Unsigned(9), SECOND * 2)
        .unwrap();
    let now = world.now;
    world
        .bus
        .reconfigure(now, config(Framing::Tcp, vec![register(1, 99)]));
    world.run_until(SECOND * 2);
    assert_eq!(*functions.borrow(), [vec![6, 0, 10, 0, 9]]);
    assert_eq!(world.written[0].1, Ok(Value::Unsigned(9)));
}
