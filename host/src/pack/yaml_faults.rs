//! Faults of YAML in the author's words: what the parser stumbled over, and what would be right.

use std::sync::Arc;

use serde_saphyr::{Error, budget::BudgetBreach};

use super::{
    diagnostics::{Place, Report, Source},
    yaml,
};
use crate::config::Config;

/// Tells why a source could not be read.
pub(super) fn tell(error: &Error, source: &Arc<Source>, limits: &Config, report: &mut Report) {
    let error = error.without_snippet();
    let at = error.location().map_or_else(|| source.start(), |location| yaml::at(source, location));
    match error {
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            let help = "keep one of the two".to_owned();
            report.fault(&at, format!("the key `{key}` stands twice in this mapping"), help);
        }
        Error::UnknownAnchor { .. } => {
            let help = "an anchor (`&name`) stands before its aliases (`*name`); text that begins with `*` stands in quotes";
            report.fault(&at, "no anchor of this name stands before this alias", help.to_owned());
        }
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            let help = "move what follows into a file of its own".to_owned();
            report.fault(&at, "a second document begins here, and a file holds one", help);
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(&at, limits, report),
        Error::Budget { .. } => too_many_values(&at, limits, report),
        // What breaks a limit inside the parser comes without its kind.
        other if of_the_parser(other).contains("recursion limit") => too_deep(&at, limits, report),
        other if of_the_parser(other).contains("limit exceeded") => too_many_values(&at, limits, report),
        other => syntax(&of_the_parser(other), &at, report),
    }
}

/// Tells of `.inf` and `.nan`.
pub(super) fn not_finite(at: &Place, text: &str, report: &mut Report) {
    let help = "write a finite number, or quotes around text".to_owned();
    report.fault(at, format!("`{text}` is no number of JSON"), help);
}

const SMALL: &str = "a pack's files are small and flat: write the values out";

fn too_deep(at: &Place, limits: &Config, report: &mut Report) {
    let most = limits.yaml_depth_max;
    report.fault(at, format!("nested more than {most} deep (yaml_depth_max)"), SMALL.to_owned());
}

fn too_many_values(at: &Place, limits: &Config, report: &mut Report) {
    let most = limits.yaml_nodes_max;
    let message = format!("more than {most} values, counting those behind aliases (yaml_nodes_max)");
    report.fault(at, message, SMALL.to_owned());
}

/// The parser's message without its own "at line …".
fn of_the_parser(error: &Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text).lines().next().unwrap_or_default();
    let after_place = text.split_once(": ").filter(|(head, _)| head.starts_with("line "));
    after_place.map_or(text, |(_, tail)| tail).to_owned()
}

/// What the parser says, what it means, and what would be right.
const SYNTAX: [(&str, &str, &str); 14] = [
    ("tabs disallowed", "a tab stands where YAML indents", "indent with spaces, never with tabs"),
    (
        "mapping values are not allowed",
        "a second `: ` in one line",
        "text that contains `: ` stands in quotes; a nested key stands on a line of its own",
    ),
    ("illegal placement of ':'", "a `:` where none can stand", "a `[` or `{` further up may lack its end"),
    (
        "did not find expected key",
        "this line begins in a column where no line above it does",
        "keys of one mapping begin in one column",
    ),
    (
        "unknown escape character",
        "an escape that YAML does not know",
        "write patterns in single quotes: '^\\d+$'",
    ),
    ("expected ',' or ']'", "this list is not closed", "add `]`, or a comma between two values"),
    ("expected ',' or '}'", "this mapping is not closed", "add `}`, or a comma between two pairs"),
    ("null into string", "a key is missing before this `:`", "write the key, or put the text in quotes"),
    ("recursive references", "an alias inside what it stands for", "write the values out"),
    ("expected string scalar", "a key must be text", "write the key as a word"),
    ("unsupported tag", "a tag that means nothing here", "take the tag (`!…`) away"),
    ("block sequence entries", "a list can't begin here", "begin the list on a line of its own"),
    (
        "mismatched bracket",
        "a bracket is closed by one of another kind",
        "close each `[` with `]` and each `{` with `}`",
    ),
    (
        "invalid indentation",
        "this line is indented too little",
        "indent what belongs to the line above further than it",
    ),
];

fn syntax(parsers: &str, at: &Place, report: &mut Report) {
    if let Some(quote) = opened_quote(parsers, at) {
        let help = "close it on the same line, or indent the lines that follow".to_owned();
        return report.fault(&quote, "this quote is not closed", help);
    }
    if let Some(path) = path_without_quotes(parsers, at) {
        let quote = if path.contains('"') { '\'' } else { '"' };
        let help = format!(
            "quote it: {quote}{}{quote}",
            if quote == '\'' { path.replace('\'', "''") } else { path.clone() }
        );
        let message = format!("`{path}` has brackets, which begin a list inside `{{…}}` and `[…]`");
        return report.fault(at, message, help);
    }
    if let Some(character) = parsers.strip_prefix("unexpected character: `") {
        let character = character.trim_end_matches('\'');
        let help = if character.starts_with("\\u") { "remove it" } else { "put the text in quotes" };
        let message = format!("the character `{character}` can't stand here");
        return report.fault(at, message, help.to_owned());
    }
    match SYNTAX.iter().find(|(text, _, _)| parsers.contains(text)) {
        Some((_, message, help)) => {
            report.fault(at, format!("this is not valid YAML: {message}"), (*help).to_owned());
        }
        None => report.fault(at, format!("this is not valid YAML: {parsers}"), None),
    }
}

/// The JSONPath whose bracket the parser stumbled over, between braces or brackets of YAML.
fn path_without_quotes(parsers: &str, at: &Place) -> Option<String> {
    if !parsers.contains("expected ',' or") {
        return None;
    }
    let line = at.source.text.lines().nth(at.line as usize - 1)?;
    let bracket = line.char_indices().nth(at.column as usize - 1).map(|(index, _)| index)?;
    let start = line[..bracket].rfind([' ', ',', '{', '[']).map_or(0, |before| before + 1);
    let path = &line[start..];
    if !path.starts_with('$') {
        return None;
    }
    let mut depth = 0_usize;
    let mut end = path.len();
    for (index, character) in path.char_indices() {
        match character {
            '[' => depth += 1,
            ']' | '}' | ',' if depth == 0 => {
                end = index;
                break;
            }
            ':' if depth == 0 && path[index..].starts_with(": ") => {
                end = index;
                break;
            }
            ']' => depth -= 1,
            _ => {}
        }
    }
    Some(path[..end].trim_end().to_owned())
}

/// Where a quote begins that runs on into a line where it can't: the parser only knows that line.
fn opened_quote(parsers: &str, at: &Place) -> Option<Place> {
    if !parsers.contains("quoted scalar") || parsers.contains("escape") {
        return None;
    }
    let above = at.source.text.lines().take(at.line as usize).collect::<Vec<_>>();
    above.iter().enumerate().rev().find_map(|(index, line)| {
        let open = ['"', '\''].into_iter().find(|quote| line.matches(*quote).count() % 2 == 1)?;
        let column = line.chars().take_while(|character| *character != open).count() + 1;
        let line = u32::try_from(index + 1).ok()?;
        Some(Place { source: at.source.clone(), line, column: u32::try_from(column).ok()? })
    })
}
