//! Faults in a pack, each pointing at its place in the file: what is wrong and what would be right.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::printable::same_width;
pub use crate::spelling::{nearest, suggestion};

/// One file of a pack, as text, with the name under which people know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// As given on the command line or relative to the packs folder: `github/triggers/push.yaml`.
    pub name: String,
    pub text: String,
}

impl Source {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// The very beginning: where faults of a whole file point.
    pub fn start(self: &Arc<Self>) -> Place {
        Place { source: self.clone(), line: 1, column: 1 }
    }
}

/// A place in a source; line and column count from 1, the column in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub source: Arc<Source>,
    pub line: u32,
    pub column: u32,
}

/// One thing that is wrong (or, as a warning, doubtful) in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub message: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line of the source that it points at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_line: String,
}

/// What reading a pack found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
}

impl Report {
    pub fn fault(&mut self, at: &Place, message: impl Into<String>, help: impl Into<Option<String>>) {
        push(&mut self.faults, at, &message.into(), help.into().as_deref());
    }

    pub fn warning(&mut self, at: &Place, message: impl Into<String>, help: impl Into<Option<String>>) {
        push(&mut self.warnings, at, &message.into(), help.into().as_deref());
    }

    pub fn absorb(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.warnings.extend(other.warnings);
    }

    /// File by file, from the top of each down.
    pub fn sort(&mut self) {
        for list in [&mut self.faults, &mut self.warnings] {
            list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        }
    }
}

/// A policy that many triggers inherit is read many times; its faults are told once.
fn push(list: &mut Vec<Fault>, at: &Place, message: &str, help: Option<&str>) {
    let line = at.source.text.lines().nth(at.line.saturating_sub(1) as usize).unwrap_or_default();
    let fault = Fault {
        file: same_width(&at.source.name),
        line: at.line,
        column: at.column,
        message: same_width(message),
        help: help.map(same_width),
        source_line: same_width(&shortened(line)),
    };
    if !list.contains(&fault) {
        list.push(fault);
    }
}

/// A source line is shown for orientation: a minified megabyte is not.
fn shortened(line: &str) -> String {
    const SHOWN: usize = 160;
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.trim_end().to_owned(),
    }
}

/// For people: `path:line:column: message`, the source line, a caret, and what would be right.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help, source_line } = self;
        write!(f, "{file}:{line}:{column}: {message}")?;
        if !source_line.is_empty() {
            let number = line.to_string();
            write!(f, "\n  {number} | {source_line}")?;
            if source_line.chars().count() >= *column as usize {
                let indent = source_line.chars().take(column.saturating_sub(1) as usize);
                let indent: String = indent.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n  {} | {indent}^", " ".repeat(number.len()))?;
            }
        }
        match help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_points_at_its_place() {
        let source = Source::new("github/pack.yaml", "ref: github\nversoin: 1.0.0\n");
        let mut report = Report::default();
        let at = Place { source, line: 2, column: 1 };
        report.fault(&at, "unknown key `versoin`", suggestion("versoin", &["name", "version"]));
        assert_eq!(
            report.faults[0].to_string(),
            "github/pack.yaml:2:1: unknown key `versoin`\n  2 | versoin: 1.0.0\n    | ^\n  help: did you mean `version`?"
        );
    }
}
