//! `webhook.handshake`: how a sender makes sure of the URL, and what it is answered.

use http::Method;

use super::{
    diagnostics::Report,
    read::{self, Table},
    read_verify,
    yaml::{Key, Node, Yaml},
};
use crate::{
    selector::JsonPath,
    verify::handshake::{Body, Echo, EchoTree, HELP, Handshake, Proof, Respond, Wanted, When},
};

pub(super) fn handshakes(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Vec<Handshake>> {
    let items = read::list(node, "`handshake`", report)?;
    let read: Vec<_> = items.iter().map(|item| handshake(item, params, report)).collect();
    read.into_iter().collect()
}

fn echo(node: &Node, what: &str, params: Option<&Node>, report: &mut Report) -> Option<Echo> {
    read::parsed(node, what, HELP, report, |text| Echo::parse(text, |name| read_verify::param(params, name)))
}

fn handshake(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Handshake> {
    let known = ["when", "verify", "token", "store", "reject_status", "respond"];
    let table = Table::read(node, "a handshake", &known, report)?;
    let store = match table.get("store") {
        Some(node) => Some(store(node, params, report)?),
        None => None,
    };
    let when = table.require("when", report).and_then(|node| when(node, report));
    let proof = match (table.get("verify"), table.get("token")) {
        (None, None) => Some(Proof::Nothing),
        (Some(node), None) => {
            read::word(node, "proof of a handshake", &["signature"], report).map(|_| Proof::Signature)
        }
        (None, Some(node)) if node.get("equals").is_some() => equals(node, params, report),
        (None, Some(node)) => {
            read_verify::handshake_token(node, report).map(|(token, secret)| Proof::Token(token, secret))
        }
        (Some(_), Some(node)) => {
            report.fault(&node.at, "a handshake asks for one proof", "keep `verify` or `token`".to_owned());
            None
        }
    };
    let reject_status = match table.get("reject_status") {
        Some(node) => Some(read::integer(node, "`reject_status`", 400..=499, report)?),
        None => None,
    };
    let respond = table.require("respond", report).and_then(|node| respond(node, params, report));
    let reject_status = reject_status.and_then(|status| u16::try_from(status).ok());
    Some(Handshake { when: when?, proof: proof?, store, reject_status, respond: respond? })
}

/// `{secret: "{header:X-Hook-Secret}", once: true}`
fn store(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Echo> {
    let table = Table::read(node, "`store`", &["secret", "once"], report)?;
    let once = table.get("once").map_or(Some(true), |node| read::boolean(node, "`once`", report))?;
    if !once {
        let at = table.get("once").map_or(table.at(), |node| &node.at);
        let help = "write `once: true`: a secret is taken while there is none".to_owned();
        report.fault(at, "whoever asks could replace the secret", help);
        return None;
    }
    table.require("secret", report).and_then(|node| echo(node, "`secret`", params, report))
}

/// `{query: signature, equals: "{sha1hex-sorted:…}"}`
fn equals(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Proof> {
    let table = Table::read(node, "`token`", &["header", "query", "json", "form", "equals"], report)?;
    let place = read_verify::place(&table, "token", report);
    let expected = table.require("equals", report).and_then(|node| echo(node, "`equals`", params, report));
    Some(Proof::Equals(place?, expected?))
}

fn when(node: &Node, report: &mut Report) -> Option<When> {
    let table = Table::read(node, "`when`", &["method", "query", "header", "json"], report)?;
    let mut when = When::default();
    if let Some(node) = table.get("method") {
        let word = read::word(node, "method of a handshake", &["GET", "HEAD", "POST", "OPTIONS"], report)?;
        when.method = Method::from_bytes(word.as_bytes()).ok();
    }
    for (key, value) in entries(&table, "query", report)? {
        when.query.push((key.text.clone(), wanted(value, report)?));
    }
    for (key, value) in entries(&table, "header", report)? {
        let Ok(name) = key.text.parse() else {
            let message = format!("`{}` can't be the name of a header", key.text);
            report.fault(&key.at, message, read::HEADER_HELP.to_owned());
            return None;
        };
        when.headers.push((name, wanted(value, report)?));
    }
    for (key, value) in entries(&table, "json", report)? {
        let path = JsonPath::parse(&key.text).and_then(|path| {
            let many = format!("`{}` can select more than one value", key.text);
            if path.is_singular() { Ok(path) } else { Err(many) }
        });
        match path {
            Ok(path) => when.json.push((path, wanted(value, report)?)),
            Err(message) => {
                report.fault(&key.at, message, read::PATH_HELP.to_owned());
                return None;
            }
        }
    }
    if when.method.is_none() && when.query.is_empty() && when.headers.is_empty() && when.json.is_empty() {
        let help =
            "say what tells the handshake from a delivery: `method`, `query`, `header` or `json`".to_owned();
        report.fault(table.at(), "`when` is empty: every request would be a handshake", help);
        return None;
    }
    Some(when)
}

fn entries<'a>(table: &Table<'a>, key: &'static str, report: &mut Report) -> Option<&'a [(Key, Node)]> {
    match table.get(key) {
        None => Some(&[]),
        Some(Node { value: Yaml::Map(entries), .. }) => Some(entries),
        Some(node) => {
            report.fault(&node.at, format!("`{key}` must be a mapping, this is {}", node.kind()), None);
            None
        }
    }
}

fn wanted(node: &Node, report: &mut Report) -> Option<Wanted> {
    match &node.value {
        Yaml::String(text) if text == "*" => Some(Wanted::Anything),
        // An empty list is a value (Xero asks with one); any other names the values that will do.
        Yaml::List(items) if !items.is_empty() => {
            Some(Wanted::AnyOf(items.iter().map(Node::to_constant).collect()))
        }
        Yaml::Map(_) => {
            let help = "write the value, a list of values, or \"*\" for any".to_owned();
            report.fault(&node.at, "a condition of a handshake is no mapping", help);
            None
        }
        Yaml::Null => Some(Wanted::Absent),
        _ => Some(Wanted::Value(node.to_constant())),
    }
}

fn respond(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Respond> {
    let table = Table::read(node, "`respond`", &["status", "type", "headers", "body", "json"], report)?;
    let status =
        table.get("status").map_or(Some(200), |node| read::integer(node, "`status`", 200..=299, report))?;
    let mut headers = Vec::new();
    for (key, value) in entries(&table, "headers", report)? {
        let Ok(name) = key.text.parse() else {
            let message = format!("`{}` can't be the name of a header", key.text);
            report.fault(&key.at, message, read::HEADER_HELP.to_owned());
            return None;
        };
        headers.push((name, echo(value, "a header's value", params, report)?));
    }
    let (body, usual_type) = match (table.get("json"), table.get("body")) {
        (Some(_), Some(node)) => {
            report.fault(&node.at, "an answer has one body", "keep `json` or `body`".to_owned());
            return None;
        }
        (Some(node), None) => (Body::Json(tree(node, params, report)?), "application/json"),
        (None, Some(node)) => (Body::Text(echo(node, "`body`", params, report)?), "text/plain"),
        (None, None) => (Body::Text(Echo::parse("", |_| None).ok()?), "text/plain"),
    };
    let content_type = match table.get("type") {
        Some(node) => read::string(node, "`type`", report)?,
        None => usual_type,
    };
    Some(Respond {
        status: u16::try_from(status).ok()?,
        content_type: content_type.to_owned(),
        headers,
        body,
    })
}

fn tree(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<EchoTree> {
    match &node.value {
        Yaml::String(text) if text.contains('{') => echo(node, "`json`", params, report).map(EchoTree::Echo),
        Yaml::List(items) => {
            let read: Vec<_> = items.iter().map(|item| tree(item, params, report)).collect();
            read.into_iter().collect::<Option<_>>().map(EchoTree::List)
        }
        Yaml::Map(entries) => {
            let read: Vec<_> = entries
                .iter()
                .map(|(key, node)| Some((key.text.clone(), tree(node, params, report)?)))
                .collect();
            read.into_iter().collect::<Option<_>>().map(EchoTree::Object)
        }
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::String(_) => {
            Some(EchoTree::Const(node.to_json()))
        }
    }
}
