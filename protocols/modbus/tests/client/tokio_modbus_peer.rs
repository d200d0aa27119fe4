//! The servers of tokio-modbus, which knows nothing of this crate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_modbus::address::Table;
use forebay_modbus::bus::Status;
use forebay_modbus::client::{AskError, Asker, Client, Event, Reply};
use forebay_modbus::endpoint::Endpoint;
use forebay_modbus::exception::Exception;
use forebay_modbus::request::Request;
use forebay_modbus::value::{DataType, Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_modbus::server::{rtu_over_tcp, tcp};
use tokio_modbus::{ExceptionCode, Response, SlaveRequest};

use crate::devices::{config, down, readings, tag, wait_for};

/// Registers 0 to 999 hold their own number; coils are on at odd numbers.
/// Writes are kept.
#[derive(Clone, Default)]
struct Plc {
    written: Arc<Mutex<BTreeMap<u16, u16>>>,
}

impl Plc {
    fn register(&self, address: u16) -> Result<u16, ExceptionCode> {
        if address >= 1_000 {
            return Err(ExceptionCode::IllegalDataAddress);
        }
        let written = self.written.lock().unwrap();
        Ok(written.get(&address).copied().unwrap_or(address))
    }

    fn registers(&self, start: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        let mut addresses = start..start.saturating_add(count);
        addresses.try_fold(Vec::new(), |mut all, address| {
            all.push(self.register(address)?);
            Ok(all)
        })
    }

    fn answer(&self, request: &SlaveRequest<'static>) -> Result<Option<Response>, ExceptionCode> {
        use tokio_modbus::Request as Asked;
        if request.slave != 1 {
            return Ok(None);
        }
        let keep = |address, value| self.written.lock().unwrap().insert(address, value);
        Ok(Some(match &request.request {
            Asked::ReadHoldingRegisters(start, count) => {
                Response::ReadHoldingRegisters(self.registers(*start, *count)?)
            }
            Asked::ReadInputRegisters(start, count) => {
                Response::ReadInputRegisters(self.registers(*start, *count)?)
            }
            Asked::ReadCoils(start, count) => {
                let bits = self.registers(*start, *count)?;
                Response::ReadCoils(bits.iter().map(|value| value & 1 == 1).collect())
            }
            Asked::ReadDiscreteInputs(start, count) => {
                let bits = self.registers(*start, *count)?;
                Response::ReadDiscreteInputs(bits.iter().map(|value| value & 1 == 1).collect())
            }
            Asked::WriteSingleCoil(address, on) => {
                keep(*address, u16::from(*on));
                Response::WriteSingleCoil(*address, *on)
            }
            Asked::WriteSingleRegister(address, value) => {
                keep(*address, *value);
                Response::WriteSingleRegister(*address, *value)
            }
            Asked::WriteMultipleCoils(address, values) => {
                for (at, on) in (*address..).zip(values.iter()) {
                    keep(at, u16::from(*on));
                }
                Response::WriteMultipleCoils(*address, values.len() as u16)
            }
            Asked::WriteMultipleRegisters(address, values) => {
                for (at, value) in (*address..).zip(values.iter()) {
                    keep(at, *value);
                }
                Response::WriteMultipleRegisters(*address, values.len() as u16)
            }
            Asked::MaskWriteRegister(address, and, or) => {
                let value = self.register(*address)?;
                keep(*address, value & and | or & !and);
                Response::MaskWriteRegister(*address, *and, *or)
            }
            _ => return Err(ExceptionCode::IllegalFunction),
        }))
    }
}

impl tokio_modbus::server::Service for Plc {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = std::future::Ready<Result<Option<Response>, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        std::future::ready(self.answer(&request))
    }
}

/// A running server, until it is dropped.
struct Server {
    endpoint: Endpoint,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(scheme: &str, plc: &Plc) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::parse(&format!("{scheme}://{address}")).unwrap();
    let is_rtu = scheme == "rtu+tcp";
    let plc = plc.clone();
    let task = tokio::spawn(async move {
        let new = |_| Ok(Some(plc.clone()));
        if is_rtu {
            let connected = |stream, peer| async move {
                rtu_over_tcp::accept_tcp_connection(stream, peer, new)
            };
            let server = rtu_over_tcp::Server::new(listener);
            let _ = server.serve(&connected, |_| ()).await;
        } else {
            let connected =
                |stream, peer| async move { tcp::accept_tcp_connection(stream, peer, new) };
            let server = tcp::Server::new(listener);
            let _ = server.serve(&connected, |_| ()).await;
        }
    });
    Server {
        endpoint,
        address,
        task,
    }
}

#[tokio::test]
async fn all_tables_are_polled_over_tcp_and_rtu_over_tcp() {
    for scheme in ["tcp", "rtu+tcp"] {
        let server = serve(scheme, &Plc::default()).await;
        let tags = vec![
            tag(Table::Holding, 100, DataType::Uint16),
            tag(Table::Holding, 102, DataType::Uint32),
            tag(Table::Input, 7, DataType::Int16),
            tag(Table::Coil, 3, DataType::Bool),
            tag(Table::Discrete, 4, DataType::Bool),
        ];
        let configuration = config(&server.endpoint, tags);
        let mut client = Client::new(server.endpoint.clone(), configuration, 1);
        let expected = [
            Value::Unsigned(100),
            Value::Unsigned(102 << 16 | 103),
            Value::Signed(7),
            Value::Bool(true),
            Value::Bool(false),
        ];
        let all = readings(&mut client, 25).await;
        for reading in all {
            assert_eq!(reading.result.as_ref(), Ok(&expected[reading.tag]));
        }
        let counters = client.counters();
        assert_eq!((counters.connects, counters.timeouts), (1, 0), "{scheme}");
    }
}

#[tokio::test]
async fn writes_reach_the_device_and_are_read_back() {
    for scheme in ["tcp", "rtu+tcp"] {
        let plc = Plc::default();
        let server = serve(scheme, &plc).await;
        let tags = vec![
            tag(Table::Holding, 10, DataType::Int16),
            tag(Table::Holding, 20, DataType::Float32),
            tag(Table::Holding, 30, DataType::Bit(0)),
            tag(Table::Coil, 40, DataType::Bool),
        ];
        let configuration = config(&server.endpoint, tags);
        let mut client = Client::new(server.endpoint.clone(), configuration, 1);
        let values = [
            Value::Signed(-7),
            Value::Float(1.5),
            Value::Bool(true),
            Value::Bool(true),
        ];
        for (tag, value) in values.iter().enumerate() {
            let id = client.write(tag, value, Duration::from_secs(20)).unwrap();
            let result = wait_for(&mut client, |event| match event {
                Event::Written { id: of, result } if of == id => Some(result),
                _ => None,
            })
            .await;
            assert_eq!(result.as_ref(), Ok(value), "{scheme}");
        }
        let written = plc.written.lock().unwrap().clone();
        let expected = [(10, 0xFFF9), (20, 0x3FC0), (21, 0), (30, 31), (40, 1)];
        assert_eq!(written, BTreeMap::from(expected));
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_polled_again() {
    let plc = Plc::default();
    let server = serve("tcp", &plc).await;
    let tags = vec![tag(Table::Holding, 100, DataType::Uint16)];
    let configuration = config(&server.endpoint, tags);
    let mut client = Client::new(server.endpoint.clone(), configuration, 1);
    readings(&mut client, 2).await;
    let address = server.address;
    drop(server);
    down(&mut client).await;
    // The tag is bad while nobody listens.
    wait_for(&mut client, |event| match event {
        Event::Report(readings) => readings
            .iter()
            .any(|reading| reading.result == Err(Status::Disconnected))
            .then_some(()),
        _ => None,
    })
    .await;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let task = tokio::spawn(async move {
        let new = |_| Ok(Some(plc.clone()));
        let connected = |stream, peer| async move { tcp::accept_tcp_connection(stream, peer, new) };
        let _ = tcp::Server::new(listener).serve(&connected, |_| ()).await;
    });
    wait_for(&mut client, |event| match event {
        Event::Report(readings) => readings.iter().all(|r| r.result.is_ok()).then_some(()),
        _ => None,
    })
    .await;
    task.abort();
}

#[tokio::test]
async fn an_address_that_the_server_lacks_is_a_status() {
    let server = serve("tcp", &Plc::default()).await;
    let tags = vec![
        tag(Table::Holding, 998, DataType::Uint16),
        tag(Table::Holding, 1_002, DataType::Uint16),
    ];
    let configuration = config(&server.endpoint, tags);
    let mut client = Client::new(server.endpoint.clone(), configuration, 1);
    let missing = Status::Refused(Exception::IllegalDataAddress);
    for reading in readings(&mut client, 6).await {
        let expected = [Ok(Value::Unsigned(998)), Err(missing)];
        assert_eq!(reading.result, expected[reading.tag]);
    }
}

#[tokio::test]
async fn single_questions_are_answered_refused_or_time_out() {
    for scheme in ["tcp", "rtu+tcp"] {
        let server = serve(scheme, &Plc::default()).await;
        let wait = Duration::from_secs(2);
        let mut asker = Asker::new(server.endpoint.clone(), wait);
        let read = |start, count| Request::Read {
            table: Table::Holding,
            start,
            count,
        };
        let reply = asker.ask(1, &read(5, 2)).await.unwrap();
        assert_eq!(reply, Reply::Data(vec![0, 5, 0, 6]));
        let reply = asker.ask(1, &read(999, 2)).await.unwrap();
        assert_eq!(reply, Reply::Refused(Exception::IllegalDataAddress));
        let silent = asker.ask(2, &read(5, 1)).await;
        assert!(matches!(silent, Err(AskError::Timeout { unit: 2, .. })));
        let reply = asker.ask(1, &read(9, 1)).await.unwrap();
        assert_eq!(reply, Reply::Data(vec![0, 9]));
        let coils = Request::WriteCoils {
            address: 5,
            values: vec![true, false, true],
        };
        assert_eq!(asker.ask(1, &coils).await.unwrap(), Reply::Written);
    }
}
