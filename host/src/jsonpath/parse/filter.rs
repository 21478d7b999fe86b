//! Logical expressions and functions, checked for their types (RFC 9535, 2.4.3).

use serde_json::Value;

use super::{Parsed, Parser};
use crate::jsonpath::{
    pattern::Pattern,
    query::{Comparable, Comparison, Logical, Nodes, Origin, singular},
};

/// What stands in a filter before it is known what it is used for.
enum Operand {
    Literal(Value),
    Nodes(Nodes),
    /// A function that gives a value.
    Value(Comparable),
    /// A function that holds or not.
    Logical(Logical),
}

impl Parser<'_> {
    /// `a || b && c`
    pub(super) fn logical(&mut self) -> Parsed<Logical> {
        self.nested(|parser| {
            let any = parser.chain("||", |parser| {
                let all = parser.chain("&&", Self::basic)?;
                Ok(one_or(all, Logical::All))
            })?;
            Ok(one_or(any, Logical::Any))
        })
    }

    /// Parts with an operator between them. The blanks behind the last one are taken, too.
    fn chain<T>(&mut self, operator: &str, part: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut parts = vec![part(self)?];
        loop {
            self.skip_blanks();
            if !self.take(operator) {
                return Ok(parts);
            }
            self.skip_blanks();
            parts.push(part(self)?);
        }
    }

    /// A comparison, a test, or an expression in parentheses.
    fn basic(&mut self) -> Parsed<Logical> {
        if self.take("!") {
            self.skip_blanks();
            let negated = if self.take("(") { self.in_parentheses()? } else { self.negated_test()? };
            return Ok(Logical::Not(Box::new(negated)));
        }
        if self.take("(") {
            return self.in_parentheses();
        }
        let began_at = self.at;
        let operand = self.operand()?;
        self.skip_blanks();
        let Some(comparison) = self.comparison() else { return self.test(operand, began_at) };
        let one = self.comparable(operand, began_at)?;
        self.skip_blanks();
        let began_at = self.at;
        let operand = self.operand()?;
        let other = self.comparable(operand, began_at)?;
        Ok(Logical::Compare(one, comparison, other))
    }

    /// Behind `(`.
    fn in_parentheses(&mut self) -> Parsed<Logical> {
        self.skip_blanks();
        let logical = self.logical()?;
        self.skip_blanks();
        self.expect(")")?;
        Ok(logical)
    }

    fn negated_test(&mut self) -> Parsed<Logical> {
        let began_at = self.at;
        let operand = self.operand()?;
        self.test(operand, began_at)
    }

    fn test(&self, operand: Operand, began_at: usize) -> Parsed<Logical> {
        match operand {
            Operand::Nodes(nodes) => Ok(Logical::Exists(nodes)),
            Operand::Logical(logical) => Ok(logical),
            Operand::Literal(_) => self.fault_at(began_at, "a value alone is no condition: compare it"),
            Operand::Value(_) => {
                self.fault_at(began_at, "this function gives a value, which is no condition: compare it")
            }
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        const OPERATORS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        OPERATORS.into_iter().find(|(text, _)| self.take(text)).map(|(_, comparison)| comparison)
    }

    fn comparable(&self, operand: Operand, began_at: usize) -> Parsed<Comparable> {
        match operand {
            Operand::Literal(value) => Ok(Comparable::Literal(value)),
            Operand::Value(comparable) => Ok(comparable),
            Operand::Nodes(nodes) => match singular(&nodes.segments) {
                Some(steps) => Ok(Comparable::Singular(nodes.origin, steps)),
                None => self.fault_at(
                    began_at,
                    "only a path to one value can be compared, or `value(…)` of this one",
                ),
            },
            Operand::Logical(_) => {
                self.fault_at(began_at, "this function holds or not: its result can't be compared")
            }
        }
    }

    fn operand(&mut self) -> Parsed<Operand> {
        match self.peek() {
            Some(b'$' | b'@') => self.nodes().map(Operand::Nodes),
            Some(b'\'' | b'"') => self.string().map(|text| Operand::Literal(Value::String(text))),
            Some(b'-' | b'0'..=b'9') => self.number().map(Operand::Literal),
            Some(b'a'..=b'z') => self.word_or_function(),
            _ => self.fault("a path, a value or a function is expected"),
        }
    }

    fn nodes(&mut self) -> Parsed<Nodes> {
        let origin = if self.take("$") { Origin::Root } else { Origin::Current };
        if origin == Origin::Current {
            self.expect("@")?;
        }
        Ok(Nodes { origin, segments: self.segments()? })
    }

    fn word_or_function(&mut self) -> Parsed<Operand> {
        let began_at = self.at;
        let word = self.take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if self.take("(") {
            return self.nested(|parser| parser.function(word, began_at));
        }
        match word {
            "true" => Ok(Operand::Literal(Value::Bool(true))),
            "false" => Ok(Operand::Literal(Value::Bool(false))),
            "null" => Ok(Operand::Literal(Value::Null)),
            _ => self.fault_at(
                began_at,
                format!("`{word}` means nothing here: text stands in quotes, a member is `@.{word}`"),
            ),
        }
    }

    /// Behind the parenthesis of a function.
    fn function(&mut self, name: &str, began_at: usize) -> Parsed<Operand> {
        let function = match name {
            "length" => Operand::Value(Comparable::Length(Box::new(self.value_argument()?))),
            "count" => Operand::Value(Comparable::Count(self.nodes_argument()?)),
            "value" => Operand::Value(Comparable::ValueOf(self.nodes_argument()?)),
            "match" | "search" => {
                let text = self.value_argument()?;
                self.skip_blanks();
                self.expect(",")?;
                self.skip_blanks();
                let pattern_at = self.at;
                let pattern = Pattern::new(name == "match", self.value_argument()?);
                match pattern {
                    Ok(pattern) => Operand::Logical(Logical::Matches(text, pattern)),
                    Err(message) => return self.fault_at(pattern_at, message),
                }
            }
            _ => {
                let message =
                    format!("there is no function `{name}`: length, count, match, search and value are");
                return self.fault_at(began_at, message);
            }
        };
        self.skip_blanks();
        if self.take(")") {
            Ok(function)
        } else {
            self.fault(format!("`)` is expected: `{name}` takes no more"))
        }
    }

    fn value_argument(&mut self) -> Parsed<Comparable> {
        self.skip_blanks();
        let began_at = self.at;
        let operand = self.operand()?;
        self.comparable(operand, began_at)
    }

    fn nodes_argument(&mut self) -> Parsed<Nodes> {
        self.skip_blanks();
        let began_at = self.at;
        match self.operand()? {
            Operand::Nodes(nodes) => Ok(nodes),
            Operand::Literal(_) | Operand::Value(_) | Operand::Logical(_) => {
                self.fault_at(began_at, "a path is expected: `count` and `value` look at nodes")
            }
        }
    }
}

/// The only part alone, or all of them together.
fn one_or(mut parts: Vec<Logical>, together: impl FnOnce(Vec<Logical>) -> Logical) -> Logical {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            together(parts)
        }
    }
}
