//! Functions that look back at the rows before.

use std::collections::VecDeque;

use crate::column::Column;
use crate::functions::{
    Accepts, ArgumentError, Body, Call, Detector, Function, Kind, Parameter, Returns, Rows,
};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::{DataType, Value};

/// Further back than a thousand rows is the work of a window.
pub const LAG_MAX: i64 = 1_000;

const LAG_VERSION: u8 = 1;

const X: &[Parameter] = &[Parameter::new("x", Accepts::Any)];
const LAG: &[Parameter] = &[
    Parameter::new("x", Accepts::Any),
    Parameter::new("rows", Accepts::Int).optional().constant(),
];

/// What is answered from the values that are kept.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    /// The value so many rows ago.
    Before,
    /// Whether the value differs from the one before; true for the first.
    Changed,
}

/// The last values of each key, newest at the back.
struct Recall {
    keys: Vec<VecDeque<Value>>,
    depth: usize,
    answer: Answer,
    data_type: DataType,
    heap: usize,
}

impl Detector for Recall {
    fn resize(&mut self, keys: usize) {
        if keys > self.keys.len() {
            self.keys.resize(keys, VecDeque::new());
        }
    }

    fn update(&mut self, rows: Rows<'_>) -> Column {
        let mut answers = Vec::with_capacity(rows.groups.len());
        for (row, key) in rows.groups.iter().enumerate() {
            let value = rows.arguments[0].value(row);
            let kept = &mut self.keys[*key as usize];
            answers.push(match self.answer {
                Answer::Before => match kept.len().checked_sub(self.depth) {
                    Some(at) => kept[at].clone(),
                    None => Value::Null,
                },
                Answer::Changed => Value::Bool(kept.back() != Some(&value)),
            });
            if kept.len() == self.depth
                && let Some(oldest) = kept.pop_front()
            {
                self.heap -= oldest.heap_bytes();
            }
            self.heap += value.heap_bytes();
            kept.push_back(value);
        }
        Column::from_values(self.data_type, answers.iter())
    }

    fn clear(&mut self, keys: &[u32]) {
        for key in keys {
            let kept = std::mem::take(&mut self.keys[*key as usize]);
            self.heap -= kept.iter().map(Value::heap_bytes).sum::<usize>();
        }
    }

    fn encode(&self, key: u32, out: &mut Encoder) {
        out.section(LAG_VERSION, |out| {
            let kept = &self.keys[key as usize];
            out.put_count(kept.len());
            for value in kept {
                value.encode(out);
            }
        });
    }

    fn decode(&mut self, key: u32, input: &mut Decoder<'_>) -> Result<(), StateError> {
        let depth = self.depth;
        let kept = input.section("lag", LAG_VERSION, |input| {
            let count = input.take_count(1)?;
            if count > depth {
                return Err(StateError::Invalid {
                    what: "number of kept rows",
                    found: count as u64,
                });
            }
            (0..count)
                .map(|_| Value::decode(input))
                .collect::<Result<VecDeque<_>, _>>()
        })?;
        self.clear(&[key]);
        self.heap += kept.iter().map(Value::heap_bytes).sum::<usize>();
        self.keys[key as usize] = kept;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let each = size_of::<VecDeque<Value>>() + self.depth * size_of::<Value>();
        self.keys.len() * each + self.heap
    }
}

fn lag(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    let rows = match call.constants.get(1).and_then(Option::as_ref) {
        None => 1,
        Some(rows) => rows.as_i64().unwrap_or(0),
    };
    if !(1..=LAG_MAX).contains(&rows) {
        return Err(ArgumentError {
            parameter: "rows",
            found: rows.to_string(),
            expected: "1 to 1000",
        });
    }
    Ok(recall(
        call,
        rows as usize,
        Answer::Before,
        call.data_type(0),
    ))
}

fn changed(call: &Call<'_>) -> Result<Box<dyn Detector>, ArgumentError> {
    Ok(recall(call, 1, Answer::Changed, DataType::Bool))
}

fn recall(_: &Call<'_>, depth: usize, answer: Answer, data_type: DataType) -> Box<dyn Detector> {
    Box::new(Recall {
        keys: Vec::new(),
        depth,
        answer,
        data_type,
        heap: 0,
    })
}

/// The table.
pub static CATALOGUE: &[Function] = &[
    Function {
        name: "lag",
        aliases: &["previous"],
        kind: Kind::Analytic,
        parameters: LAG,
        variadic: false,
        returns: Returns::SameAs(0),
        summary: "the value so many rows before, in the order of arrival; null if there were fewer",
        formula: "x[i - rows]",
        units: "the unit of x",
        source: "SQL",
        body: Body::Analytic(lag),
    },
    Function {
        name: "changed",
        aliases: &["had_changed"],
        kind: Kind::Analytic,
        parameters: X,
        variadic: false,
        returns: Returns::Type(DataType::Bool),
        summary: "whether the value differs from that of the row before; true for the first",
        formula: "x[i] IS DISTINCT FROM x[i - 1]",
        units: "",
        source: "eKuiper had_changed",
        body: Body::Analytic(changed),
    },
];
