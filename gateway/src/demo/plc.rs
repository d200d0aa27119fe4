//! A simulated PLC on Modbus TCP: the press-5 of the demo plant, served by
//! `tokio-modbus`, so that the gateway's own client talks to somebody else's
//! protocol code.

use std::future::{Ready, ready};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response};

/// Holding register of the bearing's temperature in °C, a FLOAT32 in ABCD
/// order, which takes two.
const BEARING: u16 = 100;
/// Holding register of the hydraulic pressure in tenths of a bar.
const PRESSURE: u16 = 102;
/// Holding registers that exist: `BEARING` to the end of `PRESSURE`.
const HOLDING: std::ops::Range<u16> = BEARING..PRESSURE + 1;
/// Coil that is on while the press runs.
const RUNNING: u16 = 3;

/// The tags of the PLC, as a section of the gateway's configuration.
pub fn section(address: SocketAddr) -> String {
    format!(
        "[[modbus]]\nname = \"press-5\"\nendpoint = \"tcp://{address}\"\ninterval = \"500ms\"\n\
         tags = [\n\
           {{ name = \"bearing_temp\", register = \"holding\", address = {BEARING}, type = \"FLOAT32\", unit = \"°C\" }},\n\
           {{ name = \"pressure\", register = \"holding\", address = {PRESSURE}, type = \"INT16\", scale = 0.1, unit = \"bar\" }},\n\
           {{ name = \"running\", register = \"coil\", address = {RUNNING} }},\n\
         ]\n\n"
    )
}

/// A PLC that serves until it is dropped.
#[derive(Debug)]
pub struct Plc {
    /// Where it listens.
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Plc {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let registers = Registers {
            since: Instant::now(),
        };
        let serving = tokio::spawn(async move {
            let server = Server::new(listener);
            let accept = |stream, peer| async move {
                accept_tcp_connection(stream, peer, move |_| Ok(Some(registers)))
            };
            // A connection that ends badly is the gateway's to report.
            let ended = server.serve(&accept, |_| ()).await;
            if let Err(error) = ended {
                eprintln!("forebay: the demo's PLC stopped: {error}");
            }
        });
        Ok(Self { address, serving })
    }
}

impl Drop for Plc {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What the PLC measures at a moment.
#[derive(Debug, Clone, Copy)]
struct Registers {
    since: Instant,
}

impl Registers {
    fn holding(seconds: f64, register: u16) -> u16 {
        // A bearing that warms up, and a press that strokes every four seconds.
        let temperature = (41.0 + 6.0 * (1.0 - (-seconds / 60.0).exp())) as f32;
        let stroke = (seconds * std::f64::consts::TAU / 4.0).sin();
        let [high, low] = [temperature.to_bits() >> 16, temperature.to_bits() & 0xffff];
        match register {
            BEARING => high as u16,
            PRESSURE => (1_600.0 + 250.0 * stroke) as u16,
            _ => low as u16,
        }
    }

    fn answer(seconds: f64, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        match *request {
            Request::ReadHoldingRegisters(start, count) => {
                let end = start.checked_add(count).filter(|end| *end <= HOLDING.end);
                let end = end.filter(|_| HOLDING.contains(&start));
                let end = end.ok_or(ExceptionCode::IllegalDataAddress)?;
                let values = (start..end).map(|register| Self::holding(seconds, register));
                Ok(Response::ReadHoldingRegisters(values.collect()))
            }
            // Ten seconds of work, two of rest.
            Request::ReadCoils(RUNNING, 1) => Ok(Response::ReadCoils(vec![seconds % 12.0 < 10.0])),
            Request::ReadCoils(..) => Err(ExceptionCode::IllegalDataAddress),
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }
}

impl Service for Registers {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(Self::answer(self.since.elapsed().as_secs_f64(), &request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registers_are_the_tags_of_the_section() {
        let read =
            |start, count| Registers::answer(0.0, &Request::ReadHoldingRegisters(start, count));
        let Ok(Response::ReadHoldingRegisters(words)) = read(BEARING, 3) else {
            panic!("three registers are there");
        };
        let bits = u32::from(words[0]) << 16 | u32::from(words[1]);
        assert_eq!(f32::from_bits(bits), 41.0);
        assert_eq!(words[2], 1_600);
        assert_eq!(read(BEARING, 4), Err(ExceptionCode::IllegalDataAddress));
        assert_eq!(read(u16::MAX, 2), Err(ExceptionCode::IllegalDataAddress));
        let coil = Registers::answer(11.0, &Request::ReadCoils(RUNNING, 1));
        assert_eq!(coil, Ok(Response::ReadCoils(vec![false])));
    }
}
