//! `webhook.verify`: which scheme, over what, and where the signature and the timestamp lie.

use super::{
    diagnostics::{Place as Spot, Report, nearest},
    read::{self, Table},
    read_jwt, read_policy,
    yaml::{Node, Yaml},
};
use crate::{
    selector::JsonPath,
    verify::{
        BodyDigest, Declared, QueryRule, Scheme, UrlForms, Verify,
        digest::{Encoding, Hash, KeyDecoding},
        hmac::{Hmac, Keying},
        public_key::{CertificateRule, Kind, PublicKeyRule, RsaHash, RsaKey},
        signature::{FormMember, Place, SignatureRule, Signing, TimestampPlace, TimestampRule, Unit},
        template::{self, Template},
        token::Token,
    },
};

const SCHEMES: [&str; 7] = ["hmac", "hash", "token", "ed25519", "ecdsa", "rsa", "jwt"];
/// Beside a scheme, what they all may have.
const COMMON: [&str; 4] = ["each", "body_digest", "url", "query"];
const SIGNING: [&str; 3] = ["signed", "signature", "timestamp"];

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
        (Some((key, value)), None) => declared(node, &key.text, value, params, report),
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

fn declared(
    node: &Node,
    scheme: &str,
    value: &Node,
    params: Option<&Node>,
    report: &mut Report,
) -> Option<Verify> {
    let keys = |own: &[&'static str]| [own, &COMMON].concat();
    let table = |what: &'static str, own: &[&'static str], report: &mut Report| {
        Table::read(node, what, &keys(own), report)
    };
    let read = match scheme {
        "hmac" => {
            table("`verify` with `hmac`", &["hmac", "secret", SIGNING[0], SIGNING[1], SIGNING[2]], report)
                .and_then(|table| digest(&table, "hmac", Keying::Keyed, params, report).map(Scheme::Hmac))
        }
        "hash" => {
            table("`verify` with `hash`", &["hash", "secret", SIGNING[0], SIGNING[1], SIGNING[2]], report)
                .and_then(|table| digest(&table, "hash", Keying::Plain, params, report).map(Scheme::Hmac))
        }
        "ed25519" => {
            table("`verify` with `ed25519`", &["ed25519", SIGNING[0], SIGNING[1], SIGNING[2]], report)
                .and_then(|table| {
                    let kind = key_decoding(value, report).map(Kind::Ed25519);
                    public_key(&table, kind, params, report)
                })
        }
        "ecdsa" => {
            table("`verify` with `ecdsa`", &["ecdsa", "key", SIGNING[0], SIGNING[1], SIGNING[2]], report)
                .and_then(|table| {
                    let kind = ecdsa(&table, report);
                    public_key(&table, kind, params, report)
                })
        }
        "rsa" => table("`verify` with `rsa`", &["rsa", "cert", SIGNING[0], SIGNING[1], SIGNING[2]], report)
            .and_then(|table| {
                let kind = rsa(&table, report);
                public_key(&table, kind, params, report)
            }),
        "jwt" => table("`verify` with `jwt`", &["jwt"], report)
            .and_then(|_| read_jwt::jwt(value, params, report).map(Scheme::Jwt)),
        _ => table("`verify` with `token`", &["token"], report)
            .and_then(|_| token(value, report).map(Scheme::Token)),
    };
    let table = Table::read(node, "`verify`", &all_keys(node), report)?;
    let each = match table.get("each") {
        Some(node) => Some(read::parsed(node, "`each`", read::PATH_HELP, report, JsonPath::parse)?),
        None => None,
    };
    let body_digest = match table.get("body_digest") {
        Some(node) => Some(body_digest(node, report)?),
        None => None,
    };
    let url = match table.get("url") {
        Some(node) => match read::word(node, "form of the URL", &["exact", "with-and-without-port"], report)?
        {
            "with-and-without-port" => UrlForms::WithAndWithoutPort,
            _ => UrlForms::Exact,
        },
        None => UrlForms::Exact,
    };
    let query = match table.get("query") {
        Some(node) => match read::word(node, "rule for the query", &["signed", "unsigned"], report)? {
            "unsigned" => QueryRule::Unsigned,
            _ => QueryRule::Signed,
        },
        None => QueryRule::Signed,
    };
    let scheme = read?;
    let declared = Declared { scheme, each, body_digest, url, query, refuses_challenges: false };
    sense(&declared, &table, report)?;
    Some(Verify::Declared(Box::new(declared)))
}

/// What `Table::read` has reported once is not to be reported again.
fn all_keys(node: &Node) -> Vec<&str> {
    match &node.value {
        Yaml::Map(entries) => entries.iter().map(|(key, _)| key.text.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// Whether a request can ever pass, and whether one that passes says anything.
fn sense(declared: &Declared, table: &Table<'_>, report: &mut Report) -> Option<()> {
    let signing = match &declared.scheme {
        Scheme::Hmac(rule) => &rule.signing,
        Scheme::PublicKey(rule) => &rule.signing,
        Scheme::Token(_) | Scheme::Jwt(_) => {
            if let (Some(_), Some(node)) = (&declared.body_digest, table.get("body_digest")) {
                let help =
                    "take it away, or let a claim have it: `claims: {body: \"{sha256hex:body}\"}`".to_owned();
                report.fault(&node.at, "nothing signs the digest of the body", help);
                return None;
            }
            return Some(());
        }
    };
    if let Some(TimestampRule { place: TimestampPlace::At(Place::Json(path)), .. }) = &signing.timestamp
        && !signing.signed.covers_body()
        && declared.body_digest.is_none()
        && !signing.signed.has_timestamp()
        && !signing.signed.has_json(path)
        && let Some(node) = table.get("timestamp")
    {
        let help =
            format!("add {{json:{}}} to `signed` as the sender does, or leave `timestamp` out", path.text());
        report.fault(&node.at, "the signature does not cover the timestamp: anybody could renew it", help);
        return None;
    }
    let at = |key: &str| table.get(key).map_or_else(|| table.at().clone(), |node| node.at.clone());
    let signed = &signing.signed;
    if declared.each.is_some() && signed.reads_body() {
        let help = "sign members of the item: {json:$.id}".to_owned();
        report.fault(&at("signed"), "each item of a batch would be checked over the whole body", help);
        return None;
    }
    if signed.has_movable_boundary() && !is_built_in(&at("signed")) {
        let help = "put the separator between them that the sender does, if it does".to_owned();
        report.warning(
            &at("signed"),
            "two parts stand side by side: text can be moved from one to the other, and the signature still fits",
            help,
        );
    }
    if declared.query == QueryRule::Unsigned && (!signed.has_path() || signed.has_whole_query()) {
        let help = "take `query` away".to_owned();
        report.warning(&at("query"), "`query` is for senders that sign {path} and leave the query out", help);
    }
    let covered = signed.covers_body() || declared.body_digest.is_some();
    if !covered && !signed.covers_parts_of_body() {
        let help = "add {body} or a digest of it, such as {sha256hex:body}".to_owned();
        report.fault(&at("signed"), "`signed` does not cover the body: anybody could change it", help);
        return None;
    }
    if !covered && declared.each.is_none() && !is_built_in(&at("signed")) {
        let help = "add {body} where the sender signs it".to_owned();
        report.warning(
            &at("signed"),
            "only parts of the body are signed: anybody could change the others",
            help,
        );
    }
    if let Some(rule) = &declared.body_digest {
        let is_signed = match &rule.place {
            Place::Query(name) => signed.has_url() || signed.has_query(name),
            Place::Header(name) => signed.has_header(name),
            Place::Json(path) => signed.has_json(path),
            Place::Headers(_) | Place::HeaderGlob { .. } | Place::Form(_) | Place::FormJson(_) => false,
        };
        if !is_signed {
            let help =
                "sign what it lies in: {url} for a query parameter, {header:NAME} for a header".to_owned();
            report.fault(&at("body_digest"), "the digest of the body is not signed itself", help);
            return None;
        }
    }
    if declared.url == UrlForms::WithAndWithoutPort && !signed.has_url() {
        let help = "take `url` away, or add {url} to `signed`".to_owned();
        report.warning(&at("url"), "`url` says what {url} stands for, and `signed` has none", help);
    }
    Some(())
}

/// Whether it stands in a preset of ours.
pub(super) fn is_built_in(at: &Spot) -> bool {
    at.source.name == super::presets::SOURCE
}

fn digest(
    table: &Table<'_>,
    key: &'static str,
    keying: Keying,
    params: Option<&Node>,
    report: &mut Report,
) -> Option<Hmac> {
    let hash = table.require(key, report).and_then(|node| {
        let hash = hash(node, "hash function", report)?;
        if hash == Hash::Sha1 && !is_built_in(&node.at) {
            let help = "use sha256 if the sender offers it".to_owned();
            report.warning(&node.at, "SHA-1 is broken for other uses and old for this one", help);
        }
        Some(hash)
    });
    let secret = match table.get("secret") {
        Some(node) => key_decoding(node, report),
        None => Some(KeyDecoding::default()),
    };
    let signing = signing(table, params, report);
    let at = table.get("signed").map_or_else(|| table.at().clone(), |node| node.at.clone());
    let signing = signing?;
    match (keying, signing.signed.has_secret()) {
        (Keying::Plain, false) => {
            let help = "add {secret} as the sender does: \"{secret}{body}\"".to_owned();
            report.fault(&at, "a `hash` without {secret} proves nothing: anybody can make one", help);
            return None;
        }
        (Keying::Keyed, true) => {
            let help = "take {secret} away: it is the key".to_owned();
            report.fault(&at, "{secret} is for `hash`", help);
            return None;
        }
        _ => {}
    }
    Some(Hmac { hash: hash?, keying, secret: secret?, signing })
}

fn public_key(
    table: &Table<'_>,
    kind: Option<Kind>,
    params: Option<&Node>,
    report: &mut Report,
) -> Option<Scheme> {
    let signing = signing(table, params, report)?;
    if signing.signed.has_secret() {
        let at = table.get("signed").map_or(table.at(), |node| &node.at);
        report.fault(at, "{secret} is for `hash`", "take {secret} away".to_owned());
        return None;
    }
    Some(Scheme::PublicKey(PublicKeyRule { kind: kind?, signing }))
}

/// `ecdsa: sha256`; `key: {decode: base64-spki|pem}` says in the author's words what is found out anyway.
fn ecdsa(table: &Table<'_>, report: &mut Report) -> Option<Kind> {
    let hash = table.require("ecdsa", report);
    read::word(hash?, "hash function of `ecdsa`", &["sha256"], report)?;
    if let Some(node) = table.get("key") {
        let key = Table::read(node, "`key`", &["decode"], report)?;
        if let Some(node) = key.get("decode") {
            read::word(node, "form of a key", &["base64-spki", "pem"], report)?;
        }
    }
    Some(Kind::Ecdsa)
}

fn rsa(table: &Table<'_>, report: &mut Report) -> Option<Kind> {
    let node = table.require("rsa", report)?;
    let hash = match &node.value {
        Yaml::Map(entries) => {
            let mut by = None;
            let mut hashes = Vec::new();
            for (key, value) in entries {
                if key.text == "by" {
                    by = Some(singular(value, "`by`", report)?);
                } else {
                    hashes.push((key.text.clone(), hash(value, "hash function", report)?));
                }
            }
            let (Some(by), false) = (by, hashes.is_empty()) else {
                let help = "write `rsa: {by: $.SignatureVersion, \"2\": sha256}`".to_owned();
                report.fault(&node.at, "`rsa` by a value needs `by` and a hash for each value", help);
                return None;
            };
            RsaHash::By(by, hashes)
        }
        _ => RsaHash::Always(hash(node, "hash function", report)?),
    };
    let key = match table.get("cert") {
        Some(node) => RsaKey::Certificate(certificate(node, report)?),
        None => RsaKey::Secret,
    };
    Some(Kind::Rsa { hash, key })
}

fn certificate(node: &Node, report: &mut Report) -> Option<CertificateRule> {
    let known = ["header", "query", "json", "form", "host", "path", "name"];
    let table = Table::read(node, "`cert`", &known, report)?;
    let place = place(&table, "certificate's URL", report);
    let pattern = |node: Option<&Node>, report: &mut Report| {
        let node = node?;
        let help = "write a regular expression for the whole of it: 'sns\\.[a-z0-9-]+\\.amazonaws\\.com'";
        read::parsed(node, "a pattern", help, report, |text| {
            let whole = regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 20).build();
            whole.map_err(|_| format!("`{text}` is no regular expression"))
        })
    };
    let (host, path) = (table.require("host", report), table.require("path", report));
    let at = host.map(|node| node.at.clone());
    let (host, path) = (pattern(host, report), pattern(path, report));
    if let (Some(host), Some(at)) = (&host, &at)
        && ["attacker.example", "a.attacker.example"].iter().any(|anybody| host.is_match(anybody))
    {
        let help = "name the sender's own hosts".to_owned();
        report.fault(at, "anybody could bring a certificate of their own: the pattern fits every host", help);
        return None;
    }
    let name = match table.get("name") {
        Some(node) => Some(pattern(Some(node), report)?),
        None => None,
    };
    Some(CertificateRule { place: place?, host: host?, path: path?, name })
}

fn body_digest(node: &Node, report: &mut Report) -> Option<BodyDigest> {
    let known = ["header", "query", "json", "form", "hash", "encoding"];
    let table = Table::read(node, "`body_digest`", &known, report)?;
    let place = place(&table, "digest", report);
    let hash = table.require("hash", report).and_then(|node| hash(node, "hash function", report));
    let encoding = table.require("encoding", report).and_then(|node| encoding(node, report));
    Some(BodyDigest { place: place?, hash: hash?, encoding: encoding? })
}

fn signing(table: &Table<'_>, params: Option<&Node>, report: &mut Report) -> Option<Signing> {
    let signed = table.require("signed", report).and_then(|node| {
        read::parsed(node, "`signed`", template::HELP, report, |text| {
            Template::parse(text, |name| param(params, name))
        })
    });
    let signature = table.require("signature", report).and_then(|node| signature(node, params, report));
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
    Some(Signing { signed: signed?, signature: signature?, timestamp })
}

fn singular(node: &Node, what: &str, report: &mut Report) -> Option<JsonPath> {
    read::parsed(node, what, read::PATH_HELP, report, |text| {
        let path = JsonPath::parse(text)?;
        if path.is_singular() { Ok(path) } else { Err(format!("`{text}` can select more than one value")) }
    })
}

fn hash(node: &Node, what: &str, report: &mut Report) -> Option<Hash> {
    Hash::from_name(read::word(node, what, &Hash::NAMES, report)?)
}

fn encoding(node: &Node, report: &mut Report) -> Option<Encoding> {
    Encoding::from_name(read::word(node, "encoding", &Encoding::NAMES, report)?)
}

pub(super) fn key_decoding(node: &Node, report: &mut Report) -> Option<KeyDecoding> {
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

/// A prefix may have `{param:NAME}` in it.
fn with_params(
    text: String,
    node: Option<&Node>,
    params: Option<&Node>,
    report: &mut Report,
) -> Option<String> {
    let Some((before, rest)) = text.split_once("{param:") else { return Some(text) };
    let found = rest.split_once('}').and_then(|(name, after)| Some((param(params, name)?, after)));
    if found.is_none()
        && let Some(node) = node
    {
        let help = "add `params: {NAME: value}`".to_owned();
        report.fault(&node.at, format!("`{text}`: there is no such name under `params`"), help);
    }
    found.map(|(value, after)| format!("{before}{value}{after}"))
}

/// One prefix, or a list of those that a sender may write: `["sha256=", ""]`.
fn prefixes(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<Vec<String>> {
    let one = std::slice::from_ref(node);
    let items = match &node.value {
        Yaml::List(items) => items.as_slice(),
        _ => one,
    };
    let prefix = |item: &Node, report: &mut Report| {
        let text = read::string(item, "`prefix`", report)?.to_owned();
        with_params(text, Some(item), params, report)
    };
    items.iter().map(|item| prefix(item, report)).collect()
}

fn signature(node: &Node, params: Option<&Node>, report: &mut Report) -> Option<SignatureRule> {
    let known = ["header", "query", "json", "form", "split", "prefix", "encoding"];
    let table = Table::read(node, "`signature`", &known, report)?;
    let place = place(&table, "signature", report);
    let split = match table.get("split") {
        Some(node) => Some(read::string(node, "`split`", report)?.to_owned()),
        None => None,
    };
    if split.as_deref() == Some("") {
        let at = table.get("split").map_or(table.at(), |node| &node.at);
        report.fault(at, "`split` is empty", "leave it out when there is one signature".to_owned());
        return None;
    }
    let prefixes = match table.get("prefix") {
        Some(node) => prefixes(node, params, report)?,
        None => Vec::new(),
    };
    let encoding = table.require("encoding", report).and_then(|node| encoding(node, report));
    Some(SignatureRule { place: place?, split, prefixes, encoding: encoding? })
}

fn timestamp(
    node: &Node,
    signed: Option<&Template>,
    signature: Option<&SignatureRule>,
    report: &mut Report,
) -> Option<TimestampRule> {
    let known = ["header", "query", "json", "form", "entry", "unit", "tolerance"];
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
    if !in_body && signed.is_some_and(|template| !template.may_have_timestamp()) {
        let help = "add {timestamp} to `signed` as the sender does, or leave `timestamp` out".to_owned();
        report.fault(table.at(), "the signature does not cover the timestamp: anybody could renew it", help);
        return None;
    }
    Some(TimestampRule { place: at, unit, tolerance })
}

pub(super) fn token(node: &Node, report: &mut Report) -> Option<Token> {
    token_with(node, &["header", "query", "json", "form", "prefix", "basic"], report)
}

/// A handshake's token may have a secret of its own: its name.
pub(super) fn handshake_token(node: &Node, report: &mut Report) -> Option<(Token, Option<String>)> {
    let token = token_with(node, &["header", "query", "json", "form", "prefix", "secret"], report)?;
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
    let basic = table.get("basic").map_or(Some(false), |node| read::boolean(node, "`basic`", report))?;
    let prefix = prefix.or_else(|| basic.then(|| "Basic ".to_owned()));
    Some(Token { place, prefix, basic })
}

/// Exactly one of `header`, `query`, `json` and `form`; or `form` and `json`, for JSON in a field of a form.
pub(super) fn place(table: &Table<'_>, what: &str, report: &mut Report) -> Option<Place> {
    let places: Vec<_> = ["header", "query", "json", "form"]
        .into_iter()
        .filter_map(|key| Some((key, table.get(key)?)))
        .collect();
    match places.as_slice() {
        [("header", node)] => header_place(node, report),
        [("query", node)] => read::string(node, "`query`", report).map(|name| Place::Query(name.to_owned())),
        [("form", node)] => read::string(node, "`form`", report).map(|name| Place::Form(name.to_owned())),
        [("json", node)] => singular(node, "`json`", report).map(Place::Json),
        [("json", json), ("form", form)] => {
            let field = read::string(form, "`form`", report)?.to_owned();
            let member = FormMember { field, path: singular(json, "`json`", report)? };
            Some(Place::FormJson(Box::new(member)))
        }
        _ => {
            let help =
                "say where it lies: `header: NAME`, `query: NAME`, `json: $.path` or `form: NAME`".to_owned();
            report.fault(table.at(), format!("the {what} needs exactly one place"), help);
            None
        }
    }
}

/// A name, a pattern of names with one `*`, or a list of names of which one is there.
fn header_place(node: &Node, report: &mut Report) -> Option<Place> {
    if let Yaml::List(items) = &node.value
        && !items.is_empty()
    {
        let names: Vec<_> = items.iter().map(|item| read::header(item, "`header`", report)).collect();
        return names.into_iter().collect::<Option<Vec<_>>>().map(Place::Headers);
    }
    read::parsed(node, "`header`", read::HEADER_HELP, report, |text| match text.split_once('*') {
        Some((_, ends)) if ends.contains('*') => Err("one * is allowed".to_owned()),
        Some((begins, ends)) => {
            Ok(Place::HeaderGlob { begins: begins.to_ascii_lowercase(), ends: ends.to_ascii_lowercase() })
        }
        None => {
            text.parse().map(Place::Header).map_err(|_| format!("`{text}` can't be the name of a header"))
        }
    })
}

pub(super) fn param(params: Option<&Node>, name: &str) -> Option<String> {
    let node = params?.get(name)?;
    node.text().filter(|_| !matches!(node.value, Yaml::Bool(_))).map(str::to_owned)
}
