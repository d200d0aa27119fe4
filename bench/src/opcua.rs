//! OPC UA nodes that change once a second, subscribed to from one server on
//! loopback, durable: what the gateway needs for them.

mod plant;

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};
use xtask::wire::kafka::Client;

use self::plant::Plant;
use crate::figures::{Report, ratio};
use crate::machine::Setting;
use crate::process::usage;

/// Nodes of the server, each a monitored item.
const NODES: usize = 10_000;

/// How the session is protected.
const SECURITIES: [&str; 2] = ["none", "Basic256Sha256/SignAndEncrypt"];

/// Length of one measurement in seconds.
const SECONDS: u64 = 20;

/// How long subscribing to everything may take.
const SUBSCRIBED: Duration = Duration::from_secs(60);

/// How often it is looked whether it has.
const POLL: Duration = Duration::from_millis(100);

/// What is asked for, in percent of one core.
const TARGET: f64 = 10.0;

/// Figures of one way of protection over all rounds.
#[derive(Default)]
struct Figures {
    readings: Vec<f64>,
    cores: Vec<f64>,
    resident: Vec<f64>,
    cpu_us: Vec<f64>,
    written: Vec<f64>,
    waited: Vec<f64>,
    server: Vec<f64>,
}

/// Measures each way of protection.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact("peer", plant::VERSION);
    report.fact(
        "load",
        format!("{NODES} Doubles of one server on loopback, each changes once a second, one subscription, publishing interval 500 ms, {length:?}"),
    );
    report.fact("target", format!("under {TARGET} % of one core"));
    let scratch = setting.scratch()?;
    let plant = Plant::start(scratch.path(), NODES)?;
    for security in SECURITIES {
        let mut figures = Figures::default();
        for round in 0..setting.rounds {
            one_round(setting, &plant, security, length, &mut figures)?;
            eprintln!("{security}: round {} of {}", round + 1, setting.rounds);
        }
        let mut add = |what: &str, rounds| report.median(&format!("{security}: {what}"), rounds);
        add("readings in the log per second", &figures.readings);
        add("% of one core", &figures.cores);
        add("resident MiB", &figures.resident);
        add("CPU us per reading", &figures.cpu_us);
        add("written bytes per reading", &figures.written);
        add("threads that wait for a core", &figures.waited);
        add("cores of the server and this program", &figures.server);
    }
    Ok(())
}

fn one_round(
    setting: &Setting,
    plant: &Plant,
    security: &str,
    length: Duration,
    figures: &mut Figures,
) -> Outcome {
    let scratch = setting.scratch()?;
    let mut spec = Spec::gateway(&setting.program, "opcua", scratch.path());
    spec.sections = section(plant, security).during("[[opcua]]")?;
    let trusted = spec.data_dir.join("opcua/pki/trusted");
    fs::create_dir_all(&trusted).during(trusted.display())?;
    let certificate = trusted.join("plant.der");
    fs::copy(&plant.certificate, &certificate).during(certificate.display())?;
    let mut node = Node::start(&spec)?;
    let mut client = Client::connect(node.ports.kafka).during("Kafka connection")?;
    let mut stored = || client.list_offset("readings", 0, -1);
    let deadline = Instant::now() + SUBSCRIBED;
    // Each node has a first value, and then some seconds more for all to settle.
    let enough = i64::try_from(NODES * 4).unwrap_or(i64::MAX);
    while stored().unwrap_or(0) < enough {
        if Instant::now() > deadline {
            return Err(Failure::new(format!(
                "the gateway did not subscribe to {NODES} nodes within {SUBSCRIBED:?}"
            )));
        }
        thread::sleep(POLL);
    }
    let mut stored = || stored().during("readings");
    let started = Instant::now();
    let (before, first, own) = (usage(node.id()), stored()?, usage(std::process::id()));
    thread::sleep(length);
    let (after, last) = (usage(node.id()), stored()?);
    let seconds = started.elapsed().as_secs_f64();
    let own = usage(std::process::id()).since(own);
    let used = after.since(before);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (count, expected) = ((last - first) as f64, NODES as f64 * seconds);
    if count < expected * 0.5 {
        return Err(Failure::new(format!(
            "{count} readings in {seconds:.1} s, expected {expected:.0}: the server or this machine is too slow"
        )));
    }
    figures.readings.push(count / seconds);
    figures.cores.push(used.cpu_s / seconds * 100.0);
    figures.resident.push(used.resident_mib);
    figures.cpu_us.push(ratio(used.cpu_s * 1e6, count));
    figures.written.push(ratio(used.written, count));
    figures.waited.push(used.core_wait_s / seconds);
    figures.server.push(own.cpu_s / seconds);
    node.stop().map(drop)
}

/// A section with every node by its id.
fn section(plant: &Plant, security: &str) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "[[opcua]]\nname = \"cell-4\"")?;
    writeln!(out, "endpoint = \"opc.tcp://127.0.0.1:{}\"", plant.port)?;
    writeln!(out, "security = {security:?}\ncheck_hostname = false")?;
    writeln!(out, "batch = 1000\nnodes = [")?;
    for number in 0..NODES {
        writeln!(
            out,
            "{{ name = \"v{number}\", id = \"nsu={};s=v{number}\" }},",
            plant::NAMESPACE
        )?;
    }
    out.push_str("]\n");
    Ok(out)
}
