//! What a query costs in a running gateway: reading the log, decoding batches,
//! the engine, and the commits of results and state.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Spec, program};
use crate::wire::batch::{Producer, encode_keyed};
use crate::wire::kafka::Client;

/// Machines, as in the figures for operators alone.
const MACHINES: u64 = 1_000;
/// Readings per millisecond of event time: each machine ten times a second.
const PER_MS: u64 = 10;
/// Readings of one batch, and batches in flight.
const BATCH: u64 = 1_000;
const IN_FLIGHT: usize = 8;

/// Queries that wait, and what they may take.
const IDLE: usize = 50;
const IDLE_BYTES: u64 = 10_000_000;
/// Before the idle gateway is looked at, and how long it is looked at.
const SETTLING: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(10);

/// Events per CPU second.
const TARGET: f64 = 1e6;
/// How long catching up may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often the status is asked for, which costs the gateway a little.
const LOOK: Duration = Duration::from_millis(100);

/// Ticks of processor time: 100 on every Linux platform that is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The event time of the first reading, in milliseconds since the Unix epoch.
const START_MS: i64 = 1_763_856_000_000;
/// Between two readings of light traffic.
const TRICKLE: Duration = Duration::from_millis(10);

/// The log topic of the readings.
const TOPIC: &str = "telemetry";

const TUMBLE: &str = "\
CREATE STREAM s FROM 'plant/#' TIMESTAMP BY ts IDLE AFTER '1 h';
SELECT path, avg(value) AS a, stddev(value) AS s, max(value) AS m, window_start
FROM TUMBLE(s, '10 s') GROUP BY path
";

/// The route of the readings.
const ROUTE: &str = "[[route]]\nfilter = \"plant/#\"\ntopic = \"telemetry\"\npartitions = 1\n";

/// Prints the figures, and fails if a target was missed.
pub fn run(given: Option<PathBuf>, events: u64) -> Outcome {
    super::queries::settings();
    let program = match given {
        Some(path) => path,
        None => program::build("release")?,
    };
    let work = tempfile::tempdir().during("temporary directory")?;
    let rate = catch_up(&program, work.path(), events)?;
    let idle = idle(&program, work.path())?;
    let targets = [
        ("1 million JSON events per CPU second", rate >= TARGET),
        ("10 MB for queries that wait", idle < IDLE_BYTES),
    ];
    let missed = targets.iter().filter(|(_, met)| !met);
    let missed: Vec<&str> = missed.map(|(name, _)| *name).collect();
    match missed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(format!("missed: {}", missed.join("; ")))),
    }
}

/// Fills a log, and lets a query begin with its oldest record.
fn catch_up(program: &Path, work: &Path, events: u64) -> Outcome<f64> {
    let mut spec = Spec::gateway(program, "bench", work);
    spec.sections = ROUTE.to_owned();
    let mut node = Node::start(&spec)?;
    produce(&node, events)?;
    node.stop()?;

    write_query(&spec, "tumble.sql", TUMBLE)?;
    spec.sections
        .push_str("[[query]]\nfile = \"tumble.sql\"\nfrom = \"earliest\"\n");
    let mut node = Node::start(&spec)?;
    let started = Instant::now();
    let query = loop {
        let status = node.status()?;
        let query = status["queries"][0].clone();
        if query["rows_in"].as_u64() == Some(events) {
            break query;
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(format!("not caught up: {query}")));
        }
        thread::sleep(LOOK);
    };
    let own = query["cpu_us"].as_u64().unwrap_or_default() as f64 / 1e6;
    let process = cpu_seconds(node.id())?;
    let rows = query["rows_out"].as_u64().unwrap_or_default();
    let (rate, whole) = (events as f64 / own, events as f64 / process);
    println!("{events} readings of {MACHINES} machines in the log, {rows} rows:");
    println!(
        "{:8.2}  million events per CPU second of the query",
        rate / 1e6
    );
    println!(
        "{:8.2}  million events per CPU second of the process, its start and commits included",
        whole / 1e6
    );
    node.stop()?;
    Ok(rate)
}

/// Produces readings with the path as key, as a route would place them.
fn produce(node: &Node, events: u64) -> Outcome {
    let mut client = Client::connect(node.ports.kafka).during("Kafka connection")?;
    client.create_topic(TOPIC, 1).during(TOPIC)?;
    let paths: Vec<String> = (0..MACHINES)
        .map(|machine| format!("plant/hall-7/machine-{machine:04}/vib"))
        .collect();
    let mut waiting = 0;
    for first in (0..events).step_by(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
        let numbers = first..events.min(first + BATCH);
        let time = |number: u64| START_MS + (number / PER_MS).cast_signed();
        let values: Vec<String> = numbers
            .clone()
            .map(|number| {
                format!(
                    "{{\"value\":{}.{:02},\"ts\":{},\"quality\":\"good\",\"unit\":\"mm/s\"}}",
                    number % 90,
                    number % 100,
                    time(number)
                )
            })
            .collect();
        let records: Vec<(Option<&[u8]>, &[u8])> = numbers
            .zip(&values)
            .map(|(number, value)| {
                let machine = usize::try_from(number * 7 % MACHINES).unwrap_or_default();
                (Some(paths[machine].as_bytes()), value.as_bytes())
            })
            .collect();
        let batch = encode_keyed(Producer::NONE, time(first), &records);
        client.send_produce(TOPIC, 0, &batch).during("Produce")?;
        waiting += 1;
        while waiting >= IN_FLIGHT {
            produced(&mut client)?;
            waiting -= 1;
        }
    }
    for _ in 0..waiting {
        produced(&mut client)?;
    }
    Ok(())
}

fn produced(client: &mut Client) -> Outcome {
    match client.read_produced().during("Produce")?.error {
        0 => Ok(()),
        error => Err(Failure::new(format!("Produce answered error {error}"))),
    }
}

/// One reading each ten milliseconds.
fn trickle(node: &Node) -> Outcome {
    let mut client = Client::connect(node.ports.kafka).during("Kafka connection")?;
    let started = Instant::now();
    while started.elapsed() < WATCHED {
        let now = started.elapsed().as_millis();
        let value = format!("{{\"value\":55,\"ts\":{}}}", START_MS as u128 + now);
        let path = format!("plant/hall-7/machine-{:04}/vib", now % 10);
        let record = (Some(path.as_bytes()), value.as_bytes());
        let batch = encode_keyed(Producer::NONE, START_MS, &[record]);
        client.send_produce(TOPIC, 0, &batch).during("Produce")?;
        produced(&mut client)?;
        thread::sleep(TRICKLE);
    }
    Ok(())
}

/// Bytes that queries add to a gateway which have seen readings of ten paths.
fn idle(program: &Path, work: &Path) -> Outcome<u64> {
    let without = waiting(program, work, 0)?;
    let with = waiting(program, work, IDLE)?;
    let more = with.memory.saturating_sub(without.memory);
    println!("{IDLE} queries that wait, against none:");
    println!(
        "{:8.1}  MB more anonymous memory (of {:.1} MB)",
        more as f64 / 1e6,
        with.memory as f64 / 1e6
    );
    for (share, without, when) in [
        (with.idle, without.idle, "while nothing comes"),
        (
            with.busy,
            without.busy,
            "with a reading each ten milliseconds",
        ),
    ] {
        println!(
            "{:8.2}  % of a core {when}, {:.2} % without",
            share * 100.0,
            without * 100.0
        );
    }
    Ok(more)
}

/// What a gateway takes.
struct Taken {
    /// Bytes of anonymous memory.
    memory: u64,
    /// Shares of a core: while nothing comes, and with light traffic.
    idle: f64,
    busy: f64,
}

/// What a gateway with so many queries takes.
fn waiting(program: &Path, work: &Path, queries: usize) -> Outcome<Taken> {
    let mut spec = Spec::gateway(program, &format!("idle-{queries}"), work);
    spec.sections = ROUTE.to_owned();
    for number in 0..queries {
        let text = format!(
            "CREATE STREAM s FROM 'plant/#' TIMESTAMP BY ts;
             SELECT path, avg(value) AS a, stddev(value) AS s, max(value) AS m
             FROM HOP(s, '1 s', '60 s') WHERE value > {number} GROUP BY path;
             CREATE ALERT high WHEN m > 80 FOR '1 min' CLEAR WHEN m < 70"
        );
        let file = format!("q{number}.sql");
        write_query(&spec, &file, &text)?;
        spec.sections
            .push_str(&format!("[[query]]\nfile = \"{file}\"\n"));
    }
    let mut node = Node::start(&spec)?;
    thread::sleep(SETTLING);
    produce(&node, 10)?;
    thread::sleep(SETTLING);
    let start = cpu_seconds(node.id())?;
    thread::sleep(WATCHED);
    let middle = cpu_seconds(node.id())?;
    let memory = super::queries::anonymous(&node.id().to_string())?;
    trickle(&node)?;
    let end = cpu_seconds(node.id())?;
    node.stop()?;
    Ok(Taken {
        memory: memory as u64,
        idle: (middle - start) / WATCHED.as_secs_f64(),
        busy: (end - middle) / WATCHED.as_secs_f64(),
    })
}

fn write_query(spec: &Spec, file: &str, text: &str) -> Outcome {
    std::fs::create_dir_all(&spec.work_dir).during(spec.work_dir.display())?;
    let path = spec.work_dir.join(file);
    std::fs::write(&path, text).during(path.display())
}

/// Processor time of a process so far, all threads, in the kernel and outside.
fn cpu_seconds(process: u32) -> Outcome<f64> {
    let file = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&file).during(&file)?;
    // The name of the program may have spaces; fields are counted behind it.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS_PER_SECOND)
}
