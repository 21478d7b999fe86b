//! Log lines: to standard error, readable by eye or as JSON.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, LogFormat},
    printable,
};

/// Starts logging for the whole process; once.
pub fn start(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("`log: {}`", config.log))?;
    // It would log what stands in a database's URL.
    let filter = filter.add_directive("sqlx_postgres::options=off".parse()?);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // It would tell of them on standard error and panic: a disk that is full of logs must not stop what logs.
    let builder = builder.log_internal_errors(false);
    let has_colours = io::stderr().is_terminal();
    match config.log_format {
        LogFormat::Text => {
            builder.with_ansi(has_colours).with_writer(move || SafeLines { has_colours }).init();
        }
        LogFormat::Json => builder.json().with_ansi(false).with_writer(io::stderr).init(),
    }
    Ok(())
}

/// Standard error, where each write is one line of the log and stays one, and nothing in it acts on a terminal.
struct SafeLines {
    has_colours: bool,
}

impl Write for SafeLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut safe = String::with_capacity(text.len() + 1);
        let mut rest = text;
        // The colours of the formatter itself: it writes out every escape character of a value.
        while let Some((before, colour, after)) = next_colour(rest).filter(|_| self.has_colours) {
            safe += &printable::line(before);
            safe += colour;
            rest = after;
        }
        safe += &printable::line(rest);
        safe.push('\n');
        io::stderr().lock().write_all(safe.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What stands before, is, and stands after the next sequence that changes nothing but the colour.
fn next_colour(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find("\x1b[")?;
    let length = text[start + 2..].find(|sign: char| !sign.is_ascii_digit() && sign != ';')?;
    let end = start + 2 + length;
    text[end..].starts_with('m').then(|| (&text[..start], &text[start..=end], &text[end + 1..]))
}
