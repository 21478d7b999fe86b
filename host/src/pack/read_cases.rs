//! Files of cases: `tests/*.yaml`, read and checked like the triggers that they are for.

use std::{net::IpAddr, path::Path, str::FromStr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{
    Pack,
    cases::{Case, CaseRequest, Expect, ExpectedEvent, Sign},
    diagnostics::{Report, suggestion},
    files::Files,
    read::{self, Table},
    read_schema,
    yaml::{self, Node, Yaml},
};
use crate::{config::Config, model::Outcome};

/// Reads every case of a pack; faults are reported like those of its triggers.
pub fn read(pack: &Pack, name: &str, limits: &Config, report: &mut Report) -> Vec<Case> {
    read_files(&pack.path, Some(pack), name, limits, report)
}

/// Tells the faults in the cases of a pack that is refused; which triggers it would have is not known.
pub fn check(path: &Path, name: &str, limits: &Config, report: &mut Report) {
    read_files(path, None, name, limits, report);
}

fn read_files(
    path: &Path,
    pack: Option<&Pack>,
    name: &str,
    limits: &Config,
    report: &mut Report,
) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let Some(files) = Files::read(path, name, limits, report) else { return cases };
    for file in files.all.keys() {
        if !is_case_file(&files, file, report) {
            continue;
        }
        let Some(source) = files.source(file, report) else { continue };
        let Some(node) = yaml::parse(&source, limits, report) else { continue };
        for case in case_file(pack, &files, file, &node, report) {
            match cases.iter().find(|other| other.name == case.name) {
                Some(_) => {
                    report.fault(
                        &case.at,
                        format!("the name `{}` is taken", case.name),
                        "a case's name is unique in its pack".to_owned(),
                    );
                }
                None => cases.push(case),
            }
        }
    }
    cases
}

/// Bodies lie beside the cases; but cases that would be overlooked are a fault.
fn is_case_file(files: &Files, file: &str, report: &mut Report) -> bool {
    let Some(name) = file.strip_prefix("tests/").filter(|name| !name.contains('/')) else { return false };
    if let Some(stem) = name.strip_suffix(".yml") {
        let help = format!("rename it to `{stem}.yaml`");
        report.fault(&files.place(file), "a file of cases ends in `.yaml`", help);
    }
    Path::new(name).extension().is_some_and(|extension| extension == "yaml")
}

fn case_file(pack: Option<&Pack>, files: &Files, file: &str, node: &Node, report: &mut Report) -> Vec<Case> {
    let Some(table) = Table::read(node, "a file of cases", &["trigger", "endpoint", "cases"], report) else {
        return Vec::new();
    };
    let Some(target_ref) = target(pack, &table, report) else { return Vec::new() };
    let Some(cases) = table.require("cases", report).and_then(|node| read::list(node, "`cases`", report))
    else {
        return Vec::new();
    };
    cases.iter().filter_map(|node| case(pack, files, file, &target_ref, node, report)).collect()
}

/// `trigger: REF` or `endpoint: PACK`, whichever is there.
fn target(pack: Option<&Pack>, table: &Table<'_>, report: &mut Report) -> Option<String> {
    match (table.get("trigger"), table.get("endpoint")) {
        (Some(node), None) => known_trigger(pack, node, report).map(str::to_owned),
        (None, Some(node)) => {
            let reference = read::string(node, "`endpoint`", report)?;
            let Some(pack) = pack else { return Some(reference.to_owned()) };
            if reference != pack.reference {
                let help = format!("write `endpoint: {}`", pack.reference);
                report.fault(&node.at, format!("`{reference}` is not this pack's ref"), help);
                return None;
            }
            if !pack.endpoint_enabled {
                let help = "add `endpoint: {enabled: true}` to `pack.yaml`".to_owned();
                report.warning(
                    &node.at,
                    "this pack has no URL of its own: its endpoint is not enabled",
                    help,
                );
            }
            Some(reference.to_owned())
        }
        _ => {
            let help =
                "add `trigger: REF` for a trigger's own URL, or `endpoint: REF` for the pack's".to_owned();
            report.fault(table.at(), "a file of cases names one URL to send to", help);
            None
        }
    }
}

fn known_trigger<'a>(pack: Option<&Pack>, node: &'a Node, report: &mut Report) -> Option<&'a str> {
    let reference = read::string(node, "`trigger`", report)?;
    if let Some(pack) = pack
        && pack.trigger(reference).is_none()
    {
        let known: Vec<_> = pack.triggers.iter().map(|trigger| trigger.reference.as_str()).collect();
        report.fault(
            &node.at,
            format!("this pack has no trigger `{reference}`"),
            suggestion(reference, &known),
        );
        return None;
    }
    Some(reference)
}

fn case(
    pack: Option<&Pack>,
    files: &Files,
    file: &str,
    target_ref: &str,
    node: &Node,
    report: &mut Report,
) -> Option<Case> {
    let table = Table::read(node, "a case", &["name", "request", "expect"], report)?;
    let name = table.require("name", report).and_then(|node| read::string(node, "`name`", report));
    let request = table.require("request", report).and_then(|node| request(files, file, node, report));
    let expect = table.require("expect", report).and_then(|node| expect(pack, node, report));
    Some(Case {
        name: name?.to_owned(),
        target_ref: target_ref.to_owned(),
        at: table.at().clone(),
        expect_at: table.get("expect").map_or_else(|| table.at().clone(), |node| node.at.clone()),
        request: request?,
        expect: expect?,
    })
}

fn request(files: &Files, file: &str, node: &Node, report: &mut Report) -> Option<CaseRequest> {
    let keys = ["method", "query", "headers", "json", "text", "file", "form", "sign", "tamper", "source_ip"];
    let table = Table::read(node, "`request`", &keys, report)?;
    let method = table.get("method").map_or(Some(Method::POST), |node| {
        read::parsed(node, "`method`", "write POST, GET or PUT", report, |text| {
            Method::from_str(text).map_err(|_| format!("`{text}` is no method of HTTP"))
        })
    });
    let query = table.get("query").map_or(Some(Vec::new()), |node| pairs(node, "`query`", report));
    let mut headers = HeaderMap::new();
    if let Some(node) = table.get("headers") {
        for (name, value) in pairs(node, "`headers`", report)? {
            let at = node.get(&name).map_or(&node.at, |node| &node.at);
            let (Ok(name), Ok(value)) = (HeaderName::from_str(&name), HeaderValue::from_str(&value)) else {
                let message = format!("`{name}: {value}` can't be a header");
                report.fault(at, message, read::HEADER_HELP.to_owned());
                return None;
            };
            headers.append(name, value);
        }
    }
    let (body, content_type) = body(files, file, &table, report)?;
    if let Some(content_type) = content_type {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    }
    let sign = table.get("sign").map_or(Some(Sign::Yes { secret: None, at: 0 }), |node| sign(node, report));
    let tamper = match table.get("tamper") {
        Some(node) => Some(read::string(node, "`tamper`", report)?.to_owned()),
        None => None,
    };
    let source_ip = table.get("source_ip").map_or(Some(IpAddr::from([127, 0, 0, 1])), |node| {
        read::parsed(node, "`source_ip`", "write an address: 192.0.2.7", report, |text| {
            text.parse().map_err(|_| format!("`{text}` is no address"))
        })
    });
    Some(CaseRequest {
        method: method?,
        query: query?,
        headers,
        body,
        sign: sign?,
        tamper,
        source_ip: source_ip?,
    })
}

/// The body, and the content type that it has unless the case says otherwise.
fn body(
    files: &Files,
    file: &str,
    table: &Table<'_>,
    report: &mut Report,
) -> Option<(Bytes, Option<&'static str>)> {
    let mut kinds =
        ["json", "text", "file", "form"].into_iter().filter_map(|key| Some((key, table.get(key)?)));
    let (kind, other) = (kinds.next(), kinds.next());
    if let Some((_, node)) = other {
        report.fault(&node.at, "a request has one body", "keep one of json, text, file and form".to_owned());
        return None;
    }
    match kind {
        None => Some((Bytes::new(), None)),
        Some(("json", node)) => Some((node.to_json().to_string().into(), Some("application/json"))),
        Some(("text", node)) => {
            Some((read::string(node, "`text`", report)?.to_owned().into(), Some("text/plain")))
        }
        Some(("form", node)) => {
            let pairs = fields(node, report)?;
            Some((
                crate::request::query_text(&pairs).unwrap_or_default().into(),
                Some("application/x-www-form-urlencoded"),
            ))
        }
        Some((_, node)) => {
            let path = read::string(node, "`file`", report)?;
            let found = read_schema::resolved(file, path).and_then(|file| files.all.get(&file));
            let Some(bytes) = found else {
                let help = "the path is relative to this file, and stays in the pack".to_owned();
                report.fault(&node.at, format!("there is no file `{path}` in this pack"), help);
                return None;
            };
            let is_json = Path::new(path).extension().is_some_and(|extension| extension == "json");
            Some((bytes.clone().into(), is_json.then_some("application/json")))
        }
    }
}

fn sign(node: &Node, report: &mut Report) -> Option<Sign> {
    if let Yaml::Bool(sign) = node.value {
        return Some(if sign { Sign::Yes { secret: None, at: 0 } } else { Sign::No });
    }
    if node.as_str().is_some() {
        let help = "write `false`, `true`, or how: `{secret: …, at: …}`".to_owned();
        report.fault(&node.at, "`sign` must be a boolean or a mapping, this is a string", help);
        return None;
    }
    let table = Table::read(node, "`sign`", &["secret", "at"], report)?;
    let secret = match table.get("secret") {
        Some(node) => Some(read::string(node, "`secret`", report)?.to_owned()),
        None => None,
    };
    let at = match table.get("at").map(|node| (&node.value, &node.at)) {
        None => 0,
        Some((Yaml::Number(number), _)) if number.as_i64().is_some_and(|at| at.abs() < 1 << 40) => {
            number.as_i64()?
        }
        Some((_, at)) => {
            let help = "write -600 for ten minutes ago".to_owned();
            report.fault(at, "`at` must be a number of seconds from now", help);
            return None;
        }
    };
    Some(Sign::Yes { secret, at })
}

const EXPECT_KEYS: [&str; 6] = ["status", "outcome", "events", "detail", "body", "fuel_max"];

fn expect(pack: Option<&Pack>, node: &Node, report: &mut Report) -> Option<Expect> {
    let table = Table::read(node, "`expect`", &EXPECT_KEYS, report)?;
    let status =
        table.require("status", report).and_then(|node| read::integer(node, "`status`", 100..=599, report));
    let outcome = match table.get("outcome") {
        Some(node) => {
            let words = Outcome::ALL.map(Outcome::word);
            Outcome::from_word(read::word(node, "outcome", &words, report)?)
        }
        None => None,
    };
    let events = match table.get("events") {
        Some(node) => {
            let items = read::list(node, "`events`", report)?;
            let events: Vec<_> = items.iter().map(|item| expected_event(pack, item, report)).collect();
            Some(events.into_iter().collect::<Option<_>>()?)
        }
        None => None,
    };
    let detail = match table.get("detail") {
        Some(node) => Some(read::string(node, "`detail`", report)?.to_owned()),
        None => None,
    };
    let body = match table.get("body") {
        Some(node) => Some(read::string(node, "`body`", report)?.to_owned()),
        None => None,
    };
    let fuel_max = match table.get("fuel_max").map(|node| (&node.value, &node.at)) {
        None => None,
        Some((Yaml::Number(number), _)) if number.as_u64().is_some() => number.as_u64(),
        Some((_, at)) => {
            let help = "write a whole number: what `pack test` shows, and some room".to_owned();
            report.fault(at, "`fuel_max` must be a number of fuel", help);
            return None;
        }
    };
    Some(Expect { status: u16::try_from(status?).ok()?, outcome, events, detail, body, fuel_max })
}

fn expected_event(pack: Option<&Pack>, node: &Node, report: &mut Report) -> Option<ExpectedEvent> {
    let table = Table::read(node, "an event", &["trigger", "payload", "includes", "key"], report)?;
    let text = |key: &str, report: &mut Report| match table.get(key) {
        Some(node) => read::string(node, &format!("`{key}`"), report).map(|text| Some(text.to_owned())),
        None => Some(None),
    };
    let trigger = text("trigger", report)?;
    if let Some(node) = table.get("trigger") {
        known_trigger(pack, node, report)?;
    }
    Some(ExpectedEvent {
        trigger,
        payload: node.get("payload").map(Node::to_json),
        includes: node.get("includes").map(Node::to_json),
        key: text("key", report)?,
    })
}

/// The fields of a form, where a list stands for a name that comes several times.
fn fields(node: &Node, report: &mut Report) -> Option<Vec<(String, String)>> {
    let Yaml::Map(entries) = &node.value else { return pairs(node, "`form`", report) };
    let mut fields = Vec::new();
    for (name, node) in entries {
        let values = match &node.value {
            Yaml::List(values) => values.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for value in values {
            fields.push((name.text.clone(), text(value, "`form`", report)?));
        }
    }
    Some(fields)
}

/// Names and values, where a number or boolean stands for its text.
fn pairs(node: &Node, what: &'static str, report: &mut Report) -> Option<Vec<(String, String)>> {
    let Yaml::Map(entries) = &node.value else {
        report.fault(&node.at, format!("{what} must be a mapping, this is {}", node.kind()), None);
        return None;
    };
    entries.iter().map(|(key, node)| Some((key.text.clone(), text(node, what, report)?))).collect()
}

fn text(node: &Node, what: &str, report: &mut Report) -> Option<String> {
    if node.text().is_none() {
        report.fault(&node.at, format!("a value in {what} is text, this is {}", node.kind()), None);
    }
    node.text().map(str::to_owned)
}
