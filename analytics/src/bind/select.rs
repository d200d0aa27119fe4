//! One SELECT.

use super::expr::{ANALYTIC_BASE, ExprBinder, Groups, Place, add_aggregate, check, is_window_name};
use super::infer::{Want, visit};
use super::join::Tree;
use super::scope::{RelationKind, Scope, print};
use super::source::{From, declare_all, star, time_column};
use super::{Binder, Bound};
use crate::functions;
use crate::plan::{AggregateCall, AnalyticCall, ColumnSource, Cut, Expr, Field, Node};
use crate::syntax::{
    self, Emit, ExprKind, Item, Position, Select, SqlError, Step, Watermark, Window,
};
use crate::value::DataType;

impl Binder<'_> {
    pub(super) fn select(
        &mut self,
        select: &Select,
        emit: Emit,
        evidence: bool,
    ) -> Result<Bound, SqlError> {
        let mut select = select.clone();
        inline_aliases(&mut select)?;
        let mut from = self.source(&select.from)?;
        self.infer(&mut from, &select, evidence)?;
        from.scope.settle(&mut self.scans);
        let tree = std::mem::replace(&mut from.tree, Tree::Leaf(Node::Union(Vec::new())));
        let mut node = tree.finish(&mut from.scope, &self.scans)?;
        if let Some(filter) = &select.filter {
            let path = default_key(&mut from.scope, &select);
            node = filtered(node, &mut from.scope, filter, &path)?;
            from.scope.settle(&mut self.scans);
        }
        let grouped = from.window.is_some() || !select.group_by.is_empty();
        let bound = if grouped {
            self.grouped(&select, from, node, emit, evidence)?
        } else {
            self.flat(&select, from, node, evidence)?
        };
        Ok(bound)
    }

    /// Rows in, rows out.
    fn flat(
        &mut self,
        select: &Select,
        mut from: From,
        mut node: Node,
        evidence: bool,
    ) -> Result<Bound, SqlError> {
        let path = default_key(&mut from.scope, select);
        let mut analytics = Vec::new();
        let mut exprs = Vec::new();
        let mut fields = Vec::new();
        for item in &select.items {
            match item {
                Item::Star(at) => star(&from.scope, *at, &mut exprs, &mut fields)?,
                Item::Expr(expr, alias) => {
                    let mut binder = ExprBinder {
                        scope: &mut from.scope,
                        place: Place::Rows,
                        analytics: Some(&mut analytics),
                        partition: &path,
                        clause: "SELECT",
                    };
                    let bound = binder.bind(expr)?;
                    let json = is_json(&from.scope, &bound);
                    fields.push(field(expr, alias, &bound, json, &fields));
                    exprs.push(bound);
                }
            }
        }
        if evidence {
            self.hidden = 3;
            for (name, source) in EVIDENCE_SOURCES {
                exprs.push(evidence_column(&mut from.scope, source));
                fields.push(hidden_field(name));
            }
        }
        from.scope.settle(&mut self.scans);
        node = with_analytics(node, analytics, from.scope.width(), &mut exprs);
        let key = fields
            .iter()
            .position(|field| field.name == "path")
            .into_iter()
            .collect();
        Ok(Bound {
            node: Node::Project {
                input: Box::new(node),
                exprs,
            },
            fields,
            key,
        })
    }

    /// Rows in, one row per window and group out.
    fn grouped(
        &mut self,
        select: &Select,
        mut from: From,
        node: Node,
        emit: Emit,
        evidence: bool,
    ) -> Result<Bound, SqlError> {
        let Some((window, at)) = from.window.take() else {
            return Err(SqlError::new(
                select.group_by.first().map_or(select.at, |expr| expr.at),
                "GROUP BY needs a window, for example FROM TUMBLE(stream, INTERVAL '1 min')",
            ));
        };
        let mut keys = Vec::new();
        for expr in &select.group_by {
            keys.push(rows_binder(&mut from.scope, "GROUP BY").bind(expr)?);
        }
        let cut = cut(&window, &mut from.scope, at)?;
        let per_key = per_key(&from.scope);
        let in_place = match &cut {
            Cut::Time { size, slide, .. } => size == slide && per_key.is_none(),
            Cut::Session { .. } => true,
            Cut::Count { .. } | Cut::State { .. } => false,
        };
        if emit == Emit::Changes && !in_place {
            return Err(SqlError::new(
                at,
                "EMIT CHANGES works with TUMBLE and SESSION without PER KEY; use EMIT FINAL here",
            ));
        }
        let mut aggregates = Vec::new();
        let mut analytics = Vec::new();
        let mut exprs = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        let own_keys: Vec<Expr> = keys
            .iter()
            .enumerate()
            .map(|(index, key)| Expr::Column(index, key.data_type()))
            .collect();
        for item in &select.items {
            let Item::Expr(expr, alias) = item else {
                return Err(SqlError::new(
                    select.at,
                    "`*` cannot be grouped; name the columns and aggregates",
                ));
            };
            let bound = ExprBinder {
                scope: &mut from.scope,
                place: Place::Groups(Groups {
                    written: &select.group_by,
                    keys: &keys,
                    aggregates: &mut aggregates,
                }),
                analytics: Some(&mut analytics),
                partition: &own_keys,
                clause: "SELECT",
            }
            .bind(expr)?;
            fields.push(field(expr, alias, &bound, false, &fields));
            exprs.push(bound);
        }
        let having = match &select.having {
            None => None,
            Some(having) => Some(
                ExprBinder {
                    scope: &mut from.scope,
                    place: Place::Groups(Groups {
                        written: &select.group_by,
                        keys: &keys,
                        aggregates: &mut aggregates,
                    }),
                    analytics: None,
                    partition: &own_keys,
                    clause: "HAVING",
                }
                .condition(having)?,
            ),
        };
        if evidence {
            self.hidden = 3;
            for (name, aggregate) in evidence_aggregates(&mut from.scope, select.at)? {
                let index = add_aggregate(&mut aggregates, aggregate);
                exprs.push(Expr::Column(keys.len() + 2 + index, DataType::Int));
                fields.push(hidden_field(name));
            }
        }
        from.scope.settle(&mut self.scans);
        let width = keys.len() + 2 + aggregates.len();
        let key = result_key(&exprs, keys.len());
        let mut node = Node::Window {
            per_key,
            input: Box::new(node),
            cut,
            keys,
            aggregates,
            changes: emit == Emit::Changes,
        };
        if let Some(predicate) = having {
            node = Node::Filter {
                input: Box::new(node),
                predicate,
            };
        }
        node = with_analytics(node, analytics, width, &mut exprs);
        Ok(Bound {
            node: Node::Project {
                input: Box::new(node),
                exprs,
            },
            fields,
            key,
        })
    }

    /// Registers and types every name before anything is bound, so that the
    /// columns of a stream have their final places.
    fn infer(&mut self, from: &mut From, select: &Select, evidence: bool) -> Result<(), SqlError> {
        let scope = &mut from.scope;
        from.tree.infer(scope)?;
        if evidence {
            for (_, source) in EVIDENCE_SOURCES {
                evidence_column(scope, source);
            }
        }
        for expr in select.filter.iter().chain(&select.having) {
            visit_rows(scope, expr, Want::Type(DataType::Bool))?;
        }
        for expr in &select.group_by {
            visit_rows(scope, expr, Want::Text)?;
        }
        match &from.window {
            Some((Window::State { open, close: None }, _)) => visit(scope, open, Want::Text)?,
            Some((
                Window::State {
                    open,
                    close: Some(close),
                },
                _,
            )) => {
                visit(scope, open, Want::Type(DataType::Bool))?;
                visit(scope, close, Want::Type(DataType::Bool))?;
            }
            _ => {}
        }
        for item in &select.items {
            match item {
                Item::Star(at) => declare_all(scope, *at)?,
                Item::Expr(expr, _) => visit_rows(scope, expr, Want::Result)?,
            }
        }
        for relation in &mut scope.relations {
            time_column(relation)?;
        }
        default_key(scope, select);
        for relation in &scope.relations {
            if let RelationKind::Stream {
                scan,
                drafts,
                stream,
            } = &relation.kind
                && let Some(name) = &stream.time_column
            {
                self.scans[*scan].time = drafts.iter().position(|draft| draft.name == *name);
            }
        }
        Ok(())
    }
}

/// Window names are no columns of a stream.
fn visit_rows(scope: &mut Scope, expr: &syntax::Expr, want: Want) -> Result<(), SqlError> {
    match &expr.kind {
        ExprKind::Name(steps) if is_window_name(steps) => Ok(()),
        _ => visit(scope, expr, want),
    }
}

fn rows_binder<'b>(scope: &'b mut Scope, clause: &'static str) -> ExprBinder<'b, 'static> {
    ExprBinder {
        scope,
        place: Place::Rows,
        analytics: None,
        partition: &[],
        clause,
    }
}

/// WHERE. Analytic calls in it see the rows before the filter.
fn filtered(
    node: Node,
    scope: &mut Scope,
    filter: &syntax::Expr,
    path: &[Expr],
) -> Result<Node, SqlError> {
    let mut analytics = Vec::new();
    let predicate = ExprBinder {
        scope,
        place: Place::Rows,
        analytics: Some(&mut analytics),
        partition: path,
        clause: "WHERE",
    }
    .condition(filter)?;
    let width = scope.width();
    let extra = !analytics.is_empty();
    let mut exprs = vec![predicate];
    let input = with_analytics(node, analytics, width, &mut exprs);
    let node = Node::Filter {
        input: Box::new(input),
        predicate: exprs.remove(0),
    };
    if !extra {
        return Ok(node);
    }
    // The columns of the calls are cut off again.
    let exprs = (0..scope.relations.len())
        .flat_map(|relation| {
            (0..scope.relations[relation].width()).map(move |column| (relation, column))
        })
        .enumerate()
        .map(|(index, (relation, column))| Expr::Column(index, scope.field(relation, column).0))
        .collect();
    Ok(Node::Project {
        input: Box::new(node),
        exprs,
    })
}

/// Puts the analytic calls under the expressions and numbers their columns.
fn with_analytics(node: Node, calls: Vec<AnalyticCall>, width: usize, exprs: &mut [Expr]) -> Node {
    if calls.is_empty() {
        return node;
    }
    for expr in exprs {
        expr.map_columns(&|index| {
            if index >= ANALYTIC_BASE {
                index - ANALYTIC_BASE + width
            } else {
                index
            }
        });
    }
    Node::Analytic {
        input: Box::new(node),
        calls,
    }
}

/// The path as the key of analytic calls without OVER, if there are any.
fn default_key(scope: &mut Scope, select: &Select) -> Vec<Expr> {
    let wanted = |call: &syntax::CallSyntax| {
        call.over.is_none()
            && functions::find(&call.name)
                .is_some_and(|function| matches!(function.body, functions::Body::Analytic(_)))
    };
    let items = select.items.iter().filter_map(|item| match item {
        Item::Expr(expr, _) => Some(expr),
        Item::Star(_) => None,
    });
    let stream = matches!(
        scope.relations.first().map(|relation| &relation.kind),
        Some(RelationKind::Stream { .. })
    );
    if !stream
        || !items
            .chain(&select.filter)
            .any(|expr| expr.has_call(&wanted))
    {
        return Vec::new();
    }
    let column = scope.relations[0].special(
        "path".to_owned(),
        ColumnSource::Path,
        DataType::Text,
        Position::default(),
    );
    column
        .map(|column| Expr::Column(column, DataType::Text))
        .into_iter()
        .collect()
}

fn is_json(scope: &Scope, expr: &Expr) -> bool {
    let Expr::Column(index, _) = expr else {
        return false;
    };
    (0..scope.relations.len())
        .rev()
        .find(|relation| scope.base(*relation) <= *index)
        .is_some_and(|relation| {
            let column = index - scope.base(relation);
            column < scope.relations[relation].width() && scope.field(relation, column).1
        })
}

/// The name of a result column: AS, the name of the column or function, or its
/// place.
fn field(
    expr: &syntax::Expr,
    alias: &Option<String>,
    bound: &Expr,
    json: bool,
    before: &[Field],
) -> Field {
    let name = alias.clone().unwrap_or_else(|| match &expr.kind {
        ExprKind::Name(steps) => match steps.last() {
            Some(Step::Field(name)) => name.clone(),
            _ => print(steps),
        },
        ExprKind::Call(call) => call.name.to_ascii_lowercase(),
        _ => format!("column{}", before.len() + 1),
    });
    let name = if before.iter().any(|field| field.name == name) {
        format!("{name}_{}", before.len() + 1)
    } else {
        name
    };
    Field {
        name,
        data_type: bound.data_type(),
        json,
    }
}

/// Replaces names of result columns in GROUP BY and HAVING by what they stand
/// for, and refuses them in WHERE, where they would be taken for payload fields.
fn inline_aliases(select: &mut Select) -> Result<(), SqlError> {
    let aliases: Vec<(String, syntax::Expr)> = select
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Expr(expr, Some(alias)) => Some((alias.clone(), expr.clone())),
            _ => None,
        })
        .collect();
    for expr in &mut select.group_by {
        expr.inline(&aliases, 0);
    }
    if let Some(having) = &mut select.having {
        having.inline(&aliases, 0);
    }
    if let Some(filter) = &select.filter
        && let Some((name, at)) = filter.names().into_iter().find(|(name, _)| {
            aliases.iter().any(|(alias, expr)| {
                alias == name && !expr.names().iter().any(|(inner, _)| inner == name)
            })
        })
    {
        return Err(SqlError::new(
            at,
            format!(
                "`{name}` is a result column and cannot be used in WHERE; use HAVING or a query in FROM"
            ),
        ));
    }
    Ok(())
}

fn cut(window: &Window, scope: &mut Scope, at: Position) -> Result<Cut, SqlError> {
    let zone = |zone: &Option<String>| match zone {
        None => Ok(None),
        Some(name) => crate::zone::Zone::named(name)
            .map(|_| Some(name.clone()))
            .map_err(|error| SqlError::new(at, error.to_string())),
    };
    Ok(match window {
        Window::Tumble {
            size,
            offset,
            zone: name,
        } => Cut::Time {
            size: *size,
            slide: *size,
            offset: *offset,
            zone: zone(name)?,
        },
        Window::Hop {
            slide,
            size,
            offset,
            zone: name,
        } => Cut::Time {
            size: *size,
            slide: *slide,
            offset: *offset,
            zone: zone(name)?,
        },
        Window::Session { gap, max } => Cut::Session {
            gap: *gap,
            max: *max,
        },
        Window::Count { rows, step } => Cut::Count {
            rows: *rows,
            step: *step,
        },
        Window::State { open, close: None } => Cut::State {
            open: rows_binder(scope, "STATE_WINDOW").bind(open)?,
            close: None,
        },
        Window::State {
            open,
            close: Some(close),
        } => Cut::State {
            open: rows_binder(scope, "STATE_WINDOW").condition(open)?,
            close: Some(rows_binder(scope, "STATE_WINDOW").condition(close)?),
        },
    })
}

fn per_key(scope: &Scope) -> Option<Watermark> {
    match &scope.relations.first()?.kind {
        RelationKind::Stream { stream, .. } if stream.watermark.per_key => {
            Some(stream.watermark.clone())
        }
        _ => None,
    }
}

/// The result columns that are keys or bounds of the window.
fn result_key(exprs: &[Expr], keys: usize) -> Vec<usize> {
    exprs
        .iter()
        .enumerate()
        .filter(|(_, expr)| matches!(expr, Expr::Column(index, _) if *index < keys))
        .map(|(index, _)| index)
        .collect()
}

const EVIDENCE_SOURCES: [(&str, ColumnSource); 3] = [
    ("evidence_partition", ColumnSource::Partition),
    ("evidence_first_offset", ColumnSource::Offset),
    ("evidence_last_offset", ColumnSource::Offset),
];

fn hidden_field(name: &str) -> Field {
    Field {
        name: name.to_owned(),
        data_type: DataType::Int,
        json: false,
    }
}

fn evidence_column(scope: &mut Scope, source: ColumnSource) -> Expr {
    let name = if source == ColumnSource::Offset {
        "offset"
    } else {
        "partition"
    };
    let column = scope.relations.first_mut().and_then(|relation| {
        relation.special(name.to_owned(), source, DataType::Int, Position::default())
    });
    match column {
        Some(column) => Expr::Column(column, DataType::Int),
        None => Expr::Literal(crate::value::Value::Null).cast_to(DataType::Int),
    }
}

/// Partition, first and last offset of the rows of a window.
fn evidence_aggregates(
    scope: &mut Scope,
    at: Position,
) -> Result<Vec<(&'static str, AggregateCall)>, SqlError> {
    let mut found = Vec::new();
    for ((name, source), function) in EVIDENCE_SOURCES.into_iter().zip(["min", "min", "max"]) {
        let column = evidence_column(scope, source);
        let Some(function) = functions::find(function) else {
            continue;
        };
        found.push((name, check(function, vec![(column, at)], at)?));
    }
    Ok(found)
}
