//! Modbus tags at one second from ten devices on loopback, durable: what the
//! gateway needs for them.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};
use xtask::wire::kafka::Client;

use crate::figures::{Report, ratio};
use crate::machine::Setting;
use crate::process::usage;

/// Devices, each with a connection of its own.
const DEVICES: usize = 10;

/// Tags of all devices together: what is compared with published figures.
const TAGS: [usize; 2] = [10_000, 100_000];

/// Length of one measurement in seconds.
const SECONDS: u64 = 20;

/// The time in which the first cycle of everything is through.
const SETTLE: Duration = Duration::from_secs(5);

/// Bytes of a request to read, and of the header before its data.
const REQUEST_SIZE: usize = 12;
const HEADER_SIZE: usize = 7;

/// What EMQX publishes of Neuron on four cores of a Xeon 8269CY, in the
/// performance pages of its documentation.
const PEER: &str = "EMQX Neuron 3.2.1 (published): 10,000 tags 3 % of 4 cores and 199 MB, 100,000 tags 30 % and 497 MB";

/// Figures of one number of tags over all rounds.
#[derive(Default)]
struct Figures {
    readings: Vec<f64>,
    cores: Vec<f64>,
    resident: Vec<f64>,
    cpu_us: Vec<f64>,
    written: Vec<f64>,
    generator: Vec<f64>,
}

/// Measures each number of tags.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact("peer", PEER);
    report.fact(
        "load",
        format!("{DEVICES} devices on loopback, UINT16 that change with each read, 1 s, each poll reported, {length:?}"),
    );
    let devices: Vec<SocketAddr> = (0..DEVICES).map(|_| device()).collect::<Outcome<_>>()?;
    for tags in TAGS {
        let mut figures = Figures::default();
        for round in 0..setting.rounds {
            one_round(setting, &devices, tags, length, &mut figures)?;
            eprintln!("{tags} tags: round {} of {}", round + 1, setting.rounds);
        }
        let mut add = |what: &str, rounds| report.median(&format!("{tags} tags: {what}"), rounds);
        add("readings in the log per second", &figures.readings);
        add("% of one core", &figures.cores);
        add("resident MiB", &figures.resident);
        add("CPU us per reading", &figures.cpu_us);
        add("written bytes per reading", &figures.written);
        add("cores of the devices and this program", &figures.generator);
    }
    Ok(())
}

fn one_round(
    setting: &Setting,
    devices: &[SocketAddr],
    tags: usize,
    length: Duration,
    figures: &mut Figures,
) -> Outcome {
    let scratch = setting.scratch()?;
    let mut spec = Spec::gateway(&setting.program, "modbus", scratch.path());
    spec.sections = sections(devices, tags / DEVICES).during("[[modbus]]")?;
    let mut node = Node::start(&spec)?;
    thread::sleep(SETTLE);
    let mut client = Client::connect(node.ports.kafka).during("Kafka connection")?;
    let mut stored = || client.list_offset("readings", 0, -1).during("readings");
    let started = Instant::now();
    let (before, first, own) = (usage(node.id()), stored()?, usage(std::process::id()));
    thread::sleep(length);
    let (after, last) = (usage(node.id()), stored()?);
    let seconds = started.elapsed().as_secs_f64();
    let own = usage(std::process::id()).since(own);
    let used = after.since(before);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (count, expected) = ((last - first) as f64, tags as f64 * seconds);
    if count < expected * 0.5 {
        return Err(Failure::new(format!(
            "{count} readings in {seconds:.1} s, expected {expected:.0}: the devices or this machine are too slow"
        )));
    }
    figures.readings.push(count / seconds);
    figures.cores.push(used.cpu_s / seconds * 100.0);
    figures.resident.push(used.resident_mib);
    figures.cpu_us.push(ratio(used.cpu_s * 1e6, count));
    figures.written.push(ratio(used.written, count));
    figures.generator.push(own.cpu_s / seconds);
    node.stop().map(drop)
}

/// A section per device with consecutive registers.
fn sections(devices: &[SocketAddr], tags: usize) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for (index, device) in devices.iter().enumerate() {
        writeln!(out, "[[modbus]]\nname = \"line-{index}\"")?;
        writeln!(out, "endpoint = \"tcp://{device}\"\ntags = [")?;
        for tag in 0..tags {
            writeln!(
                out,
                "{{ name = \"tag-{tag}\", register = \"holding\", address = {tag}, type = \"UINT16\" }},"
            )?;
        }
        out.push_str("]\n");
    }
    Ok(out)
}

/// A device that answers every read of registers, with other values each time.
fn device() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").during("a device")?;
    let address = listener.local_addr().during("a device")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream) {
    let mut request = [0; REQUEST_SIZE];
    let mut answer = Vec::with_capacity(300);
    let mut counter = 0u16;
    // The gateway closing the connection is the end.
    while stream.read_exact(&mut request).is_ok() {
        counter = counter.wrapping_add(1);
        let registers = usize::from(request[11]);
        answer.clear();
        answer.extend_from_slice(&request[..HEADER_SIZE + 1]);
        answer.push(u8::try_from(registers * 2).unwrap_or(u8::MAX));
        for number in 0..registers {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            answer.extend_from_slice(&number.wrapping_add(counter).to_be_bytes());
        }
        let size = u16::try_from(answer.len() - 6).unwrap_or(u16::MAX);
        answer[4..6].copy_from_slice(&size.to_be_bytes());
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}
