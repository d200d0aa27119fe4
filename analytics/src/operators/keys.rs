//! Keys of groups and their numbers.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::batch::Batch;
use crate::column::{Column, Dictionary, Values};
use crate::eval::Evaluator;
use crate::plan::Expr;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

/// The number of a row that has no key because none may be added.
pub const NO_KEY: u32 = u32::MAX;

/// How an encoded text begins, see [`Value::encode`].
const TEXT: u8 = 4;

/// Gives equal keys equal numbers. A number is free for another key after
/// [`KeyTable::retain`] found it unused.
pub struct KeyTable {
    exprs: Vec<Evaluator>,
    types: Vec<DataType>,
    hasher: FixedState,
    table: HashTable<u32>,
    /// The encoded key of each number; none if the number is free.
    keys: Vec<Option<Box<[u8]>>>,
    free: Vec<u32>,
    bytes: usize,
    scratch: Encoder,
    cache: Cache,
    shown: Shown,
}

/// The texts of keys that are one text column, as result rows show them.
#[derive(Default)]
struct Shown {
    words: Arc<Dictionary>,
    /// The place of each number's text, or [`NO_KEY`].
    places: Vec<u32>,
}

/// Numbers by place in a dictionary, for keys that are one text column.
#[derive(Default)]
struct Cache {
    identity: u64,
    numbers: Vec<u32>,
}

impl KeyTable {
    /// A table for keys made by these expressions.
    pub fn new(exprs: &[Expr]) -> Self {
        Self {
            exprs: exprs.iter().map(Evaluator::new).collect(),
            types: exprs.iter().map(Expr::data_type).collect(),
            hasher: FixedState::default(),
            table: HashTable::new(),
            keys: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            scratch: Encoder::new(),
            cache: Cache::default(),
            shown: Shown::default(),
        }
    }

    /// The number of each row's key. With `full`, new keys get [`NO_KEY`].
    pub fn numbers(&mut self, batch: &Batch, full: bool) -> Vec<u32> {
        let rows = batch.rows();
        if self.exprs.is_empty() {
            let number = self.number(&[], false);
            return vec![number; rows];
        }
        let mut exprs = std::mem::take(&mut self.exprs);
        let columns: Vec<Column> = exprs.iter_mut().map(|expr| expr.column(batch)).collect();
        self.exprs = exprs;
        if let [column] = columns.as_slice()
            && let Values::Text { ids, words } = column.values()
            && column.validity().is_none()
        {
            return self.texts(ids, words, full);
        }
        (0..rows)
            .map(|row| {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                for column in &columns {
                    encode(column, row, &mut scratch);
                }
                let number = self.number(scratch.bytes(), full);
                self.scratch = scratch;
                number
            })
            .collect()
    }

    fn texts(&mut self, ids: &[u32], words: &Dictionary, full: bool) -> Vec<u32> {
        let mut cache = std::mem::take(&mut self.cache);
        if cache.identity != words.identity() {
            cache.identity = words.identity();
            cache.numbers.clear();
        }
        cache
            .numbers
            .resize(words.len().max(cache.numbers.len()), NO_KEY);
        let numbers = ids
            .iter()
            .map(|id| {
                let known = cache.numbers[*id as usize];
                if known != NO_KEY {
                    return known;
                }
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                scratch.put_u8(TEXT);
                scratch.put_str(words.word(*id));
                let number = self.number(scratch.bytes(), full);
                self.scratch = scratch;
                cache.numbers[*id as usize] = number;
                number
            })
            .collect();
        self.cache = cache;
        numbers
    }

    fn number(&mut self, key: &[u8], full: bool) -> u32 {
        let hash = self.hasher.hash_one(key);
        let found = self.table.find(hash, |number| {
            self.keys[*number as usize].as_deref() == Some(key)
        });
        if let Some(number) = found {
            return *number;
        }
        if full {
            return NO_KEY;
        }
        self.add(hash, key.into())
    }

    fn add(&mut self, hash: u64, key: Box<[u8]>) -> u32 {
        self.bytes += key.len();
        let number = match self.free.pop() {
            Some(number) => {
                self.keys[number as usize] = Some(key);
                number
            }
            None => {
                self.keys.push(Some(key));
                self.keys.len() as u32 - 1
            }
        };
        let Self {
            table,
            keys,
            hasher,
            ..
        } = self;
        table.insert_unique(hash, number, |number| {
            hasher.hash_one(keys[*number as usize].as_deref().unwrap_or_default())
        });
        number
    }

    /// The number of an encoded key, added if it is new.
    pub fn number_of(&mut self, key: &[u8]) -> u32 {
        self.number(key, false)
    }

    /// The encoded key of a number.
    pub fn key(&self, number: u32) -> &[u8] {
        self.keys[number as usize].as_deref().unwrap_or_default()
    }

    /// The keys of numbers as columns.
    pub fn columns(&mut self, numbers: &[u32]) -> Vec<Column> {
        if self.types.as_slice() == [DataType::Text] && numbers.iter().all(|n| self.is_text(*n)) {
            return vec![self.texts_of(numbers)];
        }
        let rows: Vec<Vec<Value>> = numbers.iter().map(|number| self.values(*number)).collect();
        (0..self.types.len())
            .map(|index| {
                let values: Vec<Value> = rows.iter().map(|row| row[index].clone()).collect();
                Column::from_values(self.types[index], values.iter())
            })
            .collect()
    }

    fn is_text(&self, number: u32) -> bool {
        self.key(number).first() == Some(&TEXT)
    }

    fn texts_of(&mut self, numbers: &[u32]) -> Column {
        let mut shown = std::mem::take(&mut self.shown);
        shown.places.resize(self.keys.len(), NO_KEY);
        let ids = numbers
            .iter()
            .map(|number| {
                let place = shown.places[*number as usize];
                if place != NO_KEY {
                    return place;
                }
                // Type, length, bytes.
                let bytes = self.key(*number).get(5..).unwrap_or_default();
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                let place = Arc::make_mut(&mut shown.words).intern(text);
                shown.places[*number as usize] = place;
                place
            })
            .collect();
        let words = Arc::clone(&shown.words);
        self.shown = shown;
        Column::new(Values::Text { ids, words }, None)
    }

    fn values(&self, number: u32) -> Vec<Value> {
        let mut input = Decoder::new(self.key(number));
        self.types
            .iter()
            .map(|_| Value::decode(&mut input).unwrap_or(Value::Null))
            .collect()
    }

    /// Whether it is worth looking for keys that nothing uses any more.
    pub fn is_crowded(&self, used: usize) -> bool {
        /// Fewer keys are not worth the walk.
        const FEW: usize = 1_024;
        self.count() > FEW + 2 * used
    }

    /// Frees the numbers of keys for which `used` is false.
    pub fn retain(&mut self, used: impl Fn(u32) -> bool) {
        for number in 0..self.keys.len() as u32 {
            if self.keys[number as usize].is_none() || used(number) {
                continue;
            }
            let Some(key) = self.keys[number as usize].take() else {
                continue;
            };
            self.bytes -= key.len();
            let hash = self.hasher.hash_one(&*key);
            if let Ok(entry) = self.table.find_entry(hash, |known| *known == number) {
                entry.remove();
            }
            self.free.push(number);
        }
        while self.keys.last().is_some_and(Option::is_none) {
            self.keys.pop();
        }
        let end = self.keys.len() as u32;
        self.free.retain(|number| *number < end);
        if self.keys.capacity() > 4 * self.keys.len() {
            self.keys.shrink_to_fit();
            self.free.shrink_to_fit();
            let Self {
                table,
                keys,
                hasher,
                ..
            } = self;
            table.shrink_to_fit(|number| {
                hasher.hash_one(keys[*number as usize].as_deref().unwrap_or_default())
            });
        }
        self.cache = Cache::default();
        self.shown = Shown::default();
    }

    /// The number of keys.
    pub fn count(&self) -> usize {
        self.keys.len() - self.free.len()
    }

    /// The numbers in use.
    pub fn used(&self) -> impl Iterator<Item = u32> {
        let numbers = (0..).zip(&self.keys);
        numbers.filter_map(|(number, key)| key.as_ref().map(|_| number))
    }

    /// One more than the largest number in use.
    pub fn numbers_end(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        /// What an allocation costs beside its bytes.
        const HEAP: usize = 16;
        self.bytes
            + self.count() * HEAP
            + self.keys.len() * size_of::<Option<Box<[u8]>>>()
            + self.table.capacity() * 5
            + (self.free.len() + self.cache.numbers.len() + self.shown.places.len()) * 4
            + self.shown.words.memory_bytes()
    }

    /// Reads an encoded key and returns its number.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are no key of this table.
    pub fn decode_key(&mut self, input: &mut Decoder<'_>) -> Result<u32, StateError> {
        let key = input.take_bytes()?;
        let mut values = Decoder::new(key);
        for _ in &self.types {
            Value::decode(&mut values)?;
        }
        if values.remaining() > 0 {
            return Err(StateError::Trailing {
                what: "key",
                extra: values.remaining(),
            });
        }
        Ok(self.number(key, false))
    }
}

/// Appends one part of a key; -0 and 0 are the same key.
pub fn encode(column: &Column, row: usize, out: &mut Encoder) {
    if let Some(text) = column.text(row) {
        out.put_u8(TEXT);
        out.put_str(text);
        return;
    }
    match column.value(row) {
        Value::Float(number) => Value::Float(number + 0.0).encode(out),
        other => other.encode(out),
    }
}
