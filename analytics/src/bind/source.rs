//! What a SELECT reads.

use super::Binder;
use super::join::Tree;
use super::scope::{Relation, RelationKind, Scope};
use crate::plan::{Expr, Field, Node, Scan};
use crate::syntax::{Emit, Format, Position, Source, SqlError, Step, Stream, Watermark, Window};
use crate::value::DataType;

/// A source without its window.
pub struct From {
    pub scope: Scope,
    pub tree: Tree,
    pub window: Option<(Window, Position)>,
}

impl Binder<'_> {
    pub(super) fn source(&mut self, source: &Source) -> Result<From, SqlError> {
        match source {
            Source::Named {
                name,
                quoted,
                alias,
                at,
            } => {
                let stream = self.named(name, *quoted, *at)?;
                let scan = self.scan(&stream);
                let relation = Relation::stream(scan, stream, alias.clone());
                Ok(From {
                    scope: Scope {
                        relations: vec![relation],
                    },
                    tree: Tree::Leaf(Node::Scan(scan)),
                    window: None,
                })
            }
            Source::Query { query, alias, .. } => {
                let bound = self.query(query, Emit::Final, false)?;
                Ok(From {
                    scope: Scope {
                        relations: vec![Relation::fixed(bound.fields, alias.clone())],
                    },
                    tree: Tree::Leaf(bound.node),
                    window: None,
                })
            }
            Source::Window {
                input,
                window,
                time,
                at,
            } => {
                let mut from = self.source(input)?;
                if from.window.is_some() {
                    return Err(SqlError::new(
                        *at,
                        "a window of a window; put the inner one into a query in FROM",
                    ));
                }
                if let Some((column, at)) = time {
                    set_time(&mut from.scope, column, *at)?;
                }
                from.window = Some((window.clone(), *at));
                Ok(from)
            }
            Source::Join(syntax) => {
                let mut left = self.source(&syntax.left)?;
                let right = self.source(&syntax.right)?;
                if right.window.is_some() {
                    return Err(SqlError::new(
                        syntax.at,
                        "the right side of a join cannot be a window; put it into a query in FROM",
                    ));
                }
                let left_relations = left.scope.relations.len();
                left.scope.relations.extend(right.scope.relations);
                left.tree = left.tree.join(right.tree, syntax, left_relations)?;
                Ok(left)
            }
        }
    }

    fn named(&self, name: &str, quoted: bool, at: Position) -> Result<Stream, SqlError> {
        if let Some(stream) = self.stream(name) {
            return Ok(stream.clone());
        }
        if !quoted {
            let known = self
                .program
                .streams
                .iter()
                .map(|stream| stream.name.as_str());
            return Err(SqlError::new(
                at,
                format!(
                    "unknown stream `{name}`{}; a path is written in double quotes",
                    super::suggest::hint(name, known)
                ),
            ));
        }
        Ok(Stream {
            name: name.to_owned(),
            at,
            columns: Vec::new(),
            filters: vec![name.to_owned()],
            topics: Vec::new(),
            format: Format::Json,
            time_column: None,
            watermark: Watermark::default(),
            key: None,
        })
    }

    fn scan(&mut self, stream: &Stream) -> usize {
        self.scans.push(Scan {
            name: stream.name.clone(),
            filters: stream.filters.clone(),
            topics: stream.topics.clone(),
            format: stream.format,
            columns: Vec::new(),
            time: None,
            watermark: stream.watermark.clone(),
            key: None,
        });
        self.scans.len() - 1
    }
}

pub fn time_column(relation: &mut Relation) -> Result<(), SqlError> {
    let RelationKind::Stream { stream, .. } = &relation.kind else {
        return Ok(());
    };
    let Some(name) = stream.time_column.clone() else {
        return Ok(());
    };
    let steps: Vec<Step> = super::scope::split(&name);
    let at = stream.at;
    let index = relation.column(&steps, at)?;
    let RelationKind::Stream { drafts, .. } = &mut relation.kind else {
        return Ok(());
    };
    match drafts[index].strong {
        Some((DataType::Timestamp, _)) => Ok(()),
        Some((DataType::Int | DataType::Float, _)) | None => {
            drafts[index].strong = Some((DataType::Timestamp, at));
            Ok(())
        }
        Some((found, _)) => Err(SqlError::new(
            at,
            format!("time column `{name}` is {found}, expected timestamp"),
        )),
    }
}

/// `TUMBLE(stream, ts, …)`: names the event time of a stream that has none.
fn set_time(scope: &mut Scope, column: &str, at: Position) -> Result<(), SqlError> {
    let Some(RelationKind::Stream { stream, .. }) = scope
        .relations
        .first_mut()
        .map(|relation| &mut relation.kind)
    else {
        return Ok(());
    };
    if matches!(column, "record_time" | "event_time" | "rowtime") {
        return Ok(());
    }
    match &stream.time_column {
        Some(known) if known != column => Err(SqlError::new(
            at,
            format!(
                "the event time of `{}` is `{known}`, not `{column}`",
                stream.name
            ),
        )),
        _ => {
            stream.time_column = Some(column.to_owned());
            Ok(())
        }
    }
}

/// `*` names the declared columns, or the reading if there are none.
pub fn declare_all(scope: &mut Scope, at: Position) -> Result<(), SqlError> {
    for relation in &mut scope.relations {
        let RelationKind::Stream { stream, .. } = &relation.kind else {
            continue;
        };
        let mut names: Vec<String> = vec!["path".to_owned()];
        names.extend(stream.columns.iter().map(|(name, _)| name.clone()));
        if names.len() == 1 {
            names.push(
                if stream.format == Format::Json {
                    "payload"
                } else {
                    "value"
                }
                .to_owned(),
            );
        }
        for name in names {
            relation.column(&super::scope::split(&name), at)?;
        }
    }
    Ok(())
}

pub fn star(
    scope: &Scope,
    at: Position,
    exprs: &mut Vec<Expr>,
    fields: &mut Vec<Field>,
) -> Result<(), SqlError> {
    for (index, relation) in scope.relations.iter().enumerate() {
        for column in 0..relation.width() {
            let (data_type, json) = scope.field(index, column);
            let (name, json) = match &relation.kind {
                RelationKind::Fixed(fields) => (fields[column].name.clone(), json),
                RelationKind::Stream { drafts, .. } => (
                    drafts[column].name.clone(),
                    json || drafts[column].name == "payload",
                ),
            };
            if fields.iter().any(|field| field.name == name) {
                return Err(SqlError::new(
                    at,
                    format!("both sides of the join have a column `{name}`; name the columns"),
                ));
            }
            exprs.push(Expr::Column(scope.base(index) + column, data_type));
            fields.push(Field {
                name,
                data_type,
                json,
            });
        }
    }
    Ok(())
}
