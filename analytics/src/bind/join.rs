//! Joins: keys, and bounds in time.

use super::expr::{ExprBinder, Place};
use super::infer::{Want, visit};
use super::scope::{RelationKind, Scope};
use crate::plan::{Expr, JoinKind, JoinPlan, Node, Scan};
use crate::syntax::{self, ExprKind, Join, Operator, SqlError};
use crate::value::{DataType, Value};

/// Sources whose joins are not bound yet.
pub enum Tree {
    Leaf(Node),
    Join {
        left: Box<Tree>,
        right: Box<Node>,
        syntax: Box<Join>,
        /// The place of the right relation in the scope.
        relation: usize,
    },
}

impl Tree {
    /// Adds the right side of a join.
    pub fn join(self, right: Tree, syntax: &Join, relation: usize) -> Result<Self, SqlError> {
        let Tree::Leaf(right) = right else {
            return Err(SqlError::new(
                syntax.at,
                "the right side of a join cannot be a join; put it into a query in FROM",
            ));
        };
        Ok(Tree::Join {
            left: Box::new(self),
            right: Box::new(right),
            syntax: Box::new(syntax.clone()),
            relation,
        })
    }

    /// Registers and types the names in the conditions.
    pub fn infer(&self, scope: &mut Scope) -> Result<(), SqlError> {
        let Tree::Join { left, syntax, .. } = self else {
            return Ok(());
        };
        left.infer(scope)?;
        for condition in conjuncts(&syntax.on) {
            match &condition.kind {
                ExprKind::Binary(Operator::Equal, one, other)
                    if matches!(one.kind, ExprKind::Name(_))
                        && matches!(other.kind, ExprKind::Name(_)) =>
                {
                    visit(scope, one, Want::Text)?;
                    visit(scope, other, Want::Text)?;
                }
                _ => visit(scope, condition, Want::Type(DataType::Bool))?,
            }
        }
        syntax
            .match_condition
            .iter()
            .try_for_each(|condition| visit(scope, condition, Want::Type(DataType::Bool)))
    }

    /// Binds the conditions.
    pub fn finish(self, scope: &mut Scope, scans: &[Scan]) -> Result<Node, SqlError> {
        match self {
            Tree::Leaf(node) => Ok(node),
            Tree::Join {
                left,
                right,
                syntax,
                relation,
            } => {
                let left = left.finish(scope, scans)?;
                bind(left, *right, &syntax, relation, scope, scans)
            }
        }
    }
}

fn bind(
    left: Node,
    right: Node,
    syntax: &Join,
    relation: usize,
    scope: &mut Scope,
    scans: &[Scan],
) -> Result<Node, SqlError> {
    let base = scope.base(relation);
    let right_types: Vec<DataType> = (0..scope.relations[relation].width())
        .map(|column| scope.field(relation, column).0)
        .collect();
    let (mut left_keys, mut right_keys, mut residual) = (Vec::new(), Vec::new(), Vec::new());
    let mut bounds = Bounds::default();
    for condition in conjuncts(&syntax.on) {
        let bound = binder(scope).condition(condition)?;
        if let Some((one, other)) = key_pair(&bound, base) {
            left_keys.push(one);
            right_keys.push(other);
        } else if !bounds.add(&bound, base, relation, scope) {
            residual.push((bound, condition.at));
        }
    }
    if left_keys.is_empty() {
        return Err(SqlError::new(
            syntax.on.at,
            "a join needs at least one equality between the sides in ON",
        ));
    }
    let kind = kind(syntax, relation, bounds, scope)?;
    if kind != JoinKind::Latest && matches!(&left, Node::Scan(scan) if scans[*scan].key.is_some()) {
        return Err(SqlError::new(
            syntax.at,
            "a table stands on the right side of a join",
        ));
    }
    let join = JoinPlan {
        kind,
        left_keys,
        right_keys,
        outer: syntax.outer || kind == JoinKind::AsOf,
        left_columns: base,
        right_types,
    };
    let outer = syntax.outer;
    let mut node = Node::Join {
        left: Box::new(left),
        right: Box::new(right),
        join,
    };
    for (predicate, at) in residual {
        if outer {
            return Err(SqlError::new(
                at,
                "ON of a LEFT JOIN takes equalities and bounds in time only; put this into WHERE",
            ));
        }
        node = Node::Filter {
            input: Box::new(node),
            predicate,
        };
    }
    Ok(node)
}

fn kind(
    syntax: &Join,
    relation: usize,
    bounds: Bounds,
    scope: &mut Scope,
) -> Result<JoinKind, SqlError> {
    let is_table = matches!(
        &scope.relations[relation].kind,
        RelationKind::Stream { stream, .. } if stream.key.is_some()
    );
    if let Some(condition) = &syntax.match_condition {
        let bound = binder(scope).condition(condition)?;
        let base = scope.base(relation);
        let mut found = Bounds::default();
        if !found.add(&bound, base, relation, scope)
            || found.upper != Some(0)
            || found.lower.is_some()
        {
            return Err(SqlError::new(
                condition.at,
                "expected MATCH_CONDITION(left.event_time >= right.event_time)",
            ));
        }
        return Ok(JoinKind::AsOf);
    }
    match (bounds.lower, bounds.upper) {
        (None, None) if is_table => Ok(JoinKind::Latest),
        (Some(lower), Some(upper)) if lower <= upper => Ok(JoinKind::Interval { lower, upper }),
        (Some(_), Some(_)) => Err(SqlError::new(
            syntax.on.at,
            "no time lies within the bounds of this join",
        )),
        _ => Err(SqlError::new(
            syntax.on.at,
            "a join of two streams needs a bound in time on both sides, for example AND b.event_time BETWEEN a.event_time - INTERVAL '5 s' AND a.event_time; for the latest value declare the right side with CREATE TABLE or write ASOF JOIN",
        )),
    }
}

/// Bounds of right time minus left time in milliseconds.
#[derive(Default)]
struct Bounds {
    lower: Option<i64>,
    upper: Option<i64>,
}

impl Bounds {
    /// Takes a comparison of the two event times; false if it is something else.
    fn add(&mut self, condition: &Expr, base: usize, relation: usize, scope: &Scope) -> bool {
        let Expr::Binary(operator, one, other, _) = condition else {
            return false;
        };
        let (Some((first, first_shift)), Some((second, second_shift))) = (
            time_of(one, base, relation, scope),
            time_of(other, base, relation, scope),
        ) else {
            return false;
        };
        if first == second {
            return false;
        }
        // right + a  op  left + b   means   right - left  op  b - a.
        let (difference, operator) = if first {
            (second_shift - first_shift, *operator)
        } else {
            (first_shift - second_shift, mirrored(*operator))
        };
        let (lower, upper) = match operator {
            Operator::GreaterOrEqual => (Some(difference), None),
            Operator::Greater => (Some(difference + 1), None),
            Operator::LessOrEqual => (None, Some(difference)),
            Operator::Less => (None, Some(difference - 1)),
            Operator::Equal => (Some(difference), Some(difference)),
            _ => return false,
        };
        if let Some(lower) = lower {
            self.lower = Some(self.lower.map_or(lower, |known| known.max(lower)));
        }
        if let Some(upper) = upper {
            self.upper = Some(self.upper.map_or(upper, |known| known.min(upper)));
        }
        true
    }
}

fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        other => other,
    }
}

/// Whether the expression is the event time of the right (true) or of the left
/// side (false), and what is added to it.
fn time_of(expr: &Expr, base: usize, relation: usize, scope: &Scope) -> Option<(bool, i64)> {
    match expr {
        Expr::Column(index, DataType::Timestamp) => {
            let right = *index >= base;
            let of = if right {
                relation
            } else {
                (0..relation)
                    .rev()
                    .find(|known| scope.base(*known) <= *index)?
            };
            scope.relations[of]
                .is_event_time(index - scope.base(of))
                .then_some((right, 0))
        }
        Expr::Binary(operator, inner, shift, DataType::Timestamp) => {
            let Some(Value::Interval(ms)) = shift.literal() else {
                return None;
            };
            let (right, known) = time_of(inner, base, relation, scope)?;
            match operator {
                Operator::Add => Some((right, known + ms)),
                Operator::Subtract => Some((right, known - ms)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn binder(scope: &mut Scope) -> ExprBinder<'_, 'static> {
    ExprBinder {
        scope,
        place: Place::Rows,
        analytics: None,
        partition: &[],
        clause: "ON",
    }
}

/// An equality with one side on the left and the other on the right; the right
/// one is renumbered to the columns of its relation.
fn key_pair(condition: &Expr, base: usize) -> Option<(Expr, Expr)> {
    let Expr::Binary(Operator::Equal, one, other, _) = condition else {
        return None;
    };
    let side = |expr: &Expr| {
        let mut columns = Vec::new();
        expr.columns(&mut columns);
        if columns.is_empty() {
            return None;
        }
        if columns.iter().all(|column| *column < base) {
            Some(false)
        } else if columns.iter().all(|column| *column >= base) {
            Some(true)
        } else {
            None
        }
    };
    let (left, mut right) = match (side(one)?, side(other)?) {
        (false, true) => (one.as_ref().clone(), other.as_ref().clone()),
        (true, false) => (other.as_ref().clone(), one.as_ref().clone()),
        _ => return None,
    };
    if left.data_type() == DataType::Timestamp {
        return None;
    }
    right.map_columns(&|index| index - base);
    Some((left, right))
}

fn conjuncts(expr: &syntax::Expr) -> Vec<&syntax::Expr> {
    match &expr.kind {
        ExprKind::Binary(Operator::And, left, right) => {
            let mut found = conjuncts(left);
            found.extend(conjuncts(right));
            found
        }
        _ => vec![expr],
    }
}
