//! `mapping` and `match`: how a trigger picks its requests and what it makes of them.

use super::{
    diagnostics::{Report, suggestion},
    files::Files,
    load::Reader,
    read::{self, Table},
    read_mapper,
    read_schema::Schemas,
    yaml::{Node, Yaml},
};
use crate::{
    mapping::{
        Mapping,
        fields::{Convert, Field, Select, Tree},
        template::{Builder, Built, Fault},
    },
    matching::{Condition, Line, Match},
    selector::Selector,
};

const KINDS: [&str; 3] = ["fields", "template", "wasm"];

pub(super) fn mapping(
    node: &Node,
    trigger: &str,
    files: &Files,
    reader: Reader<'_>,
    report: &mut Report,
) -> Option<Mapping> {
    let table = Table::read(node, "`mapping`", &["fields", "template", "wasm", "settings"], report)?;
    let Yaml::Map(entries) = &node.value else { return None };
    if let (Some(settings), None) = (table.get("settings"), table.get("wasm")) {
        let help = "take `settings` away, or write `{const: …}` where a field needs a fixed value".to_owned();
        report.fault(&settings.at, "`settings` are for `wasm` mappers", help);
    }
    let mut kinds = entries.iter().filter(|(key, _)| KINDS.contains(&key.text.as_str()));
    match (kinds.next(), kinds.next()) {
        (Some(_), Some((second, _))) => {
            report.fault(
                &second.at,
                "`mapping` has more than one kind",
                "keep exactly one of them".to_owned(),
            );
            None
        }
        (None, _) if table.is_misspelt(&KINDS) => None,
        (None, _) => {
            let help = format!("add one of {}, or take `mapping` away", KINDS.join(", "));
            report.fault(&node.at, "`mapping` has no kind", help);
            None
        }
        (Some((key, fields)), None) if key.text == "fields" => {
            if let Yaml::Map(_) = &fields.value {
                tree(fields, report).map(Mapping::Fields)
            } else {
                report.fault(
                    &fields.at,
                    format!("`fields` must be a mapping, this is {}", fields.kind()),
                    None,
                );
                None
            }
        }
        (Some((key, root)), None) if key.text == "template" => {
            let mut builder = Builder::new(reader.limits.template_fuel, reader.limits.event_bytes_max);
            let root = template(root, &mut builder, report)?;
            Some(Mapping::Template(builder.finish(root)))
        }
        (Some((_, file)), None) => {
            read_mapper::mapper(file, table.get("settings"), trigger, files, reader, report)
                .map(Mapping::Wasm)
        }
    }
}

fn tree(node: &Node, report: &mut Report) -> Option<Tree> {
    let Yaml::Map(entries) = &node.value else { return None };
    let read: Vec<_> =
        entries.iter().map(|(key, node)| Some((key.text.clone(), field(node, report)?))).collect();
    read.into_iter().collect::<Option<_>>().map(Tree)
}

fn field(node: &Node, report: &mut Report) -> Option<Field> {
    match &node.value {
        Yaml::String(text) if Selector::looks_like_one(text) => {
            let from = read::parsed(node, "a field", Selector::HELP, report, Selector::parse)?;
            let (text, from) = (text.clone(), vec![from]);
            Some(Field::Select(Select { text, from, default: None, required: false, convert: None }))
        }
        Yaml::String(text) => {
            doubt_constant(text, node, report);
            Some(Field::Const(node.to_json()))
        }
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => Some(Field::Const(node.to_json())),
        Yaml::List(items) => {
            let read: Vec<_> = items.iter().map(|item| field(item, report)).collect();
            read.into_iter().collect::<Option<_>>().map(Field::List)
        }
        Yaml::Map(_) if node.get("from").is_some() => select(node, report),
        Yaml::Map(entries) => match node.get("const") {
            Some(value) => {
                if let Some((other, _)) = entries.iter().find(|(key, _)| key.text != "const") {
                    let help = format!("take `{}` away", other.text);
                    report.fault(&other.at, "`const` stands alone: it is the field's value", help);
                    return None;
                }
                Some(Field::Const(value.to_json()))
            }
            None => tree(node, report).map(Field::Object),
        },
    }
}

/// A text that was probably meant to select something.
fn doubt_constant(text: &str, node: &Node, report: &mut Report) {
    let in_payload = ["payload.", "payload["].iter().any(|beginning| text.starts_with(beginning));
    let message = format!("`{text}` is stored as this very text");
    if text.contains("{{") || text.contains("{%") {
        let help = "write a selector such as `$.member`, or use `mapping: {template: …}`; `{const: …}` if the text is meant";
        report.warning(&node.at, message, help.to_owned());
    } else if in_payload || text == "payload" {
        let selector = text.replacen("payload", "$", 1);
        let help = format!("write `{selector}` to select it; `{{const: {text}}}` if the text is meant");
        report.warning(&node.at, message, help);
    }
}

fn select(node: &Node, report: &mut Report) -> Option<Field> {
    let table = Table::read(node, "a field with `from`", &["from", "default", "required", "as"], report)?;
    let from_node = table.require("from", report)?;
    let from = selectors(from_node, report);
    // `default: null` is a default; `get` would take it for none.
    let default = node.get("default").map(Node::to_json);
    let required =
        table.get("required").map_or(Some(false), |node| read::boolean(node, "`required`", report));
    let convert = match table.get("as") {
        Some(node) => {
            Some(Convert::from_name(read::word(node, "type to convert to", &Convert::NAMES, report)?)?)
        }
        None => None,
    };
    if required == Some(true) && default.is_some() {
        let help = "keep `required` or `default`".to_owned();
        report.fault(table.at(), "a field with a default is never missing, and this one is required", help);
        return None;
    }
    let text = match &from_node.value {
        Yaml::List(items) => items.iter().filter_map(Node::as_str).collect::<Vec<_>>().join(" or "),
        _ => from_node.as_str().unwrap_or_default().to_owned(),
    };
    Some(Field::Select(Select { text, from: from?, default, required: required?, convert }))
}

/// One selector, or a list of which the first that selects something counts.
fn selectors(node: &Node, report: &mut Report) -> Option<Vec<Selector>> {
    let one = |node: &Node, report: &mut Report| {
        read::parsed(node, "`from`", Selector::HELP, report, Selector::parse)
    };
    match &node.value {
        Yaml::List(items) if items.is_empty() => {
            report.fault(&node.at, "an empty list selects nothing", "name at least one selector".to_owned());
            None
        }
        Yaml::List(items) => items.iter().map(|item| one(item, report)).collect(),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::String(_) | Yaml::Map(_) => {
            Some(vec![one(node, report)?])
        }
    }
}

fn template(node: &Node, builder: &mut Builder, report: &mut Report) -> Option<Built> {
    match &node.value {
        Yaml::String(_) => {
            let built = builder.leaf(node.as_str().unwrap_or_default());
            let told = |Fault { message, known }| {
                let help = known.map_or_else(
                    || "write expressions as {{ payload.member }}; text around them is kept".to_owned(),
                    |(word, known)| suggestion(&word, known),
                );
                report.fault(&node.at, format!("`template`: {message}"), help);
            };
            built.map_err(told).ok()
        }
        Yaml::List(items) => {
            let read: Vec<_> = items.iter().map(|item| template(item, builder, report)).collect();
            read.into_iter().collect::<Option<_>>().map(Builder::list)
        }
        Yaml::Map(entries) => {
            let read: Vec<_> = entries
                .iter()
                .map(|(key, node)| Some((key.text.clone(), template(node, builder, report)?)))
                .collect();
            read.into_iter().collect::<Option<_>>().map(Builder::object)
        }
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => Some(Builder::constant(node.to_json())),
    }
}

pub(super) fn matching(node: &Node, file: &str, schemas: &Schemas<'_>, report: &mut Report) -> Option<Match> {
    let Yaml::Map(entries) = &node.value else {
        let help = "write one line a condition: `header:X-GitHub-Event: push`".to_owned();
        report.fault(&node.at, format!("`match` must be a mapping, this is {}", node.kind()), help);
        return None;
    };
    let mut lines = Vec::new();
    let mut whole = true;
    for (key, value) in entries {
        let selector = Selector::parse(&key.text).map_err(|message| {
            report.fault(&key.at, format!("`match`: {message}"), Selector::HELP.to_owned());
        });
        let condition = condition(value, file, schemas, report);
        match (selector, condition) {
            (Ok(selector), Some(condition)) => {
                lines.push(Line { text: key.text.clone(), selector, condition });
            }
            _ => whole = false,
        }
    }
    whole.then_some(Match(lines))
}

fn condition(node: &Node, file: &str, schemas: &Schemas<'_>, report: &mut Report) -> Option<Condition> {
    match &node.value {
        Yaml::Map(_) => schemas.compile(node, file, report).map(Condition::Satisfies),
        Yaml::List(items) if items.is_empty() => {
            report.fault(&node.at, "an empty list never matches", "name the values that do".to_owned());
            None
        }
        Yaml::List(items) => Some(Condition::AnyOf(items.iter().map(Node::to_constant).collect())),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::String(_) => {
            Some(Condition::Equals(node.to_constant()))
        }
    }
}
