//! Syntax to plan: names are looked up, types are found and checked.

mod alert;
mod expr;
mod infer;
mod join;
mod scope;
mod select;
mod source;
mod suggest;

#[cfg(test)]
mod tests;

pub use suggest::closest;

use crate::parse;
use crate::plan::{Field, Node, PLAN_VERSION, Plan, Scan};
use crate::syntax::{Emit, Position, Program, Query, SqlError, Stream};

/// Turns the text of a program into a plan.
///
/// # Errors
/// The first mistake, with its place and what was expected.
pub fn plan(text: &str) -> Result<Plan, SqlError> {
    let program = parse::parse(text)?;
    let mut binder = Binder {
        program: &program,
        scans: Vec::new(),
        hidden: 0,
    };
    let Some(query) = &program.query else {
        return Err(SqlError::new(
            Position { line: 1, column: 1 },
            "the program has no SELECT",
        ));
    };
    binder.check_streams()?;
    let wants_evidence = !program.alerts.is_empty();
    let bound = binder.query(&query.body, query.emit, wants_evidence)?;
    let alerts = program
        .alerts
        .iter()
        .map(|alert| alert::bind(alert, query.name.as_deref(), &bound, binder.hidden))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Plan {
        scans: binder.scans,
        root: bound.node,
        output: bound.fields,
        key: bound.key,
        hidden: binder.hidden,
        emit: query.emit,
        alerts,
        name: query.name.clone(),
        topic: query.topic.clone(),
        identity: identity(text),
    })
}

/// A hash of the text without comments and layout, and of the plan version.
pub fn identity(text: &str) -> u64 {
    // FNV-1a, because it is the same in every version of this program.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parse::normalise(text)
        .bytes()
        .chain(PLAN_VERSION.to_le_bytes())
    {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// A node and what its columns are called.
#[derive(Debug, Clone)]
pub struct Bound {
    /// What is done.
    pub node: Node,
    /// The columns.
    pub fields: Vec<Field>,
    /// Which columns tell rows of one window apart.
    pub key: Vec<usize>,
}

/// What the binder knows while it works.
pub struct Binder<'a> {
    program: &'a Program,
    scans: Vec<Scan>,
    hidden: usize,
}

impl Binder<'_> {
    fn check_streams(&self) -> Result<(), SqlError> {
        for (index, stream) in self.program.streams.iter().enumerate() {
            if self.program.streams[..index]
                .iter()
                .any(|other| other.name == stream.name)
            {
                return Err(SqlError::new(
                    stream.at,
                    format!("stream `{}` is declared twice", stream.name),
                ));
            }
        }
        Ok(())
    }

    fn stream(&self, name: &str) -> Option<&Stream> {
        self.program
            .streams
            .iter()
            .find(|stream| stream.name.eq_ignore_ascii_case(name))
    }

    /// One SELECT or a UNION ALL. Evidence columns are added to the top query
    /// only.
    fn query(&mut self, query: &Query, emit: Emit, evidence: bool) -> Result<Bound, SqlError> {
        let (first, others) = query
            .selects
            .split_first()
            .expect("the parser makes no query without a SELECT");
        let mut bound = self.select(first, emit, evidence)?;
        if others.is_empty() {
            return Ok(bound);
        }
        let mut nodes = vec![bound.node];
        for select in others {
            let other = self.select(select, emit, evidence)?;
            if other.fields.len() != bound.fields.len() {
                return Err(SqlError::new(
                    select.at,
                    format!(
                        "this branch of UNION ALL has {} columns, the first has {}",
                        other.fields.len() - self.hidden,
                        bound.fields.len() - self.hidden
                    ),
                ));
            }
            for (field, other) in bound.fields.iter_mut().zip(&other.fields) {
                if field.data_type != other.data_type {
                    return Err(SqlError::new(
                        select.at,
                        format!(
                            "column `{}` is {} in this branch of UNION ALL and {} in the first; use CAST",
                            other.name, other.data_type, field.data_type
                        ),
                    ));
                }
                field.json &= other.json;
            }
            nodes.push(other.node);
        }
        bound.node = Node::Union(nodes);
        Ok(bound)
    }
}
