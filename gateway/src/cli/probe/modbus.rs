//! `forebay probe modbus`: registers in every type and byte order side by side,
//! so that a person sees which is right.

mod table;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use forebay_modbus::address::{Address, Table};
use forebay_modbus::bus::Framing;
use forebay_modbus::client::{AskError, Asker, Reply};
use forebay_modbus::endpoint::Endpoint;
use forebay_modbus::request::{READ_REGISTERS_MAX, Request};
use serde_json::json;

use crate::cli::{CommandError, print_json};
use crate::config::quantity::duration;
use table::Registers;

/// Which registers of which device.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay probe modbus tcp://10.0.0.7 --unit 1 --address 100
  forebay probe modbus tcp://10.0.0.7 --address 40101 --count 4
  forebay probe modbus rtu:///dev/ttyUSB0?baud=9600 --unit 3 --address 0 --register input
  forebay probe modbus rtu+tcp://10.0.0.8:4001 --scan-units

Addresses count from 0; a reference of five or six digits such as 40101 or
400101 counts from 1 and names the table, unless --register is given.
Exit code 0: the device answered. 1: it did not, or it refused.")]
pub struct ModbusArgs {
    /// tcp://HOST[:502], rtu+tcp://HOST:PORT or rtu:///dev/DEVICE?baud=19200&parity=even
    #[arg(value_parser = parse_endpoint)]
    endpoint: Endpoint,
    /// The unit behind the endpoint
    #[arg(long, short, default_value_t = 1)]
    unit: u8,
    /// The first address, from 0, or a reference such as 40101
    #[arg(long, short, default_value = "0")]
    address: String,
    /// How many registers or bits
    #[arg(long, short, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(READ_REGISTERS_MAX)))]
    count: u16,
    /// holding, input, coil or discrete
    #[arg(long, short, value_parser = parse_table)]
    register: Option<Table>,
    /// How long one answer may take
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    timeout: Duration,
    /// Ask units one after the other and list those that answer
    #[arg(long, conflicts_with = "count")]
    scan_units: bool,
    /// Units to ask with --scan-units, such as 1-247
    #[arg(long, default_value = "1-247", value_parser = parse_range, requires = "scan_units")]
    units: (u8, u8),
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command. `Ok(false)`: the device refused, or no unit answered.
///
/// # Errors
/// The device cannot be reached or does not answer.
pub async fn execute(args: ModbusArgs) -> Result<bool, CommandError> {
    let address = place(&args)?;
    let mut asker = Asker::new(args.endpoint.clone(), args.timeout);
    if args.scan_units {
        return scan(&args, &mut asker, address).await;
    }
    let request = Request::Read {
        table: address.table,
        start: address.number,
        count: args.count,
    };
    let data = match asker.ask(args.unit, &request).await {
        Ok(Reply::Data(data)) => data,
        Ok(Reply::Refused(exception)) => {
            eprintln!(
                "forebay: unit {} refuses {} {address} and {} behind: {exception}{}",
                args.unit,
                noun(address.table),
                args.count - 1,
                advice(exception.code())
            );
            return Ok(false);
        }
        Ok(Reply::Written) => return Ok(false),
        Err(error) => return Err(explain(&args.endpoint, &error)),
    };
    let registers = Registers {
        address,
        unit: args.unit,
        count: args.count,
        data: &data,
    };
    if args.json {
        print_json(&registers.json())?;
    } else {
        registers.print(&mut io::stdout().lock())?;
    }
    Ok(true)
}

/// Asks every unit for one register. A refusal is an answer as well.
async fn scan(
    args: &ModbusArgs,
    asker: &mut Asker,
    address: Address,
) -> Result<bool, CommandError> {
    let request = Request::Read {
        table: address.table,
        start: address.number,
        count: 1,
    };
    let (first, last) = args.units;
    let mut found = Vec::new();
    for unit in first..=last {
        progress(args, unit, found.len());
        let said = match asker.ask(unit, &request).await {
            Ok(Reply::Refused(exception)) if exception.is_unit_away() => continue,
            Ok(Reply::Refused(exception)) => format!("refuses {address}: {exception}"),
            Ok(_) => format!("answers {address}"),
            Err(AskError::Timeout { .. }) => continue,
            // Some gateways close the connection instead of answering.
            Err(AskError::Broken(_)) => continue,
            Err(error @ AskError::Open { .. }) => return Err(explain(&args.endpoint, &error)),
            Err(error) => format!("answers, but: {error}"),
        };
        clear_progress(args);
        if !args.json {
            writeln!(io::stdout(), "unit {unit:>3}  {said}")?;
        }
        found.push(json!({ "unit": unit, "answer": said }));
    }
    clear_progress(args);
    let is_any = !found.is_empty();
    if args.json {
        print_json(&json!({ "endpoint": args.endpoint.to_string(), "units": found }))?;
    } else {
        let count = found.len();
        let asked = u16::from(last) - u16::from(first) + 1;
        writeln!(io::stdout(), "{count} of {asked} units answer")?;
    }
    Ok(is_any)
}

/// A line on standard error that is written over, for who waits.
fn progress(args: &ModbusArgs, unit: u8, found: usize) {
    use std::io::IsTerminal;
    if !args.json && io::stderr().is_terminal() {
        eprint!("\rasking unit {unit} of {}, {found} found ", args.units.1);
    }
}

fn clear_progress(args: &ModbusArgs) {
    use std::io::IsTerminal;
    if !args.json && io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// The table and the address of the arguments.
fn place(args: &ModbusArgs) -> Result<Address, CommandError> {
    let wrong = |text: &str| CommandError::Usage(text.to_owned());
    let reference = Address::from_reference(&args.address);
    let address = match (args.register, reference) {
        (None, Some(reference)) => reference,
        (table, _) => Address {
            table: table.unwrap_or(Table::Holding),
            number: args.address.parse().map_err(|_| {
                wrong("--address: expected a number from 0 to 65535, or a reference such as 40101")
            })?,
        },
    };
    if u32::from(address.number) + u32::from(args.count) > 1 << 16 && !args.scan_units {
        return Err(wrong(
            "--count: expected the last address to be at most 65535",
        ));
    }
    Ok(address)
}

const fn noun(table: Table) -> &'static str {
    if table.is_bits() { "bit" } else { "register" }
}

/// What to try when a device refuses.
fn advice(code: u8) -> &'static str {
    match code {
        1 => "; try another --register",
        2 => {
            "; the device has no such address, or not so many from there: try --count 1, a neighbour (manuals often count from 1), or another --register"
        }
        10 | 11 => "; the gateway cannot reach this unit: try --scan-units",
        _ => "",
    }
}

/// An error with what to try.
fn explain(endpoint: &Endpoint, error: &AskError) -> CommandError {
    let is_serial = matches!(endpoint.framing(), Framing::Rtu { .. });
    let hint = match error {
        AskError::Timeout { .. } if is_serial => {
            "; check baud, parity and wiring, or try --scan-units"
        }
        AskError::Timeout { .. } => {
            "; try another --unit (1, 255 and 0 are usual), --scan-units, or a longer --timeout"
        }
        AskError::Tcp(_) => "; is it a serial converter? then use rtu+tcp://",
        AskError::Rtu(_) | AskError::Misfit(_) => "; try again, or check the endpoint's kind",
        AskError::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "; on Linux, serial ports belong to the group dialout"
        }
        _ => "",
    };
    CommandError::Usage(format!("{error}{hint}"))
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse(text).map_err(|error| error.to_string())
}

fn parse_table(text: &str) -> Result<Table, String> {
    Table::from_name(text).ok_or_else(|| "expected holding, input, coil or discrete".to_owned())
}

/// Reads a time that something may take.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "expected a duration such as 500ms".to_owned())
}

fn parse_range(text: &str) -> Result<(u8, u8), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok().zip(last.parse().ok());
    range
        .filter(|(first, last)| first <= last)
        .ok_or_else(|| "expected units such as 1-247".to_owned())
}
