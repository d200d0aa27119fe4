//! What the analytic functions find, and how fast.
//!
//! All but one of these commands call the crate as a library: a gateway would
//! add noise to the time and nothing to the answer. [`gateway`] measures what
//! the log around it costs. The data stay where they are; nothing of them is in
//! the repository.

mod anomaly;
mod bearings;
mod functions;
mod gateway;
pub mod nab;
mod queries;

use crate::args::Args;
use crate::failure::{Failure, Outcome};

/// What `--help` prints.
pub const HELP: &str = "\
Measures the analytic functions.

Usage: cargo xtask bench anomaly --data DIR [--each]
       cargo xtask bench bearings --data DIR
       cargo run --release -p xtask -- bench functions
       cargo run --release -p xtask -- bench queries
       cargo run --release -p xtask -- bench gateway [--bin PATH] [--events N]

  anomaly    scores anomaly_score on series of the Numenta Anomaly Benchmark;
             DIR holds windows.json and the CSV files that it names
  bearings   scores recordings of bearings; DIR holds index.json and f32 files
  functions  rows per CPU second of aggregates, microseconds per waveform
  queries    rows per CPU second of windows and of decoding, and what fifty
             queries that wait take

  gateway    events per CPU second from the log of a running gateway to committed
             result rows, and what fifty queries take while nothing comes

  --bin PATH   drive this program instead of building one (profile release)
  --events N   readings in the log (default 3000000)
  --each     print every series
";

/// Runs the measurement that the first word names.
///
/// # Errors
/// The data are missing or damaged, or a fault is not told from health.
pub fn command(mut args: Args) -> Outcome {
    let data: Option<String> = args.value("--data")?;
    let each = args.flag("--each");
    let program = args.value("--bin")?;
    let events = args.value("--events")?.unwrap_or(3_000_000);
    let names = args.names();
    args.finish()?;
    let folder = || {
        data.as_deref().ok_or_else(|| {
            Failure::new("the data are not in the repository; name their folder with --data")
        })
    };
    match names.as_slice() {
        [name] if name == "anomaly" => anomaly::run(folder()?.as_ref(), each),
        [name] if name == "bearings" => bearings::run(folder()?.as_ref()),
        [name] if name == "functions" => functions::run(),
        [name] if name == "queries" => queries::run(),
        [name] if name == "gateway" => gateway::run(program, events),
        _ => Err(Failure::new(
            "expected anomaly, bearings, functions, queries or gateway",
        )),
    }
}
