//! `webhook.verify`: which scheme, over what, and where the signature and the timestamp lie.

use super::{
    diagnostics::{Report, nearest},
    read::{self, Table},
    read_policy,
    yaml::{Node, Yaml},
};
use crate::{
    selector::JsonPath,
    verify::{
        Verify,
        digest::{Encoding, Hash, KeyDecoding},
        hmac::Hmac,
        signature::{Place, SignatureRule, TimestampPlace, TimestampRule, Unit},
        template::{self, Template},
        token::Token,
    },
};

const SCHEMES: [&str; 2] = ["hmac", "token"];
/// Schemes of the grammar that this version can't verify yet; a pack that asks for one must not load.
const LATER: [&str; 5] = ["hash", "ed25519", "ecdsa", "rsa", "jwt"];

pub(super) fn verify(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Verify> {
    if node.as_str() == Some("none") {
        return Some(Verify::Nothing);
    }
    let Yaml::Map(entries) = &node.value else {
        let help =
            "write a mapping with one scheme, or `none` when only the secret URL is to protect it".to_owned();
        report.fault(
            &node.at,
            format!("`verify` must be a mapping or `none`, this is {}", node.kind()),
            help,
        );
        return None;
    };
    if let Some((key, _)) = entries.iter().find(|(key, _)| LATER.contains(&key.text.as_str())) {
        let help = format!("this version verifies with {}", SCHEMES.join(" or "));
        report.fault(&key.at, format!("the scheme `{}` is not supported yet", key.text), help);
        return None;
    }
    let mut schemes = entries.iter().filter(|(key, _)| SCHEMES.contains(&key.text.as_str()));
    match (schemes.next(), schemes.next()) {
        (Some((_, _)), Some((second, _))) => {
            report.fault(
                &second.at,
                "`verify` has more than one scheme",
                "keep exactly one of them".to_owned(),
            );
            None
        }
        (Some((key, _)), None) if key.text == "hmac" => hmac(node, params, report).map(Verify::Hmac),
        (Some((_, place)), None) => {
            Table::read(node, "`verify` with `token`", &["token"], report)?;
            token(place, report).map(Verify::Token)
        }
        (None, _) => {
            let misspelt = entries.iter().find_map(|(key, _)| Some((key, nearest(&key.text, &SCHEMES)?)));
            let (at, message, help) = match misspelt {
                Some((key, scheme)) => (
                    &key.at,
                    format!("the scheme `{}` is not known", key.text),
                    format!("did you mean `{scheme}`?"),
                ),
                None => (
                    &node.at,
                    "`verify` has no scheme".to_owned(),
                    format!("add one of {}", SCHEMES.join(", ")),
                ),
            };
            report.fault(at, message, help);
            None
        }
    }
}

fn hmac(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Hmac> {
    let known = ["hmac", "secret", "signed", "signature", "timestamp"];
    let table = Table::read(node, "`verify` with `hmac`", &known, report)?;
    let hash = table.require("hmac", report).and_then(|node| hash(node, "hash function", report));
    let secret = match table.get("secret") {
        Some(node) => key_decoding(node, report),
        None => Some(KeyDecoding::default()),
    };
    let signed = table.require("signed", report).and_then(|node| {
        let template = read::parsed(node, "`signed`", template::HELP, report, |text| {
            Template::parse(text, |name| param(params, name))
        })?;
        if !template.covers_body() {
            let help = "add {body} or a digest of it, such as {sha256hex:body}".to_owned();
            report.fault(&node.at, "`signed` does not cover the body: anybody could change it", help);
            return None;
        }
        Some(template)
    });
    let signature = table.require("signature", report).and_then(|node| signature(node, report));
    let timestamp = match table.get("timestamp") {
        Some(node) => Some(timestamp(node, signed.as_ref(), signature.as_ref(), report)?),
        None => None,
    };
    if timestamp.is_none() && signed.as_ref().is_some_and(Template::has_timestamp) {
        let at = table.get("signed").map_or(table.at(), |node| &node.at);
        report.fault(
            at,
            "`signed` has {timestamp}, and nothing says where the timestamp lies",
            "add `timestamp: {header: …}`".to_owned(),
        );
        return None;
    }
    Some(Hmac { hash: hash?, secret: secret?, signed: signed?, signature: signature?, timestamp })
}

fn hash(node: &Node, what: &str, report: &mut Report) -> Option<Hash> {
    Hash::from_name(read::word(node, what, &Hash::NAMES, report)?)
}

fn encoding(node: &Node, report: &mut Report) -> Option<Encoding> {
    Encoding::from_name(read::word(node, "encoding", &Encoding::NAMES, report)?)
}

fn key_decoding(node: &Node, report: &mut Report) -> Option<KeyDecoding> {
    let table = Table::read(node, "`secret`", &["strip", "decode", "digest"], report)?;
    let mut decoding = KeyDecoding::default();
    if let Some(node) = table.get("strip") {
        decoding.strip = Some(read::string(node, "`strip`", report)?.to_owned());
    }
    if let Some(node) = table.get("decode") {
        let word = read::word(node, "decoding of a secret", &["utf8", "base64", "base64url", "hex"], report)?;
        decoding.decode = Encoding::from_name(word);
    }
    if let Some(node) = table.get("digest") {
        decoding.digest = Some(hash(node, "hash function", report)?);
    }
    Some(decoding)
}

fn signature(node: &Node, report: &mut Report) -> Option<SignatureRule> {
    let known = ["header", "query", "json", "split", "prefix", "encoding"];
    let table = Table::read(node, "`signature`", &known, report)?;
    let place = place(&table, "signature", report);
    let text = |key: &str, report: &mut Report| match table.get(key) {
        Some(node) => read::string(node, &format!("`{key}`"), report).map(|text| Some(text.to_owned())),
        None => Some(None),
    };
    let split = text("split", report)?;
    if split.as_deref() == Some("") {
        let at = table.get("split").map_or(table.at(), |node| &node.at);
        report.fault(at, "`split` is empty", "leave it out when there is one signature".to_owned());
        return None;
    }
    let prefix = text("prefix", report)?;
    let encoding = table.require("encoding", report).and_then(|node| encoding(node, report));
    Some(SignatureRule { place: place?, split, prefix, encoding: encoding? })
}

fn timestamp(
    node: &Node,
    signed: Option<&Template>,
    signature: Option<&SignatureRule>,
    report: &mut Report,
) -> Option<TimestampRule> {
    let known = ["header", "query", "json", "entry", "unit", "tolerance"];
    let table = Table::read(node, "`timestamp`", &known, report)?;
    let at = match table.get("entry") {
        Some(node) => {
            if signature.is_some_and(|rule| rule.split.is_none()) {
                let help = "add `split` to `signature`, for example `split: \",\"`".to_owned();
                report.fault(
                    &node.at,
                    "`entry` reads from a split signature, and `signature` has no `split`",
                    help,
                );
                return None;
            }
            TimestampPlace::Entry(read::string(node, "`entry`", report)?.to_owned())
        }
        None => TimestampPlace::At(place(&table, "timestamp", report)?),
    };
    let unit = match table.get("unit") {
        Some(node) => Unit::from_name(read::word(node, "unit of time", &Unit::NAMES, report)?)?,
        None => Unit::Seconds,
    };
    let tolerance = match table.get("tolerance") {
        Some(node) => Some(read::integer(node, "`tolerance` (seconds)", 1..=86_400, report)?),
        None => None,
    };
    // In the body it is covered with the body.
    let in_body = matches!(at, TimestampPlace::At(Place::Json(_)));
    if !in_body && signed.is_some_and(|template| !template.has_timestamp()) {
        let help = "add {timestamp} to `signed` as the sender does, or leave `timestamp` out".to_owned();
        report.fault(table.at(), "the signature does not cover the timestamp: anybody could renew it", help);
        return None;
    }
    Some(TimestampRule { place: at, unit, tolerance })
}

pub(super) fn token(node: &Node, report: &mut Report) -> Option<Token> {
    token_with(node, &["header", "query", "json", "prefix"], report)
}

/// A handshake's token may have a secret of its own: its name.
pub(super) fn handshake_token(node: &Node, report: &mut Report) -> Option<(Token, Option<String>)> {
    let token = token_with(node, &["header", "query", "json", "prefix", "secret"], report)?;
    let secret = match node.get("secret") {
        Some(node) => Some(read_policy::name(node, "`secret`", "the name of a secret", report)?),
        None => None,
    };
    Some((token, secret))
}

fn token_with(node: &Node, known: &[&str], report: &mut Report) -> Option<Token> {
    if let Some(name) = node.as_str() {
        let help = format!("say where it lies: `token: {{header: {name}}}`");
        report.fault(&node.at, "`token` must be a mapping, this is a string", help);
        return None;
    }
    let table = Table::read(node, "`token`", known, report)?;
    let prefix = match table.get("prefix") {
        Some(node) => Some(read::string(node, "`prefix`", report)?.to_owned()),
        None => None,
    };
    let place = place(&table, "token", report)?;
    if matches!(place, Place::HeaderGlob { .. }) {
        let at = table.get("header").map_or(table.at(), |node| &node.at);
        let help = "write the header's whole name".to_owned();
        report.fault(at, "a token lies in one header, not under a pattern of names", help);
        return None;
    }
    Some(Token { place, prefix })
}

/// Exactly one of `header`, `query` and `json`.
fn place(table: &Table<'_>, what: &str, report: &mut Report) -> Option<Place> {
    let mut places = ["header", "query", "json"].into_iter().filter_map(|key| Some((key, table.get(key)?)));
    let (Some((kind, node)), None) = (places.next(), places.next()) else {
        let help = "say where it lies: `header: NAME`, `query: NAME` or `json: $.path`".to_owned();
        report.fault(table.at(), format!("the {what} needs exactly one place"), help);
        return None;
    };
    match kind {
        "header" => {
            read::parsed(node, "`header`", read::HEADER_HELP, report, |text| match text.split_once('*') {
                Some((_, ends)) if ends.contains('*') => Err("one * is allowed".to_owned()),
                Some((begins, ends)) => Ok(Place::HeaderGlob {
                    begins: begins.to_ascii_lowercase(),
                    ends: ends.to_ascii_lowercase(),
                }),
                None => text
                    .parse()
                    .map(Place::Header)
                    .map_err(|_| format!("`{text}` can't be the name of a header")),
            })
        }
        "query" => read::string(node, "`query`", report).map(|name| Place::Query(name.to_owned())),
        _ => read::parsed(node, "`json`", read::PATH_HELP, report, |text| {
            let path = JsonPath::parse(text)?;
            if path.is_singular() {
                Ok(Place::Json(path))
            } else {
                Err(format!("`{text}` can select more than one value"))
            }
        }),
    }
}

fn param(params: Option<&Node>, name: &str) -> Option<String> {
    let node = params?.get(name)?;
    match &node.value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
