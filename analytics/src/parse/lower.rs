//! The parser's expressions to ours: fewer kinds, each with its place.

use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, CastKind, DataType as SqlType, Expr as SqlExpr, FunctionArg,
    FunctionArgExpr, FunctionArguments, Spanned, Subscript, UnaryOperator, Value as SqlValue,
    WindowType,
};

use super::duration::{parse_duration, unit_ms};
use super::stream::type_named;
use super::tokens::position;
use crate::syntax::{CallSyntax, Expr, ExprKind, Operator, Position, SqlError, Step};
use crate::value::{DataType, Value};

/// Lowers an expression; `near` is the place if it does not know its own.
pub fn expression(expr: &SqlExpr, near: Position) -> Result<Expr, SqlError> {
    let at = place(expr, near);
    let lower = |expr: &SqlExpr| expression(expr, at).map(Box::new);
    let make = |kind| Ok(Expr { kind, at });
    match expr {
        SqlExpr::Nested(inner) => expression(inner, at),
        SqlExpr::Identifier(name) => make(ExprKind::Name(vec![Step::Field(name.value.clone())])),
        SqlExpr::CompoundIdentifier(names) => make(ExprKind::Name(
            names
                .iter()
                .map(|name| Step::Field(name.value.clone()))
                .collect(),
        )),
        SqlExpr::CompoundFieldAccess { root, access_chain } => {
            make(ExprKind::Name(access(root, access_chain, at)?))
        }
        SqlExpr::Value(value) => literal(&value.value, at),
        SqlExpr::Interval(interval) => {
            let text = match interval.value.as_ref() {
                SqlExpr::Value(value) => value.value.clone().into_string().or_else(|| match &value
                    .value
                {
                    SqlValue::Number(number, _) => Some(number.clone()),
                    _ => None,
                }),
                _ => None,
            }
            .ok_or_else(|| SqlError::new(at, "expected a literal after INTERVAL"))?;
            let text = match &interval.leading_field {
                Some(unit) => format!("{text} {unit}"),
                None => text,
            };
            let ms = parse_duration(&text).map_err(|message| SqlError::new(at, message))?;
            make(ExprKind::Literal(Value::Interval(ms)))
        }
        SqlExpr::TypedString(typed) => {
            let text = typed.value.value.clone().into_string().unwrap_or_default();
            make(ExprKind::Cast(
                Box::new(Expr {
                    kind: ExprKind::Literal(Value::text(&text)),
                    at,
                }),
                sql_type(&typed.data_type, at)?,
            ))
        }
        SqlExpr::UnaryOp { op, expr } => match op {
            UnaryOperator::Minus => make(match expression(expr, at)?.kind {
                ExprKind::Literal(Value::Int(number)) => {
                    ExprKind::Literal(Value::Int(number.wrapping_neg()))
                }
                ExprKind::Literal(Value::Float(number)) => ExprKind::Literal(Value::Float(-number)),
                _ => ExprKind::Negate(lower(expr)?),
            }),
            UnaryOperator::Plus => expression(expr, at),
            UnaryOperator::Not => make(ExprKind::Not(lower(expr)?)),
            other => Err(unsupported(at, &format!("operator `{other}`"))),
        },
        SqlExpr::BinaryOp { left, op, right } => binary(left, op, right, at),
        SqlExpr::IsNull(inner) => make(ExprKind::IsNull(lower(inner)?)),
        SqlExpr::IsNotNull(inner) => not(ExprKind::IsNull(lower(inner)?), at),
        SqlExpr::IsTrue(inner) => truth(lower(inner)?, true, at),
        SqlExpr::IsFalse(inner) => truth(lower(inner)?, false, at),
        SqlExpr::IsNotTrue(inner) => not(truth(lower(inner)?, true, at)?.kind, at),
        SqlExpr::IsNotFalse(inner) => not(truth(lower(inner)?, false, at)?.kind, at),
        SqlExpr::IsDistinctFrom(left, right) => make(ExprKind::Binary(
            Operator::DistinctFrom,
            lower(left)?,
            lower(right)?,
        )),
        SqlExpr::IsNotDistinctFrom(left, right) => not(
            ExprKind::Binary(Operator::DistinctFrom, lower(left)?, lower(right)?),
            at,
        ),
        SqlExpr::Between {
            expr,
            negated,
            low,
            high,
        } => between(expr, low, high, *negated, at),
        SqlExpr::InList {
            expr,
            list,
            negated,
        } => in_list(expr, list, *negated, at),
        SqlExpr::Like {
            negated,
            expr,
            pattern,
            ..
        } => like(expr, pattern, *negated, false, at),
        SqlExpr::ILike {
            negated,
            expr,
            pattern,
            ..
        } => like(expr, pattern, *negated, true, at),
        SqlExpr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon | CastKind::TryCast | CastKind::SafeCast,
            expr,
            data_type,
            ..
        } => make(ExprKind::Cast(lower(expr)?, sql_type(data_type, at)?)),
        SqlExpr::Case {
            operand,
            conditions,
            else_result,
            ..
        } => case(operand.as_deref(), conditions, else_result.as_deref(), at),
        SqlExpr::Function(function) => call(function, at),
        other => keyword_call(other, at),
    }
}

/// Functions that have a syntax of their own.
fn keyword_call(expr: &SqlExpr, at: Position) -> Result<Expr, SqlError> {
    let named = |name: &str, arguments: Vec<Expr>| {
        Ok(Expr {
            kind: ExprKind::Call(plain_call(name, arguments)),
            at,
        })
    };
    let text = |text: String| Expr {
        kind: ExprKind::Literal(Value::text(&text)),
        at,
    };
    match expr {
        SqlExpr::Extract { field, expr, .. } => {
            let field = text(field.to_string().to_lowercase());
            named("date_part", vec![field, expression(expr, at)?])
        }
        SqlExpr::Ceil { expr, .. } => named("ceil", vec![expression(expr, at)?]),
        SqlExpr::Floor { expr, .. } => named("floor", vec![expression(expr, at)?]),
        SqlExpr::Position { expr, r#in } => {
            named("strpos", vec![expression(r#in, at)?, expression(expr, at)?])
        }
        SqlExpr::Substring {
            expr,
            substring_from,
            substring_for,
            ..
        } => {
            let mut arguments = vec![expression(expr, at)?];
            for part in [substring_from, substring_for].into_iter().flatten() {
                arguments.push(expression(part, at)?);
            }
            named("substr", arguments)
        }
        SqlExpr::Trim {
            expr,
            trim_what: None,
            trim_where: None,
            ..
        } => named("trim", vec![expression(expr, at)?]),
        other => Err(unsupported(at, &format!("`{other}`"))),
    }
}

pub fn plain_call(name: &str, arguments: Vec<Expr>) -> CallSyntax {
    CallSyntax {
        name: name.to_owned(),
        arguments,
        star: false,
        distinct: false,
        filter: None,
        over: None,
    }
}

pub fn place(expr: &impl Spanned, near: Position) -> Position {
    let start = expr.span().start;
    if start.line == 0 {
        near
    } else {
        position(start)
    }
}

fn unsupported(at: Position, what: &str) -> SqlError {
    SqlError::new(at, format!("{what} is not supported in a query"))
}

fn not(kind: ExprKind, at: Position) -> Result<Expr, SqlError> {
    Ok(Expr {
        kind: ExprKind::Not(Box::new(Expr { kind, at })),
        at,
    })
}

/// `x IS TRUE` is false, not null, for a null.
fn truth(inner: Box<Expr>, wanted: bool, at: Position) -> Result<Expr, SqlError> {
    let wanted = Expr {
        kind: ExprKind::Literal(Value::Bool(wanted)),
        at,
    };
    not(
        ExprKind::Binary(Operator::DistinctFrom, inner, Box::new(wanted)),
        at,
    )
}

fn access(root: &SqlExpr, chain: &[AccessExpr], at: Position) -> Result<Vec<Step>, SqlError> {
    let ExprKind::Name(mut steps) = expression(root, at)?.kind else {
        return Err(unsupported(at, "a path into anything but a payload column"));
    };
    for access in chain {
        match access {
            AccessExpr::Dot(SqlExpr::Identifier(name)) => {
                steps.push(Step::Field(name.value.clone()));
            }
            AccessExpr::Subscript(Subscript::Index { index }) => {
                match expression(index, at)?.kind {
                    ExprKind::Literal(Value::Int(index)) if index >= 0 => {
                        steps.push(Step::Index(u32::try_from(index).unwrap_or(u32::MAX)));
                    }
                    ExprKind::Literal(Value::Text(name)) => {
                        steps.push(Step::Field(name.to_string()));
                    }
                    _ => return Err(unsupported(at, "an index that is not a literal")),
                }
            }
            other => return Err(unsupported(at, &format!("the path step `{other}`"))),
        }
    }
    Ok(steps)
}

fn literal(value: &SqlValue, at: Position) -> Result<Expr, SqlError> {
    let value = match value {
        SqlValue::Number(text, _) => match text.parse::<i64>() {
            Ok(number) => Value::Int(number),
            Err(_) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Float(number),
                _ => return Err(SqlError::new(at, format!("`{text}` is not a number"))),
            },
        },
        SqlValue::Boolean(value) => Value::Bool(*value),
        SqlValue::Null => Value::Null,
        other => match other.clone().into_string() {
            Some(text) => Value::text(&text),
            None => return Err(unsupported(at, &format!("literal {other}"))),
        },
    };
    Ok(Expr {
        kind: ExprKind::Literal(value),
        at,
    })
}

fn binary(
    left: &SqlExpr,
    op: &BinaryOperator,
    right: &SqlExpr,
    at: Position,
) -> Result<Expr, SqlError> {
    let operator = match op {
        BinaryOperator::Plus => Operator::Add,
        BinaryOperator::Minus => Operator::Subtract,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        BinaryOperator::Eq => Operator::Equal,
        BinaryOperator::NotEq => Operator::NotEqual,
        BinaryOperator::Lt => Operator::Less,
        BinaryOperator::LtEq => Operator::LessOrEqual,
        BinaryOperator::Gt => Operator::Greater,
        BinaryOperator::GtEq => Operator::GreaterOrEqual,
        BinaryOperator::And => Operator::And,
        BinaryOperator::Or => Operator::Or,
        BinaryOperator::StringConcat => Operator::Concat,
        BinaryOperator::Arrow | BinaryOperator::LongArrow => return arrow(left, right, at),
        other => return Err(unsupported(at, &format!("operator `{other}`"))),
    };
    Ok(Expr {
        kind: ExprKind::Binary(
            operator,
            Box::new(expression(left, at)?),
            Box::new(expression(right, at)?),
        ),
        at,
    })
}

/// `motor -> 'temperature'` is the same path as `motor.temperature`.
fn arrow(left: &SqlExpr, right: &SqlExpr, at: Position) -> Result<Expr, SqlError> {
    let ExprKind::Name(mut steps) = expression(left, at)?.kind else {
        return Err(unsupported(at, "`->` on anything but a payload column"));
    };
    match expression(right, at)?.kind {
        ExprKind::Literal(Value::Text(name)) => steps.push(Step::Field(name.to_string())),
        ExprKind::Literal(Value::Int(index)) if index >= 0 => {
            steps.push(Step::Index(u32::try_from(index).unwrap_or(u32::MAX)));
        }
        _ => return Err(unsupported(at, "`->` with anything but a literal")),
    }
    Ok(Expr {
        kind: ExprKind::Name(steps),
        at,
    })
}

fn between(
    expr: &SqlExpr,
    low: &SqlExpr,
    high: &SqlExpr,
    negated: bool,
    at: Position,
) -> Result<Expr, SqlError> {
    let side = |operator, bound: &SqlExpr| {
        Ok::<_, SqlError>(Box::new(Expr {
            kind: ExprKind::Binary(
                operator,
                Box::new(expression(expr, at)?),
                Box::new(expression(bound, at)?),
            ),
            at,
        }))
    };
    let kind = ExprKind::Binary(
        Operator::And,
        side(Operator::GreaterOrEqual, low)?,
        side(Operator::LessOrEqual, high)?,
    );
    if negated {
        not(kind, at)
    } else {
        Ok(Expr { kind, at })
    }
}

/// A list becomes a chain of comparisons: lists that people write are short,
/// and the nulls come out as SQL has them.
fn in_list(
    expr: &SqlExpr,
    list: &[SqlExpr],
    negated: bool,
    at: Position,
) -> Result<Expr, SqlError> {
    let mut kind = ExprKind::Literal(Value::Bool(false));
    for (index, item) in list.iter().enumerate() {
        let equal = ExprKind::Binary(
            Operator::Equal,
            Box::new(expression(expr, at)?),
            Box::new(expression(item, at)?),
        );
        kind = if index == 0 {
            equal
        } else {
            ExprKind::Binary(
                Operator::Or,
                Box::new(Expr { kind, at }),
                Box::new(Expr { kind: equal, at }),
            )
        };
    }
    if negated {
        not(kind, at)
    } else {
        Ok(Expr { kind, at })
    }
}

fn like(
    expr: &SqlExpr,
    pattern: &SqlExpr,
    negated: bool,
    any_case: bool,
    at: Position,
) -> Result<Expr, SqlError> {
    let kind = ExprKind::Like(
        Box::new(expression(expr, at)?),
        Box::new(expression(pattern, at)?),
        any_case,
    );
    if negated {
        not(kind, at)
    } else {
        Ok(Expr { kind, at })
    }
}

fn case(
    operand: Option<&SqlExpr>,
    conditions: &[ast::CaseWhen],
    otherwise: Option<&SqlExpr>,
    at: Position,
) -> Result<Expr, SqlError> {
    let mut branches = Vec::new();
    for branch in conditions {
        let mut condition = expression(&branch.condition, at)?;
        if let Some(operand) = operand {
            condition = Expr {
                at: condition.at,
                kind: ExprKind::Binary(
                    Operator::Equal,
                    Box::new(expression(operand, at)?),
                    Box::new(condition),
                ),
            };
        }
        branches.push((condition, expression(&branch.result, at)?));
    }
    let otherwise = match otherwise {
        Some(expr) => Some(Box::new(expression(expr, at)?)),
        None => None,
    };
    Ok(Expr {
        kind: ExprKind::Case(branches, otherwise),
        at,
    })
}

/// A call by name.
pub fn call(function: &ast::Function, at: Position) -> Result<Expr, SqlError> {
    let mut call = plain_call(&function.name.to_string(), Vec::new());
    match &function.args {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) => return Err(unsupported(at, "a query as an argument")),
        FunctionArguments::List(list) => {
            call.distinct = matches!(
                list.duplicate_treatment,
                Some(ast::DuplicateTreatment::Distinct)
            );
            for argument in &list.args {
                match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
                    | FunctionArg::Named {
                        arg: FunctionArgExpr::Expr(expr),
                        ..
                    } => call.arguments.push(expression(expr, at)?),
                    FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => call.star = true,
                    other => return Err(unsupported(at, &format!("the argument `{other}`"))),
                }
            }
        }
    }
    if let Some(filter) = &function.filter {
        call.filter = Some(Box::new(expression(filter, at)?));
    }
    match &function.over {
        None => {}
        Some(WindowType::WindowSpec(spec)) => {
            if spec.window_frame.is_some() {
                return Err(unsupported(at, "a frame in OVER"));
            }
            let keys: Result<Vec<Expr>, SqlError> = spec
                .partition_by
                .iter()
                .map(|expr| expression(expr, at))
                .collect();
            call.over = Some(keys?);
        }
        Some(WindowType::NamedWindow(_)) => return Err(unsupported(at, "a named window")),
    }
    Ok(Expr {
        kind: ExprKind::Call(call),
        at,
    })
}

fn sql_type(data_type: &SqlType, at: Position) -> Result<DataType, SqlError> {
    let text = data_type.to_string();
    let name = text.split(['(', ' ']).next().unwrap_or_default();
    type_named(name).ok_or_else(|| {
        SqlError::new(
            at,
            format!("unknown type `{text}`, expected boolean, bigint, double, text, timestamp, interval or waveform"),
        )
    })
}

/// A literal duration: an interval, or text such as '10 s'.
pub fn literal_duration(expr: &Expr) -> Result<i64, SqlError> {
    match &expr.kind {
        ExprKind::Literal(Value::Interval(ms)) => Ok(*ms),
        ExprKind::Literal(Value::Text(text)) => {
            parse_duration(text).map_err(|message| SqlError::new(expr.at, message))
        }
        ExprKind::Negate(inner) => literal_duration(inner).map(|ms| -ms),
        _ => Err(SqlError::new(
            expr.at,
            "expected an interval such as INTERVAL '10 s'",
        )),
    }
}

/// `(ss, 10)`: a unit as a bare word, then a number of them.
pub fn unit_of(expr: &Expr) -> Option<(String, f64)> {
    let name = match &expr.kind {
        ExprKind::Name(steps) => match steps.as_slice() {
            [Step::Field(name)] => name.clone(),
            _ => return None,
        },
        ExprKind::Literal(Value::Text(text)) => text.to_string(),
        _ => return None,
    };
    let ms = unit_ms(&name)?;
    Some((name.to_ascii_lowercase(), ms))
}
