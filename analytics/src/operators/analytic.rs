//! Functions that answer for each row from the rows of its key before it.

use super::keys::{KeyTable, NO_KEY};
use super::{Chunk, Context, Operator};
use crate::batch::Batch;
use crate::column::Column;
use crate::eval::Evaluator;
use crate::functions::{Body, Detector, Rows};
use crate::plan::AnalyticCall;
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

const VERSION: u8 = 2;

/// One call with the states of its keys.
struct Running {
    keys: KeyTable,
    detector: Box<dyn Detector>,
    arguments: Vec<Evaluator>,
    data_type: DataType,
    /// The latest event time of each key.
    touched: Vec<i64>,
}

/// Appends one column per call.
pub struct Analytic {
    input: Box<dyn Operator>,
    calls: Vec<Running>,
}

impl Analytic {
    pub fn new(input: Box<dyn Operator>, calls: &[AnalyticCall]) -> Self {
        let calls = calls
            .iter()
            .map(|call| {
                let Body::Analytic(make) = call.call.function.body else {
                    unreachable!("the binder puts analytic functions here only")
                };
                Running {
                    keys: KeyTable::new(&call.keys),
                    detector: call
                        .call
                        .with_call(make)
                        .expect("the binder made the same call"),
                    arguments: call.call.arguments.iter().map(Evaluator::new).collect(),
                    data_type: call.call.data_type,
                    touched: Vec::new(),
                }
            })
            .collect();
        Self { input, calls }
    }

    fn pass(&mut self, context: &mut Context, chunks: Vec<Chunk>, out: &mut Vec<Chunk>) {
        for chunk in chunks {
            let rows = chunk.rows();
            let mut columns = chunk.batch.columns().to_vec();
            for call in &mut self.calls {
                columns.push(call.run(&chunk, context));
            }
            out.push(Chunk {
                batch: Batch::new(columns, rows),
                ..chunk
            });
        }
    }
}

impl Running {
    fn run(&mut self, chunk: &Chunk, context: &mut Context) -> Column {
        let keys = self.keys.numbers(&chunk.batch, context.full);
        self.detector.resize(self.keys.numbers_end());
        self.touched.resize(self.keys.numbers_end(), i64::MIN);
        for (key, time) in keys.iter().zip(&chunk.times) {
            if *key != NO_KEY {
                let touched = &mut self.touched[*key as usize];
                *touched = (*touched).max(*time);
            }
        }
        let arguments: Vec<Column> = self
            .arguments
            .iter_mut()
            .map(|argument| argument.column(&chunk.batch))
            .collect();
        if !keys.contains(&NO_KEY) {
            let rows = Rows {
                groups: &keys,
                times: &chunk.times,
                arguments: &arguments,
            };
            return self.detector.update(rows).retyped(self.data_type);
        }
        // Rows of keys for which there is no memory get null.
        let known: Vec<u32> = (0..keys.len() as u32)
            .filter(|row| keys[*row as usize] != NO_KEY)
            .collect();
        context.unanswered += (keys.len() - known.len()) as u64;
        let part = chunk.take(&known);
        let groups: Vec<u32> = known.iter().map(|row| keys[*row as usize]).collect();
        let arguments: Vec<Column> = arguments
            .iter()
            .map(|argument| argument.take(&known))
            .collect();
        let answers = self.detector.update(Rows {
            groups: &groups,
            times: &part.times,
            arguments: &arguments,
        });
        let mut values = vec![Value::Null; keys.len()];
        for (place, row) in known.iter().enumerate() {
            values[*row as usize] = answers.value(place);
        }
        Column::from_values(self.data_type, values.iter())
    }
}

impl Running {
    /// What the keys in use take: places that were freed are taken again first.
    fn memory_bytes(&self) -> usize {
        let used = self.keys.count();
        let states = self.detector.memory_bytes() / self.touched.len().max(1);
        self.keys.memory_bytes() + used * (states + size_of::<i64>())
    }

    /// Forgets the keys that are silent for longest.
    fn forget(&mut self) -> u64 {
        let times = self.keys.used();
        let times = times.map(|number| (self.touched[number as usize], number));
        let gone = super::window::oldest(&self.keys, times.collect());
        if gone.len() == self.keys.count() {
            // The only key: its state is needed for the next row.
            return 0;
        }
        let mut kept = vec![true; self.keys.numbers_end()];
        for number in &gone {
            kept[*number as usize] = false;
            self.touched[*number as usize] = i64::MIN;
        }
        self.detector.clear(&gone);
        self.keys.retain(|number| kept[number as usize]);
        gone.len() as u64
    }
}

impl Operator for Analytic {
    fn feed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        let mut chunks = Vec::new();
        self.input.feed(context, &mut chunks);
        self.pass(context, chunks, out);
    }

    fn advance(&mut self, context: &mut Context, out: &mut Vec<Chunk>) -> i64 {
        let mut chunks = Vec::new();
        let mark = self.input.advance(context, &mut chunks);
        self.pass(context, chunks, out);
        mark
    }

    fn encode(&self, out: &mut Encoder) {
        self.input.encode(out);
        out.section(VERSION, |out| {
            for call in &self.calls {
                out.put_count(call.keys.count());
                for number in call.keys.used() {
                    out.put_bytes(call.keys.key(number));
                    out.put_i64(call.touched[number as usize]);
                    call.detector.encode(number, out);
                }
            }
        });
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.input.decode(input)?;
        let calls = &mut self.calls;
        input.section("analytic functions", VERSION, |input| {
            for call in calls {
                for _ in 0..input.take_count(12)? {
                    let number = call.keys.decode_key(input)?;
                    call.touched.resize(call.keys.numbers_end(), i64::MIN);
                    call.touched[number as usize] = input.take_i64()?;
                    call.detector.resize(call.keys.numbers_end());
                    call.detector.decode(number, input)?;
                }
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        let own: usize = self.calls.iter().map(|call| call.memory_bytes()).sum();
        own + self.input.memory_bytes()
    }

    fn horizon(&self) -> i64 {
        i64::MIN
    }

    fn due(&self) -> i64 {
        self.input.due()
    }

    fn shed(&mut self, context: &mut Context, out: &mut Vec<Chunk>) {
        let mut chunks = Vec::new();
        self.input.shed(context, &mut chunks);
        self.pass(context, chunks, out);
        for call in &mut self.calls {
            context.shed += call.forget();
        }
    }
}
