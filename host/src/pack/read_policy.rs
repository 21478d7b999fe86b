//! `webhook`: a trigger's policy, merged key by key from preset, pack and trigger (the later wins).

use std::time::Duration;

use http::StatusCode;

use super::{
    diagnostics::{Place, Report, suggestion},
    presets,
    read::{self, Table},
    read_handshake, read_verify,
    yaml::{Node, Yaml},
};
use crate::{
    config::RateLimit,
    policy::{Idempotency, KeySource, OnInvalid, Policy, Respond},
    selector::Selector,
    verify::Verify,
};

const KEYS: [&str; 13] = [
    "enabled",
    "payload_size_limit_kb",
    "ip_allowlist",
    "rate_limit",
    "preset",
    "verify",
    "secrets",
    "params",
    "keep_headers",
    "on_invalid",
    "idempotency",
    "respond",
    "handshake",
];

const PAYLOAD_SIZE_LIMIT_KB: u32 = 1024;
const WINDOW_HOURS: u32 = 72;

/// Reads what a trigger (or a pack's own endpoint) demands; `at` is where to point when nothing is written.
pub(super) fn policy(
    pack: Option<&Node>,
    trigger: Option<&Node>,
    at: &Place,
    report: &mut Report,
) -> Option<Policy> {
    let own = merged(at, [trigger, pack]);
    let preset = own.get("preset").and_then(|node| preset(node, report));
    let node = merged(at, [trigger, pack, preset.map(|preset| &preset.webhook)]);
    let table = Table::read(&node, "`webhook`", &KEYS, report)?;
    let verify = match table.get("verify") {
        Some(node) => read_verify::verify(node, table.get("params"), report),
        None => Some(Verify::Nothing),
    };
    let secrets = table.get("secrets").map_or(Some(Vec::new()), |node| secrets(node, report));
    let enabled = table.get("enabled").map_or(Some(false), |node| read::boolean(node, "`enabled`", report));
    if let (Some(verify), Some(secrets)) = (&verify, &secrets) {
        doubts(&table, verify, secrets, enabled == Some(true), report);
    }
    let kb = table.get("payload_size_limit_kb").map_or(Some(PAYLOAD_SIZE_LIMIT_KB), |node| {
        read::integer(node, "`payload_size_limit_kb`", 1..=102_400, report)
    });
    let ip_allowlist = table.get("ip_allowlist").map_or(Some(None), |node| networks(node, report).map(Some));
    let rate_limit = table.get("rate_limit").map_or(Some(None), |node| rate_limit(node, report).map(Some));
    let keep_headers = table.get("keep_headers").map_or(Some(Vec::new()), |node| keep_headers(node, report));
    let on_invalid = table.get("on_invalid").map_or(Some(OnInvalid::Reject), |node| {
        Some(match read::word(node, "value of `on_invalid`", &["reject", "quarantine"], report)? {
            "quarantine" => OnInvalid::Quarantine,
            _ => OnInvalid::Reject,
        })
    });
    let idempotency = table.get("idempotency").map_or(Some(None), |node| idempotency(node, report).map(Some));
    let handshakes =
        table.get("handshake").map_or(Some(Vec::new()), |node| read_handshake::handshakes(node, report));
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
                    if !entries.iter().any(|(taken, _): &(super::yaml::Key, Node)| taken.text == key.text) {
                        entries.push((key.clone(), node.clone()));
                    }
                }
            }
            Yaml::Null => {}
            _ => return layer.clone(),
        }
    }
    Node { at: at.clone(), value: Yaml::Map(entries) }
}

fn preset(node: &Node, report: &mut Report) -> Option<&'static presets::Preset> {
    if matches!(node.value, Yaml::Null) {
        return None;
    }
    let name = read::string(node, "`preset`", report)?;
    let found = presets::get(name);
    if found.is_none() {
        let help = format!("{}; or write `verify` out", suggestion(name, &presets::names()));
        report.fault(&node.at, format!("there is no preset `{name}`"), help);
    }
    found
}

/// Combinations that are wrong or look like a mistake.
fn doubts(table: &Table<'_>, verify: &Verify, secrets: &[String], enabled: bool, report: &mut Report) {
    let at = |key: &str| table.get(key).map_or_else(|| table.at().clone(), |node| node.at.clone());
    if verify.needs_secret() && secrets.is_empty() {
        let place = if table.get("preset").is_some() { at("preset") } else { at("verify") };
        let help = "add `secrets: [NAME]`, the name of a secret in the host's store".to_owned();
        report.fault(&place, "signatures are to be verified, and no secret is named", help);
    } else if !verify.needs_secret() && !secrets.is_empty() {
        let help = "add `preset` or `verify`, or take `secrets` away".to_owned();
        report.warning(&at("secrets"), "secrets are named, and nothing is verified with them", help);
    } else if table.get("verify").is_none() && enabled {
        let help = "add `preset` or `verify`; `verify: none` says that this is meant".to_owned();
        report.warning(&at("enabled"), "whoever knows the URL may send: nothing is verified", help);
    }
}

fn secrets(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    let name = |item: &Node, report: &mut Report| {
        let help = "a name begins with a letter and goes on with a-z, 0-9, _ and - (63 at most)";
        read::parsed(item, "a secret's name", help, report, |text| {
            if is_name(text) { Ok(text.to_owned()) } else { Err(format!("`{text}` can't be one")) }
        })
    };
    every(read::list(node, "`secrets`", report)?, report, name)
}

/// `^[a-z][a-z0-9_-]{0,62}$`
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

fn networks(node: &Node, report: &mut Report) -> Option<Vec<ipnet::IpNet>> {
    let network = |item: &Node, report: &mut Report| {
        let help = "write an address or a network: 192.0.2.7, 192.0.2.0/24, \"2001:db8::/32\"";
        read::parsed(item, "`ip_allowlist`", help, report, |text| {
            let net: Result<ipnet::IpNet, _> = text.parse();
            let net = net
                .or_else(|error| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from).map_err(|_| error));
            let net = net.map_err(|_| format!("`{text}` is no address or network"))?;
            if net.trunc() == net {
                Ok(net)
            } else {
                Err(format!("`{text}` has bits beside the network; did you mean `{}`?", net.trunc()))
            }
        })
    };
    let list = every(read::list(node, "`ip_allowlist`", report)?, report, network)?;
    if list.is_empty() {
        let help = "name the networks, or leave it out to allow all".to_owned();
        report.fault(&node.at, "`ip_allowlist` is empty: nobody could send", help);
        return None;
    }
    Some(list)
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
        let name: http::HeaderName = read::parsed(item, "`keep_headers`", "", report, |text| {
            text.parse().map_err(|_| format!("`{text}` can't be the name of a header"))
        })?;
        if ["authorization", "cookie", "proxy-authorization"].contains(&name.as_str()) {
            report.fault(
                &item.at,
                format!("`{name}` carries credentials and is never kept"),
                "take it away".to_owned(),
            );
            return None;
        }
        Some(name)
    };
    every(read::list(node, "`keep_headers`", report)?, report, header)
}

fn idempotency(node: &Node, report: &mut Report) -> Option<Idempotency> {
    let table = Table::read(node, "`idempotency`", &["key", "window_hours", "required"], report)?;
    let key = table.require("key", report).and_then(|node| {
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
    let hours = table
        .get("window_hours")
        .map_or(Some(WINDOW_HOURS), |node| read::integer(node, "`window_hours`", 1..=8760, report));
    let required =
        table.get("required").map_or(Some(false), |node| read::boolean(node, "`required`", report));
    Some(Idempotency {
        key: key?,
        window: Duration::from_secs(u64::from(hours?) * 3600),
        required: required?,
    })
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
        report.fault(table.at(), format!("`{content_type}` can't be a content type"), None);
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
