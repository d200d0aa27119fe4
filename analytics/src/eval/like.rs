//! LIKE: `%` is any text, `_` is one character, `\` takes the next one as it is.

use super::Operand;
use crate::column::{Column, Values};

/// A pattern, taken apart once.
pub struct Pattern {
    parts: Vec<Part>,
    any_case: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Any,
    One,
    Letter(char),
}

impl Pattern {
    /// Takes a pattern apart.
    pub fn new(text: &str, any_case: bool) -> Self {
        let folded = if any_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        };
        let mut parts = Vec::new();
        let mut letters = folded.chars();
        while let Some(letter) = letters.next() {
            parts.push(match letter {
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => Part::Letter(letters.next().unwrap_or('\\')),
                other => Part::Letter(other),
            });
        }
        Self { parts, any_case }
    }

    /// One boolean per row; null for null.
    pub fn matches(&self, operand: &Operand<'_>, rows: usize) -> Column {
        if let Operand::Column(column) = operand
            && let Values::Text { ids, words } = column.values()
            && words.len() <= rows
        {
            let known: Vec<bool> = (0..words.len() as u32)
                .map(|place| self.is_match(words.word(place)))
                .collect();
            let results = ids
                .iter()
                .map(|id| known.get(*id as usize).copied().unwrap_or(false))
                .collect();
            return Column::new(Values::Bool(results), column.validity().cloned());
        }
        Column::from_optional_bools(
            (0..rows).map(|row| operand.text(row).map(|text| self.is_match(text))),
        )
    }

    /// Whether a text matches. Takes at most text times pattern steps.
    pub fn is_match(&self, text: &str) -> bool {
        let folded;
        let text = if self.any_case {
            folded = text.to_lowercase();
            folded.as_str()
        } else {
            text
        };
        let mut rest = text.chars();
        let mut at = 0;
        // Where to go on after the last `%` that was passed.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            match self.parts.get(at) {
                Some(Part::Any) => {
                    retry = Some((at + 1, rest.clone()));
                    at += 1;
                    continue;
                }
                Some(part) => {
                    let mut next = rest.clone();
                    if let Some(letter) = next.next()
                        && (*part == Part::One || *part == Part::Letter(letter))
                    {
                        rest = next;
                        at += 1;
                        continue;
                    }
                }
                None if rest.as_str().is_empty() => return true,
                None => {}
            }
            let Some((after, mut from)) = retry.take() else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            rest = from.clone();
            at = after;
            retry = Some((after, from));
        }
    }
}
