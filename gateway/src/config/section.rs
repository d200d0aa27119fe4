//! The walk over the spanned document.
//!
//! A [`Section`] is one table of the file. Every key that is asked for becomes
//! known; [`Section::finish`] reports the rest. A wrong value is recorded in
//! the [`Document`] and read as absent, so that the walk always goes on to the
//! end and finds all mistakes. Places of values are kept by their full key for
//! the checks that look at several keys together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Mistake;
use super::names::nearest;

/// A value longer than this is cut in a mistake: the line number suffices.
const SHOWN_VALUE_CHARACTERS: usize = 60;

/// More mistakes than this are not listed: the file is something else.
const MISTAKES_MAX: usize = 200;

/// The file: its text, the mistakes found and the places of values.
pub(super) struct Document<'a> {
    path: PathBuf,
    text: &'a str,
    found: RefCell<Found>,
    places: RefCell<BTreeMap<String, Range<usize>>>,
}

#[derive(Default)]
struct Found {
    mistakes: Vec<Mistake>,
    /// What works and is probably not meant.
    warnings: Vec<Mistake>,
    /// Lines that are not TOML. What follows from them is not reported.
    broken_lines: Vec<usize>,
}

/// One table of the document, which may be absent.
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    name: String,
    table: Option<&'d DeTable<'d>>,
    at: Range<usize>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(path: &Path, text: &'a str) -> Self {
        Self {
            path: path.to_path_buf(),
            text,
            found: RefCell::default(),
            places: RefCell::default(),
        }
    }

    /// Parses the text; syntax mistakes are recorded and what can be read of
    /// the rest is returned.
    pub(super) fn table(&self) -> Option<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let at = error.span().unwrap_or(0..0);
            let line = self.line(at.start);
            let mut found = self.found.borrow_mut();
            if !found.broken_lines.contains(&line) {
                found.broken_lines.push(line);
                let expected = format!("expected TOML: {}", error.message());
                found.mistakes.push(self.mistake_of(&at, "", "", expected));
            }
        }
        Some(table.into_inner())
    }

    /// The whole file as a section. The table must outlive the walk.
    pub(super) fn root<'d>(&'d self, table: &'d DeTable<'d>) -> Section<'d> {
        Section {
            document: self,
            name: String::new(),
            table: Some(table),
            at: 0..0,
            known: RefCell::default(),
        }
    }

    /// Records a mistake at the value of a full key that the walk has read,
    /// or at the start of the file when the file does not have that key.
    pub(super) fn mistake(&self, key: &str, expected: impl Into<String>) {
        let at = self.places.borrow().get(key).cloned();
        let value = at.clone().map_or("", |at| &self.text[at]);
        self.record(at.unwrap_or(0..0), key, value, expected.into());
    }

    /// Whether the walk has met a full key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.places.borrow().contains_key(key)
    }

    /// Records a warning at the value of a full key that the walk has read.
    pub(super) fn warn(&self, key: &str, text: impl Into<String>) {
        let at = self.places.borrow().get(key).cloned();
        let value = at.clone().map_or("", |at| &self.text[at]);
        let warning = self.mistake_of(&at.unwrap_or(0..0), key, value, text.into());
        self.found.borrow_mut().warnings.push(warning);
    }

    /// The warnings in the order of their lines.
    pub(super) fn take_warnings(&self) -> Vec<Mistake> {
        let mut warnings = std::mem::take(&mut self.found.borrow_mut().warnings);
        warnings.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        warnings
    }

    /// The mistakes in the order of their lines.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.found.into_inner().mistakes;
        mistakes.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        mistakes.truncate(MISTAKES_MAX);
        mistakes
    }

    fn record(&self, at: Range<usize>, key: &str, value: &str, expected: String) {
        let mut found = self.found.borrow_mut();
        let line = self.line(at.start);
        let follows = !found.broken_lines.is_empty()
            && (value.is_empty() || found.broken_lines.contains(&line));
        if !follows {
            let mistake = self.mistake_of(&at, key, value, expected);
            found.mistakes.push(mistake);
        }
    }

    fn mistake_of(&self, at: &Range<usize>, key: &str, value: &str, expected: String) -> Mistake {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: String = value.chars().take(SHOWN_VALUE_CHARACTERS).collect();
        let cut = shown.len() < value.len();
        Mistake {
            file: self.path.clone(),
            line: self.line(at.start),
            key: key.to_owned(),
            value: if cut { shown + "..." } else { shown },
            expected: expected.replace('\n', "; "),
        }
    }

    fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        1 + self.text.as_bytes()[..end]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
    }
}

impl<'d> Section<'d> {
    /// Whether the file has this table.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The key in full, as mistakes name it.
    pub(super) fn full_key(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// The directory of the file: names of files in it start here.
    pub(super) fn directory(&self) -> &Path {
        self.document.path.parent().unwrap_or(Path::new(""))
    }

    /// Reads a key by a conversion that explains what it expected.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        convert: impl FnOnce(&'d DeValue<'d>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match convert(value.get_ref()) {
            Ok(converted) => Some(converted),
            Err(expected) => {
                self.document.mistake(&self.full_key(key), expected);
                None
            }
        }
    }

    /// Reads a text by a conversion that explains what it expected.
    pub(super) fn text<T>(
        &self,
        key: &'static str,
        expected: &str,
        convert: impl FnOnce(&'d str) -> Result<T, String>,
    ) -> Option<T> {
        self.read(key, |value| match value.as_str() {
            Some(text) => convert(text),
            None => Err(format!("{expected}, got {}", article(value))),
        })
    }

    /// Reads a text by a parser that only says yes or no.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&'d str) -> Option<T>,
    ) -> Option<T> {
        self.text(key, expected, |text| {
            parse(text).ok_or_else(|| expected.to_owned())
        })
    }

    /// Reads one of a few words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let expected = format!("expected {}", names.join(" or "));
        self.parsed(key, &expected, |text| {
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
        })
    }

    /// Reads a whole number within bounds.
    pub(super) fn number(&self, key: &'static str, min: u64, max: u64) -> Option<u64> {
        self.read(key, |value| {
            let expected = format!("expected a whole number from {min} to {max}");
            let DeValue::Integer(integer) = value else {
                return Err(format!("{expected}, got {}", article(value)));
            };
            u64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .filter(|number| (min..=max).contains(number))
                .ok_or(expected)
        })
    }

    /// Reads `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        self.read(key, |value| {
            value
                .as_bool()
                .ok_or_else(|| format!("expected true or false, got {}", article(value)))
        })
    }

    /// Records that a key which has no default is missing.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        if !self.has(key) {
            self.document.record(
                self.at.clone(),
                &self.full_key(key),
                "",
                format!("missing; {expected}"),
            );
        }
    }

    /// Whether the file has this key, rightly or wrongly.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Records a mistake about a key of this section.
    pub(super) fn mistake(&self, key: &str, expected: impl Into<String>) {
        self.document.mistake(&self.full_key(key), expected);
    }

    /// Records a warning about a key of this section.
    pub(super) fn warn(&self, key: &str, text: impl Into<String>) {
        self.document.warn(&self.full_key(key), text);
    }

    /// A table below this one; an absent one reads as empty.
    pub(super) fn table(&self, key: &'static str) -> Section<'d> {
        let table = self.read(key, |value| {
            value
                .as_table()
                .ok_or_else(|| format!("expected a table, got {}", article(value)))
        });
        Section {
            document: self.document,
            name: self.full_key(key),
            table,
            at: self.value(key).map_or(self.at.clone(), Spanned::span),
            known: RefCell::default(),
        }
    }

    /// The tables of an array, each with its place in the name: `route[0]`.
    pub(super) fn tables(&self, key: &'static str, expected: &str) -> Vec<Section<'d>> {
        let Some(array) = self.read(key, |value| {
            value
                .as_array()
                .ok_or_else(|| format!("{expected}, got {}", article(value)))
        }) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let name = format!("{}[{index}]", self.full_key(key));
            self.document.keep_place(&name, element.span());
            match element.get_ref().as_table() {
                Some(table) => sections.push(Section {
                    document: self.document,
                    name,
                    table: Some(table),
                    at: element.span(),
                    known: RefCell::default(),
                }),
                None => self.document.mistake(
                    &name,
                    format!("{expected}, got {}", article(element.get_ref())),
                ),
            }
        }
        sections
    }

    /// The texts of an array of 1 to `max`, each converted on its own.
    pub(super) fn texts<T>(
        &self,
        key: &'static str,
        max: usize,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let array = self.read(key, |value| {
            value
                .as_array()
                .ok_or_else(|| format!("{expected}, got {}", article(value)))
        })?;
        if !(1..=max).contains(&array.len()) {
            self.mistake(key, format!("{expected} of 1 to {max}"));
        }
        let mut all = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let name = format!("{}[{index}]", self.full_key(key));
            self.document.keep_place(&name, element.span());
            match element.get_ref().as_str().and_then(&parse) {
                Some(value) => all.push(value),
                None => self.document.mistake(&name, expected),
            }
        }
        Some(all)
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for (key, value) in self.table.into_iter().flat_map(DeTable::iter) {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let expected = match nearest(name, &known) {
                Some(near) => format!("unknown key; did you mean `{}`?", self.full_key(near)),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            let shown = match value.get_ref() {
                DeValue::Table(_) | DeValue::Array(_) => "",
                _ => &self.document.text[value.span()],
            };
            let at = key.span();
            let mut found = self.document.found.borrow_mut();
            if !found.broken_lines.contains(&self.document.line(at.start)) {
                let full = self.full_key(name);
                found
                    .mistakes
                    .push(self.document.mistake_of(&at, &full, shown, expected));
            }
        }
    }

    fn value(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        let value = self.entry(key)?;
        self.document.keep_place(&self.full_key(key), value.span());
        Some(value)
    }

    fn entry(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.table?
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map(|(_, value)| value)
    }
}

impl Document<'_> {
    fn keep_place(&self, key: &str, at: Range<usize>) {
        self.places.borrow_mut().insert(key.to_owned(), at);
    }
}

/// The kind of a value with its article, for "got a number".
fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
