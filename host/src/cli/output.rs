//! What people and scripts read: lines and tables on standard output, errors on standard error.

use std::io::{self, IsTerminal, Write};

use anstyle::AnsiColor;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// A line on standard output. Whoever closed the pipe has read enough.
pub(super) fn line(text: &str) {
    drop(writeln!(anstream::stdout().lock(), "{text}"));
}

/// The same in another look; in a pipe, or where nobody wants colours, the bare text.
pub(super) fn styled(text: &str, color: AnsiColor) -> String {
    let style = color.on_default();
    format!("{style}{text}{style:#}")
}

pub(super) fn error(text: &str) {
    drop(writeln!(io::stderr().lock(), "error: {text}"));
}

/// For a person, beside what a script takes from standard output.
pub(super) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// The same, and the answer comes on the same line.
pub(super) fn prompt(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(write!(stderr, "{text}").and_then(|()| stderr.flush()));
}

/// Before a mapper is compiled that takes its time: a megabyte is about a second.
pub(super) fn compiling(bytes: usize) {
    if bytes > 1 << 20 {
        drop(writeln!(io::stderr().lock(), "compiling a mapper of {} MB …", bytes >> 20));
    }
}

/// Columns aligned, long cells wrapped to the terminal; in a pipe nothing is wrapped.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.to_vec());
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for row in rows {
        table.add_row(row);
    }
    line(&table.trim_fmt());
}

/// One thing in full: a line a field; what is nested is JSON, indented.
pub(super) fn fields(thing: &Value) {
    let fields = thing.as_object();
    let width = fields.into_iter().flatten().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in fields.into_iter().flatten() {
        let told = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Object(_) | Value::Array(_) => {
                let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
                pretty.replace('\n', &format!("\n{}", " ".repeat(width + 2)))
            }
            Value::Bool(_) | Value::Number(_) => value.to_string(),
        };
        line(&format!("{name:width$}  {told}"));
    }
}

/// At most so many characters, on one line.
pub(super) fn clipped(text: &str, characters: usize) -> String {
    let text = text.replace('\n', " ");
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
