//! `forebay functions`.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Args;
use forebay_analytics::bind::closest;
use forebay_analytics::builtin;
use forebay_analytics::functions::{self, Accepts, Function, Kind, Parameter, Returns};
use serde::Serialize;

use super::{CommandError, print_json};

/// Where meanings begin in the list. A longer call has a line of its own.
const MEANING_COLUMN: usize = 32;

/// Arguments of `functions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay functions                    all of them, by group
  forebay functions envelope_score     one with formula, units and source
  forebay functions --json | jq -r .[].name")]
pub struct FunctionsArgs {
    /// Only this function, with its whole documentation
    name: Option<String>,
    /// Print JSON: all functions, or the one
    #[arg(long)]
    json: bool,
}

/// How functions are grouped, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Group {
    Aggregate,
    Analytic,
    Signal,
    Number,
    Text,
    Time,
}

const GROUPS: &[(Group, &str)] = &[
    (
        Group::Aggregate,
        "Aggregates: one result per group and window",
    ),
    (
        Group::Analytic,
        "Looking back: one result per row, from the rows of its key before it",
    ),
    (Group::Signal, "Waveforms: one block of samples per row"),
    (Group::Number, "Numbers"),
    (Group::Text, "Text"),
    (Group::Time, "Time"),
];

/// One function as `--json` prints it.
#[derive(Debug, Serialize)]
struct Described {
    name: &'static str,
    aliases: &'static [&'static str],
    group: Group,
    call: String,
    parameters: Vec<DescribedParameter>,
    variadic: bool,
    returns: String,
    summary: &'static str,
    formula: &'static str,
    units: &'static str,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct DescribedParameter {
    name: &'static str,
    #[serde(rename = "type")]
    accepts: &'static str,
    optional: bool,
    literal: bool,
}

/// Prints the functions of SQL.
///
/// # Errors
/// There is no function of that name.
pub async fn execute(args: FunctionsArgs) -> Result<bool, CommandError> {
    let Some(name) = &args.name else {
        if args.json {
            let all: Vec<Described> = functions::all().map(describe).collect();
            print_json(&all)?;
        } else {
            io::stdout().lock().write_all(list().as_bytes())?;
        }
        return Ok(true);
    };
    let function = find(name).map_err(CommandError::Usage)?;
    if args.json {
        print_json(&describe(function))?;
    } else {
        io::stdout().lock().write_all(page(function).as_bytes())?;
    }
    Ok(true)
}

/// The function of a name, which may be written as a call.
fn find(name: &str) -> Result<&'static Function, String> {
    let name = name.split('(').next().unwrap_or_default().trim();
    functions::find(name).ok_or_else(|| {
        let names = functions::all()
            .flat_map(|function| std::iter::once(&function.name).chain(function.aliases))
            .copied();
        let hint = closest(name, names).map_or_else(
            || "`forebay functions` lists them".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        format!("there is no function {name}, {hint}")
    })
}

fn group(function: &'static Function) -> Group {
    let is_in = |table: &[Function]| table.iter().any(|one| one.name == function.name);
    match function.kind {
        Kind::Aggregate => Group::Aggregate,
        Kind::Analytic => Group::Analytic,
        Kind::Signal => Group::Signal,
        Kind::Scalar if is_in(builtin::text::CATALOGUE) => Group::Text,
        Kind::Scalar if is_in(builtin::time::CATALOGUE) => Group::Time,
        Kind::Scalar => Group::Number,
    }
}

fn list() -> String {
    let mut text = String::new();
    for (wanted, heading) in GROUPS {
        let members: Vec<&Function> = functions::all()
            .filter(|function| group(function) == *wanted)
            .collect();
        if members.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{heading}");
        for function in members {
            let call = format!("  {}", call(function));
            let room = match call.len() < MEANING_COLUMN {
                true => MEANING_COLUMN - call.len(),
                false => {
                    let _ = writeln!(text, "{call}");
                    MEANING_COLUMN
                }
            };
            if room < MEANING_COLUMN {
                text.push_str(&call);
            }
            let _ = write!(text, "{:room$}{}", "", function.summary);
            if !function.units.is_empty() {
                let _ = write!(text, " [{}]", function.units);
            }
            text.push('\n');
        }
    }
    text.push_str("\nforebay functions NAME prints formula, parameters and source of one.\n");
    text
}

/// `name(x, y [, z])`.
fn call(function: &Function) -> String {
    let mut text = format!("{}(", function.name);
    for (place, parameter) in function.parameters.iter().enumerate() {
        let comma = if place > 0 { ", " } else { "" };
        let _ = match (parameter.optional, place) {
            (true, 0) => write!(text, "[{}]", parameter.name),
            (true, _) => write!(text, " [, {}]", parameter.name),
            (false, _) => write!(text, "{comma}{}", parameter.name),
        };
    }
    if function.variadic {
        text.push_str(", …");
    }
    text.push(')');
    text
}

fn returns(function: &Function) -> String {
    match function.returns {
        Returns::Type(data_type) => data_type.to_string(),
        Returns::SameAs(index) => {
            let name = function.parameters.get(index).map(|one| one.name);
            format!("the type of {}", name.unwrap_or("its argument"))
        }
    }
}

fn accepts(parameter: &Parameter) -> &'static str {
    match parameter.accepts {
        Accepts::Any => "any type",
        Accepts::Number => "number",
        Accepts::Int => "bigint",
        Accepts::Bool => "boolean",
        Accepts::Text => "text",
        Accepts::Timestamp => "timestamp",
        Accepts::Interval => "interval",
        Accepts::Waveform => "waveform",
    }
}

/// Everything that is known about a function.
fn page(function: &'static Function) -> String {
    let mut text = format!("{} -> {}\n", call(function), returns(function));
    let _ = writeln!(text, "  {}", function.summary);
    if !function.parameters.is_empty() {
        text.push('\n');
    }
    let names = function.parameters.iter().map(|one| one.name.len());
    let width = names.max().unwrap_or(0);
    for parameter in function.parameters {
        let literal = if parameter.constant {
            ", a literal"
        } else {
            ""
        };
        let optional = match parameter.optional {
            true => ", may be left out",
            false => "",
        };
        let _ = writeln!(
            text,
            "  {:width$}  {}{literal}{optional}",
            parameter.name,
            accepts(parameter),
        );
    }
    let aliases = function.aliases.join(", ");
    let mut facts = [
        ("formula", function.formula),
        ("result", function.units),
        ("also", aliases.as_str()),
        ("source", function.source),
    ]
    .into_iter()
    .filter(|(_, fact)| !fact.is_empty())
    .peekable();
    if facts.peek().is_some() {
        text.push('\n');
    }
    for (name, fact) in facts {
        let _ = writeln!(text, "  {name:8} {fact}");
    }
    text
}

fn describe(function: &'static Function) -> Described {
    Described {
        name: function.name,
        aliases: function.aliases,
        group: group(function),
        call: call(function),
        parameters: function
            .parameters
            .iter()
            .map(|parameter| DescribedParameter {
                name: parameter.name,
                accepts: accepts(parameter),
                optional: parameter.optional,
                literal: parameter.constant,
            })
            .collect(),
        variadic: function.variadic,
        returns: returns(function),
        summary: function.summary,
        formula: function.formula,
        units: function.units,
        source: function.source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_listed_once_with_its_meaning() {
        let text = list();
        for function in functions::all() {
            let mentions = text
                .lines()
                .filter(|line| line.trim_start().starts_with(&call(function)))
                .count();
            assert_eq!(mentions, 1, "{}", function.name);
            assert!(text.contains(function.summary), "{}", function.name);
        }
        for (_, heading) in GROUPS {
            assert!(text.contains(heading), "{heading} is empty");
        }
    }

    #[test]
    fn a_page_has_parameters_formula_and_source() {
        let text = page(find("HAMPEL").unwrap());
        for expected in [
            "hampel(x, window [, limit]) -> double\n",
            "limit   number, a literal, may be left out\n",
            "formula  |x - median| > limit",
            "source   Hampel, JASA 69 (1974)",
        ] {
            assert!(text.contains(expected), "{expected:?} in\n{text}");
        }
    }

    #[test]
    fn a_typo_is_told_the_nearest_name() {
        let nearest = find("hampl").unwrap_err();
        assert_eq!(nearest, "there is no function hampl, did you mean hampel?");
        let none = find("zzzzzzzz").unwrap_err();
        assert!(none.ends_with("`forebay functions` lists them"), "{none}");
        assert_eq!(find("hampel(x, 7)").unwrap().name, "hampel");
    }
}
