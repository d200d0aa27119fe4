//! Function calls.

use super::operator::{alike, can_cast};
use super::{ANALYTIC_BASE, ExprBinder, Groups, Place, function_hint};
use crate::functions::{self, Accepts, Body, Function, Parameter, Returns};
use crate::plan::{AggregateCall, AnalyticCall, ColumnSource, Expr, Unary};
use crate::syntax::{self, CallSyntax, Operator, Position, SqlError};
use crate::value::{DataType, Value};

impl ExprBinder<'_, '_> {
    pub(super) fn call(&mut self, call: &CallSyntax, at: Position) -> Result<Expr, SqlError> {
        let name = call.name.to_ascii_lowercase();
        match name.as_str() {
            "coalesce" | "ifnull" | "nullif" | "greatest" | "least" => {
                return self.choice(&name, call, at);
            }
            "header" | "path_level" => return self.record_part(&name, call, at),
            "window_start" | "window_end" if call.arguments.is_empty() => {
                return self.name(&[syntax::Step::Field(name)], at);
            }
            "now" | "current_timestamp" => {
                return Err(SqlError::new(
                    at,
                    "a query has no clock, because it must give the same result when it is repeated; use event_time or record_time",
                ));
            }
            _ => {}
        }
        let name = match (call.distinct, name.as_str()) {
            (true, "count") => "count_distinct",
            (true, other) => {
                return Err(SqlError::new(
                    at,
                    format!("DISTINCT works in count(DISTINCT x) only, not in {other}"),
                ));
            }
            (false, other) => other,
        };
        let Some(function) = functions::find(name) else {
            if name.eq_ignore_ascii_case("lead") {
                return Err(SqlError::new(
                    at,
                    "lead(x) would wait for a row that may never come; give the row before with \
                     lag(x) instead, or two rows with COUNT_WINDOW(stream, 2, 1), first(x) and last(x)",
                ));
            }
            return Err(SqlError::new(
                at,
                format!("unknown function `{name}`{}", function_hint(name)),
            ));
        };
        match function.body {
            Body::Scalar(_) => {
                self.refuse(call.over.is_some() || call.filter.is_some(), function, at)?;
                self.scalar(function, call, at)
            }
            Body::Aggregate(_) => {
                if call.over.is_some() {
                    return Err(SqlError::new(
                        at,
                        format!("{name} is an aggregate and takes no OVER; use a window in FROM"),
                    ));
                }
                self.aggregate(function, call, at)
            }
            Body::Analytic(_) => {
                self.refuse(call.filter.is_some(), function, at)?;
                self.analytic(function, call, at)
            }
        }
    }

    fn refuse(&self, wrong: bool, function: &Function, at: Position) -> Result<(), SqlError> {
        if wrong {
            return Err(SqlError::new(
                at,
                format!("{} takes neither OVER nor FILTER", function.name),
            ));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        function: &'static Function,
        call: &CallSyntax,
        at: Position,
    ) -> Result<Expr, SqlError> {
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push((self.bind(argument)?, argument.at));
        }
        let made = check(function, arguments, at)?;
        if let Body::Scalar(make) = function.body {
            made.with_call(make)
                .map_err(|error| misuse(function, &error, at))?;
        }
        Ok(Expr::Call {
            function,
            arguments: made.arguments,
            constants: made.constants,
            data_type: made.data_type,
        })
    }

    fn aggregate(
        &mut self,
        function: &'static Function,
        call: &CallSyntax,
        at: Position,
    ) -> Result<Expr, SqlError> {
        let Place::Groups(Groups {
            keys, aggregates, ..
        }) = &mut self.place
        else {
            return Err(SqlError::new(
                at,
                format!(
                    "aggregate `{}` cannot stand in {}{}",
                    function.name,
                    self.clause,
                    if self.clause == "SELECT" {
                        "; it needs a window, for example FROM TUMBLE(stream, INTERVAL '1 min')"
                    } else {
                        ""
                    }
                ),
            ));
        };
        let mut inner = ExprBinder {
            scope: self.scope,
            place: Place::Rows,
            analytics: None,
            partition: &[],
            clause: "an aggregate",
        };
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push((inner.bind(argument)?, argument.at));
        }
        if let Some(filter) = &call.filter {
            let condition = inner.condition(filter)?;
            let first = if arguments.is_empty() {
                arguments.push((Expr::Literal(Value::Int(1)), at));
                &mut arguments[0].0
            } else {
                &mut arguments[0].0
            };
            let data_type = first.data_type();
            *first = Expr::Case(vec![(condition, first.clone())], None, data_type);
        }
        let made = check(function, arguments, at)?;
        if let Body::Aggregate(make) = function.body {
            made.with_call(make)
                .map_err(|error| misuse(function, &error, at))?;
        }
        let index = add_aggregate(aggregates, made);
        Ok(Expr::Column(
            keys.len() + 2 + index,
            aggregates[index].data_type,
        ))
    }

    fn analytic(
        &mut self,
        function: &'static Function,
        call: &CallSyntax,
        at: Position,
    ) -> Result<Expr, SqlError> {
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push((self.bind(argument)?, argument.at));
        }
        let keys = match &call.over {
            None => self.partition.to_vec(),
            Some(keys) => {
                let keys: Result<Vec<Expr>, SqlError> =
                    keys.iter().map(|key| self.bind(key)).collect();
                keys?
            }
        };
        let made = check(function, arguments, at)?;
        if let Body::Analytic(make) = function.body {
            made.with_call(make)
                .map_err(|error| misuse(function, &error, at))?;
        }
        let Some(analytics) = &mut self.analytics else {
            return Err(SqlError::new(
                at,
                format!(
                    "{} cannot stand in {}; put it into a query in FROM",
                    function.name, self.clause
                ),
            ));
        };
        if made.arguments.iter().chain(&keys).any(is_analytic) {
            return Err(SqlError::new(
                at,
                format!(
                    "{} of an analytic function: put the inner one into a query in FROM",
                    function.name
                ),
            ));
        }
        let data_type = made.data_type;
        analytics.push(AnalyticCall { call: made, keys });
        Ok(Expr::Column(ANALYTIC_BASE + analytics.len() - 1, data_type))
    }

    /// coalesce and its relatives become CASE.
    fn choice(&mut self, name: &str, call: &CallSyntax, at: Position) -> Result<Expr, SqlError> {
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push((self.bind(argument)?, argument.at));
        }
        if arguments.len() < 2 || (name == "nullif" && arguments.len() != 2) {
            return Err(SqlError::new(at, format!("{name} needs two arguments")));
        }
        let (arguments, data_type) = alike(arguments)?;
        let mut rest = arguments.into_iter().rev();
        let mut result = rest.next().unwrap_or(Expr::Literal(Value::Null));
        let compare = |operator, left: &Expr, right: &Expr| {
            Expr::Binary(
                operator,
                Box::new(left.clone()),
                Box::new(right.clone()),
                DataType::Bool,
            )
        };
        for argument in rest {
            let otherwise = Some(Box::new(result.clone()));
            let null = Expr::Unary(Unary::IsNull, Box::new(argument.clone()));
            let branches = match name {
                "nullif" => {
                    let equal = compare(Operator::Equal, &argument, &result);
                    let nothing = Expr::Literal(Value::Null).cast_to(data_type);
                    result =
                        Expr::Case(vec![(equal, nothing)], Some(Box::new(argument)), data_type);
                    continue;
                }
                "greatest" | "least" => {
                    let operator = if name == "greatest" {
                        Operator::GreaterOrEqual
                    } else {
                        Operator::LessOrEqual
                    };
                    let other_null = Expr::Unary(Unary::IsNull, Box::new(result.clone()));
                    vec![
                        (other_null, argument.clone()),
                        (compare(operator, &argument, &result), argument),
                    ]
                }
                _ => vec![(Expr::Unary(Unary::Not, Box::new(null)), argument)],
            };
            result = Expr::Case(branches, otherwise, data_type);
        }
        Ok(result)
    }

    /// `header('name')` and `path_level(2)`.
    fn record_part(
        &mut self,
        name: &str,
        call: &CallSyntax,
        at: Position,
    ) -> Result<Expr, SqlError> {
        let literal = match call.arguments.as_slice() {
            [argument] => self.bind(argument)?,
            _ => Expr::Literal(Value::Null),
        };
        let source = match (name, literal.literal()) {
            ("header", Some(Value::Text(header))) => ColumnSource::Header(header.to_string()),
            ("path_level", Some(Value::Int(level))) if (1..=128).contains(level) => {
                ColumnSource::Level(*level as u32)
            }
            ("header", _) => return Err(SqlError::new(at, "expected header('name')")),
            _ => {
                return Err(SqlError::new(
                    at,
                    "expected path_level(n) with n from 1 to 128",
                ));
            }
        };
        if matches!(self.place, Place::Groups(_)) {
            return Err(SqlError::new(
                at,
                format!("{name} must be in GROUP BY or inside an aggregate"),
            ));
        }
        let text = format!("{name}({literal})");
        let column = self.scope.relations[0].special(text, source, DataType::Text, at);
        let Some(column) = column else {
            return Err(SqlError::new(
                at,
                format!("{name} needs a stream; use it in the inner query"),
            ));
        };
        Ok(Expr::Column(column, DataType::Text))
    }
}

/// The place of an aggregate in the list; equal calls share one.
pub fn add_aggregate(aggregates: &mut Vec<AggregateCall>, made: AggregateCall) -> usize {
    let same = aggregates.iter().position(|known| {
        std::ptr::eq(known.function, made.function) && known.arguments == made.arguments
    });
    same.unwrap_or_else(|| {
        aggregates.push(made);
        aggregates.len() - 1
    })
}

fn is_analytic(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(index, _) if *index >= ANALYTIC_BASE)
}

fn misuse(function: &Function, error: &functions::ArgumentError, at: Position) -> SqlError {
    SqlError::new(at, format!("{}: {error}", function.name))
}

/// Checks the arguments against the parameters and converts them.
pub fn check(
    function: &'static Function,
    arguments: Vec<(Expr, Position)>,
    at: Position,
) -> Result<AggregateCall, SqlError> {
    let parameters = function.parameters;
    let required = parameters
        .iter()
        .filter(|parameter| !parameter.optional)
        .count();
    let most = if function.variadic {
        usize::MAX
    } else {
        parameters.len()
    };
    if arguments.len() < required || arguments.len() > most {
        return Err(SqlError::new(
            at,
            format!(
                "{} arguments in {}(…), expected {}",
                arguments.len(),
                function.name,
                signature(function)
            ),
        ));
    }
    let same_as = match function.returns {
        Returns::SameAs(index) => Some(index),
        Returns::Type(_) => None,
    };
    let mut checked = Vec::new();
    let mut constants = Vec::new();
    for (index, (argument, at)) in arguments.into_iter().enumerate() {
        let Some(parameter) = parameters.get(index).or(parameters.last()) else {
            continue;
        };
        let argument = convert(function, parameter, argument, same_as == Some(index), at)?;
        if parameter.constant && argument.literal().is_none() {
            return Err(SqlError::new(
                at,
                format!(
                    "`{}` of {} must be a literal",
                    parameter.name, function.name
                ),
            ));
        }
        constants.push(argument.literal().cloned());
        checked.push(argument);
    }
    let data_type = match function.returns {
        Returns::Type(data_type) => data_type,
        Returns::SameAs(index) => checked.get(index).map_or(DataType::Null, Expr::data_type),
    };
    Ok(AggregateCall {
        function,
        arguments: checked,
        constants,
        data_type,
    })
}

fn convert(
    function: &Function,
    parameter: &Parameter,
    argument: Expr,
    keep: bool,
    at: Position,
) -> Result<Expr, SqlError> {
    let found = argument.data_type();
    let wanted = match parameter.accepts {
        Accepts::Any => return Ok(argument),
        Accepts::Number if keep && found == DataType::Int => return Ok(argument),
        Accepts::Number => DataType::Float,
        Accepts::Int => DataType::Int,
        Accepts::Bool => DataType::Bool,
        Accepts::Text => DataType::Text,
        Accepts::Timestamp => DataType::Timestamp,
        Accepts::Interval => DataType::Interval,
        Accepts::Waveform => DataType::Waveform,
    };
    let silently = match (found, wanted) {
        (DataType::Int, DataType::Float) => true,
        (DataType::Text, DataType::Interval) => argument.literal().is_some(),
        (from, to) => from == to || (from == DataType::Null && can_cast(from, to)),
    };
    if silently {
        return Ok(argument.cast_to(wanted));
    }
    Err(SqlError::new(
        at,
        format!(
            "`{}` of {} is {found}, expected {wanted}",
            parameter.name, function.name
        ),
    ))
}

/// `name(a, b [, c])`.
pub fn signature(function: &Function) -> String {
    let mut text = format!("{}(", function.name);
    for (index, parameter) in function.parameters.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        if parameter.optional {
            text.push_str(&format!("[{separator}{}]", parameter.name));
        } else {
            text.push_str(&format!("{separator}{}", parameter.name));
        }
    }
    if function.variadic {
        text.push_str(", …");
    }
    text.push(')');
    text
}
