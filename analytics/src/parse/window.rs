//! Windows: the table functions, and the spellings of other systems in GROUP BY.

use super::lower::{literal_duration, unit_of};
use crate::syntax::{Expr, ExprKind, Position, SqlError, Step, Window};
use crate::value::Value;

type Given = Vec<(Option<String>, Expr)>;

/// The arguments of a window function, by name or by place.
struct Arguments<'a> {
    function: &'a str,
    at: Position,
    by_place: std::vec::IntoIter<Expr>,
    by_name: Vec<(String, Expr)>,
}

impl Arguments<'_> {
    fn next(&mut self, name: &str) -> Option<Expr> {
        if let Some(index) = self.by_name.iter().position(|(given, _)| given == name) {
            return Some(self.by_name.remove(index).1);
        }
        self.by_place.next()
    }

    fn required(&mut self, name: &str) -> Result<Expr, SqlError> {
        self.next(name).ok_or_else(|| {
            SqlError::new(
                self.at,
                format!("{} needs `{name}`; {}", self.function, usage(self.function)),
            )
        })
    }

    fn length(&mut self, name: &str) -> Result<i64, SqlError> {
        positive(&self.required(name)?, name)
    }

    fn offset(&mut self) -> Result<i64, SqlError> {
        self.next("offset")
            .map_or(Ok(0), |expr| literal_duration(&expr))
    }

    fn zone(&mut self) -> Result<Option<String>, SqlError> {
        let Some(expr) = self.next("timezone") else {
            return Ok(None);
        };
        match &expr.kind {
            ExprKind::Literal(Value::Text(text)) => Ok(Some(text.to_string())),
            _ => Err(SqlError::new(expr.at, "expected a time zone in quotes")),
        }
    }

    fn finish(mut self) -> Result<(), SqlError> {
        let extra = self.by_place.next().map(|expr| expr.at);
        let unknown = self.by_name.first().map(|(name, expr)| (name, expr.at));
        match (extra, unknown) {
            (Some(at), _) => Err(SqlError::new(
                at,
                format!("too many arguments; {}", usage(self.function)),
            )),
            (_, Some((name, at))) => Err(SqlError::new(
                at,
                format!("unknown argument `{name}`; {}", usage(self.function)),
            )),
            _ => Ok(()),
        }
    }
}

fn usage(function: &str) -> &'static str {
    match function {
        "tumble" => "expected TUMBLE(stream, size [, offset [, timezone]])",
        "hop" => "expected HOP(stream, slide, size [, offset [, timezone]])",
        "session" => "expected SESSION(stream, gap [, max])",
        "count_window" => "expected COUNT_WINDOW(stream, rows [, step])",
        _ => "expected STATE_WINDOW(stream, open_condition [, close_condition])",
    }
}

fn positive(expr: &Expr, name: &str) -> Result<i64, SqlError> {
    let ms = literal_duration(expr)?;
    if ms > 0 {
        return Ok(ms);
    }
    Err(SqlError::new(
        expr.at,
        format!("`{name}` is {ms} ms, expected more than 0"),
    ))
}

/// A window written as a table function; `given` are the arguments after the
/// source. Returns the time column too if one was named.
pub fn from_table(
    name: &str,
    given: Given,
    at: Position,
) -> Result<(Window, Option<(String, Position)>), SqlError> {
    let function = name.to_ascii_lowercase();
    let known = ["tumble", "hop", "session", "count_window", "state_window"];
    if !known.contains(&function.as_str()) {
        return Err(SqlError::new(
            at,
            format!(
                "unknown table function `{name}`, expected TUMBLE, HOP, SESSION, COUNT_WINDOW or STATE_WINDOW"
            ),
        ));
    }
    let (mut by_place, mut by_name) = (Vec::new(), Vec::new());
    let mut time = None;
    for (name, expr) in given {
        let first = by_place.is_empty() && by_name.is_empty() && time.is_none();
        let bare = match &expr.kind {
            ExprKind::Name(steps) if function != "state_window" => Some(dotted(steps)),
            _ => None,
        };
        match (name, bare) {
            (Some(name), Some(column)) if name == "ts" || name == "timecol" => {
                time = Some((column, expr.at));
            }
            (None, Some(column)) if first => time = Some((column, expr.at)),
            (Some(name), _) => by_name.push((name, expr)),
            (None, _) => by_place.push(expr),
        }
    }
    let arguments = Arguments {
        function: &function,
        at,
        by_place: by_place.into_iter(),
        by_name,
    };
    Ok((build(arguments)?, time))
}

fn build(mut arguments: Arguments<'_>) -> Result<Window, SqlError> {
    let window = match arguments.function {
        "tumble" => Window::Tumble {
            size: arguments.length("size")?,
            offset: arguments.offset()?,
            zone: arguments.zone()?,
        },
        "hop" => Window::Hop {
            slide: arguments.length("slide")?,
            size: arguments.length("size")?,
            offset: arguments.offset()?,
            zone: arguments.zone()?,
        },
        "session" => Window::Session {
            gap: arguments.length("gap")?,
            max: arguments
                .next("max")
                .map(|expr| positive(&expr, "max"))
                .transpose()?,
        },
        "count_window" => {
            let rows = count(&arguments.required("rows")?)?;
            let step = arguments
                .next("step")
                .map_or(Ok(rows), |expr| count(&expr))?;
            Window::Count { rows, step }
        }
        _ => Window::State {
            open: arguments.required("open")?,
            close: arguments.next("close"),
        },
    };
    let at = arguments.at;
    arguments.finish()?;
    check(window, at)
}

/// More slices in a window are refused: each window that closes touches them.
const SLICES_MAX: i64 = 100_000;
/// More rows in a counted window are a window of time.
const COUNT_MAX: i64 = 10_000_000;

fn check(window: Window, at: Position) -> Result<Window, SqlError> {
    match &window {
        Window::Hop { slide, size, .. } => {
            if slide > size {
                return Err(SqlError::new(
                    at,
                    "the slide is longer than the window, so rows in between would be in none",
                ));
            }
            if size / gcd(*slide, *size) > SLICES_MAX {
                return Err(SqlError::new(
                    at,
                    format!("the window has more than {SLICES_MAX} slices; choose a longer slide"),
                ));
            }
        }
        Window::Count { rows, step } if step > rows => {
            return Err(SqlError::new(at, "the step is larger than the window"));
        }
        _ => {}
    }
    Ok(window)
}

/// The greatest common divisor of two positive numbers.
pub fn gcd(left: i64, right: i64) -> i64 {
    if right == 0 {
        left
    } else {
        gcd(right, left % right)
    }
}

fn count(expr: &Expr) -> Result<i64, SqlError> {
    match expr.kind {
        ExprKind::Literal(Value::Int(rows)) if (1..=COUNT_MAX).contains(&rows) => Ok(rows),
        _ => Err(SqlError::new(
            expr.at,
            format!("expected a number of rows from 1 to {COUNT_MAX}"),
        )),
    }
}

fn dotted(steps: &[Step]) -> String {
    let parts: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Field(name) => name.clone(),
            Step::Index(index) => index.to_string(),
        })
        .collect();
    parts.join(".")
}

/// A window written in GROUP BY, as eKuiper, Azure and Arroyo do; none if the
/// expression is no window.
pub fn from_group(expr: &Expr) -> Result<Option<Window>, SqlError> {
    let ExprKind::Call(call) = &expr.kind else {
        return Ok(None);
    };
    let name = call.name.to_ascii_lowercase().replace('_', "");
    let at = expr.at;
    let window = match (name.as_str(), call.arguments.as_slice()) {
        ("tumble", [size]) => Window::Tumble {
            size: positive(size, "size")?,
            offset: 0,
            zone: None,
        },
        ("hop", [slide, size]) => Window::Hop {
            slide: positive(slide, "slide")?,
            size: positive(size, "size")?,
            offset: 0,
            zone: None,
        },
        ("session", [gap]) => Window::Session {
            gap: positive(gap, "gap")?,
            max: None,
        },
        ("tumblingwindow", arguments) => {
            let (lengths, offset) = lengths(arguments, &["duration"], at)?;
            Window::Tumble {
                size: lengths[0],
                offset,
                zone: None,
            }
        }
        ("hoppingwindow", arguments) => {
            let (lengths, offset) = lengths(arguments, &["duration", "hop"], at)?;
            Window::Hop {
                slide: lengths[1],
                size: lengths[0],
                offset,
                zone: None,
            }
        }
        ("sessionwindow", arguments) if arguments.iter().any(|one| part_of(one).is_some()) => {
            let (lengths, _) = lengths(arguments, &["timeout", "maxduration"], at)?;
            Window::Session {
                gap: lengths[0],
                max: Some(lengths[1]),
            }
        }
        ("sessionwindow", arguments) => session(arguments, at)?,
        ("countwindow", [rows]) => {
            let rows = count(rows)?;
            Window::Count { rows, step: rows }
        }
        ("countwindow", [rows, step]) => Window::Count {
            rows: count(rows)?,
            step: count(step)?,
        },
        ("statewindow", [open, rest @ ..]) if rest.len() < 2 => Window::State {
            open: open.clone(),
            close: rest.first().cloned(),
        },
        ("slidingwindow", _) => {
            return Err(SqlError::new(
                at,
                "SLIDINGWINDOW makes a result for every row; use HOP with a slide",
            ));
        }
        _ => return Ok(None),
    };
    check(window, at).map(Some)
}

/// `Duration(second, 10)` and its like, as Azure writes them: the name and the
/// milliseconds.
fn part_of(expr: &Expr) -> Option<(String, i64)> {
    let ExprKind::Call(call) = &expr.kind else {
        return None;
    };
    let [unit, number] = call.arguments.as_slice() else {
        return None;
    };
    let (_, unit) = unit_of(unit)?;
    let number = match &number.kind {
        ExprKind::Literal(Value::Int(number)) => *number,
        ExprKind::Negate(inner) => match inner.kind {
            ExprKind::Literal(Value::Int(number)) => -number,
            _ => return None,
        },
        _ => return None,
    };
    Some((
        call.name.to_ascii_lowercase(),
        (number as f64 * unit) as i64,
    ))
}

/// Lengths by the names of Azure, with an offset, or by place.
fn lengths(arguments: &[Expr], wanted: &[&str], at: Position) -> Result<(Vec<i64>, i64), SqlError> {
    let parts: Option<Vec<(String, i64)>> = arguments.iter().map(part_of).collect();
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
        return Ok((units(arguments, wanted.len(), at)?, 0));
    };
    let part = |name: &str| parts.iter().find(|(known, _)| known == name);
    let found: Vec<i64> = wanted
        .iter()
        .filter_map(|name| part(name).map(|(_, ms)| *ms))
        .filter(|ms| *ms > 0)
        .collect();
    let offset = part("offset");
    if found.len() != wanted.len() || parts.len() != wanted.len() + usize::from(offset.is_some()) {
        return Err(SqlError::new(
            at,
            format!(
                "expected {}(unit, number) with a number above 0, and offset(unit, number) if wanted",
                wanted.join("(unit, number), ")
            ),
        ));
    }
    Ok((found, offset.map_or(0, |(_, ms)| *ms)))
}

/// What stands behind a window in GROUP BY: eKuiper filters the rows before
/// they are cut, Azure names the groups of sessions.
pub fn behind_window(expr: Expr) -> (Option<Expr>, Vec<Expr>) {
    match expr.kind {
        ExprKind::Call(call) => (
            call.filter.map(|filter| *filter),
            call.over.unwrap_or_default(),
        ),
        _ => (None, Vec::new()),
    }
}

/// `(unit, n, …)` or intervals.
fn units(arguments: &[Expr], wanted: usize, at: Position) -> Result<Vec<i64>, SqlError> {
    let fault = || {
        SqlError::new(
            at,
            format!("expected a unit and {wanted} number(s), for example (ss, 10)"),
        )
    };
    let Some((first, rest)) = arguments.split_first() else {
        return Err(fault());
    };
    let Some((_, unit)) = unit_of(first) else {
        if arguments.len() != wanted {
            return Err(fault());
        }
        return arguments
            .iter()
            .map(|expr| positive(expr, "length"))
            .collect();
    };
    if rest.len() != wanted {
        return Err(fault());
    }
    rest.iter()
        .map(|expr| match expr.kind {
            ExprKind::Literal(Value::Int(number)) if number > 0 => {
                Ok((number as f64 * unit) as i64)
            }
            _ => Err(fault()),
        })
        .collect()
}

/// eKuiper writes the longest session first, Azure the silence. They are told
/// apart by their names of units: eKuiper's have two letters.
fn session(arguments: &[Expr], at: Position) -> Result<Window, SqlError> {
    if arguments.len() <= 2 && arguments.first().and_then(unit_of).is_some() {
        return Ok(Window::Session {
            gap: units(arguments, 1, at)?[0],
            max: None,
        });
    }
    let lengths = units(arguments, 2, at)?;
    let ekuiper = arguments
        .first()
        .and_then(unit_of)
        .is_some_and(|(name, _)| name.len() == 2);
    let (gap, max) = if ekuiper {
        (lengths[1], lengths[0])
    } else {
        (lengths[0], lengths[1])
    };
    Ok(Window::Session {
        gap,
        max: Some(max),
    })
}
