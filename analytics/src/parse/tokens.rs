//! A statement as a list of tokens with a cursor.

use sqlparser::ast;
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{duration, lower};
use crate::syntax::{Expr, Position, SqlError};

/// Deeper nesting of parentheses and operators is refused.
const NESTING_MAX: usize = 40;

/// Tokens without whitespace and comments.
pub struct Tokens {
    tokens: Vec<TokenWithSpan>,
    at: usize,
    /// Where the last token of the whole text ends.
    end: Position,
}

pub fn position(location: Location) -> Position {
    Position {
        line: location.line as u32,
        column: location.column as u32,
    }
}

impl Tokens {
    pub fn read(text: &str) -> Result<Self, SqlError> {
        let tokens = Tokenizer::new(&GenericDialect {}, text)
            .tokenize_with_location()
            .map_err(|error| {
                SqlError::new(position(error.location), lower_first(&error.message))
            })?;
        let tokens: Vec<TokenWithSpan> = tokens
            .into_iter()
            .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
            .collect();
        let end = tokens
            .last()
            .map_or(Position { line: 1, column: 1 }, |token| {
                position(token.span.end)
            });
        Ok(Self { tokens, at: 0, end })
    }

    /// One list per statement; empty statements are left out.
    pub fn statements(self) -> Vec<Self> {
        let mut statements = Vec::new();
        let mut tokens = Vec::new();
        let mut finish = |tokens: Vec<TokenWithSpan>| {
            if let Some(last) = tokens.last() {
                let end = position(last.span.end);
                statements.push(Self { tokens, at: 0, end });
            }
        };
        for token in self.tokens {
            if token.token == Token::SemiColon {
                finish(std::mem::take(&mut tokens));
            } else {
                tokens.push(token);
            }
        }
        finish(tokens);
        statements
    }

    /// The tokens with single spaces between them, unquoted words in lower case.
    pub fn normalised(&self) -> String {
        let mut text = String::new();
        for token in &self.tokens {
            match &token.token {
                Token::Word(word) if word.quote_style.is_none() => {
                    text.push_str(&word.value.to_lowercase());
                }
                other => text.push_str(&other.to_string()),
            }
            text.push(' ');
        }
        text
    }

    /// Where the next token is.
    pub fn position(&self) -> Position {
        self.tokens
            .get(self.at)
            .map_or(self.end, |token| position(token.span.start))
    }

    pub fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The next token as it would be printed, for errors.
    pub fn found(&self) -> String {
        self.tokens
            .get(self.at)
            .map_or("the end of the statement".to_owned(), |token| {
                format!("`{}`", token.token)
            })
    }

    pub fn expected(&self, what: &str) -> SqlError {
        SqlError::new(
            self.position(),
            format!("expected {what}, found {}", self.found()),
        )
    }

    /// Whether the tokens from here are these words, in any case and unquoted.
    pub fn looking_at(&self, words: &str) -> bool {
        self.words_at(self.at, words)
    }

    fn words_at(&self, at: usize, words: &str) -> bool {
        words.split(' ').enumerate().all(|(index, word)| {
            matches!(
                self.tokens.get(at + index).map(|token| &token.token),
                Some(Token::Word(found)) if found.quote_style.is_none()
                    && found.value.eq_ignore_ascii_case(word)
            )
        })
    }

    /// Goes past the words if they come next.
    pub fn accept(&mut self, words: &str) -> bool {
        let there = self.looking_at(words);
        if there {
            self.at += words.split(' ').count();
        }
        there
    }

    pub fn expect(&mut self, words: &str) -> Result<(), SqlError> {
        if self.accept(words) {
            return Ok(());
        }
        Err(self.expected(words))
    }

    /// Goes past a piece of punctuation if it comes next.
    pub fn accept_token(&mut self, token: &Token) -> bool {
        let there = self
            .tokens
            .get(self.at)
            .is_some_and(|found| found.token == *token);
        if there {
            self.at += 1;
        }
        there
    }

    pub fn expect_token(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.accept_token(token) {
            return Ok(());
        }
        Err(self.expected(&format!("`{token}`")))
    }

    /// An identifier, quoted or not.
    pub fn name(&mut self, what: &str) -> Result<String, SqlError> {
        match self.tokens.get(self.at).map(|token| &token.token) {
            Some(Token::Word(word)) => {
                let name = word.value.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A name with dots, as text.
    pub fn dotted_name(&mut self, what: &str) -> Result<String, SqlError> {
        let mut name = self.name(what)?;
        while self.accept_token(&Token::Period) {
            name.push('.');
            name.push_str(&self.name("a name after the dot")?);
        }
        Ok(name)
    }

    /// Text in single or double quotes.
    pub fn string(&mut self, what: &str) -> Result<String, SqlError> {
        let text = match self.tokens.get(self.at).map(|token| &token.token) {
            Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => text.clone(),
            Some(Token::Word(word)) if word.quote_style.is_some() => word.value.clone(),
            _ => return Err(self.expected(what)),
        };
        self.at += 1;
        Ok(text)
    }

    /// `INTERVAL '10 s'`, `INTERVAL '10' SECOND`, `'10 s'`, `10 s` or `10 SECOND`.
    pub fn duration(&mut self) -> Result<i64, SqlError> {
        let at = self.position();
        self.accept("INTERVAL");
        let mut text = match self.tokens.get(self.at).map(|token| &token.token) {
            Some(Token::SingleQuotedString(text)) => text.clone(),
            Some(Token::Number(text, _)) => text.clone(),
            _ => return Err(self.expected("an interval such as INTERVAL '10 s'")),
        };
        self.at += 1;
        if text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
            && let Some(Token::Word(word)) = self.tokens.get(self.at).map(|token| &token.token)
        {
            text = format!("{text} {}", word.value);
            self.at += 1;
        }
        duration::parse_duration(&text).map_err(|message| SqlError::new(at, message))
    }

    /// Cuts off the tokens from the first of `words` that stands outside of
    /// parentheses and CASE … END, and returns what lies before it.
    pub fn until(&mut self, words: &[&str]) -> Self {
        let (mut depth, mut cases) = (0_i32, 0_i32);
        let mut end = self.at;
        while let Some(token) = self.tokens.get(end) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::Word(word) if word.value.eq_ignore_ascii_case("case") => cases += 1,
                Token::Word(word) if word.value.eq_ignore_ascii_case("end") => cases -= 1,
                _ => {}
            }
            let clause = words.iter().any(|words| self.words_at(end, words));
            if depth == 0 && cases == 0 && clause && !self.is_operand(end, words) {
                break;
            }
            end += 1;
        }
        let tokens = self.tokens[self.at..end].to_vec();
        self.at = end;
        let end = self.position();
        Self { tokens, at: 0, end }
    }

    /// Whether a word that may begin a clause stands where an expression has an
    /// operand, so that it is a column: `WHEN value > 3`.
    fn is_operand(&self, at: usize, clauses: &[&str]) -> bool {
        const AFTER_OPERANDS: [&str; 8] =
            ["and", "or", "not", "like", "ilike", "in", "is", "between"];
        const BEFORE_OPERANDS: [&str; 16] = [
            "and", "or", "not", "like", "ilike", "in", "is", "between", "distinct", "from",
            "escape", "case", "when", "then", "else", "select",
        ];
        let wants_operand = at == self.at
            || match &self.tokens[at - 1].token {
                Token::Word(word) => {
                    word.quote_style.is_none()
                        && BEFORE_OPERANDS.contains(&word.value.to_ascii_lowercase().as_str())
                }
                Token::Number(..) | Token::SingleQuotedString(_) => false,
                Token::RParen | Token::RBracket => false,
                _ => true,
            };
        let takes_argument = match self.tokens.get(at + 1).map(|token| &token.token) {
            Some(Token::Number(..) | Token::SingleQuotedString(_)) => true,
            Some(Token::Word(word)) => {
                let word = word.value.to_ascii_lowercase();
                !AFTER_OPERANDS.contains(&word.as_str())
                    && !clauses.iter().any(|words| self.words_at(at + 1, words))
            }
            _ => false,
        };
        wants_operand && !takes_argument
    }

    /// Reads all tokens that are left as one expression.
    pub fn expression(&self) -> Result<Expr, SqlError> {
        if self.is_done() {
            return Err(self.expected("an expression"));
        }
        let expr = self.parse_all(Parser::parse_expr)?;
        lower::expression(&expr, self.position())
    }

    /// Reads all tokens that are left as one SELECT or UNION.
    pub fn query(&self) -> Result<Box<ast::Query>, SqlError> {
        if self.is_done() {
            return Err(self.expected("SELECT"));
        }
        self.parse_all(Parser::parse_query)
    }

    fn parse_all<'a, T>(
        &self,
        parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
    ) -> Result<T, SqlError> {
        static DIALECT: GenericDialect = GenericDialect {};
        let mut parser = Parser::new(&DIALECT)
            .with_recursion_limit(NESTING_MAX)
            .with_tokens_with_locations(self.tokens[self.at..].to_vec());
        let parsed = parse(&mut parser).map_err(|error| self.located(&error))?;
        let rest = parser.peek_token();
        if rest.token != Token::EOF {
            return Err(SqlError::new(
                position(rest.span.start),
                format!("expected the end of the expression, found `{}`", rest.token),
            ));
        }
        Ok(parsed)
    }

    /// The parser writes the place at the end of its message.
    fn located(&self, error: &ParserError) -> SqlError {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                message.as_str()
            }
            ParserError::RecursionLimitExceeded => {
                return SqlError::new(
                    self.position(),
                    format!("the expression is nested deeper than {NESTING_MAX} levels"),
                );
            }
        };
        let (text, place) = match message.split_once(" at Line: ") {
            Some((text, place)) => (text, place.split_once(", Column: ")),
            None => (message, None),
        };
        let at = place
            .and_then(|(line, column)| {
                Some(Position {
                    line: line.parse().ok()?,
                    column: column.parse().ok()?,
                })
            })
            .unwrap_or(self.end);
        let text = text.replace("found: EOF", "found: the end of the statement");
        SqlError::new(at, lower_first(&text))
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| {
        first.to_lowercase().chain(characters).collect()
    })
}
