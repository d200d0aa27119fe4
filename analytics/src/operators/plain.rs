//! Steps that keep nothing.

use super::{Chunk, Context, Operator};
use crate::batch::Batch;
use crate::eval::Evaluator;
use crate::plan::Expr;
use crate::state::{Decoder, Encoder, StateError};

/// Rows of a stream.
pub struct ScanRows {
    scan: usize,
}

impl ScanRows {
    pub fn new(scan: usize) -> Self {
        Self { scan }
    }
}

impl Operator for ScanRows {
    fn feed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        let chunk = context.scans[self.scan].take();
        out.extend(chunk.filter(|chunk| chunk.rows() > 0));
    }

    fn advance(&mut self, context: &mut Context, _: &mut Vec<Chunk>) -> i64 {
        context.marks[self.scan]
    }

    fn encode(&self, _: &mut Encoder) {}

    fn decode(&mut self, _: &mut Decoder<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }

    fn horizon(&self) -> i64 {
        i64::MAX
    }

    fn due(&self) -> i64 {
        i64::MAX
    }

    fn shed(&mut self, _: &mut Context, _: &mut Vec<Chunk>) {}
}

/// Rows for which a condition is true.
pub struct Filter {
    input: Box<dyn Operator>,
    predicate: Evaluator,
}

impl Filter {
    pub fn new(input: Box<dyn Operator>, predicate: &Expr) -> Self {
        Self {
            input,
            predicate: Evaluator::new(predicate),
        }
    }

    fn pass(&mut self, chunks: Vec<Chunk>, out: &mut Vec<Chunk>) {
        for chunk in chunks {
            let rows = self.predicate.selected(&chunk.batch);
            if rows.len() == chunk.rows() {
                out.push(chunk);
            } else if !rows.is_empty() {
                out.push(chunk.take(&rows));
            }
        }
    }
}

/// The parts of [`Operator`] that steps without state share.
macro_rules! stateless {
    () => {
        fn feed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
            let mut chunks = Vec::new();
            self.input.feed(context, &mut chunks);
            self.pass(chunks, out);
        }

        fn advance(&mut self, context: &mut Context, out: &mut Vec<Chunk>) -> i64 {
            let mut chunks = Vec::new();
            let mark = self.input.advance(context, &mut chunks);
            self.pass(chunks, out);
            mark
        }

        fn encode(&self, out: &mut Encoder) {
            self.input.encode(out);
        }

        fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
            self.input.decode(input)
        }

        fn memory_bytes(&self) -> usize {
            self.input.memory_bytes()
        }

        fn horizon(&self) -> i64 {
            self.input.horizon()
        }

        fn due(&self) -> i64 {
            self.input.due()
        }

        fn shed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
            let mut chunks = Vec::new();
            self.input.shed(context, &mut chunks);
            self.pass(chunks, out);
        }
    };
}

impl Operator for Filter {
    stateless!();
}

/// Computed columns.
pub struct Project {
    input: Box<dyn Operator>,
    exprs: Vec<Evaluator>,
}

impl Project {
    pub fn new(input: Box<dyn Operator>, exprs: &[Expr]) -> Self {
        Self {
            input,
            exprs: exprs.iter().map(Evaluator::new).collect(),
        }
    }

    fn pass(&mut self, chunks: Vec<Chunk>, out: &mut Vec<Chunk>) {
        for chunk in chunks {
            let columns = self
                .exprs
                .iter_mut()
                .map(|expr| expr.column(&chunk.batch))
                .collect();
            let rows = chunk.rows();
            out.push(Chunk {
                batch: Batch::new(columns, rows),
                ..chunk
            });
        }
    }
}

impl Operator for Project {
    stateless!();
}

/// The rows of several steps, those of the first one first.
pub struct Union {
    inputs: Vec<Box<dyn Operator>>,
}

impl Union {
    pub fn new(inputs: Vec<Box<dyn Operator>>) -> Self {
        Self { inputs }
    }
}

impl Operator for Union {
    fn feed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        for input in &mut self.inputs {
            input.feed(context, out);
        }
    }

    fn advance(&mut self, context: &mut Context, out: &mut Vec<Chunk>) -> i64 {
        self.inputs
            .iter_mut()
            .map(|input| input.advance(context, out))
            .min()
            .unwrap_or(i64::MAX)
    }

    fn encode(&self, out: &mut Encoder) {
        self.inputs.iter().for_each(|input| input.encode(out));
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.inputs
            .iter_mut()
            .try_for_each(|step| step.decode(input))
    }

    fn memory_bytes(&self) -> usize {
        self.inputs.iter().map(|input| input.memory_bytes()).sum()
    }

    fn horizon(&self) -> i64 {
        self.inputs
            .iter()
            .map(|input| input.horizon())
            .min()
            .unwrap_or(i64::MAX)
    }

    fn due(&self) -> i64 {
        self.inputs
            .iter()
            .map(|input| input.due())
            .min()
            .unwrap_or(i64::MAX)
    }

    fn shed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        self.inputs
            .iter_mut()
            .for_each(|input| input.shed(context, out));
    }
}
