//! What the text of a program says, before names and types are known.

use crate::value::{DataType, Value};

/// A place in the text, both counted from 1. Zero means that it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

/// A mistake in the text of a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", at.line, at.column)]
pub struct SqlError {
    /// Where.
    pub at: Position,
    /// What, and what was expected.
    pub message: String,
}

impl SqlError {
    /// A mistake at a place.
    pub fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

/// A whole file: streams, one query, alerts on it.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Every CREATE STREAM and CREATE TABLE.
    pub streams: Vec<Stream>,
    /// The query, if there is one.
    pub query: Option<NamedQuery>,
    /// Every CREATE ALERT.
    pub alerts: Vec<Alert>,
}

/// How payload bytes become columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object per record; fields are columns.
    #[default]
    Json,
    /// The payload is a decimal number, in column `value`.
    Number,
    /// The payload is UTF-8 text, in column `value`.
    Text,
    /// The payload is a JSON array of numbers, in column `value` as a waveform.
    JsonArray,
    /// Little-endian 32-bit floats, in column `value` as a waveform.
    F32,
    /// Little-endian signed 16-bit integers, in column `value` as a waveform.
    I16,
}

/// CREATE STREAM or CREATE TABLE.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Where the name is.
    pub at: Position,
    /// Declared columns: path in the payload and type.
    pub columns: Vec<(String, DataType)>,
    /// MQTT filters of paths, any may match; levels may be named `{level}`.
    pub filters: Vec<String>,
    /// Log topics to read; empty means all.
    pub topics: Vec<String>,
    /// How payloads are read.
    pub format: Format,
    /// The payload column with the event time; the record time if absent.
    pub time_column: Option<String>,
    /// Settings of the watermark.
    pub watermark: Watermark,
    /// For a table, the columns of its key.
    pub key: Option<Vec<String>>,
}

/// How event time advances in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// How far behind the newest row the watermark stays, in milliseconds.
    pub delay_ms: i64,
    /// How long a silent partition holds the watermark, in milliseconds.
    pub idle_ms: i64,
    /// How far event time may run ahead of record time, in milliseconds.
    pub ahead_ms: i64,
    /// Whether each group has a watermark of its own.
    pub per_key: bool,
}

/// A row may arrive this much out of order unless the stream says otherwise:
/// polled values of one gateway are in order within a poll, so seconds suffice.
pub const WATERMARK_DELAY_MS: i64 = 2_000;
/// Slow polls come every ten seconds; three missed ones mean silence.
pub const IDLE_AFTER_MS: i64 = 30_000;
/// More than clock drift of a device without time service in a month, less than
/// an hour, which is what a wrong time zone gives.
pub const AHEAD_MAX_MS: i64 = 300_000;

impl Default for Watermark {
    fn default() -> Self {
        Self {
            delay_ms: WATERMARK_DELAY_MS,
            idle_ms: IDLE_AFTER_MS,
            ahead_ms: AHEAD_MAX_MS,
            per_key: false,
        }
    }
}

/// When result rows appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emit {
    /// One row per window when it closes.
    #[default]
    Final,
    /// A row for each change as well, replacing the one before.
    Changes,
    /// The final row, if it differs from the last one of its key.
    OnChange,
}

/// A query with its name and destination.
#[derive(Debug, Clone)]
pub struct NamedQuery {
    /// From CREATE QUERY; the configuration names it otherwise.
    pub name: Option<String>,
    /// From INTO TOPIC or INSERT INTO.
    pub topic: Option<String>,
    /// What it selects.
    pub body: Query,
    /// When rows appear.
    pub emit: Emit,
}

/// One or more SELECTs; more are a UNION ALL.
#[derive(Debug, Clone)]
pub struct Query {
    /// The branches.
    pub selects: Vec<Select>,
}

/// One SELECT.
#[derive(Debug, Clone)]
pub struct Select {
    /// Where it begins.
    pub at: Position,
    /// The result columns.
    pub items: Vec<Item>,
    /// FROM.
    pub from: Source,
    /// WHERE.
    pub filter: Option<Expr>,
    /// GROUP BY without windows.
    pub group_by: Vec<Expr>,
    /// HAVING.
    pub having: Option<Expr>,
}

/// One result column.
#[derive(Debug, Clone)]
pub enum Item {
    /// Every column of the source.
    Star(Position),
    /// An expression and its name.
    Expr(Expr, Option<String>),
}

/// What a SELECT reads.
#[derive(Debug, Clone)]
pub enum Source {
    /// A stream by name, or a path filter if it was quoted.
    Named {
        /// The name or the filter.
        name: String,
        /// Whether it was in quotes.
        quoted: bool,
        /// AS.
        alias: Option<String>,
        /// Where.
        at: Position,
    },
    /// A query in parentheses.
    Query {
        /// The query.
        query: Box<Query>,
        /// AS.
        alias: Option<String>,
        /// Where.
        at: Position,
    },
    /// A window over a source.
    Window {
        /// What is cut into windows.
        input: Box<Source>,
        /// How.
        window: Window,
        /// The time column if it was named.
        time: Option<(String, Position)>,
        /// Where.
        at: Position,
    },
    /// Two sources.
    Join(Box<Join>),
}

/// A join.
#[derive(Debug, Clone)]
pub struct Join {
    /// The left source.
    pub left: Source,
    /// The right source.
    pub right: Source,
    /// ON.
    pub on: Expr,
    /// MATCH_CONDITION of an ASOF join.
    pub match_condition: Option<Expr>,
    /// Whether left rows without a match are kept.
    pub outer: bool,
    /// Where.
    pub at: Position,
}

/// How rows are cut into windows. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// Adjacent windows of equal size.
    Tumble {
        /// Length.
        size: i64,
        /// Shift of the beginnings against the epoch (local midnight with a zone).
        offset: i64,
        /// A time zone for the alignment.
        zone: Option<String>,
    },
    /// Overlapping windows.
    Hop {
        /// Distance between beginnings.
        slide: i64,
        /// Length.
        size: i64,
        /// Shift of the beginnings.
        offset: i64,
        /// A time zone for the alignment.
        zone: Option<String>,
    },
    /// As long as rows keep coming, per group.
    Session {
        /// Silence that ends it.
        gap: i64,
        /// The longest session.
        max: Option<i64>,
    },
    /// A number of rows, per group.
    Count {
        /// Rows in a window.
        rows: i64,
        /// Rows between beginnings.
        step: i64,
    },
    /// From one condition to another, per group.
    State {
        /// Opens a window; alone, a value whose changes delimit windows.
        open: Expr,
        /// Closes it.
        close: Option<Expr>,
    },
}

/// An expression with its place. Places do not count when two are compared.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it begins.
    pub at: Position,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Expr {
    fn children_mut(&mut self) -> Vec<&mut Self> {
        match &mut self.kind {
            ExprKind::Name(_) | ExprKind::Literal(_) => Vec::new(),
            ExprKind::Negate(inner)
            | ExprKind::Not(inner)
            | ExprKind::IsNull(inner)
            | ExprKind::Cast(inner, _) => vec![inner],
            ExprKind::Binary(_, left, right) | ExprKind::Like(left, right, _) => vec![left, right],
            ExprKind::Case(branches, otherwise) => branches
                .iter_mut()
                .flat_map(|(condition, result)| [condition, result])
                .chain(otherwise.as_deref_mut())
                .collect(),
            ExprKind::Call(call) => call
                .arguments
                .iter_mut()
                .chain(call.filter.as_deref_mut())
                .chain(call.over.iter_mut().flatten())
                .collect(),
        }
    }

    /// Replaces names that are aliases by what they stand for. The depth bounds
    /// aliases that stand for each other.
    pub fn inline(&mut self, aliases: &[(String, Expr)], depth: u32) {
        const DEPTH_MAX: u32 = 8;
        if depth > DEPTH_MAX {
            return;
        }
        if let ExprKind::Name(steps) = &self.kind
            && let [Step::Field(name)] = steps.as_slice()
            && let Some((_, expr)) = aliases.iter().find(|(alias, _)| alias == name)
        {
            // `avg(x) AS x` names itself; what is inside means the column.
            let recursive = expr.names().iter().any(|(inner, _)| inner == name);
            *self = expr.clone();
            if recursive {
                return;
            }
        }
        for child in self.children_mut() {
            child.inline(aliases, depth + 1);
        }
    }

    /// Every single-step name in the expression, with its place.
    pub fn names(&self) -> Vec<(String, Position)> {
        let mut found = Vec::new();
        self.clone().collect_names(&mut found);
        found
    }

    /// Whether this or a part of it is a call for which `wanted` is true.
    pub fn has_call(&self, wanted: &impl Fn(&CallSyntax) -> bool) -> bool {
        if let ExprKind::Call(call) = &self.kind
            && wanted(call)
        {
            return true;
        }
        self.clone()
            .children_mut()
            .into_iter()
            .any(|child| child.has_call(wanted))
    }

    fn collect_names(&mut self, into: &mut Vec<(String, Position)>) {
        if let ExprKind::Name(steps) = &self.kind
            && let [Step::Field(name)] = steps.as_slice()
        {
            into.push((name.clone(), self.at));
        }
        for child in self.children_mut() {
            child.collect_names(into);
        }
    }
}

/// One step of a path into a payload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// An element of an array, from 0.
    Index(u32),
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the operators say it")]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Concat,
    DistinctFrom,
}

impl Operator {
    /// How it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::And => "AND",
            Self::Or => "OR",
            Self::Concat => "||",
            Self::DistinctFrom => "IS DISTINCT FROM",
        }
    }

    /// Whether the result is a boolean that compares two values.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
                | Self::DistinctFrom
        )
    }

    /// Whether it takes numbers and gives a number.
    pub fn is_arithmetic(self) -> bool {
        matches!(
            self,
            Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo
        )
    }
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallSyntax {
    /// The name as it was written.
    pub name: String,
    /// The arguments.
    pub arguments: Vec<Expr>,
    /// `count(*)`.
    pub star: bool,
    /// `count(DISTINCT x)`.
    pub distinct: bool,
    /// FILTER (WHERE …).
    pub filter: Option<Box<Expr>>,
    /// OVER (PARTITION BY …).
    pub over: Option<Vec<Expr>>,
}

/// The kinds of expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A column, an alias, or a path into a payload.
    Name(Vec<Step>),
    /// A literal.
    Literal(Value),
    /// `-x`.
    Negate(Box<Expr>),
    /// `NOT x`.
    Not(Box<Expr>),
    /// Two operands.
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `x IS NULL`.
    IsNull(Box<Expr>),
    /// CASE without an operand.
    Case(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    /// CAST.
    Cast(Box<Expr>, DataType),
    /// LIKE, or ILIKE if the flag is set.
    Like(Box<Expr>, Box<Expr>, bool),
    /// A call.
    Call(CallSyntax),
}

/// CREATE ALERT.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Where the name is.
    pub at: Position,
    /// ON: the name of the query, if given.
    pub on: Option<String>,
    /// The columns that tell one alert from another; the groups if empty.
    pub key: Vec<String>,
    /// WHEN.
    pub when: Expr,
    /// How long the condition must hold, in milliseconds of event time.
    pub hold_ms: i64,
    /// CLEAR WHEN; the opposite of WHEN if absent.
    pub clear: Option<Expr>,
    /// How long the clearing condition must hold.
    pub clear_hold_ms: i64,
    /// SEVERITY.
    pub severity: String,
    /// After an alert was cleared, no new one of its key for this long.
    pub suppress_ms: i64,
    /// MESSAGE.
    pub message: Option<String>,
    /// VALUE: the expression reported as value; found in WHEN if absent.
    pub value: Option<Expr>,
}
