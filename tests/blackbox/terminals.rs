//! Text from outside reaches terminals and the text log as text: it can't act on them.

use std::{path::Path, process::Command};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Process, TestDatabase, eventually, http, write};

/// Clears the screen, sets a title, turns the direction, begins a line; as C0 and as C1.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{7f}\u{202e}gpj\u{2028}\u{85}\r";

fn is_safe(text: &str) -> bool {
    text.chars().all(|character| {
        !matches!(character, '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

fn told(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hookpack"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(is_safe(&text), "{arguments:?}: {text:?}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_senders_write_does_not_act_on_a_terminal() {
    let (folder, database) = (TempDir::new().unwrap(), TestDatabase::new().await);
    write(&folder.path().join("packs/t/pack.yaml"), "ref: t\nname: t\nversion: 1.0.0\n");
    let trigger =
        "name: one\nref: t.one\ntype: webhook\npayload_schema: {additionalProperties: {type: string}}
webhook: {enabled: true, verify: none, on_invalid: quarantine, idempotency: {key: $.id}}\n";
    write(&folder.path().join("packs/t/triggers/one.yaml"), trigger);
    let refused = folder.path().join(format!("packs/{}", HOSTILE.trim_end()));
    write(&refused.join("pack.yaml"), &format!("ref: {HOSTILE:?}\n"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.env("HOOKPACK_DATABASE_URL", &database.url).env("HOOKPACK_MASTER_KEY", "5a".repeat(32));
    let host = Process::start_with(folder.path(), command);
    let url = host.api("/api/v1/triggers/t.one/webhooks").await.json();
    let url = url["data"]["webhook_url"].as_str().unwrap().to_owned();
    let send = async |body: serde_json::Value| {
        let request = http().post(&url).header("content-type", "application/json");
        let agent = http::HeaderValue::from_bytes("agent\u{9b}2J\u{202e}".as_bytes()).unwrap();
        request.header("user-agent", agent).body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(json!({"id": HOSTILE, "text": HOSTILE, HOSTILE: HOSTILE})).await, 200);
    assert_eq!(send(json!({HOSTILE: 1})).await, 202);
    let (address, token) = (format!("http://{}", host.address), host.token());
    let ask = |arguments: &[&str]| {
        told(folder.path(), &[arguments, &["--url", &address, "--token", &token]].concat())
    };
    ask(&["trigger", "add-key", "t.one", "--label", HOSTILE]);
    eventually("both rows", async || (ask(&["requests"]).matches("t.one").count() >= 2).then_some(())).await;
    for arguments in [
        &["events"][..],
        &["requests"],
        &["packs"],
        &["triggers"],
        &["quarantine", "list"],
        &["trigger", "show", "t.one"],
        &["audit"],
        &["stats"],
    ] {
        for output in ["text", "json"] {
            let text = ask(&[arguments, &["--output", output]].concat());
            assert!(!text.is_empty(), "{arguments:?}");
            if output == "json" {
                serde_json::from_str::<serde_json::Value>(&text)
                    .unwrap_or_else(|error| panic!("{error}: {text}"));
            }
        }
    }
    let id = |kind: &str| {
        let rows: serde_json::Value = serde_json::from_str(&ask(&[kind, "--output", "json"])).unwrap();
        rows["data"][0]["id"].as_str().unwrap().to_owned()
    };
    assert!(ask(&["events", &id("events")]).contains("\\u001b[2J"));
    ask(&["requests", &id("requests")]);
    told(folder.path(), &["pack", "check", "packs"]);
    let log = host.log();
    assert!(is_safe(&log), "{log:?}");
    host.kill();
}
