//! I-Regexp (RFC 9485), the patterns of `match` and `search`, on an engine of linear time.

use std::cell::RefCell;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{node::text_steps, query::Comparable};
use crate::budget::{Budget, Exhausted};

/// The second argument of `match` or `search`.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// `match`: the whole text, not a part of it.
    whole: bool,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// Written in the path.
    Literal(Regex),
    /// Found in the document.
    Given(Box<Comparable>),
    /// No text, which matches nothing.
    Nothing,
}

/// The last pattern that a document gave, compiled: most often it is the same for each node.
#[derive(Debug, Default)]
pub(super) struct Given(RefCell<Option<Compiled>>);

#[derive(Debug)]
struct Compiled {
    whole: bool,
    text: String,
    /// Nothing where the text is no pattern, or one that is too large.
    regex: Option<Regex>,
}

/// Of a compiled pattern that is written in a path.
const LITERAL_BYTES_MAX: usize = 1 << 20;
/// Patterns that a document gives are chosen by its sender.
const GIVEN_TEXT_BYTES_MAX: usize = 1000;
const GIVEN_BYTES_MAX: usize = 64 << 10;
const GIVEN_COMPILE_STEPS: u64 = 50_000;
/// Beside a large pattern each byte of a text may take as long as this many steps.
const GIVEN_STEPS_PER_BYTE: u64 = 100;

impl Pattern {
    /// A pattern that is written out is compiled now; the error says what is wrong with it.
    pub(super) fn new(whole: bool, argument: Comparable) -> Result<Self, String> {
        let source = match argument {
            Comparable::Literal(Value::String(text)) => {
                Source::Literal(compile(&text, whole, LITERAL_BYTES_MAX)?)
            }
            Comparable::Literal(_) => Source::Nothing,
            other => Source::Given(Box::new(other)),
        };
        Ok(Self { whole, source })
    }

    /// Whether the text matches; `value` gives the text of an argument.
    pub(super) fn matches(
        &self,
        text: &str,
        value: impl FnOnce(&Comparable) -> Result<Option<String>, Exhausted>,
        last: &Given,
        budget: &Budget,
    ) -> Result<bool, Exhausted> {
        match &self.source {
            Source::Nothing => Ok(false),
            Source::Literal(regex) => {
                budget.spend_steps(1 + text_steps(text))?;
                Ok(regex.is_match(text))
            }
            Source::Given(argument) => match value(argument)? {
                Some(pattern) => self.matches_given(text, pattern, last, budget),
                None => Ok(false),
            },
        }
    }

    fn matches_given(
        &self,
        text: &str,
        pattern: String,
        Given(last): &Given,
        budget: &Budget,
    ) -> Result<bool, Exhausted> {
        let mut last = last.borrow_mut();
        // One path may match and search with one pattern.
        if !last.as_ref().is_some_and(|last| last.whole == self.whole && last.text == pattern) {
            budget.spend_steps(GIVEN_COMPILE_STEPS)?;
            let is_short = pattern.len() <= GIVEN_TEXT_BYTES_MAX;
            let regex = is_short.then(|| compile(&pattern, self.whole, GIVEN_BYTES_MAX).ok()).flatten();
            *last = Some(Compiled { whole: self.whole, text: pattern, regex });
        }
        let Some(Compiled { regex: Some(regex), .. }) = &*last else { return Ok(false) };
        budget.spend_steps(GIVEN_STEPS_PER_BYTE.saturating_mul(text.len() as u64))?;
        Ok(regex.is_match(text))
    }
}

fn compile(pattern: &str, whole: bool, bytes_max: usize) -> Result<Regex, String> {
    let translated =
        translate(pattern).map_err(|reason| format!("`{pattern}` is no I-Regexp (RFC 9485): {reason}"))?;
    let translated = if whole { format!("^(?:{translated})$") } else { translated };
    let regex = RegexBuilder::new(&translated).size_limit(bytes_max).build();
    regex.map_err(|_| format!("`{pattern}` can't be compiled, or takes more than {bytes_max} bytes"))
}

/// The same pattern in the engine's syntax. `^` and `$` are anchors, as in every implementation.
fn translate(pattern: &str) -> Result<String, String> {
    let mut translated = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut open = 0_usize;
    // Whether a quantifier may follow.
    let mut after_atom = false;
    while let Some(character) = rest.next() {
        match character {
            '.' => translated.push_str("[^\\n\\r]"),
            '\\' => translated.push_str(&escape(&mut rest)?),
            '[' => translated.push_str(&class(&mut rest)?),
            '(' => {
                open += 1;
                translated.push_str("(?:");
                after_atom = false;
                continue;
            }
            '|' => {
                translated.push('|');
                after_atom = false;
                continue;
            }
            ')' => {
                open = open.checked_sub(1).ok_or("a `)` without its `(`")?;
                translated.push(')');
            }
            '*' | '+' | '?' | '{' => {
                if !after_atom {
                    return Err(format!("`{character}` has nothing to repeat"));
                }
                translated.push(character);
                if character == '{' {
                    translated.push_str(&quantity(&mut rest)?);
                }
                after_atom = false;
                continue;
            }
            ']' | '}' => {
                return Err(format!("a `{character}` without its opening; `\\{character}` is the character"));
            }
            other => translated.push(other),
        }
        after_atom = true;
    }
    if open > 0 { Err("a `(` is not closed".to_owned()) } else { Ok(translated) }
}

type Characters<'p> = std::iter::Peekable<std::str::Chars<'p>>;

/// Behind a `\`.
fn escape(rest: &mut Characters<'_>) -> Result<String, String> {
    match rest.next() {
        Some(kind @ ('p' | 'P')) => {
            let name: String = rest.by_ref().take_while(|character| *character != '}').collect();
            let name = name.strip_prefix('{').filter(|name| is_category(name));
            name.map(|name| format!("\\{kind}{{{name}}}"))
                .ok_or_else(|| format!("`\\{kind}` stands before a category such as `{{Lu}}`"))
        }
        Some(letter @ ('n' | 'r' | 't')) => Ok(format!("\\{letter}")),
        Some(
            plain @ ('(' | ')' | '*' | '+' | '-' | '.' | '?' | '[' | '\\' | ']' | '^' | '{' | '|' | '}'),
        ) => Ok(format!("\\{plain}")),
        Some('d') => Err("it has no `\\d`; write `[0-9]`".to_owned()),
        Some('w') => Err("it has no `\\w`; write `[a-zA-Z0-9_]`".to_owned()),
        Some('s') => Err("it has no `\\s`; write `[ \\t\\n\\r]`".to_owned()),
        Some('$') => Err("it has no `\\$`; write `[$]`".to_owned()),
        Some(other) => Err(format!("it has no `\\{other}`")),
        None => Err("a `\\` at its end".to_owned()),
    }
}

fn is_category(name: &str) -> bool {
    const CATEGORIES: [(char, &str); 7] = [
        ('L', "lmotu"),
        ('M', "cen"),
        ('N', "dlo"),
        ('P', "cdefios"),
        ('Z', "lps"),
        ('S', "ckmo"),
        ('C', "cfno"),
    ];
    let mut letters = name.chars();
    let (Some(kind), part, None) = (letters.next(), letters.next(), letters.next()) else { return false };
    CATEGORIES.iter().any(|(own, parts)| *own == kind && part.is_none_or(|part| parts.contains(part)))
}

/// Behind a `[`.
fn class(rest: &mut Characters<'_>) -> Result<String, String> {
    let mut class = "[".to_owned();
    if rest.next_if_eq(&'^').is_some() {
        class.push('^');
    }
    let first = class.len();
    if rest.next_if_eq(&'-').is_some() {
        class.push_str("\\-");
    }
    loop {
        let Some(character) = rest.next() else { return Err("a `[` is not closed".to_owned()) };
        match character {
            ']' if class.len() > first => return Ok(class + "]"),
            '-' if rest.peek() == Some(&']') => class.push_str("\\-"),
            '\\' => {
                let escape = escape(rest)?;
                let is_category = escape.starts_with("\\p") || escape.starts_with("\\P");
                class.push_str(&escape);
                if !is_category {
                    range(rest, &mut class)?;
                }
            }
            ']' | '[' | '-' => return Err(format!("`{character}` in a class is `\\{character}`")),
            other => {
                push_in_class(&mut class, other);
                range(rest, &mut class)?;
            }
        }
    }
}

/// The other end of `a-z`, if it is one.
fn range(rest: &mut Characters<'_>, class: &mut String) -> Result<(), String> {
    let mut ahead = rest.clone();
    if ahead.next() != Some('-') || ahead.peek() == Some(&']') {
        return Ok(());
    }
    rest.next();
    class.push('-');
    match rest.next() {
        Some('\\') => {
            let escape = escape(rest)?;
            if escape.starts_with("\\p") || escape.starts_with("\\P") {
                return Err("a category can't end a range".to_owned());
            }
            class.push_str(&escape);
        }
        Some(character @ ('[' | '-')) => return Err(format!("`{character}` in a class is `\\{character}`")),
        Some(other) => push_in_class(class, other),
        None => return Err("a `[` is not closed".to_owned()),
    }
    Ok(())
}

/// Some characters mean more to the engine than to I-Regexp.
fn push_in_class(class: &mut String, character: char) {
    if matches!(character, '^' | '&' | '~') {
        class.push('\\');
    }
    class.push(character);
}

/// Behind a `{`: `2}`, `2,}` or `2,3}`.
fn quantity(rest: &mut Characters<'_>) -> Result<String, String> {
    let mut text = String::new();
    for character in rest.by_ref() {
        text.push(character);
        if character == '}' {
            break;
        }
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_quantity = text.strip_suffix('}').is_some_and(|inner| match inner.split_once(',') {
        Some((least, most)) => digits(least) && (most.is_empty() || digits(most)),
        None => digits(inner),
    });
    if is_quantity {
        Ok(text)
    } else {
        Err("`{` begins a quantity such as `{2}`, `{2,}` or `{2,3}`".to_owned())
    }
}
