//! JSON Schemas of a pack: inline or in its `schemas/`, with every `$ref` kept inside the pack.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{
    diagnostics::{Place, Report, suggestion},
    files::Files,
    schema_cost::{self, ExcessKind},
    schema_walk::{self, Marks, TYPES},
    yaml::{self, Node, Yaml},
};
use crate::{
    config::Config,
    schema::{BASE, Cause, Documents, Invalid, PatternLimits, Patterns, Schema, Unusable},
};

/// The schema files of a pack, read and checked once.
pub(super) struct Schemas<'a> {
    files: &'a Files,
    limits: &'a Config,
    documents: Documents,
    /// The `$id` of each file that has one which is a URL.
    ids: HashMap<String, String>,
    /// By URI.
    marks: HashMap<String, Marks>,
    /// A fault in a file is told there, not at each `$ref` to it.
    sound: bool,
    /// What is compiled already, by the folder that it stands in and its text: triggers often share one file's schema.
    compiled: RefCell<HashMap<(String, String), Schema>>,
    patterns: Patterns,
    /// Schemas that those compiled so far reach.
    nodes: Cell<usize>,
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
        let id = |(file, node): (&&str, &Node)| {
            let id = node.get("$id").and_then(Node::as_str).filter(|id| is_url(id))?;
            Some(((*file).to_owned(), id.trim_end_matches('#').to_owned()))
        };
        let ids: HashMap<_, _> = nodes.iter().filter_map(id).collect();
        let mut documents = HashMap::new();
        for (file, node) in &nodes {
            let mut document = node.to_json();
            by_id(&mut document, file, &ids);
            if let Some(id) = ids.get(*file) {
                documents.entry(id.clone()).or_insert_with(|| document.clone());
            }
            documents.insert(format!("{BASE}{file}"), document);
        }
        let documents = Documents(Arc::new(documents));
        let patterns = Patterns::new(PatternLimits {
            bytes_max: limits.regex_bytes_max,
            states_max: limits.pack_pattern_states_max,
        });
        let compiled = RefCell::default();
        let marks = documents.0.iter().map(|(uri, document)| (uri.clone(), Marks::of(document))).collect();
        let nodes_seen = Cell::new(0);
        let mut schemas =
            Self { files, limits, documents, ids, marks, sound: true, compiled, patterns, nodes: nodes_seen };
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
        let mut document = node.to_json();
        let marks = Marks::of(&document);
        schema_walk::each(node, &mut |schema| {
            for at in ["$ref", "$dynamicRef"].into_iter().filter_map(|key| schema.get(key)) {
                self.check_ref(at, file, (&document, &marks), report);
            }
        });
        schema_walk::doubts(node, report);
        self.check_patterns(node, report);
        if report.faults.len() > before {
            return None;
        }
        by_id(&mut document, file, &self.ids);
        // Another file of the same folder means the same by each `$ref`.
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let key = (folder.to_owned(), document.to_string());
        if let Some(schema) = self.compiled.borrow().get(&key) {
            return Some(schema.clone());
        }
        self.check_cost(node, &document, file, report)?;
        match Schema::compile(&document, file, &self.documents, &self.patterns) {
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

    /// What one value can cost, and what all schemas of the pack cost together; a fault when it is too much.
    fn check_cost(&self, node: &Node, document: &Value, file: &str, report: &mut Report) -> Option<()> {
        let (steps_max, nodes_max) = (self.limits.yaml_nodes_max, self.limits.pack_schema_nodes_max);
        let excess = match schema_cost::check(document, file, &self.documents, steps_max) {
            Ok(nodes) => {
                self.nodes.set(self.nodes.get().saturating_add(nodes));
                if self.nodes.get() <= nodes_max {
                    return Some(());
                }
                let message = format!(
                    "with this one, the schemas of this pack reach more than {nodes_max} schemas, counting those \
                     behind references (pack_schema_nodes_max)"
                );
                report.fault(&node.at, message, None);
                return None;
            }
            Err(excess) => excess,
        };
        let message = match excess.kind {
            ExcessKind::Steps => format!(
                "checking one value against this schema takes more than {steps_max} steps (yaml_nodes_max)"
            ),
            ExcessKind::Height => {
                format!(
                    "this schema leads through more than {} references, one after the other",
                    schema_cost::HEIGHT_MAX
                )
            }
        };
        let help =
            "refer to a definition once where one value passes through it, and in short chains".to_owned();
        report.fault(node.pointed_at(&excess.pointer), message, help);
        None
    }

    /// Every expression that can't be used is told.
    fn check_patterns(&self, node: &Node, report: &mut Report) {
        let mut are_too_many = false;
        let mut check =
            |at: &Place, pattern: &str, usable: Result<(), Unusable>, report: &mut Report| match usable {
                Ok(()) => {}
                Err(Unusable::Invalid) => pattern_fault(at, pattern, report),
                // The others would be, too.
                Err(Unusable::TooMany) if are_too_many => {}
                Err(Unusable::TooMany) => {
                    are_too_many = true;
                    let message = format!(
                        "with this one, the patterns of this pack have more than {} states together \
                     (pack_pattern_states_max)",
                        self.limits.pack_pattern_states_max
                    );
                    report.fault(at, message, None);
                }
            };
        schema_walk::each(node, &mut |schema| {
            if let Some(pattern) = schema.get("pattern")
                && let Some(text) = pattern.as_str()
            {
                check(&pattern.at, text, self.patterns.check(text), report);
            }
            if let Some(Yaml::Map(entries)) = schema.get("patternProperties").map(|node| &node.value) {
                let texts: Vec<_> = entries.iter().map(|(key, _)| key.text.as_str()).collect();
                for (key, _) in entries {
                    check(&key.at, &key.text, self.patterns.check_name(&key.text), report);
                }
                self.patterns.note_names(&texts);
            }
        });
    }

    fn check_ref(&self, node: &Node, file: &str, own: (&Value, &Marks), report: &mut Report) {
        // Another type is told by the dialect.
        let Some(reference) = node.as_str() else { return };
        // What it is relative to depends on the `$id`s above it: the validator resolves it, within the pack.
        if own.1.has_id {
            return;
        }
        let (path, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        if is_url(path) && self.documents.0.contains_key(path) {
            return;
        }
        if is_url(path) {
            let help = "copy the schema into the pack's `schemas/` and refer to that file".to_owned();
            return report.fault(
                &node.at,
                format!("`$ref` to the URL `{path}`: a pack refers to its own files only"),
                help,
            );
        }
        let document = if path.is_empty() { Some(own) } else { self.document(path, node, file, report) };
        let dangling = |(document, marks)| schema_walk::dangling(fragment, document, marks);
        if let Some((message, help)) = document.and_then(dangling) {
            report.fault(&node.at, format!("`$ref`: {message}"), help);
        }
    }

    /// The schema file that `path`, written in `file`, names; a fault when there is none.
    fn document(&self, path: &str, node: &Node, file: &str, report: &mut Report) -> Option<(&Value, &Marks)> {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let Some(target) = resolved(file, &decoded) else {
            let help = "refer to a file of this pack, such as `../schemas/push.json`".to_owned();
            report.fault(&node.at, format!("`$ref` to `{path}` leads out of the pack"), help);
            return None;
        };
        let uri = format!("{BASE}{target}");
        let document = self.documents.0.get(&uri);
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
        document.zip(self.marks.get(&uri))
    }
}

fn is_url(reference: &str) -> bool {
    reference.contains("://") || reference.starts_with("//")
}

/// Has references to files that have an `$id` lead to that: what stands in such a file is relative to it, and not to the
/// file's place.
fn by_id(document: &mut Value, file: &str, ids: &HashMap<String, String>) {
    if !ids.is_empty() && !Marks::of(document).has_id {
        replace_references(document, file, ids);
    }
}

fn replace_references(value: &mut Value, file: &str, ids: &HashMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = value.as_str().filter(|_| name == "$ref" || name == "$dynamicRef");
                let split = path.map(|text| text.split_once('#').unwrap_or((text, "")));
                let id = split.filter(|(path, _)| !path.is_empty() && !is_url(path)).and_then(|(path, _)| {
                    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
                    ids.get(&resolved(file, &path)?)
                });
                match (id, split) {
                    (Some(id), Some((_, fragment))) => *value = Value::String(format!("{id}#{fragment}")),
                    _ => replace_references(value, file, ids),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace_references(item, file, ids)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The reference that leads to this document, as far as its last part tells.
fn reference_to<'a>(schema: &'a Node, uri: &str) -> Option<&'a Node> {
    let name = |uri: &str| uri.split('#').next().and_then(|uri| uri.rsplit('/').next()).map(str::to_owned);
    let mut found = None;
    schema_walk::each(schema, &mut |schema| {
        let references = ["$ref", "$dynamicRef"].into_iter().filter_map(|key| schema.get(key));
        let mut fitting = references.filter(|node| node.as_str().and_then(name) == name(uri));
        found = found.or_else(|| fitting.next());
    });
    found
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
        Cause::Pattern(pattern) => {
            // A pattern is a value, or (under `patternProperties`) a key.
            let key = node.at_pointer(pointer).key(pattern);
            let at = key.map_or_else(|| node.pointed_at(pointer), |key| &key.at);
            return pattern_fault(at, pattern, report);
        }
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
            let at = reference_to(node, uri).map_or(found, |reference| &reference.at);
            let uri = uri.strip_prefix(BASE).unwrap_or(uri);
            return report.fault(at, format!("`$ref` to `{uri}`, which is not a schema of this pack"), help);
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

fn pattern_fault(at: &Place, pattern: &str, report: &mut Report) {
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
