//! JSON payloads, read once from front to back without building a document.
//!
//! The places that a query wants form a tree. The reader walks the payload
//! along it, skips what is not in it, and stops when everything was found, so
//! that a malformed end behind the last wanted field goes unnoticed. Of equal
//! names in one object the first counts.

use memchr::memchr2;

use super::builder::Builder;
use super::{SAMPLES_MAX, TEXT_BYTES_MAX, number};
use crate::syntax::Step;
use crate::value::{DataType, Waveform};

/// A column that wants a value.
#[derive(Debug, Clone)]
pub struct Wanted {
    column: usize,
    data_type: DataType,
    json: bool,
}

impl Wanted {
    /// `json` keeps the value as it stands.
    pub fn new(column: usize, data_type: DataType, json: bool) -> Self {
        Self {
            column,
            data_type,
            json,
        }
    }
}

/// A place in the payload.
#[derive(Debug, Default)]
struct Place {
    fields: Vec<(Box<[u8]>, usize)>,
    elements: Vec<(u32, usize)>,
    wanted: Vec<Wanted>,
}

/// The places that are wanted.
#[derive(Debug)]
pub struct Tree {
    places: Vec<Place>,
    columns: usize,
    /// Text of a string with escapes.
    scratch: String,
}

/// The payload is not JSON.
struct Malformed;

/// Whether to go on.
#[derive(PartialEq)]
enum Flow {
    Continue,
    /// Everything was found.
    Done,
}

impl Tree {
    pub fn new() -> Self {
        Self {
            places: vec![Place::default()],
            columns: 0,
            scratch: String::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Adds a place.
    pub fn want(&mut self, steps: &[Step], wanted: Wanted) {
        let mut at = 0;
        for step in steps {
            let known = match step {
                Step::Field(name) => self.places[at]
                    .fields
                    .iter()
                    .find(|(known, _)| **known == *name.as_bytes())
                    .map(|(_, child)| *child),
                Step::Index(index) => self.places[at]
                    .elements
                    .iter()
                    .find(|(known, _)| known == index)
                    .map(|(_, child)| *child),
            };
            at = known.unwrap_or_else(|| {
                let child = self.places.len();
                self.places.push(Place::default());
                match step {
                    Step::Field(name) => {
                        self.places[at].fields.push((name.as_bytes().into(), child));
                    }
                    Step::Index(index) => self.places[at].elements.push((*index, child)),
                }
                child
            });
        }
        self.places[at].wanted.push(wanted);
        self.columns += 1;
    }

    /// Fills row `row` of the wanted columns; false if the payload is malformed.
    pub fn read(
        &mut self,
        payload: &[u8],
        columns: &mut [Builder],
        row: usize,
        mismatched: &mut u64,
    ) -> bool {
        let mut reader = Reader {
            bytes: payload,
            at: 0,
            places: &self.places,
            columns,
            row,
            missing: self.columns,
            mismatched,
            scratch: &mut self.scratch,
        };
        reader.space();
        match reader.value(0) {
            Ok(Flow::Done) => true,
            Ok(Flow::Continue) => {
                reader.space();
                reader.at == payload.len()
            }
            Err(Malformed) => false,
        }
    }
}

struct Reader<'r> {
    bytes: &'r [u8],
    at: usize,
    places: &'r [Place],
    columns: &'r mut [Builder],
    row: usize,
    missing: usize,
    mismatched: &'r mut u64,
    scratch: &'r mut String,
}

impl Reader<'_> {
    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Result<u8, Malformed> {
        self.bytes.get(self.at).copied().ok_or(Malformed)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek()? == byte {
            self.at += 1;
            return Ok(());
        }
        Err(Malformed)
    }

    /// Reads the value of a place. The depth of recursion is that of the tree.
    fn value(&mut self, place: usize) -> Result<Flow, Malformed> {
        let node = &self.places[place];
        if !node.wanted.is_empty() {
            let start = self.at;
            self.skip()?;
            let span = &self.bytes[start..self.at];
            for wanted in &node.wanted {
                // The first of equal names counts.
                if self.columns[wanted.column].len() == self.row {
                    assign(
                        span,
                        wanted,
                        &mut self.columns[wanted.column],
                        self.mismatched,
                        self.scratch,
                    );
                    self.missing -= 1;
                }
            }
            if self.missing == 0 {
                return Ok(Flow::Done);
            }
            if node.fields.is_empty() && node.elements.is_empty() {
                return Ok(Flow::Continue);
            }
            let end = self.at;
            self.at = start;
            let flow = self.inside(place)?;
            self.at = end;
            return Ok(flow);
        }
        self.inside(place)
    }

    fn inside(&mut self, place: usize) -> Result<Flow, Malformed> {
        let node = &self.places[place];
        match self.peek()? {
            b'{' if !node.fields.is_empty() => self.object(place),
            b'[' if !node.elements.is_empty() => self.array(place),
            _ => {
                self.skip()?;
                Ok(Flow::Continue)
            }
        }
    }

    fn object(&mut self, place: usize) -> Result<Flow, Malformed> {
        let places = self.places;
        let fields = &places[place].fields;
        self.at += 1;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(Flow::Continue);
        }
        loop {
            let start = self.at + 1;
            let escaped = self.string()?;
            let name = &self.bytes[start..self.at - 1];
            let child = if escaped {
                unescape(name, self.scratch).ok_or(Malformed)?;
                find(fields, self.scratch.as_bytes())
            } else {
                find(fields, name)
            };
            self.space();
            self.expect(b':')?;
            self.space();
            match child {
                None => self.skip()?,
                Some(child) => {
                    if self.value(child)? == Flow::Done {
                        return Ok(Flow::Done);
                    }
                }
            }
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Flow::Continue);
                }
                _ => return Err(Malformed),
            }
            self.space();
        }
    }

    fn array(&mut self, place: usize) -> Result<Flow, Malformed> {
        let places = self.places;
        self.at += 1;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(Flow::Continue);
        }
        for index in 0_u32.. {
            let child = places[place]
                .elements
                .iter()
                .find(|(known, _)| *known == index)
                .map(|(_, child)| *child);
            match child {
                None => self.skip()?,
                Some(child) => {
                    if self.value(child)? == Flow::Done {
                        return Ok(Flow::Done);
                    }
                }
            }
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Flow::Continue);
                }
                _ => return Err(Malformed),
            }
            self.space();
        }
        Err(Malformed)
    }

    /// Goes past a string and says whether it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, Malformed> {
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            // Names and words are short: looking byte by byte beats a search.
            for _ in 0..16 {
                match self.peek()? {
                    b'"' => {
                        self.at += 1;
                        return Ok(escaped);
                    }
                    b'\\' => {
                        escaped = true;
                        self.at += 2;
                    }
                    _ => self.at += 1,
                }
            }
            let rest = self.bytes.get(self.at..).ok_or(Malformed)?;
            self.at += memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
        }
    }

    /// Goes past a value of any kind, counting brackets instead of recursing.
    fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => self.skip_nested(),
            b'-' | b'0'..=b'9' => {
                self.at += 1;
                while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') =
                    self.bytes.get(self.at)
                {
                    self.at += 1;
                }
                Ok(())
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => Err(Malformed),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(Malformed)
    }

    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[inline]
fn find(fields: &[(Box<[u8]>, usize)], name: &[u8]) -> Option<usize> {
    fields
        .iter()
        .find(|(known, _)| known.len() == name.len() && **known == *name)
        .map(|(_, child)| *child)
}

/// Puts a value into a column; null and counted if the type does not fit.
fn assign(
    span: &[u8],
    wanted: &Wanted,
    column: &mut Builder,
    mismatched: &mut u64,
    scratch: &mut String,
) {
    if wanted.json {
        return column.text_bytes(span, mismatched);
    }
    match (span[0], wanted.data_type) {
        (b'n', _) => column.null(),
        (b'-' | b'0'..=b'9', _) => assign_number(span, column, mismatched),
        (b'"', DataType::Text | DataType::Timestamp) => {
            assign_string(&span[1..span.len() - 1], column, mismatched, scratch);
        }
        (b't' | b'f', DataType::Bool) => column.bool(span[0] == b't'),
        (b't' | b'f', DataType::Float) => column.float(f64::from(u8::from(span[0] == b't'))),
        (b't' | b'f', DataType::Int) => column.int(i64::from(span[0] == b't')),
        (_, DataType::Text) => column.text_bytes(span, mismatched),
        (b'[', DataType::Waveform) => {
            let samples = samples(span).filter(|samples| samples.len() <= SAMPLES_MAX);
            if samples.is_none() {
                *mismatched += 1;
            }
            column.waveform(samples.map(Waveform::new));
        }
        _ => {
            *mismatched += 1;
            column.null();
        }
    }
}

fn assign_string(inner: &[u8], column: &mut Builder, mismatched: &mut u64, scratch: &mut String) {
    let text = if inner.contains(&b'\\') {
        unescape(inner, scratch).map(|()| scratch.as_str())
    } else {
        std::str::from_utf8(inner).ok()
    };
    let text = text.filter(|text| text.len() <= TEXT_BYTES_MAX);
    let time = match (text, column.data_type()) {
        (Some(text), DataType::Text) => return column.text(text),
        (Some(text), _) => crate::eval::parse_time(text),
        (None, _) => None,
    };
    match time {
        Some(time) => column.int(time),
        None => {
            *mismatched += 1;
            column.null();
        }
    }
}

/// Puts the text of a number into a column.
pub fn assign_number(span: &[u8], column: &mut Builder, mismatched: &mut u64) {
    let span = span.trim_ascii();
    let fits = match column.data_type() {
        DataType::Float => number(span).map(|found| column.float(found)).is_some(),
        DataType::Int => int(span).map(|found| column.int(found)).is_some(),
        DataType::Timestamp | DataType::Interval => number(span)
            .filter(|ms| ms.abs() < 9e15)
            .map(|ms| column.int(ms.round() as i64))
            .is_some(),
        DataType::Bool if matches!(span, b"0" | b"1") => {
            column.bool(span == b"1");
            true
        }
        DataType::Text => return column.text_bytes(span, mismatched),
        DataType::Bool | DataType::Waveform | DataType::Null => false,
    };
    if !fits {
        *mismatched += 1;
        column.null();
    }
}

/// A whole number, also if it is written with a fraction of zero.
fn int(span: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(span).ok()?;
    text.parse().ok().or_else(|| {
        number(span)
            .filter(|found| found.fract() == 0.0 && found.abs() < 9_007_199_254_740_992.0)
            .map(|found| found as i64)
    })
}

/// The numbers of an array; none if it is anything else.
pub fn samples(span: &[u8]) -> Option<Vec<f64>> {
    let inner = span
        .trim_ascii()
        .strip_prefix(b"[")?
        .strip_suffix(b"]")?
        .trim_ascii();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner
        .split(|byte| *byte == b',')
        .map(|part| number(part.trim_ascii()))
        .collect()
}

/// Writes a string with its escapes resolved.
fn unescape(inner: &[u8], out: &mut String) -> Option<()> {
    out.clear();
    let text = std::str::from_utf8(inner).ok()?;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        let resolved = match letters.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let high = hex(&mut letters)?;
                if (0xd800..0xdc00).contains(&high) {
                    let low = (letters.next()? == '\\' && letters.next()? == 'u')
                        .then(|| hex(&mut letters))??;
                    let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    char::from_u32(0x10000 + ((high - 0xd800) << 10) + low)?
                } else {
                    char::from_u32(high)?
                }
            }
            other @ ('"' | '\\' | '/') => other,
            _ => return None,
        };
        out.push(resolved);
    }
    Some(())
}

fn hex(letters: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |sum, _| Some(sum * 16 + letters.next()?.to_digit(16)?))
}
