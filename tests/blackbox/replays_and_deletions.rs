//! What a replay of many leaves behind, and what deleting an event leaves.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::harness::{Setup, TestHost, write};

const TRIGGER: &str = "name: any\nref: one.any\ntype: webhook\npayload_schema: {required: [missing]}\n\
    webhook: {enabled: true, verify: none, on_invalid: quarantine, idempotency: {key: $.id}}\n";

async fn host_with(setup: impl FnOnce(Setup) -> Setup) -> TestHost {
    setup(Setup::new(&[("one/triggers/any.yaml", TRIGGER)])).start().await
}

async fn mend(host: &TestHost) {
    write(&host.packs().join("one/triggers/any.yaml"), &TRIGGER.replace("[missing]", "[n]"));
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
}

async fn metric(host: &TestHost, line: &str) -> Option<String> {
    let text = host.api("/metrics").await.text;
    text.lines().find_map(|found| found.strip_prefix(line)).map(|value| value.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_many_is_one_line_of_the_trail_and_shows_in_stats_and_metrics() {
    let host = host_with(|setup| setup).await;
    for number in 0..12 {
        assert_eq!(host.send("one.any", &format!(r#"{{"id": {number}, "n": {number}}}"#)).await.status, 202);
    }
    let open = r#"hookpack_quarantine_open{trigger="one.any"}"#;
    assert_eq!(metric(&host, open).await.as_deref(), Some("12"));
    mend(&host).await;

    let chunk =
        host.ask("POST", "/api/v1/quarantine/replay", json!({"limit": 10})).await.json()["data"].clone();
    assert_eq!((&chunk["replayed"], &chunk["left"]), (&json!(10), &json!(2)));
    let rest = json!({"cursor": chunk["next_cursor"], "trigger": "one.any"});
    assert_eq!(host.ask("POST", "/api/v1/quarantine/replay", rest).await.json()["data"]["replayed"], 2);
    assert_eq!(metric(&host, open).await, None);

    // The events come in the order in which the requests came.
    let stored: Vec<String> = host.events().await.into_iter().map(|(_, payload)| payload).collect();
    let sent: Vec<String> = (0..12).map(|number| format!(r#"{{"id": {number}, "n": {number}}}"#)).collect();
    assert_eq!(stored.len(), 12);
    assert!(sent.iter().all(|payload| stored.contains(payload)), "{stored:?}");

    let trail = host.api("/api/v1/audit?action=quarantine.replay_many").await.json()["data"].clone();
    let requests: Vec<&Value> =
        trail.as_array().unwrap().iter().map(|row| &row["detail"]["requests"]).collect();
    assert_eq!(requests, [&json!(2), &json!(10)]);
    assert_eq!((&trail[0]["subject"], &trail[1]["subject"]), (&json!("one.any"), &json!("all")));
    let single = host.api("/api/v1/audit?action=quarantine.replay").await.json()["data"].clone();
    assert_eq!(single, json!([]));

    let stats = host.api("/api/v1/stats?trigger=one.any").await.json()["data"]["total"].clone();
    assert_eq!((&stats["requests"], &stats["replayed"]), (&json!(12), &json!(12)));
    assert_eq!(stats["outcomes"], json!({"quarantined": 12}));
    assert!(stats["last_event_at"].is_string(), "{stats}");
    let (done, text) = tokio::task::block_in_place(|| hookpack(&host, &["stats"], &[]));
    assert!(done && text.contains("quarantined 12, replayed 12"), "{text}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_event_takes_its_kept_request_along_and_leaves_a_trail() {
    let host = host_with(|mut setup| {
        setup.config.kept_request_days = std::num::NonZeroU32::new(7);
        setup.with_file("one/triggers/any.yaml", TRIGGER.replace("[missing]", "[n]").as_bytes())
    })
    .await;
    let sent = host.send("one.any", r#"{"id": "a", "n": "ada@example.com"}"#).await;
    let id = sent.json()["data"]["event_id"].as_str().unwrap().to_owned();
    assert_eq!(host.count("select count(*) from hookpack.kept_request").await, 1);

    let write = host.token("write", None).await;
    let path = format!("/api/v1/events/{id}");
    assert_eq!(host.ask_as(&write, "DELETE", &path, Value::Null).await.status, 403);
    assert_eq!(host.ask("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(host.ask("DELETE", &path, Value::Null).await.status, 404);

    assert!(host.events().await.is_empty());
    assert_eq!(host.count("select count(*) from hookpack.kept_request").await, 0);
    let request_id = sent.header("x-request-id").unwrap();
    let row = host.api(&format!("/api/v1/requests/{request_id}")).await.json()["data"].clone();
    assert_eq!((&row["outcome"], &row["event_id"]), (&json!("accepted"), &Value::Null));
    // Its key is still claimed: the sender's retry brings it back no more.
    let retry = host.send("one.any", r#"{"id": "a", "n": "ada@example.com"}"#).await;
    assert_eq!(retry.header("idempotency-replayed"), Some("true"));
    assert!(host.events().await.is_empty());

    let trail = host.api("/api/v1/audit?action=event.delete").await.json()["data"].clone();
    assert_eq!((&trail[0]["subject"], &trail[0]["detail"]["trigger_ref"]), (&json!(id), &json!("one.any")));
    assert!(!trail.to_string().contains("ada"), "{trail}");
    host.stop().await;
}

/// `hookpack events rm` against this host.
fn remove(host: &TestHost, args: &[&str]) -> (bool, String) {
    hookpack(host, &["events", "rm"], args)
}

/// A command that asks this host, without a terminal.
fn hookpack(host: &TestHost, command: &[&str], args: &[&str]) -> (bool, String) {
    let token = fs::read_to_string(host.folder.path().join("data/admin-token")).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    process.args(command).args(["--url", &format!("http://{}", host.address), "--token", token.trim()]);
    let output = process.args(args).stdin(std::process::Stdio::null()).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_about_one_person_is_deleted_by_one_command() {
    let host = host_with(|setup| {
        setup.with_file("one/triggers/any.yaml", TRIGGER.replace("[missing]", "[n]").as_bytes())
    })
    .await;
    for (number, who) in ["ada", "bob", "ada"].iter().enumerate() {
        assert_eq!(host.send("one.any", &format!(r#"{{"id": {number}, "n": "{who}"}}"#)).await.status, 200);
    }
    let ada = r#"{"n": "ada"}"#;
    let (done, text) = tokio::task::block_in_place(|| remove(&host, &["--contains", ada]));
    assert!(!done && text.contains("2 events would be deleted for good: add --yes"), "{text}");
    let (done, text) = tokio::task::block_in_place(|| remove(&host, &["--yes"]));
    assert!(!done && text.contains("name the events"), "{text}");
    assert_eq!(host.events().await.len(), 3);
    let (done, text) = tokio::task::block_in_place(|| remove(&host, &["--contains", ada, "--yes"]));
    assert!(done && text.contains("2 events deleted"), "{text}");
    assert_eq!(host.events().await, [("one.any".to_owned(), r#"{"id": 1, "n": "bob"}"#.to_owned())]);
    host.stop().await;
}
