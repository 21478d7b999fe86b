//! What people and scripts read: lines and tables on standard output, errors on standard error.

use std::io::{self, IsTerminal, Write};

use anstyle::AnsiColor;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::printable;

/// A line on standard output, safe for a terminal whatever is in it; a text may have several. If the pipe is closed, its
/// reader has read enough.
pub(super) fn line(text: &str) {
    drop(writeln!(io::stdout().lock(), "{}", printable::lines(text)));
}

/// The same with a mark before it that has a colour; in a pipe, or where colours are not wanted, without the colour.
pub(super) fn marked(mark: &str, color: AnsiColor, text: &str) {
    let style = color.on_default();
    drop(writeln!(anstream::stdout().lock(), "{style}{mark}{style:#}{}", printable::lines(text)));
}

pub(super) fn error(text: &str) {
    drop(writeln!(io::stderr().lock(), "error: {}", printable::lines(text)));
}

/// For a person, beside what a script takes from standard output.
pub(super) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{}", printable::lines(text)));
}

/// The same, and the answer comes on the same line.
pub(super) fn prompt(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(write!(stderr, "{}", printable::lines(text)).and_then(|()| stderr.flush()));
}

/// The cells of one row on one line.
pub(super) fn row(cells: &[String]) {
    line(&cells.iter().map(|cell| printable::line(cell)).collect::<Vec<_>>().join("  "));
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
        table.add_row(row.iter().map(|cell| printable::line(cell)).collect::<Vec<_>>());
    }
    line(&table.trim_fmt());
}

/// Rows of which there may be many, a line each: in a terminal, what doesn't fit is left out.
pub(super) fn listing(head: &[&str], rows: Vec<Vec<String>>) {
    let width = if io::stdout().is_terminal() { Table::new().width() } else { None };
    match width {
        Some(width) => fitted(head, &rows, usize::from(width)).iter().for_each(|text| line(text)),
        None => table(head, rows),
    }
}

/// Columns that are left out where there is no place for them, in this order; `--output json` and an id alone show all.
const LESS_WANTED: [&str; 6] = ["KEY", "FROM", "BY", "TRIGGER", "STATUS", "ACTION"];
/// What the last column has at least, or it is left out.
const LAST_MIN: usize = 8;

/// Lines no wider than `width`: of the last column as much as there is place for.
fn fitted(head: &[&str], rows: &[Vec<String>], width: usize) -> Vec<String> {
    let shown: Vec<Vec<String>> = std::iter::once(head.iter().map(|name| (*name).to_owned()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| printable::line(cell).into_owned()).collect()))
        .collect();
    let wide = |column: usize| {
        shown.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let last = head.len().saturating_sub(1);
    let mut columns: Vec<usize> = (0..last).collect();
    let taken = |columns: &[usize]| columns.iter().map(|column| wide(*column) + 2).sum::<usize>();
    for name in LESS_WANTED {
        if taken(&columns) + LAST_MIN.max(wide(last).min(LAST_MIN)) > width {
            columns.retain(|column| head[*column] != name);
        }
    }
    let left = width.saturating_sub(taken(&columns));
    let written = |row: &Vec<String>| {
        let mut text = String::new();
        for column in &columns {
            let cell = &row[*column];
            text += cell;
            text += &" ".repeat(wide(*column) + 2 - cell.chars().count());
        }
        if left >= LAST_MIN {
            text += &row[last].chars().take(left).collect::<String>();
        }
        text.trim_end().chars().take(width).collect()
    };
    shown.iter().map(written).collect()
}

/// One thing in full: a line a field; what is nested is JSON, indented.
pub(super) fn fields(thing: &Value) {
    let fields = thing.as_object();
    let width = fields.into_iter().flatten().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in fields.into_iter().flatten() {
        let text = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Object(_) | Value::Array(_) => serde_json::to_string_pretty(value).unwrap_or_default(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
        };
        // A further line can't be taken for another field.
        let told = text.replace('\n', &format!("\n{}", " ".repeat(width + 2)));
        line(&format!("{name:width$}  {told}"));
    }
}

/// At most so many characters, on one line.
pub(super) fn clipped(text: &str, characters: usize) -> String {
    let text = printable::line(text).into_owned();
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_fits_the_terminal() {
        let head = ["RECEIVED", "ID", "TRIGGER", "FROM", "STATUS", "OUTCOME", "DETAIL"];
        let row = [
            "2026-11-22T10:00:00Z",
            "0198c5a0-0000-7000-8000-000000000001",
            "github.pull_request",
            "2001:db8::1",
            "422",
            "schema_violation",
            "/a: value is not of type \"string\"; /b: value is not of type \"string\"",
        ];
        let rows = vec![row.map(str::to_owned).to_vec(); 2];
        for width in [80, 120, 200] {
            let lines = fitted(&head, &rows, width);
            assert_eq!(lines.len(), 3);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines[1].contains(row[1]) && lines[1].contains(row[5]), "{width}: {lines:#?}");
        }
        assert!(fitted(&head, &rows, 120)[1].contains("/a: value"));
    }
}
