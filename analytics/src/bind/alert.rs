//! CREATE ALERT over the result columns of the query.

use super::Bound;
use super::expr::{ExprBinder, Place};
use super::scope::{Relation, Scope};
use crate::plan::{AlertPlan, Expr, Unary};
use crate::syntax::{Alert, SqlError};
use crate::value::Value;

pub fn bind(
    alert: &Alert,
    query: Option<&str>,
    bound: &Bound,
    hidden: usize,
) -> Result<AlertPlan, SqlError> {
    if let (Some(on), Some(query)) = (&alert.on, query)
        && !on.eq_ignore_ascii_case(query)
    {
        return Err(SqlError::new(
            alert.at,
            format!(
                "alert `{}` is on query `{on}`, but this program has `{query}`",
                alert.name
            ),
        ));
    }
    let shown = bound.fields.len() - hidden;
    let mut scope = Scope {
        relations: vec![Relation::fixed(
            bound.fields[..shown].to_vec(),
            alert.on.clone(),
        )],
    };
    let mut key = Vec::new();
    for name in &alert.key {
        key.push(scope.relations[0].column(&super::scope::split(name), alert.at)?);
    }
    if key.is_empty() {
        key.clone_from(&bound.key);
    }
    let mut binder = ExprBinder {
        scope: &mut scope,
        place: Place::Rows,
        analytics: None,
        partition: &[],
        clause: "CREATE ALERT",
    };
    let when = binder.condition(&alert.when)?;
    let clear = match &alert.clear {
        Some(clear) => binder.condition(clear)?,
        None => Expr::Unary(Unary::Not, Box::new(when.clone())),
    };
    let (mut value, threshold) = compared(&when);
    if let Some(expr) = &alert.value {
        value = Some(binder.bind(expr)?);
    }
    Ok(AlertPlan {
        name: alert.name.clone(),
        key,
        when,
        hold_ms: alert.hold_ms,
        clear,
        clear_hold_ms: alert.clear_hold_ms,
        severity: alert.severity.clone(),
        suppress_ms: alert.suppress_ms,
        message: alert.message.clone(),
        value,
        threshold,
        evidence: (hidden == 3).then_some([shown, shown + 1, shown + 2]),
    })
}

/// The first comparison of something with a literal in the condition: the value
/// that people want to see and the limit that it passed.
fn compared(expr: &Expr) -> (Option<Expr>, Option<Value>) {
    match expr {
        Expr::Binary(operator, left, right, _) if operator.is_comparison() => {
            match (left.literal(), right.literal()) {
                (None, Some(limit)) => (Some(left.as_ref().clone()), Some(limit.clone())),
                (Some(limit), None) => (Some(right.as_ref().clone()), Some(limit.clone())),
                _ => (Some(left.as_ref().clone()), None),
            }
        }
        Expr::Binary(_, left, right, _) => {
            let found = compared(left);
            if found.0.is_some() {
                found
            } else {
                compared(right)
            }
        }
        Expr::Unary(_, inner) => compared(inner),
        _ => (None, None),
    }
}
