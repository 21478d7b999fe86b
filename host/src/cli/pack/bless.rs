//! `hookpack pack test --bless`: what came, written into the cases in place of what was expected.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::shown_name;
use crate::{
    cli::compare::Got,
    model::Outcome,
    pack::{Pack, cases::Case},
};

/// Rewrites `expect` of these cases and leaves every other line as it is; the files that changed.
pub(super) fn write(failed: &[(&Pack, &Case, &Got)]) -> Result<Vec<PathBuf>> {
    let mut files: BTreeMap<PathBuf, Vec<(&Case, &Got)>> = BTreeMap::new();
    for (pack, case, got) in failed {
        let name = &case.at.source.name;
        let inside = name.strip_prefix(&shown_name(&pack.path)).unwrap_or(name).trim_start_matches('/');
        files.entry(pack.path.join(inside)).or_default().push((case, got));
    }
    let mut written = Vec::new();
    for (path, mut cases) in files {
        let doing = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(doing)?;
        let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // From the last to the first: the lines of the others stay where they are.
        cases.sort_by_key(|(case, _)| std::cmp::Reverse(case.expect_at.line));
        for (case, got) in &cases {
            replace(&mut lines, case, got).with_context(doing)?;
        }
        let blessed = lines.join(ending) + ending;
        let blessed_names: Vec<_> = cases.iter().map(|(case, _)| case.name.as_str()).collect();
        only_these_differ(&text, &blessed, &blessed_names).with_context(doing)?;
        fs::write(&path, blessed).with_context(doing)?;
        written.push(path);
    }
    Ok(written)
}

/// Reads both texts and sees that nothing but `expect` of the blessed cases is another: YAML can be written in ways
/// that lines don't show.
fn only_these_differ(before: &str, after: &str, blessed: &[&str]) -> Result<()> {
    let help = "`--bless` can't change this file: write each `expect:` as a block of its own";
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).with_context(|| help.to_owned());
    let without = |mut file: Value| {
        for case in file["cases"].as_array_mut().into_iter().flatten() {
            if case["name"].as_str().is_some_and(|name| blessed.contains(&name)) {
                case["expect"] = Value::Null;
            }
        }
        file
    };
    ensure!(without(read(before)?) == without(read(after)?), help);
    Ok(())
}

fn replace(lines: &mut Vec<String>, case: &Case, got: &Got) -> Result<()> {
    let value = (case.expect_at.line as usize).min(lines.len());
    let case_begins = (case.at.line as usize).saturating_sub(1);
    let key = (case_begins..value).rev().find(|line| expect_column(&lines[*line]).is_some());
    let Some((first, column)) = key.and_then(|line| Some((line, expect_column(&lines[line])?))) else {
        bail!("`{}`: `--bless` needs `expect:` on a line of its own", case.name);
    };
    let indent = |line: &String| line.len() - line.trim_start().len();
    let is_inside = |line: &&String| line.trim().is_empty() || line.starts_with('#') || indent(line) > column;
    let inside = lines[first + 1..].iter().take_while(is_inside);
    let mut last = first + inside.count();
    // Blank lines and remarks before the next case are its own.
    while last > first && (lines[last].trim().is_empty() || lines[last].trim_start().starts_with('#')) {
        last -= 1;
    }
    let mut block = expectation(case, got, column);
    // What stands before `expect:` (the dash of a case, say) stays.
    block[0] = format!("{}{}", &lines[first][..column], block[0].trim_start());
    lines.splice(first..=last, block);
    Ok(())
}

/// Where `expect:` begins in a line that begins with it.
fn expect_column(line: &str) -> Option<usize> {
    let column = line.find(|c: char| c != ' ' && c != '-')?;
    line[column..].starts_with("expect:").then_some(column)
}

fn expectation(case: &Case, got: &Got, column: usize) -> Vec<String> {
    let mut members = vec![("status".to_owned(), Value::from(got.status))];
    if let Some(outcome) = got.outcome {
        members.push(("outcome".to_owned(), outcome.word().into()));
    }
    let detail = got.detail.as_deref().unwrap_or_default();
    match &case.expect.detail {
        Some(expected) if detail.contains(expected.as_str()) => {
            members.push(("detail".to_owned(), expected.as_str().into()));
        }
        _ if !detail.is_empty() && got.outcome != Some(Outcome::Accepted) => {
            members.push(("detail".to_owned(), detail.into()));
        }
        _ => {}
    }
    if let Some(body) = case.expect.body.as_ref().and(got.body.as_ref()) {
        members.push(("body".to_owned(), body.as_str().into()));
    }
    if let Some(most) = case.expect.fuel_max {
        members.push(("fuel_max".to_owned(), most.max(got.fuel.unwrap_or_default()).into()));
    }
    if case.expect.events.is_some() || !got.events.is_empty() {
        let event = |event: &crate::cli::compare::GotEvent| {
            let key = event.key.as_ref().map(|key| ("key".to_owned(), Value::from(key.as_str())));
            let trigger = (event.trigger != case.target_ref)
                .then(|| ("trigger".to_owned(), Value::from(event.trigger.as_str())));
            let payload = ("payload".to_owned(), event.payload.clone());
            Value::Object(trigger.into_iter().chain(key).chain([payload]).collect())
        };
        members.push(("events".to_owned(), got.events.iter().map(event).collect()));
    }
    let mut lines = vec!["expect:".to_owned()];
    yaml(&Value::Object(members.into_iter().collect()), column + 2, &mut lines);
    lines
}

/// A value in YAML's block style, from this column on.
fn yaml(value: &Value, column: usize, lines: &mut Vec<String>) {
    let pad = " ".repeat(column);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                entry(&format!("{pad}{}:", scalar_text(name)), member, column + 2, lines);
            }
        }
        Value::Array(items) => {
            for item in items {
                let start = lines.len();
                entry(&format!("{pad}-"), item, column + 2, lines);
                // The first line of a mapping or list stands behind its dash.
                if is_block(item) {
                    let first = lines.remove(start + 1);
                    lines[start] = format!("{pad}- {}", first.trim_start());
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            lines.push(format!("{pad}{}", scalar(value)));
        }
    }
}

fn entry(head: &str, value: &Value, column: usize, lines: &mut Vec<String>) {
    if is_block(value) {
        lines.push(head.to_owned());
        yaml(value, column, lines);
    } else {
        lines.push(format!("{head} {}", scalar(value)));
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        other => other.to_string(),
    }
}

/// Bare where nothing could take it for anything but text; else as JSON writes it, which YAML reads too.
fn scalar_text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _./-".contains(&byte))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

/// What no YAML may hold as it is, JSON lets stand.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let hidden = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    json.chars().map(|c| if hidden(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_written_as_yaml_that_reads_the_same() {
        let value = json!({
            "a": "plain text", "b": "no", "c": "1.0", "d": "x: y", "": [], "e f": {}, "q\"": "tab\t", "odd": "\u{7f}\u{85}\u{feff}",
            "list": [1, {"x": 1.5, "y": [[], [2, {"z": null}]]}, "s", [["deep"]]], "n": 12_345_678_901_234_567_890_u64,
        });
        let mut lines = Vec::new();
        yaml(&value, 2, &mut lines);
        let read: Value = serde_saphyr::from_str(&lines.join("\n")).unwrap();
        assert_eq!(read, value, "{}", lines.join("\n"));
    }
}
