//! The columns that a SELECT can name.

use super::suggest;
use crate::plan::{ColumnSource, Field, Scan, ScanColumn};
use crate::syntax::{Format, Position, SqlError, Step, Stream};
use crate::value::DataType;

/// The relations after FROM, in the order of their columns.
#[derive(Debug, Default)]
pub struct Scope {
    pub relations: Vec<Relation>,
}

/// One relation.
#[derive(Debug)]
pub struct Relation {
    /// Names by which its columns can be qualified.
    pub names: Vec<String>,
    pub kind: RelationKind,
}

#[derive(Debug)]
pub enum RelationKind {
    /// A stream whose columns come into being when they are named.
    Stream {
        /// Its place in the plan.
        scan: usize,
        stream: Box<Stream>,
        drafts: Vec<Draft>,
    },
    /// A query with fixed columns.
    Fixed(Vec<Field>),
}

/// A column of a stream whose type may not be known yet.
#[derive(Debug)]
pub struct Draft {
    pub name: String,
    pub source: ColumnSource,
    /// A type that a declaration or a use demands, and where.
    pub strong: Option<(DataType, Position)>,
    /// Whether the type was declared or is that of a record column.
    pub declared: bool,
    /// Uses that accept any type but would rather have text.
    pub as_text: bool,
    /// Uses other than as a bare result column.
    pub used: bool,
}

/// Names of the fields that every reading of the gateway has, with their types.
const READING_FIELDS: [(&str, DataType); 6] = [
    ("value", DataType::Float),
    ("timestamp", DataType::Timestamp),
    ("quality", DataType::Text),
    ("unit", DataType::Text),
    ("status", DataType::Text),
    ("id", DataType::Text),
];

/// Columns that every stream has.
const RECORD_COLUMNS: [(&str, ColumnSource, DataType); 8] = [
    ("path", ColumnSource::Path, DataType::Text),
    ("topic", ColumnSource::Topic, DataType::Text),
    ("partition", ColumnSource::Partition, DataType::Int),
    ("offset", ColumnSource::Offset, DataType::Int),
    ("record_time", ColumnSource::RecordTime, DataType::Timestamp),
    ("event_time", ColumnSource::EventTime, DataType::Timestamp),
    ("rowtime", ColumnSource::EventTime, DataType::Timestamp),
    ("payload", ColumnSource::Whole, DataType::Text),
];

impl Scope {
    /// The place of the first column of a relation.
    pub fn base(&self, relation: usize) -> usize {
        self.relations[..relation].iter().map(Relation::width).sum()
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.base(self.relations.len())
    }

    /// Finds or makes the column that a path names: relation and place in it.
    pub fn resolve(&mut self, steps: &[Step], at: Position) -> Result<(usize, usize), SqlError> {
        if let [Step::Field(first), rest @ ..] = steps
            && !rest.is_empty()
            && let Some(relation) = self.relation_named(first)
        {
            return Ok((relation, self.relations[relation].column(rest, at)?));
        }
        if self.relations.len() == 1 {
            return Ok((0, self.relations[0].column(steps, at)?));
        }
        let known: Vec<usize> = (0..self.relations.len())
            .filter(|relation| self.relations[*relation].knows(steps))
            .collect();
        match known.as_slice() {
            [relation] => Ok((*relation, self.relations[*relation].column(steps, at)?)),
            _ => Err(SqlError::new(
                at,
                format!(
                    "column `{}` may belong to either side of the join; write {}.{}",
                    print(steps),
                    self.relations[0]
                        .names
                        .first()
                        .map_or("stream", String::as_str),
                    print(steps)
                ),
            )),
        }
    }

    fn relation_named(&self, name: &str) -> Option<usize> {
        self.relations.iter().position(|relation| {
            relation
                .names
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        })
    }

    /// The column by absolute place: its type and whether it is raw JSON.
    pub fn field(&self, relation: usize, column: usize) -> (DataType, bool) {
        match &self.relations[relation].kind {
            RelationKind::Fixed(fields) => (fields[column].data_type, fields[column].json),
            RelationKind::Stream { drafts, .. } => {
                let draft = &drafts[column];
                (draft.data_type(), draft.is_json())
            }
        }
    }

    /// The draft of a column, if its relation is a stream.
    pub fn draft(&mut self, relation: usize, column: usize) -> Option<&mut Draft> {
        match &mut self.relations[relation].kind {
            RelationKind::Fixed(_) => None,
            RelationKind::Stream { drafts, .. } => Some(&mut drafts[column]),
        }
    }

    /// Writes the columns that were named into the scans of the plan.
    pub fn settle(&self, scans: &mut [Scan]) {
        for relation in &self.relations {
            let RelationKind::Stream { scan, drafts, .. } = &relation.kind else {
                continue;
            };
            scans[*scan].columns = drafts
                .iter()
                .map(|draft| ScanColumn {
                    name: draft.name.clone(),
                    data_type: draft.data_type(),
                    source: match &draft.source {
                        ColumnSource::Payload(steps) if draft.is_json() => {
                            ColumnSource::PayloadJson(steps.clone())
                        }
                        other => other.clone(),
                    },
                })
                .collect();
        }
    }
}

impl Draft {
    /// The type once every use is known.
    pub fn data_type(&self) -> DataType {
        if let Some((data_type, _)) = self.strong {
            return data_type;
        }
        if let Some((_, data_type)) = READING_FIELDS.iter().find(|(name, _)| *name == self.name) {
            return *data_type;
        }
        if self.as_text || self.is_json() {
            DataType::Text
        } else {
            DataType::Float
        }
    }

    /// Whether the column is passed through as the JSON it was: nothing but a
    /// result column names it and nobody said what it is.
    pub fn is_json(&self) -> bool {
        matches!(self.source, ColumnSource::Payload(_))
            && self.strong.is_none()
            && !self.used
            && !self.as_text
            && !READING_FIELDS.iter().any(|(name, _)| *name == self.name)
    }
}

impl Relation {
    pub fn stream(scan: usize, stream: Stream, alias: Option<String>) -> Self {
        let mut names: Vec<String> = alias.into_iter().collect();
        names.push(stream.name.clone());
        Self {
            names,
            kind: RelationKind::Stream {
                scan,
                stream: Box::new(stream),
                drafts: Vec::new(),
            },
        }
    }

    pub fn fixed(fields: Vec<Field>, alias: Option<String>) -> Self {
        Self {
            names: alias.into_iter().collect(),
            kind: RelationKind::Fixed(fields),
        }
    }

    pub fn width(&self) -> usize {
        match &self.kind {
            RelationKind::Stream { drafts, .. } => drafts.len(),
            RelationKind::Fixed(fields) => fields.len(),
        }
    }

    /// Whether the relation declares such a column, as opposed to accepting any.
    fn knows(&self, steps: &[Step]) -> bool {
        match &self.kind {
            RelationKind::Fixed(fields) => fields
                .iter()
                .any(|field| field.name.eq_ignore_ascii_case(&print(steps))),
            RelationKind::Stream { stream, .. } => {
                stream.columns.iter().any(|(name, _)| *name == print(steps))
            }
        }
    }

    /// Finds or makes a column.
    pub fn column(&mut self, steps: &[Step], at: Position) -> Result<usize, SqlError> {
        match &mut self.kind {
            RelationKind::Fixed(fields) => {
                let name = print(steps);
                fields
                    .iter()
                    .position(|field| field.name == name)
                    .or_else(|| {
                        fields
                            .iter()
                            .position(|field| field.name.eq_ignore_ascii_case(&name))
                    })
                    .ok_or_else(|| {
                        unknown(&name, fields.iter().map(|field| field.name.as_str()), at)
                    })
            }
            RelationKind::Stream { stream, drafts, .. } => {
                let (name, source, data_type) = stream_column(stream, steps, at)?;
                Ok(draft(
                    drafts,
                    name,
                    source,
                    data_type.map(|found| (found, at)),
                ))
            }
        }
    }

    /// Whether a column is the event time of the relation.
    pub fn is_event_time(&self, column: usize) -> bool {
        match &self.kind {
            RelationKind::Fixed(_) => false,
            RelationKind::Stream { stream, drafts, .. } => match &stream.time_column {
                Some(name) => {
                    drafts[column].name == *name || drafts[column].source == ColumnSource::EventTime
                }
                None => matches!(
                    drafts[column].source,
                    ColumnSource::EventTime | ColumnSource::RecordTime
                ),
            },
        }
    }

    /// Makes a column that is no payload field, such as a header.
    pub fn special(
        &mut self,
        name: String,
        source: ColumnSource,
        data_type: DataType,
        at: Position,
    ) -> Option<usize> {
        match &mut self.kind {
            RelationKind::Fixed(_) => None,
            RelationKind::Stream { drafts, .. } => {
                Some(draft(drafts, name, source, Some((data_type, at))))
            }
        }
    }
}

fn draft(
    drafts: &mut Vec<Draft>,
    name: String,
    source: ColumnSource,
    strong: Option<(DataType, Position)>,
) -> usize {
    if let Some(found) = drafts.iter().position(|draft| draft.source == source) {
        if drafts[found].strong.is_none() {
            drafts[found].strong = strong;
        }
        return found;
    }
    drafts.push(Draft {
        name,
        source,
        declared: strong.is_some(),
        strong,
        as_text: false,
        used: false,
    });
    drafts.len() - 1
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>, at: Position) -> SqlError {
    let known: Vec<&str> = known.collect();
    let mut hint = suggest::hint(name, known.iter().copied());
    if hint.is_empty() {
        hint = format!("; there is {}", known.join(", "));
    }
    SqlError::new(at, format!("unknown column `{name}`{hint}"))
}

type Found = (String, ColumnSource, Option<DataType>);

/// What a name means in a stream. No type means that the uses decide.
fn stream_column(stream: &Stream, steps: &[Step], at: Position) -> Result<Found, SqlError> {
    let name = print(steps);
    if let Some((declared, data_type)) = stream.columns.iter().find(|(known, _)| *known == name) {
        let source = if stream.format == Format::Json {
            ColumnSource::Payload(split(declared))
        } else {
            ColumnSource::Whole
        };
        return Ok((name, source, Some(*data_type)));
    }
    if let [Step::Field(single)] = steps {
        if let Some(level) = named_level(stream, single) {
            return Ok((name, ColumnSource::Level(level), Some(DataType::Text)));
        }
        let lower = single.to_ascii_lowercase();
        let hidden =
            lower == "payload" && stream.format != Format::Json && stream.format != Format::Text;
        if let Some((_, source, data_type)) = RECORD_COLUMNS
            .iter()
            .find(|(known, _, _)| *known == lower && !hidden)
        {
            return Ok((name, source.clone(), Some(*data_type)));
        }
    }
    if stream.format != Format::Json {
        return whole(stream, name, at);
    }
    if stream.time_column.as_deref() == Some(name.as_str()) {
        return Ok((
            name,
            ColumnSource::Payload(steps.to_vec()),
            Some(DataType::Timestamp),
        ));
    }
    let steps = match steps {
        [Step::Field(first), rest @ ..] if first == "payload" && !rest.is_empty() => rest,
        other => other,
    };
    if !stream.columns.is_empty() {
        let known = stream
            .columns
            .iter()
            .map(|(name, _)| name.as_str())
            .chain(RECORD_COLUMNS.iter().map(|(name, _, _)| *name));
        return Err(unknown(&name, known, at));
    }
    Ok((print(steps), ColumnSource::Payload(steps.to_vec()), None))
}

fn whole(stream: &Stream, name: String, at: Position) -> Result<Found, SqlError> {
    let data_type = match stream.format {
        Format::Number => DataType::Float,
        Format::Text | Format::Json => DataType::Text,
        Format::JsonArray | Format::F32 | Format::I16 => DataType::Waveform,
    };
    if name.eq_ignore_ascii_case("value") {
        return Ok((name, ColumnSource::Whole, Some(data_type)));
    }
    let known = ["value"]
        .into_iter()
        .chain(RECORD_COLUMNS.iter().map(|(name, _, _)| *name));
    Err(unknown(&name, known, at))
}

/// The number, from 1, of the level that a filter names `{name}`.
fn named_level(stream: &Stream, name: &str) -> Option<u32> {
    stream.filters.iter().find_map(|filter| {
        let place = filter.split('/').position(|level| {
            level
                .strip_prefix('{')
                .and_then(|level| level.strip_suffix('}'))
                .is_some_and(|level| level == name)
        })?;
        u32::try_from(place + 1).ok()
    })
}

/// A path as it is written.
pub fn print(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Field(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// A declared path as steps.
pub fn split(name: &str) -> Vec<Step> {
    name.split('.')
        .map(|part| Step::Field(part.to_owned()))
        .collect()
}
