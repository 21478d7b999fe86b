//! `verify.jwt`: which algorithms and keys count, and what the claims must say.

use super::{
    diagnostics::Report,
    read::{self, Table},
    read_verify,
    yaml::{Node, Yaml},
};
use crate::verify::{
    digest::KeyDecoding,
    jwt::{Algorithm, Claim, Jwt, Keys},
    template::{self, Template},
};

pub(super) fn jwt(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Jwt> {
    let known = ["header", "query", "json", "form", "prefix", "alg", "secret", "key", "max_age", "claims"];
    let table = Table::read(node, "`jwt`", &known, report)?;
    let place = read_verify::place(&table, "token", report);
    let prefix = match table.get("prefix") {
        Some(node) => Some(read::string(node, "`prefix`", report)?.to_owned()),
        None => None,
    };
    let algorithms = table.require("alg", report).and_then(|node| {
        let items = read::list(node, "`alg`", report)?;
        let algorithm = |item: &Node, report: &mut Report| {
            Algorithm::from_name(read::word(item, "algorithm", &Algorithm::NAMES, report)?)
        };
        let read: Option<Vec<_>> = items.iter().map(|item| algorithm(item, report)).collect();
        let read = read?;
        let shared = read.contains(&Algorithm::Hs256);
        if read.is_empty() || (shared && read.len() > 1) {
            let help = "name the one that the sender uses".to_owned();
            report.fault(&node.at, "`alg` mixes a shared secret with public keys, or is empty", help);
            return None;
        }
        Some(read)
    });
    let secret = match table.get("secret") {
        Some(node) => read_verify::key_decoding(node, report)?,
        None => KeyDecoding::default(),
    };
    let keys = match table.get("key") {
        Some(node) => jwks(node, params, report)?,
        None => Keys::Secrets,
    };
    let max_age = match table.get("max_age") {
        Some(node) => Some(read::integer(node, "`max_age` (seconds)", 1..=86_400, report)?),
        None => None,
    };
    let claims = match table.get("claims") {
        Some(node) => claims(node, params, report)?,
        None => Vec::new(),
    };
    let algorithms = algorithms?;
    if algorithms.contains(&Algorithm::Hs256) && matches!(keys, Keys::Jwks(_)) {
        report.fault(
            table.at(),
            "HS256 has a shared secret, no set of public keys",
            "take `key` away".to_owned(),
        );
        return None;
    }
    let covers_body = claims.iter().any(|(_, claim)| match claim {
        Claim::Template(template) => template.covers_parts_of_body(),
        Claim::Const(_) => false,
    });
    if !covers_body && !read_verify::is_built_in(table.at()) {
        let help = "add a claim with a digest of the body where the sender has one".to_owned();
        report.warning(table.at(), "no claim covers the body: who steals a token can send anything", help);
    }
    Some(Jwt { place: place?, prefix, algorithms, secret, keys, max_age, claims })
}

/// `{jwks: URL}`, or `{jwks: param}` for the URL under `params.jwks`.
fn jwks(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Keys> {
    let table = Table::read(node, "`key`", &["jwks"], report)?;
    let node = table.require("jwks", report)?;
    let text = read::string(node, "`jwks`", report)?;
    let url = if text == "param" {
        match read_verify::param(params, "jwks") {
            Some(url) => url,
            // Without one the keys are secrets: a JWK set can be stored like any.
            None => return Some(Keys::Secrets),
        }
    } else {
        text.to_owned()
    };
    if !url.starts_with("https://") {
        let help = "write an https URL, or store the set as a secret and leave `key` out".to_owned();
        report.fault(&node.at, format!("`jwks`: `{url}` is no https URL"), help);
        return None;
    }
    Some(Keys::Jwks(url))
}

fn claims(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Vec<(String, Claim)>> {
    let Yaml::Map(entries) = &node.value else {
        report.fault(&node.at, format!("`claims` must be a mapping, this is {}", node.kind()), None);
        return None;
    };
    let claim = |value: &Node, report: &mut Report| match value.as_str() {
        Some(text) if text.contains('{') => read::parsed(value, "a claim", template::HELP, report, |text| {
            Template::parse(text, |name| read_verify::param(params, name))
        })
        .map(Claim::Template),
        _ => Some(Claim::Const(value.to_json())),
    };
    entries.iter().map(|(key, value)| Some((key.text.clone(), claim(value, report)?))).collect()
}
