//! `mapping.wasm`: the component that a trigger names, made ready or refused with the reason.

use super::{
    diagnostics::Report,
    files::{Files, is_mapper},
    load::Reader,
    read,
    yaml::{Node, Yaml},
};
use crate::wasm::{Mapper, Refused};

pub(super) fn mapper(
    node: &Node,
    settings: Option<&Node>,
    trigger: &str,
    files: &Files,
    reader: Reader<'_>,
    report: &mut Report,
) -> Option<Mapper> {
    let file = read::string(node, "`wasm`", report)?;
    let settings = match settings.map(|node| (&node.value, node)) {
        None => Some("{}".to_owned()),
        Some((Yaml::Map(_), node)) => Some(node.to_json().to_string()),
        Some((_, node)) => {
            let help = "write names and values: `settings: {branch: main}`".to_owned();
            report.fault(&node.at, format!("`settings` must be a mapping, this is {}", node.kind()), help);
            None
        }
    };
    let Some(component) = files.all.get(file).filter(|_| is_mapper(file)) else {
        report.fault(&node.at, format!("there is no `{file}` in this pack"), missing(file, files));
        return None;
    };
    match reader.sandbox.load(component) {
        Ok(program) => Some(reader.sandbox.mapper(program, trigger, file.to_owned(), settings?)),
        Err(Refused { message, help }) => {
            report.fault(&node.at, format!("`{file}`: {message}"), help);
            None
        }
    }
}

/// Where the file may be, or how it is made.
fn missing(file: &str, files: &Files) -> String {
    let known: Vec<_> = files.all.keys().filter(|file| is_mapper(file)).map(String::as_str).collect();
    let stem = file.strip_prefix("mappers/").and_then(|name| name.strip_suffix(".wasm"));
    if let Some(stem) = stem.filter(|stem| files.path.join("mappers").join(stem).is_dir()) {
        let pack = if files.name.is_empty() { files.path.display().to_string() } else { files.name.clone() };
        format!("its source is in `mappers/{stem}/`: build it with `hookpack pack build {pack}`")
    } else if let Some(near) = super::diagnostics::nearest(file, &known) {
        format!("did you mean `{near}`?")
    } else {
        "write the path from the pack's folder to a component: `mappers/NAME.wasm`".to_owned()
    }
}
