//! Expressions: names to columns, types checked, conversions made explicit.

mod call;
mod operator;

pub use call::{add_aggregate, check};

use super::scope::{Scope, print};
use super::suggest;
use crate::plan::{AggregateCall, AnalyticCall, Expr, Unary};
use crate::syntax::{self, ExprKind, Position, SqlError, Step};
use crate::value::DataType;

/// Columns of analytic calls are numbered from here until the width of the rows
/// below them is known. No query has a million columns.
pub const ANALYTIC_BASE: usize = 1 << 20;

/// What names and aggregates mean where an expression stands.
pub enum Place<'p> {
    /// Among the rows of the source.
    Rows,
    /// Among the rows of windows.
    Groups(Groups<'p>),
}

/// The rows of windows: keys, window_start, window_end, aggregates.
pub struct Groups<'p> {
    /// GROUP BY as it was written.
    pub written: &'p [syntax::Expr],
    /// GROUP BY over the columns of the source.
    pub keys: &'p [Expr],
    /// The aggregates found so far.
    pub aggregates: &'p mut Vec<AggregateCall>,
}

/// Binds the expressions of one place.
pub struct ExprBinder<'b, 'p> {
    pub scope: &'b mut Scope,
    pub place: Place<'p>,
    /// Where analytic calls go; none if they are not allowed here.
    pub analytics: Option<&'b mut Vec<AnalyticCall>>,
    /// PARTITION BY of analytic calls that say nothing.
    pub partition: &'b [Expr],
    /// Where the expression stands, for errors.
    pub clause: &'static str,
}

impl ExprBinder<'_, '_> {
    /// Binds an expression that must be a condition.
    pub fn condition(&mut self, expr: &syntax::Expr) -> Result<Expr, SqlError> {
        let bound = self.bind(expr)?;
        match bound.data_type() {
            DataType::Bool => Ok(bound),
            DataType::Null => Ok(bound.cast_to(DataType::Bool)),
            other => Err(SqlError::new(
                expr.at,
                format!("expected a condition, found {other}"),
            )),
        }
    }

    pub fn bind(&mut self, expr: &syntax::Expr) -> Result<Expr, SqlError> {
        if let Some(key) = self.group_key(expr)? {
            return Ok(key);
        }
        match &expr.kind {
            ExprKind::Name(steps) => self.name(steps, expr.at),
            ExprKind::Literal(value) => Ok(Expr::Literal(value.clone())),
            ExprKind::Negate(inner) => {
                let bound = self.bind(inner)?;
                match bound.data_type() {
                    DataType::Int | DataType::Float | DataType::Interval => {
                        Ok(Expr::Unary(Unary::Negate, Box::new(bound)))
                    }
                    other => Err(SqlError::new(
                        inner.at,
                        format!("expected a number after `-`, found {other}"),
                    )),
                }
            }
            ExprKind::Not(inner) => {
                let bound = self.condition(inner)?;
                Ok(Expr::Unary(Unary::Not, Box::new(bound)))
            }
            ExprKind::IsNull(inner) => {
                let bound = self.bind(inner)?;
                Ok(Expr::Unary(Unary::IsNull, Box::new(bound)))
            }
            ExprKind::Binary(operator, left, right) => self.binary(*operator, left, right, expr.at),
            ExprKind::Case(branches, otherwise) => self.case(branches, otherwise.as_deref()),
            ExprKind::Cast(inner, data_type) => {
                let bound = self.bind(inner)?;
                let from = bound.data_type();
                if !operator::can_cast(from, *data_type) {
                    return Err(SqlError::new(
                        expr.at,
                        format!("{from} cannot be converted to {data_type}"),
                    ));
                }
                Ok(bound.cast_to(*data_type))
            }
            ExprKind::Like(inner, pattern, any_case) => {
                let bound = self.bind(inner)?;
                let pattern = self.bind(pattern)?;
                let Some(text) = pattern.literal().and_then(|value| value.as_str()) else {
                    return Err(SqlError::new(
                        expr.at,
                        "expected a pattern in quotes after LIKE",
                    ));
                };
                if !matches!(bound.data_type(), DataType::Text | DataType::Null) {
                    return Err(SqlError::new(
                        inner.at,
                        format!("expected text before LIKE, found {}", bound.data_type()),
                    ));
                }
                let text = text.to_owned();
                Ok(Expr::Like(
                    Box::new(bound.cast_to(DataType::Text)),
                    text,
                    *any_case,
                ))
            }
            ExprKind::Call(call) => self.call(call, expr.at),
        }
    }

    /// The column of a key if the expression is one.
    fn group_key(&mut self, expr: &syntax::Expr) -> Result<Option<Expr>, SqlError> {
        let Place::Groups(groups) = &self.place else {
            return Ok(None);
        };
        let mut found = groups.written.iter().position(|written| written == expr);
        if found.is_none()
            && let ExprKind::Name(steps) = &expr.kind
            && !is_window_name(steps)
        {
            let (relation, column) = self.scope.resolve(steps, expr.at)?;
            let absolute = self.scope.base(relation) + column;
            found = groups
                .keys
                .iter()
                .position(|key| matches!(key, Expr::Column(index, _) if *index == absolute));
        }
        Ok(found.map(|index| Expr::Column(index, groups.keys[index].data_type())))
    }

    fn name(&mut self, steps: &[Step], at: Position) -> Result<Expr, SqlError> {
        let Place::Groups(groups) = &self.place else {
            if is_window_name(steps) {
                // A subquery may have passed it on.
                if let Ok(column) = self.column(steps, at) {
                    return Ok(column);
                }
            }
            return self.column(steps, at);
        };
        let keys = groups.keys.len();
        match print(steps).to_ascii_lowercase().as_str() {
            "window_start" | "window.start" => Ok(Expr::Column(keys, DataType::Timestamp)),
            "window_end" | "window.end" => Ok(Expr::Column(keys + 1, DataType::Timestamp)),
            _ => Err(SqlError::new(
                at,
                format!(
                    "column `{}` must be in GROUP BY or inside an aggregate such as last({0})",
                    print(steps)
                ),
            )),
        }
    }

    fn column(&mut self, steps: &[Step], at: Position) -> Result<Expr, SqlError> {
        let (relation, column) = self.scope.resolve(steps, at)?;
        let (data_type, _) = self.scope.field(relation, column);
        Ok(Expr::Column(self.scope.base(relation) + column, data_type))
    }

    fn case(
        &mut self,
        branches: &[(syntax::Expr, syntax::Expr)],
        otherwise: Option<&syntax::Expr>,
    ) -> Result<Expr, SqlError> {
        let mut conditions = Vec::new();
        let mut results = Vec::new();
        for (condition, result) in branches {
            conditions.push(self.condition(condition)?);
            results.push((self.bind(result)?, result.at));
        }
        if let Some(otherwise) = otherwise {
            results.push((self.bind(otherwise)?, otherwise.at));
        }
        let (mut results, data_type) = operator::alike(results)?;
        let otherwise = (results.len() > conditions.len())
            .then(|| results.pop())
            .flatten()
            .map(Box::new);
        let branches = conditions.into_iter().zip(results).collect();
        Ok(Expr::Case(branches, otherwise, data_type))
    }
}

/// Names that mean the window where there is one.
pub fn is_window_name(steps: &[Step]) -> bool {
    matches!(
        print(steps).to_ascii_lowercase().as_str(),
        "window_start" | "window_end" | "window.start" | "window.end"
    )
}

/// `, did you mean …?` among the functions.
fn function_hint(name: &str) -> String {
    let names = crate::functions::all().map(|function| function.name);
    suggest::hint(
        name,
        names.chain(["coalesce", "nullif", "greatest", "least", "header"]),
    )
}
