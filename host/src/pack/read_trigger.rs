//! One file of `triggers/`: who is expected, what its payload looks like, what becomes of it.

use std::sync::Arc;

use super::{
    Declared, Trigger,
    diagnostics::{Place, Report},
    files::Files,
    load::{Manifest, Reader},
    read::{self, Table},
    read_mapping, read_policy,
    read_schema::Schemas,
    yaml,
};
use crate::{mapping::Mapping, matching::Match, selector::JsonPath};

const KEYS: [&str; 10] = [
    "name",
    "ref",
    "description",
    "type",
    "payload_schema",
    "split",
    "match",
    "webhook",
    "mapping",
    "event_schema",
];

/// A trigger, and where its ref stands.
pub(super) fn trigger(
    manifest: &Manifest,
    files: &Files,
    file: &str,
    schemas: &Schemas<'_>,
    reader: Reader<'_>,
    report: &mut Report,
) -> Option<(Trigger, Place)> {
    let faults_before = report.faults.len();
    let source = files.source(file, report)?;
    let node = yaml::parse(&source, reader.limits, report)?;
    let table = Table::read(&node, "a trigger", &KEYS, report)?;

    let name = table.require("name", report).and_then(|node| {
        let help = "a name begins with a letter and goes on with a-z, 0-9, _, - and . (127 at most)";
        read::parsed(node, "`name`", help, report, |text| {
            if is_trigger_name(text) {
                Ok(text.to_owned())
            } else {
                Err(format!("`{text}` can't be the name of a trigger"))
            }
        })
    });
    let reference = table.require("ref", report).and_then(|node| {
        let text = read::string(node, "`ref`", report)?;
        let expected = format!("{}.{}", manifest.reference.as_deref()?, name.as_deref()?);
        if text != expected {
            report.fault(
                &node.at,
                format!("`ref` is `{text}`, not <pack>.<name>"),
                format!("write `ref: {expected}`"),
            );
            return None;
        }
        Some((expected, node.at.clone()))
    });
    let kind = table
        .require("type", report)
        .and_then(|node| read::word(node, "type of trigger", &["webhook"], report));
    let description = table.get("description").map_or(Some(None), |node| {
        read::string(node, "`description`", report).map(|text| Some(text.to_owned()))
    });
    let schema = table.require("payload_schema", report).and_then(|node| schemas.compile(node, file, report));
    let split = table.get("split").map_or(Some(None), |node| {
        let help = "write the JSONPath of the list's members, for example \"$.events[*]\"";
        let path = read::parsed(node, "`split`", help, report, JsonPath::parse)?;
        if path.is_singular() {
            report.warning(&node.at, "`split` selects one value at most: nothing is split", help.to_owned());
        }
        Some(Some(path))
    });
    let matching = table
        .get("match")
        .map_or(Some(Match::default()), |node| read_mapping::matching(node, file, schemas, report));
    let policy =
        read_policy::of_trigger(manifest.webhook.as_ref(), table.get("webhook"), &source.start(), report);
    // A trigger without a ref does not load: its mapper is looked at all the same.
    let own_ref = reference.as_ref().map_or("", |(reference, _)| reference);
    let mapping = table
        .get("mapping")
        .map_or(Some(Mapping::Nothing), |node| read_mapping::mapping(node, own_ref, files, reader, report));
    let event_schema =
        table.get("event_schema").map_or(Some(None), |node| schemas.compile(node, file, report).map(Some));

    kind?;
    let (reference, at) = reference?;
    let (mut mapping, event_schema, policy) = (mapping?, event_schema?, policy?);
    // Beside a fault it would be noise.
    if report.faults.len() == faults_before {
        read_policy::doubt_enabled(manifest.webhook.as_ref(), table.get("webhook"), report);
    }
    if let (Mapping::Wasm(mapper), Some(_)) = (&mut mapping, &event_schema) {
        mapper.read_events = true;
    }
    let trigger = Trigger {
        reference,
        name: name?,
        pack_ref: manifest.reference.clone()?,
        pack_version: manifest.version.clone()?,
        pack_hash: manifest.content_hash,
        description: description?,
        file: file.to_owned(),
        schema: schema?,
        split: split?,
        matching: matching?,
        policy: Arc::new(policy),
        declared: Declared { webhook: table.get("webhook").cloned().map(Arc::new), start: source.start() },
        mapping,
        event_schema,
    };
    Some((trigger, at))
}

/// `^[a-z][a-z0-9_.-]{0,126}$`: the event types of senders have dots (`payment_intent.succeeded`).
fn is_trigger_name(text: &str) -> bool {
    text.len() <= 127
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte))
}
