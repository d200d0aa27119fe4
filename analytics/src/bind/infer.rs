//! Types of payload fields from how a query uses them.
//!
//! A JSON payload has no schema. What stands next to a field tells its type: a
//! number next to arithmetic and numeric functions, text next to LIKE and text
//! literals, a boolean as a condition. A field that is only grouped by or only
//! tested for null is text, which every JSON value can be read as. Two uses that
//! demand different types are a mistake that the user has to settle with CAST.

use super::scope::Scope;
use crate::functions::{self, Accepts};
use crate::plan::ColumnSource;
use crate::syntax::{CallSyntax, Expr, ExprKind, Operator, SqlError};
use crate::value::{DataType, Value};

/// What a place wants of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A result column: anything will do.
    Result,
    /// Anything, and text rather than a number.
    Text,
    /// Anything, and a number rather than text.
    Any,
    /// This type.
    Type(DataType),
}

/// Registers every name in the expression and notes what is wanted of it.
pub fn visit(scope: &mut Scope, expr: &Expr, want: Want) -> Result<(), SqlError> {
    match &expr.kind {
        ExprKind::Name(steps) => {
            let (relation, column) = scope.resolve(steps, expr.at)?;
            let Some(draft) = scope.draft(relation, column) else {
                return Ok(());
            };
            draft.used |= want != Want::Result;
            match want {
                Want::Result | Want::Any => {}
                Want::Text => draft.as_text = true,
                Want::Type(wanted) => match draft.strong {
                    None => draft.strong = Some((wanted, expr.at)),
                    Some((DataType::Int, _)) if wanted == DataType::Float => {}
                    Some((DataType::Float, at)) if wanted == DataType::Int && at != expr.at => {}
                    Some((found, at)) if found != wanted && !draft.declared => {
                        return Err(SqlError::new(
                            expr.at,
                            format!(
                                "column `{}` is used as {wanted} here and as {found} in line {}, column {}; use CAST in one of the places or declare it in CREATE STREAM",
                                draft.name, at.line, at.column
                            ),
                        ));
                    }
                    Some(_) => {}
                },
            }
            Ok(())
        }
        ExprKind::Literal(_) => Ok(()),
        ExprKind::Negate(inner) => visit(scope, inner, number(want)),
        ExprKind::Not(inner) => visit(scope, inner, Want::Type(DataType::Bool)),
        ExprKind::IsNull(inner) => visit(scope, inner, Want::Text),
        ExprKind::Cast(inner, data_type) => visit(scope, inner, Want::Type(*data_type)),
        ExprKind::Like(inner, pattern, _) => {
            visit(scope, inner, Want::Type(DataType::Text))?;
            visit(scope, pattern, Want::Type(DataType::Text))
        }
        ExprKind::Case(branches, otherwise) => {
            let results = branches
                .iter()
                .map(|(_, result)| result)
                .chain(otherwise.as_deref());
            let known = results.clone().find_map(static_type).map(Want::Type);
            let want = if want == Want::Result {
                Want::Any
            } else {
                want
            };
            for (condition, _) in branches {
                visit(scope, condition, Want::Type(DataType::Bool))?;
            }
            for result in results {
                visit(scope, result, known.unwrap_or(want))?;
            }
            Ok(())
        }
        ExprKind::Binary(operator, left, right) => binary(scope, *operator, left, right),
        ExprKind::Call(call) => visit_call(scope, call),
    }
}

fn number(want: Want) -> Want {
    match want {
        Want::Type(data_type) if data_type != DataType::Text => want,
        _ => Want::Type(DataType::Float),
    }
}

fn binary(
    scope: &mut Scope,
    operator: Operator,
    left: &Expr,
    right: &Expr,
) -> Result<(), SqlError> {
    let both = |scope: &mut Scope, want: Want| {
        visit(scope, left, want)?;
        visit(scope, right, want)
    };
    match operator {
        Operator::And | Operator::Or => both(scope, Want::Type(DataType::Bool)),
        Operator::Concat => both(scope, Want::Type(DataType::Text)),
        _ if operator.is_comparison() => {
            // Integer literals compare with doubles too.
            let wanted = |other: &Expr| match static_type(other) {
                Some(DataType::Int) => Want::Type(DataType::Float),
                Some(DataType::Null) | None => Want::Any,
                Some(found) => Want::Type(found),
            };
            visit(scope, left, wanted(right))?;
            visit(scope, right, wanted(left))
        }
        _ => {
            let times = [left, right].into_iter().any(|side| {
                matches!(
                    static_type(side),
                    Some(DataType::Interval | DataType::Timestamp)
                )
            });
            let additive = matches!(operator, Operator::Add | Operator::Subtract);
            let want = if times && additive {
                Want::Type(DataType::Timestamp)
            } else {
                Want::Type(DataType::Float)
            };
            both(scope, want)
        }
    }
}

fn visit_call(scope: &mut Scope, call: &CallSyntax) -> Result<(), SqlError> {
    if let Some(filter) = &call.filter {
        visit(scope, filter, Want::Type(DataType::Bool))?;
    }
    for key in call.over.iter().flatten() {
        visit(scope, key, Want::Text)?;
    }
    let name = call.name.to_ascii_lowercase();
    if matches!(name.as_str(), "header" | "path_level") {
        return record_part(scope, &name, call);
    }
    let function = functions::find(&name);
    let common = call.arguments.iter().find_map(static_type);
    for (index, argument) in call.arguments.iter().enumerate() {
        let parameter = function.and_then(|function| {
            function
                .parameters
                .get(index)
                .or_else(|| function.parameters.last().filter(|_| function.variadic))
        });
        let want = match parameter.map(|parameter| parameter.accepts) {
            Some(Accepts::Number) => Want::Type(DataType::Float),
            Some(Accepts::Int) => Want::Type(DataType::Int),
            Some(Accepts::Bool) => Want::Type(DataType::Bool),
            Some(Accepts::Text) => Want::Type(DataType::Text),
            Some(Accepts::Timestamp) => Want::Type(DataType::Timestamp),
            Some(Accepts::Interval) => Want::Type(DataType::Interval),
            Some(Accepts::Waveform) => Want::Type(DataType::Waveform),
            Some(Accepts::Any)
                if matches!(name.as_str(), "count" | "count_distinct" | "distinct") =>
            {
                Want::Text
            }
            Some(Accepts::Any) => Want::Any,
            // coalesce, nullif, greatest and least make their arguments alike.
            None => common.map_or(Want::Any, |found| match found {
                DataType::Int => Want::Type(DataType::Float),
                DataType::Null => Want::Any,
                found => Want::Type(found),
            }),
        };
        visit(scope, argument, want)?;
    }
    Ok(())
}

/// The type of an expression as far as it does not depend on a field.
fn static_type(expr: &Expr) -> Option<DataType> {
    match &expr.kind {
        ExprKind::Literal(Value::Null) | ExprKind::Name(_) => None,
        ExprKind::Literal(value) => Some(value.data_type()),
        ExprKind::Cast(_, data_type) => Some(*data_type),
        ExprKind::Negate(inner) => static_type(inner).or(Some(DataType::Float)),
        ExprKind::Not(_) | ExprKind::IsNull(_) | ExprKind::Like(..) => Some(DataType::Bool),
        ExprKind::Case(branches, otherwise) => branches
            .iter()
            .map(|(_, result)| result)
            .chain(otherwise.as_deref())
            .find_map(static_type),
        ExprKind::Binary(operator, left, right) => match operator {
            Operator::Concat => Some(DataType::Text),
            _ if !operator.is_arithmetic() => Some(DataType::Bool),
            _ => [left, right]
                .into_iter()
                .filter_map(|side| static_type(side))
                .find(|found| matches!(found, DataType::Interval | DataType::Timestamp))
                .map(|_| DataType::Timestamp)
                .or(Some(DataType::Float)),
        },
        ExprKind::Call(call) => match functions::find(&call.name)?.returns {
            functions::Returns::Type(data_type) => Some(data_type),
            functions::Returns::SameAs(_) => None,
        },
    }
}

/// `header('name')` and `path_level(n)` are columns of the first stream.
fn record_part(scope: &mut Scope, name: &str, call: &CallSyntax) -> Result<(), SqlError> {
    let [argument] = call.arguments.as_slice() else {
        return Ok(());
    };
    let source = match &argument.kind {
        ExprKind::Literal(Value::Text(header)) if name == "header" => {
            ColumnSource::Header(header.to_string())
        }
        ExprKind::Literal(Value::Int(level)) if name == "path_level" => {
            ColumnSource::Level(u32::try_from(*level).unwrap_or(0))
        }
        _ => return Ok(()),
    };
    if let Some(relation) = scope.relations.first_mut() {
        relation.special(name.to_owned(), source, DataType::Text, argument.at);
    }
    Ok(())
}
