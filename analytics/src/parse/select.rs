//! SELECT, FROM, joins and UNION ALL.

use sqlparser::ast::{
    self, Expr as SqlExpr, FunctionArg, FunctionArgExpr, GroupByExpr, JoinConstraint, JoinOperator,
    SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor,
};

use super::tokens::{Tokens, position};
use super::{lower, window};
use crate::syntax::{
    Expr, ExprKind, Item, Join, Operator, Position, Query, Select, Source, SqlError,
};

pub fn query(tokens: &mut Tokens) -> Result<Query, SqlError> {
    let at = tokens.position();
    lower_query(&*tokens.query()?, at)
}

pub fn lower_query(query: &ast::Query, at: Position) -> Result<Query, SqlError> {
    let refused = [
        (query.with.is_some(), "WITH (use a query in FROM)"),
        (
            query.order_by.is_some(),
            "ORDER BY: a stream has no end after which it could be sorted",
        ),
        (
            query.limit_clause.is_some() || query.fetch.is_some(),
            "LIMIT",
        ),
        (!query.pipe_operators.is_empty(), "|>"),
    ];
    for (present, what) in refused {
        if present {
            return Err(SqlError::new(at, format!("not supported: {what}")));
        }
    }
    let mut selects = Vec::new();
    branches(&query.body, at, &mut selects)?;
    Ok(Query { selects })
}

fn branches(body: &SetExpr, at: Position, selects: &mut Vec<Select>) -> Result<(), SqlError> {
    match body {
        SetExpr::Select(one) => {
            selects.push(select(one)?);
            Ok(())
        }
        SetExpr::Query(inner) => branches(&inner.body, at, selects),
        SetExpr::SetOperation {
            left,
            op: SetOperator::Union,
            set_quantifier: SetQuantifier::All,
            right,
        } => {
            branches(left, at, selects)?;
            branches(right, at, selects)
        }
        _ => Err(SqlError::new(
            at,
            "expected SELECT, or SELECTs with UNION ALL between them",
        )),
    }
}

fn select(select: &ast::Select) -> Result<Select, SqlError> {
    let at = position(select.select_token.0.span.start);
    let refused = [
        (
            select.distinct.is_some(),
            "DISTINCT; use GROUP BY and a window",
        ),
        (select.top.is_some(), "TOP"),
        (
            select.qualify.is_some(),
            "QUALIFY; put the query into FROM and use WHERE",
        ),
        (select.into.is_some(), "INTO"),
    ];
    for (present, what) in refused {
        if present {
            return Err(SqlError::new(at, format!("not supported: {what}")));
        }
    }
    let items: Result<Vec<Item>, SqlError> =
        select.projection.iter().map(|one| item(one, at)).collect();
    let [from] = select.from.as_slice() else {
        let problem = if select.from.is_empty() {
            "expected FROM with a stream or a path in double quotes"
        } else {
            "expected one source after FROM; write JOIN … ON between two"
        };
        return Err(SqlError::new(at, problem));
    };
    let mut from = tables(from, at)?;
    let GroupByExpr::Expressions(groups, modifiers) = &select.group_by else {
        return Err(SqlError::new(at, "not supported: GROUP BY ALL"));
    };
    if !modifiers.is_empty() {
        return Err(SqlError::new(at, "not supported: modifiers of GROUP BY"));
    }
    let mut group_by = Vec::new();
    let mut filter = select
        .selection
        .as_ref()
        .map(|expr| lower::expression(expr, at))
        .transpose()?;
    for group in groups {
        let expr = lower::expression(group, at)?;
        match window::from_group(&expr)? {
            Some(cut) => {
                from = Source::Window {
                    input: Box::new(from),
                    window: cut,
                    time: None,
                    at: expr.at,
                };
                let (rows, keys) = window::behind_window(expr);
                group_by.extend(keys);
                filter = both(filter, rows);
            }
            None => group_by.push(expr),
        }
    }
    Ok(Select {
        at,
        items: items?,
        from,
        filter,
        group_by,
        having: select
            .having
            .as_ref()
            .map(|expr| lower::expression(expr, at))
            .transpose()?,
    })
}

/// Two conditions of which either may be absent.
fn both(left: Option<Expr>, right: Option<Expr>) -> Option<Expr> {
    match (left, right) {
        (Some(left), Some(right)) => Some(Expr {
            at: left.at,
            kind: ExprKind::Binary(Operator::And, Box::new(left), Box::new(right)),
        }),
        (left, right) => left.or(right),
    }
}

fn item(item: &SelectItem, at: Position) -> Result<Item, SqlError> {
    match item {
        SelectItem::UnnamedExpr(expr) => Ok(Item::Expr(lower::expression(expr, at)?, None)),
        SelectItem::ExprWithAlias { expr, alias } => Ok(Item::Expr(
            lower::expression(expr, at)?,
            Some(alias.value.clone()),
        )),
        SelectItem::Wildcard(_) => Ok(Item::Star(lower::place(item, at))),
        other => Err(SqlError::new(
            lower::place(other, at),
            format!("not supported in a result: `{other}`"),
        )),
    }
}

fn tables(from: &ast::TableWithJoins, at: Position) -> Result<Source, SqlError> {
    let mut left = table(&from.relation, at)?;
    for join in &from.joins {
        let at = lower::place(&join.relation, at);
        let right = table(&join.relation, at)?;
        let (constraint, match_condition, outer) = match &join.join_operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) => (on, None, false),
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (on, None, true),
            JoinOperator::AsOf {
                match_condition,
                constraint,
            } => (
                constraint,
                Some(lower::expression(match_condition, at)?),
                false,
            ),
            _ => {
                return Err(SqlError::new(at, "expected JOIN, LEFT JOIN or ASOF JOIN"));
            }
        };
        let JoinConstraint::On(on) = constraint else {
            return Err(SqlError::new(
                at,
                "expected ON with the condition of the join",
            ));
        };
        left = Source::Join(Box::new(Join {
            left,
            right,
            on: lower::expression(on, at)?,
            match_condition,
            outer,
            at,
        }));
    }
    Ok(left)
}

fn table(factor: &TableFactor, at: Position) -> Result<Source, SqlError> {
    let at = lower::place(factor, at);
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } => {
            let alias = alias.as_ref().map(|alias| alias.name.value.clone());
            named(name, alias, at)
        }
        TableFactor::Table {
            name,
            alias,
            args: Some(arguments),
            ..
        } => windowed(&name.to_string(), &arguments.args, alias.as_ref(), at),
        TableFactor::Function {
            name, args, alias, ..
        } => windowed(&name.to_string(), args, alias.as_ref(), at),
        TableFactor::TableFunction {
            expr: SqlExpr::Function(function),
            alias,
        } => match &function.args {
            ast::FunctionArguments::List(list) => {
                windowed(&function.name.to_string(), &list.args, alias.as_ref(), at)
            }
            _ => Err(SqlError::new(at, "expected arguments")),
        },
        TableFactor::Derived {
            subquery, alias, ..
        } => Ok(Source::Query {
            query: Box::new(lower_query(subquery, at)?),
            alias: alias.as_ref().map(|alias| alias.name.value.clone()),
            at,
        }),
        TableFactor::NestedJoin {
            table_with_joins, ..
        } => tables(table_with_joins, at),
        other => Err(SqlError::new(
            at,
            format!("not supported after FROM: `{other}`"),
        )),
    }
}

fn named(name: &ast::ObjectName, alias: Option<String>, at: Position) -> Result<Source, SqlError> {
    let identifier = match name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    };
    let Some(identifier) = identifier else {
        return Err(SqlError::new(
            at,
            format!("expected a stream or a path in double quotes, found `{name}`"),
        ));
    };
    Ok(Source::Named {
        name: identifier.value.clone(),
        quoted: identifier.quote_style.is_some(),
        alias,
        at,
    })
}

/// `TUMBLE(source, …)` and its relatives.
fn windowed(
    name: &str,
    arguments: &[FunctionArg],
    alias: Option<&ast::TableAlias>,
    at: Position,
) -> Result<Source, SqlError> {
    let Some((first, rest)) = arguments.split_first() else {
        return Err(SqlError::new(at, format!("expected a source in {name}(…)")));
    };
    let (FunctionArg::Unnamed(FunctionArgExpr::Expr(first))
    | FunctionArg::Named {
        arg: FunctionArgExpr::Expr(first),
        ..
    }) = first
    else {
        return Err(SqlError::new(at, format!("expected a source in {name}(…)")));
    };
    let alias = alias.map(|alias| alias.name.value.clone());
    let place = lower::place(first, at);
    let input = match first {
        SqlExpr::Identifier(identifier) => Source::Named {
            name: identifier.value.clone(),
            quoted: identifier.quote_style.is_some(),
            alias,
            at: place,
        },
        SqlExpr::Subquery(query) => Source::Query {
            query: Box::new(lower_query(query, place)?),
            alias,
            at: place,
        },
        SqlExpr::Value(value) => match value.value.clone().into_string() {
            Some(name) => Source::Named {
                name,
                quoted: true,
                alias,
                at: place,
            },
            None => return Err(SqlError::new(place, "expected a stream")),
        },
        other => {
            return Err(SqlError::new(
                place,
                format!("expected a stream or a query in parentheses, found `{other}`"),
            ));
        }
    };
    let mut given = Vec::new();
    for argument in rest {
        let (name, expr) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (None, expr),
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(expr),
                ..
            } => (Some(name.value.to_ascii_lowercase()), expr),
            other => {
                return Err(SqlError::new(
                    position(other.span().start),
                    format!("not supported in a window: `{other}`"),
                ));
            }
        };
        given.push((name, lower::expression(expr, at)?));
    }
    let (window, time) = window::from_table(name, given, at)?;
    Ok(Source::Window {
        input: Box::new(input),
        window,
        time,
        at,
    })
}
