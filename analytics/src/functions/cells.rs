//! States of one function, one per group or key, behind the traits of the
//! catalogue.
//!
//! A [`Cell`] is the state of one group: small, cloned from an empty one,
//! encoded in fixed order. [`Cells`] keeps them side by side in one array, so
//! that a row touches one cache line of each aggregate, and implements
//! [`Accumulator`] for all of them. [`Keys`] does the same for [`Detector`].

use std::any::Any;
use std::sync::Arc;

use super::{Accumulator, Detector, Rows};
use crate::column::{Column, Values};
use crate::state::{Decoder, Encoder, StateError};

/// The state of one group or key.
pub(super) trait State: Clone + Send + Sync + 'static {
    /// Appends the state.
    fn encode(&self, out: &mut Encoder);

    /// Replaces the state by what `encode` wrote. `self` is an empty state for
    /// the same call.
    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError>;

    /// Bytes that the state holds beyond its own size.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// The state of one group of an aggregate.
pub(super) trait Cell: State {
    /// Adds rows to the cells of their groups. `held` is the sum of
    /// [`State::heap_bytes`] over all cells, kept up to date by those kinds that
    /// hold something.
    fn take(cells: &mut [Self], rows: Rows<'_>, held: &mut usize);

    /// Adds the rows behind another cell, as later arrivals.
    fn merge(&mut self, other: &Self);
}

/// Some cells one after the other.
pub(super) type Chosen<'a, S> = std::iter::Copied<std::slice::Iter<'a, &'a S>>;

/// How the results of some cells become a column.
type Finish<S> = Arc<dyn Fn(Chosen<'_, S>) -> Column + Send + Sync>;

/// The cells of one aggregate.
pub(super) struct Cells<S> {
    cells: Vec<S>,
    empty: S,
    held: usize,
    finish: Finish<S>,
}

impl<S: Cell> Cells<S> {
    /// Cells that begin as `empty` and end as the column that `finish` makes.
    pub(super) fn boxed(
        empty: S,
        finish: impl Fn(Chosen<'_, S>) -> Column + Send + Sync + 'static,
    ) -> Box<dyn Accumulator> {
        Box::new(Self {
            cells: Vec::new(),
            empty,
            held: 0,
            finish: Arc::new(finish),
        })
    }

    /// Cells whose result is a double or null.
    pub(super) fn of_floats(
        empty: S,
        result: impl Fn(&S) -> Option<f64> + Send + Sync + 'static,
    ) -> Box<dyn Accumulator> {
        Self::boxed(empty, move |cells| {
            Column::from_optional_floats(cells.map(&result))
        })
    }

    /// Changes a cell and keeps account of what it holds.
    fn replace(&mut self, group: u32, change: impl FnOnce(&mut S)) {
        let cell = &mut self.cells[group as usize];
        let before = cell.heap_bytes();
        change(cell);
        self.held = (self.held + cell.heap_bytes()).saturating_sub(before);
    }
}

impl<S: Cell> Accumulator for Cells<S> {
    fn fresh(&self) -> Box<dyn Accumulator> {
        Box::new(Self {
            cells: Vec::new(),
            empty: self.empty.clone(),
            held: 0,
            finish: Arc::clone(&self.finish),
        })
    }

    fn resize(&mut self, groups: usize) {
        if groups > self.cells.len() {
            self.cells.resize(groups, self.empty.clone());
        }
    }

    fn update(&mut self, rows: Rows<'_>) {
        S::take(&mut self.cells, rows, &mut self.held);
    }

    fn merge(&mut self, other: &dyn Accumulator, pairs: &[(u32, u32)]) {
        let other = other
            .as_any()
            .downcast_ref::<Self>()
            .expect("the operator merges accumulators of one call");
        for &(from, to) in pairs {
            self.replace(to, |cell| cell.merge(&other.cells[from as usize]));
        }
    }

    fn merge_within(&mut self, pairs: &[(u32, u32)]) {
        for &(from, to) in pairs {
            let [from, to] = self
                .cells
                .get_disjoint_mut([from as usize, to as usize])
                .expect("the operator merges slots that differ and are handed out");
            let before = to.heap_bytes();
            to.merge(from);
            self.held = (self.held + to.heap_bytes()).saturating_sub(before);
        }
    }

    fn finish_merged(&self, pairs: &[(u32, Option<u32>)]) -> Column {
        let merged: Vec<S> = pairs
            .iter()
            .map(|&(first, second)| {
                let mut cell = self.cells[first as usize].clone();
                if let Some(second) = second {
                    cell.merge(&self.cells[second as usize]);
                }
                cell
            })
            .collect();
        let chosen: Vec<&S> = merged.iter().collect();
        (self.finish)(chosen.iter().copied())
    }

    fn finish(&self, groups: &[u32]) -> Column {
        let cells = groups.iter().map(|&group| &self.cells[group as usize]);
        let chosen: Vec<&S> = cells.collect();
        (self.finish)(chosen.iter().copied())
    }

    fn clear(&mut self, groups: &[u32]) {
        for &group in groups {
            let empty = self.empty.clone();
            self.replace(group, |cell| *cell = empty);
        }
    }

    fn encode(&self, group: u32, out: &mut Encoder) {
        self.cells[group as usize].encode(out);
    }

    fn decode(&mut self, group: u32, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let mut read = self.empty.clone();
        read.decode(input)?;
        self.replace(group, |cell| *cell = read);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<S>() + self.held
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Calls `with` for each row whose first argument is a valid number: its group,
/// time and value.
#[inline]
pub(super) fn each_float(rows: Rows<'_>, mut with: impl FnMut(usize, i64, f64)) {
    let Some(column) = rows.arguments.first() else {
        return;
    };
    let places = rows.groups.iter().zip(rows.times);
    match (column.values(), column.validity()) {
        (Values::Float(numbers), None) => {
            for ((&group, &time), &x) in places.zip(numbers) {
                with(group as usize, time, x);
            }
        }
        _ => {
            for (row, (&group, &time)) in places.enumerate() {
                if let Some(x) = column.float(row) {
                    with(group as usize, time, x);
                }
            }
        }
    }
}

/// How a key answers a row: its state, the time, the arguments and the row.
type Step<S> = Box<dyn FnMut(&mut S, i64, &[Column], usize) -> Option<f64> + Send>;

/// The states of one analytic function with a double as its result.
pub(super) struct Keys<S> {
    keys: Vec<S>,
    empty: S,
    held: usize,
    step: Step<S>,
}

impl<S: State> Keys<S> {
    /// States that begin as `empty`; `step` answers one row.
    pub(super) fn boxed(
        empty: S,
        step: impl FnMut(&mut S, i64, &[Column], usize) -> Option<f64> + Send + 'static,
    ) -> Box<dyn Detector> {
        Box::new(Self {
            keys: Vec::new(),
            empty,
            held: 0,
            step: Box::new(step),
        })
    }
}

impl<S: State> Detector for Keys<S> {
    fn resize(&mut self, keys: usize) {
        if keys > self.keys.len() {
            self.keys.resize(keys, self.empty.clone());
        }
    }

    fn update(&mut self, rows: Rows<'_>) -> Column {
        let places = rows.groups.iter().zip(rows.times);
        let mut answers = Vec::with_capacity(rows.groups.len());
        for (row, (&key, &time)) in places.enumerate() {
            let state = &mut self.keys[key as usize];
            let before = state.heap_bytes();
            answers.push((self.step)(state, time, rows.arguments, row));
            self.held = (self.held + state.heap_bytes()).saturating_sub(before);
        }
        Column::from_optional_floats(answers.into_iter())
    }

    fn clear(&mut self, keys: &[u32]) {
        for &key in keys {
            let state = &mut self.keys[key as usize];
            self.held = self.held.saturating_sub(state.heap_bytes());
            *state = self.empty.clone();
        }
    }

    fn encode(&self, key: u32, out: &mut Encoder) {
        self.keys[key as usize].encode(out);
    }

    fn decode(&mut self, key: u32, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let mut state = self.empty.clone();
        state.decode(input)?;
        let old = &mut self.keys[key as usize];
        self.held = (self.held + state.heap_bytes()).saturating_sub(old.heap_bytes());
        *old = state;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<S>() + self.held
    }
}
