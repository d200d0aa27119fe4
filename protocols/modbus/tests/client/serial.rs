//! RTU on a pseudo-terminal pair.

use std::sync::atomic::Ordering;

use forebay_modbus::address::Table;
use forebay_modbus::bus::Status;
use forebay_modbus::client::Client;
use forebay_modbus::endpoint::Endpoint;
use forebay_modbus::value::{DataType, Value};

use crate::devices::{config, readings, tag, wait_for};
use crate::pty::SerialDevice;

#[tokio::test]
async fn two_units_of_a_serial_line_are_polled() {
    let Some(device) = SerialDevice::start() else {
        return;
    };
    let mut far = tag(Table::Holding, 20, DataType::Uint16);
    far.unit = 2;
    let tags = vec![tag(Table::Holding, 10, DataType::Uint16), far];
    let endpoint = device.endpoint();
    let mut client = Client::new(endpoint.clone(), config(&endpoint, tags), 3);
    let expected = [Value::Unsigned(1_010), Value::Unsigned(2_020)];
    for reading in readings(&mut client, 10).await {
        assert_eq!(reading.result.as_ref(), Ok(&expected[reading.tag]));
    }
}

#[tokio::test]
async fn after_a_silence_the_line_is_polled_again_without_a_wrong_value() {
    let Some(device) = SerialDevice::start() else {
        return;
    };
    let endpoint = device.endpoint();
    let mut configuration = config(&endpoint, vec![tag(Table::Holding, 10, DataType::Uint16)]);
    configuration.devices[0].retries = 0;
    let mut client = Client::new(endpoint, configuration, 3);
    readings(&mut client, 2).await;
    device.deaf.store(1, Ordering::SeqCst);
    let all = readings(&mut client, 6).await;
    let bad: Vec<_> = all.iter().filter(|r| r.result.is_err()).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].result, Err(Status::Timeout));
    for reading in all.iter().filter(|r| r.result.is_ok()) {
        assert_eq!(reading.result, Ok(Value::Unsigned(1_010)));
    }
}

#[tokio::test]
async fn a_port_that_does_not_exist_is_a_status_and_not_an_end() {
    let endpoint = Endpoint::parse("rtu:///dev/forebay-no-such-port").unwrap();
    let tags = vec![tag(Table::Holding, 10, DataType::Uint16)];
    let mut client = Client::new(endpoint.clone(), config(&endpoint, tags), 3);
    let result = wait_for(&mut client, |event| match event {
        forebay_modbus::client::Event::Report(readings) => Some(readings[0].result.clone()),
        _ => None,
    })
    .await;
    assert_eq!(result, Err(Status::Disconnected));
}
