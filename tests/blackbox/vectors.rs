//! Requests signed by the senders' own SDKs, or by independent code: `tests/interop/vectors` says which. Every preset
//! accepts and refuses as they do.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use hookpack::{
    budget::Budget,
    pack::{self, Pack, Reader, presets},
    receive::{authenticate, wanted},
    registry::Target,
    request::Inbound,
    secret::SecretValue,
    wasm::{Purpose, Sandbox},
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::harness::{Setup, repository, write};

struct Vectors {
    preset: String,
    document: Value,
}

fn all() -> Vec<Vectors> {
    let folder = repository().join("tests/interop/vectors/data");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| Vectors {
        preset: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        document: serde_json::from_slice(&fs::read(path).unwrap()).unwrap(),
    };
    files.iter().map(read).collect()
}

/// A pack that has this preset and nothing of its own.
fn pack_of(vectors: &Vectors, folder: &Path) -> Arc<Pack> {
    let params = vectors.document["params"].as_object().cloned().unwrap_or_default();
    let params = Value::Object(params).to_string();
    let webhook = format!("webhook: {{preset: {}, secrets: [own], params: {params}}}\n", vectors.preset);
    write(&folder.join("pack.yaml"), &format!("ref: v\nname: v\nversion: 1.0.0\n{webhook}"));
    let trigger = "name: t\nref: v.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true}\n";
    write(&folder.join("triggers/t.yaml"), trigger);
    let config = Setup::new(&[]).config;
    let sandbox = Sandbox::new(&config, Purpose::Serve, None);
    let loaded = pack::load_alone(folder, "v", Reader { limits: &config, sandbox: &sandbox });
    let report = loaded.report();
    assert!(report.faults.is_empty() && report.warnings.is_empty(), "{}: {report:?}", vectors.preset);
    loaded.packs().next().unwrap().clone()
}

fn inbound(case: &Value, now: OffsetDateTime) -> Inbound {
    let text = |key: &str| case[key].as_str();
    let body = match (text("body"), text("body_base64")) {
        (Some(body), None) => body.as_bytes().to_vec(),
        (None, Some(body)) => BASE64_STANDARD.decode(body).unwrap(),
        _ => panic!("{case}: one body"),
    };
    let mut headers = http::HeaderMap::new();
    for header in case["headers"].as_array().unwrap() {
        let name: http::HeaderName = header[0].as_str().unwrap().parse().unwrap();
        headers.append(name, http::HeaderValue::from_str(header[1].as_str().unwrap()).unwrap());
    }
    Inbound {
        id: uuid::Uuid::nil(),
        received_at: now,
        source_ip: [127, 0, 0, 1].into(),
        method: text("method").unwrap().parse().unwrap(),
        path: text("path").unwrap().to_owned(),
        query: text("query").map(str::to_owned),
        headers,
        body: body.into(),
    }
}

/// `accepted`, or the outcome that it is refused with.
fn outcome(vectors: &Vectors, pack: &Arc<Pack>, case: &Value) -> String {
    let document = &vectors.document;
    let now = OffsetDateTime::parse(document["now"].as_str().unwrap(), &Rfc3339).unwrap();
    let secrets = match document["secrets"].as_array() {
        Some(values) => values.iter().map(|value| SecretValue::new(value.as_str().unwrap())).collect(),
        None => document["secret"].as_str().map(SecretValue::new).into_iter().collect::<Vec<_>>(),
    };
    let target = Target::Trigger(pack.triggers[0].clone());
    let request = inbound(case, now);
    let url = document["public_url"].as_str().unwrap();
    let budget = &Budget::default();
    let checked = wanted(&target, &request, url, budget).and_then(|wanted| {
        let fetched = wanted.as_deref().and_then(|url| document["pinned"][url].as_str());
        authenticate(&target, &request, url, fetched, &secrets, now, budget)
    });
    checked.map_or_else(|refusal| refusal.outcome.word().to_owned(), |()| "accepted".to_owned())
}

#[test]
fn every_preset_accepts_and_refuses_as_the_senders_own_code() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for vectors in all() {
        let folder = tempfile::tempdir().unwrap();
        let pack = pack_of(&vectors, folder.path());
        let cases = vectors.document["cases"].as_array().unwrap();
        for case in cases {
            let (expected, got) = (case["expect"].as_str().unwrap(), outcome(&vectors, &pack, case));
            if expected != got {
                wrong.push(format!("{}: {}: {got}, not {expected}", vectors.preset, case["name"]));
            }
        }
        let count =
            |accepted: bool| cases.iter().filter(|case| (case["expect"] == "accepted") == accepted).count();
        assert!(count(true) >= 1 && count(false) >= 5, "{}: {} cases", vectors.preset, cases.len());
        seen.insert(vectors.preset);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let without: Vec<_> = presets::names().into_iter().filter(|name| !seen.contains(*name)).collect();
    assert!(without.is_empty(), "presets without vectors: {without:?}");
}
