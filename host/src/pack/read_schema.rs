//! JSON Schemas of a pack: inline or in its `schemas/`, with every `$ref` kept inside the pack.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{
    diagnostics::{Report, suggestion},
    files::Files,
    schema_cost,
    schema_walk::{self, TYPES},
    yaml::{self, Node, Yaml},
};
use crate::{
    config::Config,
    schema::{BASE, Cause, Documents, Invalid, Schema},
};

/// The schema files of a pack, read and checked once.
pub(super) struct Schemas<'a> {
    files: &'a Files,
    limits: &'a Config,
    documents: Documents,
    /// A fault in a file is told there, not at each `$ref` to it.
    sound: bool,
    /// What is compiled already, by the folder that it stands in and its text: triggers often share one file's schema.
    compiled: RefCell<HashMap<(String, String), Schema>>,
}

impl<'a> Schemas<'a> {
    pub(super) fn read(files: &'a Files, limits: &'a Config, report: &mut Report) -> Self {
        let before = report.faults.len();
        let mut nodes = BTreeMap::new();
        for file in files.all.keys().filter(|file| is_schema_file(file)) {
            let Some(source) = files.source(file, report) else { continue };
            if let Some(node) = yaml::parse(&source, limits, report) {
                nodes.insert(file.as_str(), node);
            }
        }
        let documents = nodes.iter().map(|(file, node)| (format!("{BASE}{file}"), node.to_json()));
        let documents = Documents(Arc::new(documents.collect::<HashMap<_, _>>()));
        let mut schemas = Self { files, limits, documents, sound: true, compiled: RefCell::default() };
        for (file, node) in &nodes {
            schemas.compile(node, file, report);
        }
        schemas.sound = report.faults.len() == before;
        schemas
    }

    /// Compiles a schema that stands at `node` of the pack's file `file`.
    pub(super) fn compile(&self, node: &Node, file: &str, report: &mut Report) -> Option<Schema> {
        if !matches!(node.value, Yaml::Map(_) | Yaml::Bool(_)) {
            let is_path = node.as_str().is_some_and(|text| text.contains('/'));
            let help = is_path.then(|| format!("write `{{$ref: {}}}`", node.as_str().unwrap_or_default()));
            report.fault(&node.at, format!("a JSON Schema must be a mapping, this is {}", node.kind()), help);
            return None;
        }
        let before = report.faults.len();
        let document = node.to_json();
        schema_walk::each(node, &mut |schema| {
            for at in ["$ref", "$dynamicRef"].into_iter().filter_map(|key| schema.get(key)) {
                self.check_ref(at, file, &document, report);
            }
        });
        schema_walk::doubts(node, report);
        if report.faults.len() > before {
            return None;
        }
        let steps_max = self.limits.yaml_nodes_max;
        if !schema_cost::is_bounded(&document, file, &self.documents, steps_max) {
            let help = "refer to a definition once where one value passes through it, and in short chains"
                .to_owned();
            let message = format!(
                "checking one value against this schema takes more than {steps_max} steps (yaml_nodes_max)"
            );
            report.fault(&node.at, message, help);
            return None;
        }
        // Another file of the same folder means the same by each `$ref`.
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let key = (folder.to_owned(), document.to_string());
        if let Some(schema) = self.compiled.borrow().get(&key) {
            return Some(schema.clone());
        }
        match Schema::compile(&document, file, &self.documents, self.limits.regex_bytes_max) {
            Ok(schema) => {
                self.compiled.borrow_mut().insert(key, schema.clone());
                Some(schema)
            }
            Err(_) if !self.sound => None,
            Err(invalid) => {
                tell(node, &invalid, report);
                None
            }
        }
    }

    fn check_ref(&self, node: &Node, file: &str, own: &Value, report: &mut Report) {
        // Another type is told by the dialect.
        let Some(reference) = node.as_str() else { return };
        let (path, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        if path.contains("://") || path.starts_with("//") {
            let help = "copy the schema into the pack's `schemas/` and refer to that file".to_owned();
            return report.fault(
                &node.at,
                format!("`$ref` to the URL `{path}`: a pack refers to its own files only"),
                help,
            );
        }
        let document = if path.is_empty() { Some(own) } else { self.document(path, node, file, report) };
        if let Some((message, help)) = document.and_then(|document| schema_walk::dangling(fragment, document))
        {
            report.fault(&node.at, format!("`$ref`: {message}"), help);
        }
    }

    /// The schema file that `path`, written in `file`, names; a fault when there is none.
    fn document(&self, path: &str, node: &Node, file: &str, report: &mut Report) -> Option<&Value> {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let Some(target) = resolved(file, &decoded) else {
            let help = "refer to a file of this pack, such as `../schemas/push.json`".to_owned();
            report.fault(&node.at, format!("`$ref` to `{path}` leads out of the pack"), help);
            return None;
        };
        let document = self.documents.0.get(&format!("{BASE}{target}"));
        if !self.files.all.contains_key(&target) {
            let known: Vec<_> =
                self.files.all.keys().map(String::as_str).filter(|file| is_schema_file(file)).collect();
            let help = if known.is_empty() {
                "add it under `schemas/`".to_owned()
            } else {
                suggestion(&target, &known)
            };
            report.fault(&node.at, format!("there is no file `{target}` in this pack"), help);
        } else if document.is_none() && self.sound {
            let help = "put schemas under `schemas/` as .yaml or .json".to_owned();
            report.fault(&node.at, format!("`{target}` is not a schema of this pack"), help);
        }
        document
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

/// Tells what is wrong with a schema: where it stands, what was expected there, what would be right.
fn tell(node: &Node, invalid: &Invalid, report: &mut Report) {
    let Invalid { pointer, cause } = invalid;
    let (parent, keyword) = pointer.rsplit_once('/').unwrap_or_default();
    let found = node.pointed_at(pointer);
    let message = match cause {
        Cause::Type(types) => {
            let found = node.at_pointer(pointer);
            let message = format!("`{keyword}` must be {}, this is {}", expected(types), found.kind());
            let help = instead(keyword, types, found);
            return report.fault(&found.at, format!("this is not a JSON Schema: {message}"), help);
        }
        Cause::Pattern(pattern) => return pattern_fault(node, pointer, pattern, report),
        Cause::Dialect(uri) => {
            let help =
                "leave `$schema` out, or write https://json-schema.org/draft/2020-12/schema".to_owned();
            let at = node.pointed_at(&format!("{pointer}/$schema"));
            return report.fault(
                at,
                format!("`{uri}` is no dialect of JSON Schema that is known here"),
                help,
            );
        }
        Cause::Document(uri) => {
            let help =
                "a `$ref` is relative to the `$id` above it: take the `$id` away, or the `$ref`".to_owned();
            let uri = uri.strip_prefix(BASE).unwrap_or(uri);
            return report.fault(
                found,
                format!("`$ref` to `{uri}`, which is not a schema of this pack"),
                help,
            );
        }
        Cause::Rule(_) if keyword == "type" || parent.ends_with("/type") => {
            return type_fault(node.at_pointer(pointer), report);
        }
        Cause::Rule(message) => message.clone(),
    };
    report.fault(found, format!("this is not a JSON Schema: {message}"), None);
}

/// The types in words: `a string`, `a boolean or a mapping`.
fn expected(types: &[String]) -> String {
    let word = |name: &String| match name.as_str() {
        "array" => "a list".to_owned(),
        "integer" => "a whole number".to_owned(),
        "object" => "a mapping".to_owned(),
        name => format!("a {name}"),
    };
    types.iter().map(word).collect::<Vec<_>>().join(" or ")
}

/// What was probably meant by a value of the wrong type.
fn instead(keyword: &str, types: &[String], found: &Node) -> Option<String> {
    let takes = |name: &str| types.iter().any(|one| one == name);
    match (&found.value, found.as_str()) {
        (_, Some(text)) if takes("object") && TYPES.contains(&text) => {
            Some(format!("write `{{type: {text}}}`"))
        }
        (_, Some(text)) if takes("array") => Some(format!("write it as a list: [{text}]")),
        (Yaml::List(_), _) if keyword == "items" => {
            Some("write one schema for all items, or `prefixItems` for one after the other".to_owned())
        }
        _ => None,
    }
}

fn type_fault(node: &Node, report: &mut Report) {
    let words = match &node.value {
        Yaml::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let wrong = words.iter().find(|word| !word.as_str().is_some_and(|text| TYPES.contains(&text)));
    let wrong = wrong.unwrap_or(node);
    let text = wrong.as_str().unwrap_or(wrong.kind());
    report.fault(&wrong.at, format!("`{text}` is no type of JSON"), suggestion(text, &TYPES));
}

fn pattern_fault(node: &Node, pointer: &str, pattern: &str, report: &mut Report) {
    // A pattern is a value, or (under `patternProperties`) a key.
    let key = node.at_pointer(pointer).key(pattern);
    let at = key.map_or_else(|| node.pointed_at(pointer), |key| &key.at);
    let lookaround = ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|sign| pattern.contains(sign));
    let backreference = (1..=9).any(|number| pattern.contains(&format!("\\{number}")));
    let help = if lookaround {
        "patterns run in linear time and have no lookaround; say it with `not` or a second `pattern`"
    } else if backreference {
        "patterns run in linear time and have no backreferences"
    } else {
        "close what is opened, and keep repetitions small: a pattern has to fit into regex_bytes_max"
    };
    report.fault(at, format!("`{pattern}` can't be used as a pattern"), help.to_owned());
}
