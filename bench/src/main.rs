//! Benchmarks of Forebay against its peers and against the raw disk.
//!
//! Every figure is printed beside what it is compared with, from the same run
//! on the same machine: ratios travel, absolute numbers do not. These are
//! measurements and not tests; nothing here fails because it is slow.
#![forbid(unsafe_code)]

mod catchup;
mod delay;
mod device;
mod disk;
mod fanout;
mod figures;
mod idle;
mod ingest;
mod load;
mod machine;
mod modbus;
mod mosquitto;
mod opcua;
mod process;
mod produce;
mod request;
mod sessions;
mod tls;
mod wear;

use std::process::ExitCode;

use xtask::args::Args;
use xtask::failure::{Failure, Outcome};

const HELP: &str = "\
Benchmarks of Forebay. Each prints ratios, both sides of them, and the machine.

Usage: cargo run --release -p forebay-bench -- COMMAND [OPTIONS]

Commands:
  ingest    durable MQTT QoS 1 from 64 connections, beside mosquitto
  latency   PUBACK times at --rate (default 20000), beside raw fdatasync
  fanout    one publisher to 1,000 QoS 0 subscribers, beside mosquitto
  produce   Kafka Produce acks=all on one connection, beside write and fdatasync
  catchup   the uplink drains a backlog, beside loopback produce speed
  modbus    10,000 and 100,000 tags at 1 s from ten devices: CPU and memory
  opcua     10,000 nodes that change once a second: CPU and memory
  idle      memory, time to ready, size of the binary
  request   QoS 1 request and response, beside mosquitto
  sessions  memory of 50,000 idle persistent sessions
  tls       durable MQTT QoS 1 over TLS, beside plain TCP
  wear      device bytes per acknowledged byte, beside appended files; root

Options:
  --forebay PATH  the program (default target/release/forebay)
  --rounds N      rounds; medians are printed (default 3)
  --seconds N     length of one measurement (default 5; wear 30)
  --window N      publishes in flight per connection (default 16)
  --sessions N    fanout: subscribers (default 1000); sessions: sessions (default 50000)
  --rate N        ingest: load of the latencies (default a third of the rate reached)
  --batch-kib N   produce: size of one request (default 256)
  --mib N         catchup: the backlog (default 256)
  --gib N         idle: the large log (default 1)
  --dir PATH      where the data directories are made (default: the system's)
  --json          print JSON
";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let asks_help = words.iter().any(|word| word == "--help" || word == "-h");
    if words.is_empty() || asks_help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let command = words.remove(0);
    match run(&command, Args::new(words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench {command}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, args: Args) -> Outcome {
    let measure = match command {
        "ingest" => ingest::measure,
        "latency" => delay::measure,
        "fanout" => fanout::measure,
        "produce" => produce::measure,
        "catchup" => catchup::measure,
        "modbus" => modbus::measure,
        "opcua" => opcua::measure,
        "idle" => idle::measure,
        "request" => request::measure,
        "sessions" => sessions::measure,
        "tls" => tls::measure,
        "wear" => wear::measure,
        other => {
            return Err(Failure::new(format!(
                "unknown command {other:?}; see --help"
            )));
        }
    };
    let (setting, as_json) = machine::Setting::from_args(args)?;
    let mut report = figures::Report::new(command);
    machine::describe(&setting, &mut report)?;
    measure(&setting, &mut report)?;
    report.fact("load average at the end", machine::load_average());
    report.print(as_json);
    Ok(())
}
