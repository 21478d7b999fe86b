//! `webhook`: a trigger's policy, merged key by key from preset, pack and trigger (the later wins).

use std::{net::IpAddr, time::Duration};

use http::StatusCode;
use ipnet::IpNet;

use super::{
    diagnostics::{Place, Report},
    presets,
    read::{self, Table},
    read_handshake, read_verify,
    yaml::{Node, Yaml},
};
use crate::{
    config::RateLimit,
    credentials::is_secret_header,
    policy::{DEFAULT_WINDOW, Idempotency, KeySource, OnInvalid, Policy, Respond},
    selector::Selector,
    verify::{
        Verify,
        handshake::{Handshake, Proof},
    },
};

pub(super) const KEYS: [&str; 14] = [
    "enabled",
    "payload_size_limit_kb",
    "ip_allowlist",
    "rate_limit",
    "preset",
    "verify",
    "secrets",
    "params",
    "keep_headers",
    "json_fields",
    "on_invalid",
    "idempotency",
    "respond",
    "handshake",
];

const PAYLOAD_SIZE_LIMIT_KB: u32 = 1024;

/// Reads what a trigger demands; `at` is where to point when nothing is written.
pub(super) fn of_trigger(
    pack: Option<&Node>,
    trigger: Option<&Node>,
    at: &Place,
    report: &mut Report,
) -> Option<Policy> {
    policy([None, trigger, pack], None, true, at, report)
}

/// Warns of a `webhook` whose `enabled` was left out everywhere: that is rarely meant.
pub(super) fn doubt_enabled(pack: Option<&Node>, trigger: Option<&Node>, report: &mut Report) {
    let mut written = [trigger, pack].into_iter().flatten();
    if written.clone().all(|layer| layer.get("enabled").is_none())
        && let Some(layer) = written.next()
    {
        let help = "write `enabled: true`, or `enabled: false` if an operator is to enable it".to_owned();
        report.warning(
            &layer.at,
            "`webhook` has no `enabled`: it takes no requests until it is enabled",
            help,
        );
    }
}

/// Reads what a pack's own endpoint demands. Without one, what its triggers inherit need not be complete.
pub(super) fn of_pack(
    pack: Option<&Node>,
    endpoint_enabled: bool,
    at: &Place,
    report: &mut Report,
) -> Option<Policy> {
    policy([None, None, pack], None, endpoint_enabled, at, report)
}

/// The same with what an operator wants on top; `trigger` is none for a pack's own endpoint, whose `owner_ref` is the
/// pack's.
pub(super) fn of_operator(
    owner_ref: &str,
    operator: &Node,
    trigger: Option<&Node>,
    pack: Option<&Node>,
    at: &Place,
    report: &mut Report,
) -> Option<Policy> {
    policy([Some(operator), trigger, pack], Some(owner_ref), true, at, report)
}

/// Which layer a key's value comes from: `operator`, `pack`, `preset` or `default`; and the value as it is written.
pub(super) fn source_of(
    key: &str,
    [operator, trigger, pack]: [Option<&Node>; 3],
) -> (&'static str, Option<Node>) {
    let own = |(word, layer): (&'static str, Option<&Node>)| Some((word, Some(layer?.get(key)?.clone())));
    let of_preset = |layers: &[Option<&Node>]| {
        let name = layers.iter().flatten().find_map(|layer| layer.get("preset"))?;
        Some(("preset", Some(presets::get(name.as_str()?)?.webhook.get(key)?.clone())))
    };
    own(("operator", operator))
        .or_else(|| of_preset(&[operator]))
        .or_else(|| [("pack", trigger), ("pack", pack)].into_iter().find_map(own))
        .or_else(|| of_preset(&[operator, trigger, pack]))
        .unwrap_or(("default", None))
}

/// The secret that a trigger or pack gets where an operator's preset wants one and none is named: its ref with `_` for
/// the dot, which is a name that belongs to its pack. `None` where that is too long for a name.
pub(super) fn secret_of(owner_ref: &str) -> Option<String> {
    Some(owner_ref.replace('.', "_")).filter(|name| is_name(name))
}

/// `operated`: whose override it is, where there is one.
fn policy(
    [operator, trigger, pack]: [Option<&Node>; 3],
    operated: Option<&str>,
    in_use: bool,
    at: &Place,
    report: &mut Report,
) -> Option<Policy> {
    let own = merged(at, [operator, trigger, pack]);
    let preset = own.get("preset").and_then(|node| preset(node, report));
    // What an operator names stands above all that the pack says; a pack's own preset below it.
    let is_operators = operator.is_some_and(|own| own.get("preset").is_some());
    let preset_layer = preset.map(|preset| &preset.webhook);
    let node = if is_operators {
        merged(at, [operator, preset_layer, trigger, pack])
    } else {
        merged(at, [operator, trigger, pack, preset_layer])
    };
    if let Yaml::Bool(_) = node.value {
        let help = "write `webhook: {enabled: true}`".to_owned();
        report.fault(&node.at, "`webhook` must be a mapping, this is a boolean", help);
        return None;
    }
    let table = Table::read(&node, "`webhook`", &KEYS, report)?;
    let params_are_read = table.get("params").is_none_or(|node| params_are_read(node, report));
    let verify = match table.get("verify") {
        Some(_) if !params_are_read => None,
        Some(node) => read_verify::verify(node, table.get("params"), report),
        None => Some(Verify::Nothing),
    };
    let unnamed = || match &verify {
        Some(verify) if is_operators && verify.needs_secret() => {
            operated.and_then(secret_of).into_iter().collect()
        }
        _ => Vec::new(),
    };
    let secrets = table.get("secrets").map_or_else(|| Some(unnamed()), |node| secrets(node, report));
    let enabled = table.get("enabled").map_or(Some(false), |node| read::boolean(node, "`enabled`", report));
    let preset_is_known = preset.is_some() || own.get("preset").is_none();
    if let (Some(verify), Some(secrets)) = (&verify, &secrets)
        && preset_is_known
        && in_use
    {
        doubts(&table, verify, secrets, enabled == Some(true), report);
    }
    let kb = table.get("payload_size_limit_kb").map_or(Some(PAYLOAD_SIZE_LIMIT_KB), |node| {
        read::integer(node, "`payload_size_limit_kb`", 1..=102_400, report)
    });
    let ip_allowlist = table.get("ip_allowlist").map_or(Some(None), |node| networks(node, report).map(Some));
    let rate_limit = table.get("rate_limit").map_or(Some(None), |node| rate_limit(node, report).map(Some));
    let keep_headers = table.get("keep_headers").map_or(Some(Vec::new()), |node| keep_headers(node, report));
    if let (Some(names), Some(verify)) = (&keep_headers, &verify)
        && let Some(token) = verify.token_place()
        && let Some(name) = names.iter().find(|name| token.is_header(name.as_str()))
        && let Some(node) = table.get("keep_headers")
    {
        let help = "take it away".to_owned();
        report.fault(&node.at, format!("`{name}` is the sender's secret, and is never kept"), help);
    }
    let json_fields = table.get("json_fields").map_or(Some(Vec::new()), |node| json_fields(node, report));
    let on_invalid = table.get("on_invalid").map_or(Some(OnInvalid::Reject), |node| {
        Some(match read::word(node, "value of `on_invalid`", &["reject", "quarantine"], report)? {
            "quarantine" => OnInvalid::Quarantine,
            _ => OnInvalid::Reject,
        })
    });
    let idempotency = table.get("idempotency").map_or(Some(None), |node| idempotency(node, report).map(Some));
    let handshakes = table
        .get("handshake")
        .map_or(Some(Vec::new()), |node| read_handshake::handshakes(node, table.get("params"), report));
    if let (Some(handshakes), Some([])) = (&handshakes, secrets.as_deref())
        && handshakes.iter().any(|handshake| handshake.store.is_some())
    {
        let place = table.get("handshake").map_or_else(|| table.at().clone(), |node| node.at.clone());
        let help = "add `secrets: [NAME]`: the name under which it is kept".to_owned();
        report.fault(&place, "a handshake brings a secret, and no name is there for it", help);
    }
    let mut verify = verify;
    if let (Some(verify), Some(handshakes)) = (&mut verify, &handshakes) {
        let place = table.get("handshake").map_or_else(|| table.at().clone(), |node| node.at.clone());
        let computes = handshakes.iter().any(Handshake::computes);
        let by_signature = handshakes.iter().any(|handshake| matches!(handshake.proof, Proof::Signature));
        if computes && !verify.has_mac_key() {
            let help = "a MAC is made with the secret of `hmac`, `hash` or `token`".to_owned();
            report.fault(&place, "a handshake is to make a MAC, and there is no key for it", help);
        } else if computes {
            verify.refuse_challenges();
        }
        if by_signature && !verify.is_checked_at_once() {
            let help = "take `verify: signature` away, or let a `token` prove it".to_owned();
            report.fault(&place, "a handshake is to be signed, and nothing here can check that", help);
        }
    }
    let respond = table.get("respond").map_or(Some(None), |node| respond(node, report).map(Some));
    Some(Policy {
        enabled: enabled?,
        body_bytes_max: kb? as usize * 1024,
        ip_allowlist: ip_allowlist?,
        rate_limit: rate_limit?,
        preset: preset.map(|preset| preset.name.clone()),
        verify: verify?,
        secrets: secrets?,
        keep_headers: keep_headers?,
        json_fields: json_fields?,
        on_invalid: on_invalid?,
        idempotency: idempotency?,
        respond: respond?,
        handshakes: handshakes?,
    })
}

/// One mapping of many: of each key, the first layer that has it. A layer that is no mapping stands alone,
/// so that its fault is told.
fn merged<const N: usize>(at: &Place, layers: [Option<&Node>; N]) -> Node {
    let mut entries = Vec::new();
    for layer in layers.into_iter().flatten() {
        match &layer.value {
            Yaml::Map(own) => {
                for (key, node) in own {
                    if let ("params", Yaml::Map(more)) = (key.text.as_str(), &node.value)
                        && let Some((_, Node { value: Yaml::Map(known), .. })) = entries
                            .iter_mut()
                            .find(|(taken, _): &&mut (super::yaml::Key, Node)| taken.text == key.text)
                    {
                        // Each name by itself: a preset's params are what its own are not.
                        let fresh = |(name, _): &&(super::yaml::Key, Node)| {
                            !known.iter().any(|(taken, _)| taken.text == name.text)
                        };
                        let fresh: Vec<_> = more.iter().filter(fresh).cloned().collect();
                        known.extend(fresh);
                        continue;
                    }
                    if !entries.iter().any(|(taken, _): &(super::yaml::Key, Node)| taken.text == key.text) {
                        entries.push((key.clone(), node.clone()));
                    }
                }
            }
            Yaml::Null => {}
            _ => return layer.clone(),
        }
    }
    Node { at: at.clone(), value: Yaml::Map(entries), written: None }
}

fn preset(node: &Node, report: &mut Report) -> Option<&'static presets::Preset> {
    if matches!(node.value, Yaml::Null) {
        return None;
    }
    let name = read::string(node, "`preset`", report)?;
    let found = presets::get(name);
    if found.is_none() {
        report.fault(&node.at, format!("there is no preset `{name}`"), presets::suggest(name));
    }
    found
}

/// Whether `params` gives each name a text or number; faults are told.
fn params_are_read(node: &Node, report: &mut Report) -> bool {
    let Yaml::Map(entries) = &node.value else {
        let help = "name each value: `params: {webhook_id: WH-1}`".to_owned();
        report.fault(&node.at, format!("`params` must be a mapping, this is {}", node.kind()), help);
        return false;
    };
    let wrong = entries.iter().find(|(_, node)| !matches!(node.value, Yaml::String(_) | Yaml::Number(_)));
    if let Some((key, node)) = wrong {
        let message =
            format!("`{}` of `params` must be a string or a number, this is {}", key.text, node.kind());
        report.fault(&node.at, message, None);
    }
    wrong.is_none()
}

/// Combinations that are wrong or look like a mistake.
fn doubts(table: &Table<'_>, verify: &Verify, secrets: &[String], enabled: bool, report: &mut Report) {
    let at = |key: &str| table.get(key).map_or_else(|| table.at().clone(), |node| node.at.clone());
    if verify.needs_secret() && secrets.is_empty() {
        let place = if table.get("preset").is_some() { at("preset") } else { at("verify") };
        let help = "add `secrets: [NAME]`, the name of a secret in the host's store".to_owned();
        report.fault(&place, "signatures are to be verified, and no secret is named", help);
    } else if !verify.verifies() && !secrets.is_empty() {
        let help = "add `preset` or `verify`, or take `secrets` away".to_owned();
        report.warning(&at("secrets"), "secrets are named, and nothing is verified with them", help);
    } else if table.get("verify").is_none() && enabled {
        let help = "add `preset` or `verify`; `verify: none` says that this is meant".to_owned();
        report.warning(&at("enabled"), "anyone who knows the URL may send: nothing is verified", help);
    }
}

fn secrets(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    let secret = |item: &Node, report: &mut Report| name(item, "`secrets`", "the name of a secret", report);
    every(read::list(node, "`secrets`", report)?, report, secret)
}

/// What a pack's ref and a secret's name are made of.
pub(super) fn name(node: &Node, key: &str, kind: &str, report: &mut Report) -> Option<String> {
    let text = read::string(node, key, report)?;
    if is_name(text) {
        return Some(text.to_owned());
    }
    let rule = "it begins with a letter and goes on with a-z, 0-9, _ and - (63 at most)";
    let small = text.to_lowercase();
    let help = if is_name(&small) { format!("write `{small}`") } else { rule.to_owned() };
    report.fault(&node.at, format!("{key}: `{text}` can't be {kind}"), help);
    None
}

/// `^[a-z][a-z0-9_-]{0,62}$`
pub fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

fn networks(node: &Node, report: &mut Report) -> Option<Vec<IpNet>> {
    let list = every(read::list(node, "`ip_allowlist`", report)?, report, network)?;
    if list.is_empty() {
        let help = "name the networks, or leave it out to allow all".to_owned();
        report.fault(&node.at, "`ip_allowlist` is empty: nobody could send", help);
        return None;
    }
    Some(list)
}

fn network(node: &Node, report: &mut Report) -> Option<IpNet> {
    let text = read::string(node, "`ip_allowlist`", report)?;
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let (message, help) = match (address.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(address), _) if prefix.is_none() => return Some(address.into()),
        (_, Ok(network)) if network.trunc() == network => return Some(network),
        (_, Ok(network)) => {
            (format!("`{text}` has bits beside the network"), format!("did you mean `{}`?", network.trunc()))
        }
        (Ok(address), Err(_)) => {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let help = format!("the prefix of such a network is a number from 0 to {most}");
            (format!("`{text}` is no network"), help)
        }
        (Err(_), Err(_)) => (
            format!("`{text}` is no address or network"),
            "write an address or a network: 192.0.2.7, 192.0.2.0/24, \"2001:db8::/32\"".to_owned(),
        ),
    };
    report.fault(&node.at, format!("`ip_allowlist`: {message}"), help);
    None
}

fn rate_limit(node: &Node, report: &mut Report) -> Option<RateLimit> {
    let table = Table::read(node, "`rate_limit`", &["requests", "window_seconds"], report)?;
    let requests = table
        .require("requests", report)
        .and_then(|node| read::integer(node, "`requests`", 1..=1_000_000_000, report));
    let window = table
        .require("window_seconds", report)
        .and_then(|node| read::integer(node, "`window_seconds`", 1..=86_400, report));
    RateLimit::new(requests?, window?)
}

fn keep_headers(node: &Node, report: &mut Report) -> Option<Vec<http::HeaderName>> {
    let header = |item: &Node, report: &mut Report| {
        let name = read::header(item, "`keep_headers`", report)?;
        if is_secret_header(name.as_str()) {
            report.fault(
                &item.at,
                format!("`{name}` sounds as if it carried a secret, and is never kept"),
                "take it away".to_owned(),
            );
            return None;
        }
        Some(name)
    };
    every(read::list(node, "`keep_headers`", report)?, report, header)
}

fn json_fields(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    let field =
        |item: &Node, report: &mut Report| read::string(item, "`json_fields`", report).map(str::to_owned);
    every(read::list(node, "`json_fields`", report)?, report, field)
}

fn idempotency(node: &Node, report: &mut Report) -> Option<Idempotency> {
    let table =
        Table::read(node, "`idempotency`", &["key", "event_key", "window_hours", "required"], report)?;
    let event_key = match table.get("event_key") {
        Some(node) => Some(event_key(node, report)?),
        None => None,
    };
    let written = match (table.get("key"), &event_key) {
        (None, Some(_)) => None,
        _ => Some(table.require("key", report)?),
    };
    let key = written.map_or(Some(KeySource::Nothing), |node| {
        if node.as_str() == Some("sha256({body})") {
            return Some(KeySource::BodyDigest);
        }
        let help = "name what tells deliveries apart: `header:NAME`, `$.id` or `sha256({body})`";
        let selector = read::parsed(node, "`key`", help, report, Selector::parse)?;
        if !selector.is_singular() {
            report.fault(&node.at, "`key` can select more than one value", help.to_owned());
            return None;
        }
        Some(KeySource::Select(selector))
    });
    let window = table.get("window_hours").map_or(Some(DEFAULT_WINDOW), |node| {
        let hours = read::integer(node, "`window_hours`", 1..=8760, report)?;
        Some(Duration::from_hours(hours.into()))
    });
    let required =
        table.get("required").map_or(Some(false), |node| read::boolean(node, "`required`", report));
    Some(Idempotency { key: key?, event_key, window: window?, required: required? })
}

/// A path into each event's own payload.
fn event_key(node: &Node, report: &mut Report) -> Option<Selector> {
    let help = "name the member that tells events apart: `$.id`";
    let selector = read::parsed(node, "`event_key`", help, report, Selector::parse)?;
    let is_of_event = matches!(selector, Selector::Json(_) | Selector::Attribute(_));
    if !is_of_event || !selector.is_singular() {
        let message = "`event_key` is one value of each event's payload";
        report.fault(&node.at, message, help.to_owned());
        return None;
    }
    Some(selector)
}

fn respond(node: &Node, report: &mut Report) -> Option<Respond> {
    let table = Table::read(node, "`respond`", &["status", "type", "body"], report)?;
    let status =
        table.get("status").map_or(Some(200), |node| read::integer(node, "`status`", 200..=299, report));
    let text = |key: &str, otherwise: &str, report: &mut Report| match table.get(key) {
        Some(node) => read::string(node, &format!("`{key}`"), report).map(str::to_owned),
        None => Some(otherwise.to_owned()),
    };
    let content_type = text("type", "text/plain", report)?;
    if content_type.parse::<http::HeaderValue>().is_err() {
        let at = table.get("type").map_or(table.at(), |node| &node.at);
        let help = "write it on one line, such as text/plain".to_owned();
        report.fault(at, format!("`{content_type}` can't be a content type"), help);
        return None;
    }
    let body = text("body", "", report)?;
    let status = StatusCode::from_u16(u16::try_from(status?).ok()?).ok()?;
    Some(Respond { status, content_type, body })
}

/// Reads every item, so that every fault is told; `None` when there was one.
fn every<T>(
    items: &[Node],
    report: &mut Report,
    mut read: impl FnMut(&Node, &mut Report) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<_> = items.iter().map(|item| read(item, report)).collect();
    read.into_iter().collect()
}
