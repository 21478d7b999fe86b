//! Text from outside on its way to a terminal or into a line of the log.

use std::borrow::Cow;

/// Whether a character can do something to a terminal, or make a text look like another: controls, line separators,
/// and what turns the direction of writing.
pub fn is_unsafe(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// The text on one line: what is unsafe is written as in JSON, so that JSON stays the same JSON.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// The same for a text that may have several lines.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_unsafe(character) && !matches!(character, '\n' | '\t'))
}

/// With a sign in the place of each unsafe character, so that columns stay where they are.
pub fn same_width(text: &str) -> String {
    let shown = |character| if is_unsafe(character) && character != '\t' { '\u{fffd}' } else { character };
    text.chars().map(shown).collect()
}

fn escaped(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            safe += &format!("\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_written_out() {
        let text = "a\x1b[2J\x07\u{9b}31m\x7f\u{202e}b\u{2066}\u{2028}\r\n\tc é 語 🦀";
        assert_eq!(
            line(text),
            "a\\u001b[2J\\u0007\\u009b31m\\u007f\\u202eb\\u2066\\u2028\\u000d\\u000a\\u0009c é 語 🦀"
        );
        assert!(lines(text).ends_with("\\u000d\n\tc é 語 🦀"));
        assert_eq!(same_width("\x1b[1m\u{202e}"), "\u{fffd}[1m\u{fffd}");
        let json = serde_json::json!({"a\u{9b}": "\u{202e}\x7f"});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line(&json.to_string())).unwrap(), json);
    }
}
