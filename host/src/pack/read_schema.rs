//! JSON Schemas of a pack: inline or in its `schemas/`, with every `$ref` kept inside the pack.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{
    diagnostics::{Report, suggestion},
    folder::Folder,
    yaml::{self, Node, Yaml},
};
use crate::{
    config::Config,
    schema::{BASE, Documents, Invalid, Schema},
};

/// The schema files of a pack, read and checked once.
pub(super) struct Schemas<'a> {
    folder: &'a Folder,
    limits: &'a Config,
    documents: Documents,
    /// A fault in a file is told there, not at each `$ref` to it.
    sound: bool,
}

impl<'a> Schemas<'a> {
    pub(super) fn read(folder: &'a Folder, limits: &'a Config, report: &mut Report) -> Self {
        let before = report.faults.len();
        let mut nodes = BTreeMap::new();
        for file in folder.files.keys().filter(|file| is_schema_file(file)) {
            let Some(source) = folder.source(file, report) else { continue };
            if let Some(node) = yaml::parse(&source, limits, report) {
                nodes.insert(file.as_str(), node);
            }
        }
        let documents = nodes.iter().map(|(file, node)| (format!("{BASE}{file}"), node.to_json()));
        let documents = Documents(Arc::new(documents.collect::<HashMap<_, _>>()));
        let mut schemas = Self { folder, limits, documents, sound: true };
        for (file, node) in &nodes {
            schemas.compile(node, file, report);
        }
        schemas.sound = report.faults.len() == before;
        schemas
    }

    /// Compiles a schema that stands at `node` of the pack's file `file`.
    pub(super) fn compile(&self, node: &Node, file: &str, report: &mut Report) -> Option<Schema> {
        if !matches!(node.value, Yaml::Map(_) | Yaml::Bool(_)) {
            report.fault(&node.at, format!("a JSON Schema must be a mapping, this is {}", node.kind()), None);
            return None;
        }
        let before = report.faults.len();
        self.check_refs(node, file, report);
        if report.faults.len() > before {
            return None;
        }
        match Schema::compile(&node.to_json(), file, &self.documents, self.limits.regex_bytes_max) {
            Ok(schema) => Some(schema),
            Err(_) if !self.sound => None,
            Err(invalid) => {
                let (message, help) = in_the_authors_words(node, &invalid);
                report.fault(node.pointed_at(&invalid.pointer), message, help);
                None
            }
        }
    }

    fn check_refs(&self, node: &Node, file: &str, report: &mut Report) {
        match &node.value {
            Yaml::Map(entries) => {
                for (key, child) in entries {
                    match child.as_str() {
                        Some(reference) if key.text == "$ref" => {
                            self.check_ref(reference, child, file, report);
                        }
                        _ => self.check_refs(child, file, report),
                    }
                }
            }
            Yaml::List(items) => items.iter().for_each(|item| self.check_refs(item, file, report)),
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::String(_) => {}
        }
    }

    fn check_ref(&self, reference: &str, node: &Node, file: &str, report: &mut Report) {
        let path = reference.split('#').next().unwrap_or_default();
        if path.is_empty() {
            return;
        }
        if path.contains("://") || path.starts_with("//") {
            let help = "copy the schema into the pack's `schemas/` and refer to that file".to_owned();
            return report.fault(
                &node.at,
                format!("`$ref` to the URL `{path}`: a pack refers to its own files only"),
                help,
            );
        }
        let Some(target) = resolved(file, path) else {
            let help = "refer to a file of this pack, such as `../schemas/push.json`".to_owned();
            return report.fault(&node.at, format!("`$ref` to `{path}` leads out of the pack"), help);
        };
        if !self.folder.files.contains_key(&target) {
            let known: Vec<_> =
                self.folder.files.keys().map(String::as_str).filter(|file| is_schema_file(file)).collect();
            let help = (!known.is_empty()).then(|| suggestion(&target, &known));
            report.fault(&node.at, format!("there is no file `{target}` in this pack"), help);
        } else if !self.documents.0.contains_key(&format!("{BASE}{target}")) && self.sound {
            let help = "put schemas under `schemas/` as .yaml or .json".to_owned();
            report.fault(&node.at, format!("`{target}` is not a schema of this pack"), help);
        }
    }
}

fn is_schema_file(file: &str) -> bool {
    let extension = std::path::Path::new(file).extension().and_then(|extension| extension.to_str());
    file.starts_with("schemas/") && matches!(extension, Some("json" | "yaml" | "yml"))
}

/// The file that `path`, written in `file`, names; `None` when it would leave the pack.
pub(super) fn resolved(file: &str, path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\\') {
        return None;
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn in_the_authors_words(node: &Node, invalid: &Invalid) -> (String, Option<String>) {
    let Invalid { pointer, message } = invalid;
    let rule = pointer.rsplit('/').next().unwrap_or_default();
    if message.ends_with("is not a \"regex\"") || message.contains("regex") {
        let written = node.to_json().pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let help = "patterns run in linear time: no lookaround, no backreferences, and repetitions of a bounded size";
        return (format!("`{written}` can't be used as a pattern"), Some(help.to_owned()));
    }
    if message.contains("is not valid under any of the schemas") && rule == "type" {
        let help = "the types are string, integer, number, boolean, array, object and null";
        return (format!("this is not a JSON Schema: {message}"), Some(help.to_owned()));
    }
    (format!("this is not a JSON Schema: {message}"), None)
}
