//! A bound query: names are columns, every expression has a type.

mod explain;
mod expr;

pub use explain::explain;
pub use expr::{Expr, Unary};

use crate::functions::{Call, Function};
use crate::syntax::{Emit, Format, Step, Watermark};
use crate::value::{DataType, Value};

/// Raised whenever the same text means something else or its state is laid out
/// in another way, so that state of an older version is never taken over.
pub const PLAN_VERSION: u32 = 1;

/// One column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// The text is a piece of JSON as it stood in the payload.
    pub json: bool,
}

/// A bound query.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is read; [`Node::Scan`] holds an index here.
    pub scans: Vec<Scan>,
    /// What is done with it.
    pub root: Node,
    /// The columns of a result row.
    pub output: Vec<Field>,
    /// Which output columns tell one row of a window from another.
    pub key: Vec<usize>,
    /// Output columns that are not shown: evidence of alerts.
    pub hidden: usize,
    /// When rows appear.
    pub emit: Emit,
    /// Rules on the result rows.
    pub alerts: Vec<AlertPlan>,
    /// The name from CREATE QUERY.
    pub name: Option<String>,
    /// The topic from INTO TOPIC.
    pub topic: Option<String>,
    /// Hash of the text without layout, and of [`PLAN_VERSION`].
    pub identity: u64,
}

/// One stream as a query reads it.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The name in the query.
    pub name: String,
    /// MQTT filters of paths; empty means all paths.
    pub filters: Vec<String>,
    /// Log topics; empty means all.
    pub topics: Vec<String>,
    /// How payloads are read.
    pub format: Format,
    /// The columns that the query uses.
    pub columns: Vec<ScanColumn>,
    /// The column with the event time; the record time if absent.
    pub time: Option<usize>,
    /// How event time advances.
    pub watermark: Watermark,
    /// The columns of the key if this is a table.
    pub key: Option<Vec<usize>>,
}

/// One column of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanColumn {
    /// How it is written.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Where it comes from.
    pub source: ColumnSource,
}

/// Where a column of a scan comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnSource {
    /// A place in a JSON payload.
    Payload(Vec<Step>),
    /// A place in a JSON payload, kept as JSON text.
    PayloadJson(Vec<Step>),
    /// The payload as its format says.
    Whole,
    /// The path.
    Path,
    /// One level of the path, from 1.
    Level(u32),
    /// The log topic.
    Topic,
    /// The partition.
    Partition,
    /// The offset.
    Offset,
    /// The time of the record.
    RecordTime,
    /// The event time.
    EventTime,
    /// A record header.
    Header(String),
}

/// One step of the work.
#[derive(Debug, Clone)]
pub enum Node {
    /// Rows of a stream.
    Scan(usize),
    /// Keeps rows for which the predicate is true.
    Filter {
        /// Where rows come from.
        input: Box<Node>,
        /// A boolean.
        predicate: Expr,
    },
    /// Computes columns.
    Project {
        /// Where rows come from.
        input: Box<Node>,
        /// One per column.
        exprs: Vec<Expr>,
    },
    /// Appends one column per analytic call.
    Analytic {
        /// Where rows come from.
        input: Box<Node>,
        /// The calls.
        calls: Vec<AnalyticCall>,
    },
    /// Aggregates in windows. The columns of its rows are the keys, the
    /// beginning and the end of the window, and the aggregates.
    Window {
        /// Where rows come from.
        input: Box<Node>,
        /// How rows are cut.
        cut: Cut,
        /// GROUP BY.
        keys: Vec<Expr>,
        /// What is computed.
        aggregates: Vec<AggregateCall>,
        /// Whether each key has a watermark of its own.
        per_key: Option<Watermark>,
        /// Whether rows of open windows are wanted on each change.
        changes: bool,
    },
    /// Left columns, then right columns.
    Join {
        /// Left.
        left: Box<Node>,
        /// Right.
        right: Box<Node>,
        /// How rows find each other.
        join: JoinPlan,
    },
    /// The rows of several nodes with the same columns.
    Union(Vec<Node>),
}

/// How rows of two sides find each other.
#[derive(Debug, Clone)]
pub struct JoinPlan {
    /// Kind.
    pub kind: JoinKind,
    /// Keys over the left columns.
    pub left_keys: Vec<Expr>,
    /// Keys over the right columns, of the same types.
    pub right_keys: Vec<Expr>,
    /// Whether left rows without a match are kept.
    pub outer: bool,
    /// The number of left columns.
    pub left_columns: usize,
    /// The types of the right columns.
    pub right_types: Vec<DataType>,
}

/// The kinds of joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// The latest right row of the key when the left row arrives.
    Latest,
    /// The newest right row that is not newer than the left row, in event time.
    AsOf,
    /// Right rows whose time minus the left time is within the bounds, in ms.
    Interval {
        /// At least this.
        lower: i64,
        /// At most this.
        upper: i64,
    },
}

/// How rows are cut into windows, in milliseconds.
#[derive(Debug, Clone)]
pub enum Cut {
    /// Of fixed length, every `slide`.
    Time {
        /// Length.
        size: i64,
        /// Distance of beginnings; equal to `size` if windows do not overlap.
        slide: i64,
        /// Shift of beginnings.
        offset: i64,
        /// A POSIX time zone rule for the alignment.
        zone: Option<String>,
    },
    /// While rows keep coming.
    Session {
        /// Silence that ends it.
        gap: i64,
        /// The longest session.
        max: Option<i64>,
    },
    /// A number of rows.
    Count {
        /// Rows in a window.
        rows: i64,
        /// Rows between beginnings.
        step: i64,
    },
    /// From one condition to another.
    State {
        /// Opens, or delimits by its changes if `close` is absent.
        open: Expr,
        /// Closes.
        close: Option<Expr>,
    },
}

/// An aggregate at one place.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// Which.
    pub function: &'static Function,
    /// Of what.
    pub arguments: Vec<Expr>,
    /// Literal arguments.
    pub constants: Vec<Option<Value>>,
    /// The type of the result.
    pub data_type: DataType,
}

/// An analytic function at one place.
#[derive(Debug, Clone)]
pub struct AnalyticCall {
    /// The function, its arguments and its type.
    pub call: AggregateCall,
    /// PARTITION BY.
    pub keys: Vec<Expr>,
}

/// CREATE ALERT over the output columns.
#[derive(Debug, Clone)]
pub struct AlertPlan {
    /// Its name.
    pub name: String,
    /// Output columns that tell one alert from another.
    pub key: Vec<usize>,
    /// Raises.
    pub when: Expr,
    /// How long `when` must hold, in milliseconds of event time.
    pub hold_ms: i64,
    /// Clears.
    pub clear: Expr,
    /// How long `clear` must hold.
    pub clear_hold_ms: i64,
    /// Severity.
    pub severity: String,
    /// No new alert for this long after one was cleared.
    pub suppress_ms: i64,
    /// A text for people.
    pub message: Option<String>,
    /// The value that is reported.
    pub value: Option<Expr>,
    /// The literal that the value is compared with.
    pub threshold: Option<Value>,
    /// Which hidden columns hold the evidence: partition, first, last offset.
    pub evidence: Option<[usize; 3]>,
}

impl AggregateCall {
    /// The types of the arguments.
    pub fn types(&self) -> Vec<DataType> {
        self.arguments.iter().map(Expr::data_type).collect()
    }

    /// Calls `make` with the description of the call.
    pub fn with_call<T>(&self, make: impl FnOnce(&Call<'_>) -> T) -> T {
        let types = self.types();
        make(&Call {
            types: &types,
            constants: &self.constants,
        })
    }
}

impl Node {
    /// The types of the columns of its rows.
    pub fn types(&self, scans: &[Scan]) -> Vec<DataType> {
        match self {
            Self::Scan(index) => scans[*index]
                .columns
                .iter()
                .map(|column| column.data_type)
                .collect(),
            Self::Filter { input, .. } => input.types(scans),
            Self::Project { exprs, .. } => exprs.iter().map(Expr::data_type).collect(),
            Self::Analytic { input, calls } => {
                let mut types = input.types(scans);
                types.extend(calls.iter().map(|call| call.call.data_type));
                types
            }
            Self::Window {
                keys, aggregates, ..
            } => {
                let mut types: Vec<DataType> = keys.iter().map(Expr::data_type).collect();
                types.extend([DataType::Timestamp; 2]);
                types.extend(aggregates.iter().map(|call| call.data_type));
                types
            }
            Self::Join { left, join, .. } => {
                let mut types = left.types(scans);
                types.extend(&join.right_types);
                types
            }
            Self::Union(nodes) => nodes
                .first()
                .map_or_else(Vec::new, |node| node.types(scans)),
        }
    }
}
