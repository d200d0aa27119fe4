//! Rows of equal shape.

use crate::column::Column;

/// Columns of equal length.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    columns: Vec<Column>,
    rows: usize,
}

impl Batch {
    /// A batch of columns with `rows` rows each.
    ///
    /// # Panics
    /// If a column has another number of rows.
    pub fn new(columns: Vec<Column>, rows: usize) -> Self {
        assert!(
            columns.iter().all(|column| column.len() == rows),
            "the columns of a batch have the same length"
        );
        Self { columns, rows }
    }

    /// The columns in the order of the schema.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// One column.
    pub fn column(&self, index: usize) -> &Column {
        &self.columns[index]
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows at `rows`, in that order.
    pub fn take(&self, rows: &[u32]) -> Self {
        Self {
            columns: self
                .columns
                .iter()
                .map(|column| column.take(rows))
                .collect(),
            rows: rows.len(),
        }
    }
}
