//! Columns in the making.

use std::sync::Arc;

use super::TEXT_BYTES_MAX;
use crate::column::{Bitmap, Column, Dictionary, Values};
use crate::value::{DataType, Waveform};

/// A dictionary with more texts is left behind for a new one, so that a field
/// with a different text in every message does not grow without bound.
const WORDS_MAX: usize = 1 << 16;
/// The same in bytes.
const WORD_BYTES_MAX: usize = 4 << 20;

/// One column that rows are appended to.
pub struct Builder {
    data_type: DataType,
    floats: Vec<f64>,
    ints: Vec<i64>,
    bools: Vec<bool>,
    ids: Vec<u32>,
    waveforms: Vec<Waveform>,
    validity: Bitmap,
    nulls: usize,
    words: Arc<Dictionary>,
    /// Words of another dictionary for this batch.
    borrowed: Option<Arc<Dictionary>>,
    empty: Waveform,
}

impl Builder {
    pub fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            floats: Vec::new(),
            ints: Vec::new(),
            bools: Vec::new(),
            ids: Vec::new(),
            waveforms: Vec::new(),
            validity: Bitmap::default(),
            nulls: 0,
            words: Arc::new(Dictionary::new()),
            borrowed: None,
            empty: Waveform::new(Vec::new()),
        }
    }

    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// The number of rows so far.
    pub fn len(&self) -> usize {
        self.validity.len()
    }

    /// Takes back rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        while self.validity.len() > rows {
            if !self.validity.pop() {
                self.nulls -= 1;
            }
            match self.data_type {
                DataType::Float => drop(self.floats.pop()),
                DataType::Bool => drop(self.bools.pop()),
                DataType::Text => drop(self.ids.pop()),
                DataType::Waveform => drop(self.waveforms.pop()),
                _ => drop(self.ints.pop()),
            }
        }
    }

    /// Appends nulls up to `rows`.
    pub fn fill(&mut self, rows: usize) {
        while self.validity.len() < rows {
            self.null();
        }
    }

    pub fn null(&mut self) {
        self.validity.push(false);
        self.nulls += 1;
        match self.data_type {
            DataType::Float => self.floats.push(0.0),
            DataType::Bool => self.bools.push(false),
            DataType::Text => self.ids.push(0),
            DataType::Waveform => self.waveforms.push(self.empty.clone()),
            _ => self.ints.push(0),
        }
    }

    /// A finite double.
    #[inline]
    pub fn float(&mut self, number: f64) {
        self.floats.push(number);
        self.validity.push(true);
    }

    pub fn int(&mut self, number: i64) {
        self.ints.push(number);
        self.validity.push(true);
    }

    pub fn bool(&mut self, value: bool) {
        self.bools.push(value);
        self.validity.push(true);
    }

    pub fn text(&mut self, text: &str) {
        // Copies the dictionary only if a batch before this one is still held.
        let id = Arc::make_mut(&mut self.words).intern(text);
        self.ids.push(id);
        self.validity.push(true);
    }

    /// A text from bytes; null if it is no UTF-8 or too long.
    pub fn text_bytes(&mut self, bytes: &[u8], mismatched: &mut u64) {
        match std::str::from_utf8(bytes) {
            Ok(text) if bytes.len() <= TEXT_BYTES_MAX => self.text(text),
            _ => {
                *mismatched += 1;
                self.null();
            }
        }
    }

    pub fn waveform(&mut self, waveform: Option<Waveform>) {
        match waveform {
            None => self.null(),
            Some(waveform) => {
                self.waveforms.push(waveform);
                self.validity.push(true);
            }
        }
    }

    /// All rows at once, as places in a dictionary of somebody else.
    pub fn shared_texts(&mut self, ids: Vec<u32>, words: &Arc<Dictionary>) {
        self.validity = Bitmap::all(ids.len());
        self.ids = ids;
        self.borrowed = Some(Arc::clone(words));
    }

    /// The time in row `row` if it is there and not null.
    pub fn last_time(&self, row: usize) -> Option<i64> {
        (self.validity.len() > row && self.validity.is_set(row)).then(|| self.ints[row])
    }

    /// The column; the builder is empty again.
    pub fn take(&mut self) -> Column {
        let validity = std::mem::take(&mut self.validity);
        let validity = (self.nulls > 0).then_some(validity);
        self.nulls = 0;
        let values = match self.data_type {
            DataType::Float => Values::Float(std::mem::take(&mut self.floats)),
            DataType::Bool => Values::Bool(std::mem::take(&mut self.bools)),
            DataType::Waveform => Values::Waveform(std::mem::take(&mut self.waveforms)),
            DataType::Text => {
                let words = self
                    .borrowed
                    .take()
                    .unwrap_or_else(|| Arc::clone(&self.words));
                if self.words.len() > WORDS_MAX || self.words.memory_bytes() > WORD_BYTES_MAX {
                    self.words = Arc::new(Dictionary::new());
                }
                Values::Text {
                    ids: std::mem::take(&mut self.ids),
                    words,
                }
            }
            DataType::Timestamp => Values::Timestamp(std::mem::take(&mut self.ints)),
            DataType::Interval => Values::Interval(std::mem::take(&mut self.ints)),
            DataType::Int | DataType::Null => Values::Int(std::mem::take(&mut self.ints)),
        };
        Column::new(values, validity)
    }
}
