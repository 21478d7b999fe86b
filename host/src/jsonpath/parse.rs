//! Reads a JSONPath by the grammar of RFC 9535, in one pass without going back.

mod filter;
mod literal;

use super::query::{Segment, Selector, Slice, Step};

/// What could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Counted from 1.
    pub(super) character: usize,
    pub(super) message: String,
}

type Parsed<T> = Result<T, SyntaxError>;

/// Brackets, parentheses and functions inside one another.
const NESTING_MAX: usize = 32;

/// The segments of a whole query.
pub(super) fn query(text: &str) -> Parsed<Vec<Segment>> {
    let mut parser = Parser { text, at: 0, nesting: 0 };
    parser.expect("$")?;
    let segments = parser.segments()?;
    match parser.rest().chars().next() {
        None => Ok(segments),
        Some(' ' | '\t' | '\n' | '\r') => parser
            .fault("a blank can't stand here: a name with one stands in brackets and quotes, `$['a b']`"),
        Some(_) => parser.fault("`.`, `[` or the end is expected"),
    }
}

struct Parser<'t> {
    text: &'t str,
    /// In bytes.
    at: usize,
    nesting: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes this text if it comes next.
    fn take(&mut self, text: &str) -> bool {
        let comes = self.rest().starts_with(text);
        if comes {
            self.at += text.len();
        }
        comes
    }

    fn expect(&mut self, text: &str) -> Parsed<()> {
        if self.take(text) { Ok(()) } else { self.fault(format!("`{text}` is expected")) }
    }

    /// Takes as many bytes as `is_part` holds for.
    fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn skip_blanks(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn fault<T>(&self, message: impl Into<String>) -> Parsed<T> {
        self.fault_at(self.at, message)
    }

    fn fault_at<T>(&self, at: usize, message: impl Into<String>) -> Parsed<T> {
        let character = self.text[..at].chars().count() + 1;
        Err(SyntaxError { character, message: message.into() })
    }

    /// Reads what stands inside brackets or parentheses, which can't be nested without end.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting == NESTING_MAX {
            return self.fault(format!("nested more than {NESTING_MAX} deep"));
        }
        self.nesting += 1;
        let read = read(self);
        self.nesting -= 1;
        read
    }

    /// Blanks may stand between segments, and not behind the last one.
    fn segments(&mut self) -> Parsed<Vec<Segment>> {
        let mut segments = Vec::new();
        loop {
            let before = self.at;
            self.skip_blanks();
            let segment = if self.take("..") {
                Segment { descends: true, selectors: self.behind_dots()? }
            } else if self.take(".") {
                Segment { descends: false, selectors: vec![self.behind_dot()?] }
            } else if self.take("[") {
                Segment { descends: false, selectors: self.bracketed()? }
            } else {
                self.at = before;
                return Ok(segments);
            };
            segments.push(segment);
        }
    }

    fn behind_dots(&mut self) -> Parsed<Vec<Selector>> {
        if self.take("[") { self.bracketed() } else { Ok(vec![self.behind_dot()?]) }
    }

    /// `*`, or a name that needs no quotes.
    fn behind_dot(&mut self) -> Parsed<Selector> {
        if self.take("*") {
            return Ok(Selector::Wildcard);
        }
        let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii();
        if !self.peek().is_some_and(is_first) {
            return self
                .fault("a name or `*` is expected; other names stand in brackets and quotes, `$['a-b']`");
        }
        let name = self.take_while(|byte| is_first(byte) || byte.is_ascii_digit());
        Ok(Selector::Step(Step::Name(name.to_owned())))
    }

    /// Selectors with commas between them, behind `[`.
    fn bracketed(&mut self) -> Parsed<Vec<Selector>> {
        self.nested(|parser| {
            let mut selectors = Vec::new();
            loop {
                parser.skip_blanks();
                selectors.push(parser.selector()?);
                parser.skip_blanks();
                if parser.take("]") {
                    return Ok(selectors);
                }
                if !parser.take(",") {
                    return parser.fault("`,` or `]` is expected");
                }
            }
        })
    }

    fn selector(&mut self) -> Parsed<Selector> {
        match self.peek() {
            Some(b'\'' | b'"') => Ok(Selector::Step(Step::Name(self.string()?))),
            Some(b'*') => {
                self.at += 1;
                Ok(Selector::Wildcard)
            }
            Some(b'?') => {
                self.at += 1;
                self.skip_blanks();
                Ok(Selector::Filter(self.logical()?))
            }
            Some(b':' | b'-' | b'0'..=b'9') => self.index_or_slice(),
            _ => self.fault("a name in quotes, an index, a slice, `*` or `?` is expected"),
        }
    }

    /// `1`, or `start:end:step` of which each part may be missing.
    fn index_or_slice(&mut self) -> Parsed<Selector> {
        let start = self.optional_integer()?;
        let behind = self.at;
        self.skip_blanks();
        if !self.take(":") {
            self.at = behind;
            return match start {
                Some(index) => Ok(Selector::Step(Step::Index(index))),
                None => self.fault("an index is expected"),
            };
        }
        self.skip_blanks();
        let end = self.optional_integer()?;
        self.skip_blanks();
        let step = if self.take(":") {
            self.skip_blanks();
            self.optional_integer()?
        } else {
            None
        };
        Ok(Selector::Slice(Slice { start, end, step: step.unwrap_or(1) }))
    }
}
