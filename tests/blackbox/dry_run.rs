//! Dry runs: every step's outcome and the mapped events, and not a trace of them afterwards.

use std::{fs, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    guests::echo,
    harness::{Answer, NOW, Process, SECRET, Setup, TestDatabase, TestHost, github_signature, repository},
};

const GITHUB: &str = "name: push\nref: t.push\ntype: webhook
payload_schema: {type: object, required: [ref], properties: {ref: {type: string}}}
match: {$.kind: [push, tag]}
webhook: {enabled: true, preset: github, secrets: [github_webhook], payload_size_limit_kb: 1, \
    rate_limit: {requests: 1, window_seconds: 60}}
mapping: {fields: {branch: {from: $.ref, required: true}, big: $.big, who: {from: $.who, required: true}}}\n";
const STRIPE: &str = "name: paid\nref: t.paid\ntype: webhook\npayload_schema: true
webhook: {enabled: false, preset: stripe, secrets: [stripe_webhook]}\n";
const SHUT: &str = "name: shut\nref: t.shut\ntype: webhook\npayload_schema: true
webhook: {enabled: true, preset: github, secrets: [nobody_has_it]}\n";
const HELLO: &str = "name: hello\nref: t.hello\ntype: webhook\npayload_schema: true
webhook:
  enabled: true
  preset: github
  secrets: [secret]
  handshake:
    - when: {json: {$.type: url_verification}}
      verify: signature
      respond: {type: text/plain, body: \"{json:$.challenge}\"}\n";
const KEPT: &str = "name: kept\nref: two.kept\ntype: webhook\npayload_schema: {type: object, required: [id]}
webhook: {on_invalid: quarantine}\n";
const OTHER: &str = "name: other\nref: two.other\ntype: webhook\npayload_schema: true\n";
const MAPPED: &str = "name: mapped\nref: two.mapped\ntype: webhook\npayload_schema: true
match: {$.mapper: true}\nmapping: {wasm: mappers/echo.wasm}\n";
const TWO: &str = "ref: two\nname: Two\nversion: 1.0.0\nendpoint: {enabled: true}
webhook: {verify: none, idempotency: {key: $.id}}\n";

async fn host() -> TestHost {
    let files = [
        ("t/triggers/push.yaml", GITHUB),
        ("t/triggers/paid.yaml", STRIPE),
        ("t/triggers/shut.yaml", SHUT),
        ("t/triggers/hello.yaml", HELLO),
        ("two/pack.yaml", TWO),
        ("two/triggers/kept.yaml", KEPT),
        ("two/triggers/other.yaml", OTHER),
        ("two/triggers/mapped.yaml", MAPPED),
    ];
    Setup::new(&files).with_file("two/mappers/echo.wasm", &echo()).start().await
}

async fn attempt(host: &TestHost, path: &str, request: Value) -> Value {
    let answer = host.ask("POST", &format!("/api/v1/{path}/test"), request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains(SECRET), "{}", answer.text);
    answer.json()["data"].clone()
}

fn signed(body: &str) -> Value {
    json!({"body": body, "headers": {"x-hub-signature-256": github_signature(body.as_bytes(), SECRET)}})
}

/// The step that failed, with its detail, and that nothing after it was done.
fn failed(told: &Value) -> (String, String) {
    let steps = told["steps"].as_array().unwrap();
    let at = steps.iter().position(|step| step["outcome"] == "failed");
    let at = at.unwrap_or_else(|| panic!("nothing failed: {told}"));
    assert!(steps[at + 1..].iter().all(|step| step["outcome"] == "skipped"), "{told}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&steps[at]["step"]), text(&steps[at]["detail"]))
}

fn outcome_of<'a>(told: &'a Value, step: &str) -> (&'a str, &'a str) {
    let steps = told["steps"].as_array().unwrap();
    let step = steps.iter().find(|told| told["step"] == step).unwrap();
    (step["outcome"].as_str().unwrap(), step["detail"].as_str().unwrap_or_default())
}

/// That no table has a row of it.
async fn assert_no_trace(host: &TestHost) {
    let rows = "select (select count(*) from hookpack.event) + (select count(*) from hookpack.request_log) \
        + (select count(*) from hookpack.quarantine) + (select count(*) from hookpack.rate_limit) \
        + (select count(*) from hookpack.audit) + (select count(*) from hookpack.secret)";
    assert_eq!(host.count(rows).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_request_passes_every_step_and_leaves_no_trace() {
    let host = host().await;
    let body = r#"{"kind": "push", "ref": "main", "big": 12345678901234567890.10, "who": "me"}"#;
    // More often than the rate limit allows: a dry run spends nothing of it.
    for _ in 0..3 {
        let told = attempt(&host, "triggers/t.push", signed(body)).await;
        assert_eq!(
            (&told["outcome"], &told["answer"]["status"]),
            (&json!("accepted"), &json!(200)),
            "{told}"
        );
        let steps: Vec<_> =
            told["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str()).collect();
        let order = "key address host_limits handshake open media body signature rate_limit decode match schema \
            mapping store";
        assert_eq!(steps, order.split_whitespace().map(Some).collect::<Vec<_>>());
        assert_eq!(outcome_of(&told, "signature"), ("passed", "authentic and fresh"));
        assert_eq!(outcome_of(&told, "mapping"), ("passed", "1 event"));
        let (outcome, limit) = outcome_of(&told, "rate_limit");
        assert_eq!(outcome, "skipped");
        assert!(limit.contains("1 in 60 s") && limit.contains("would be let through now"), "{limit}");
        assert_eq!(told["events"][0]["trigger_ref"], "t.push");
        assert_eq!(told["events"][0]["metadata"]["source_ip"], "127.0.0.1");
    }
    let text = host.ask("POST", "/api/v1/triggers/t.push/test", signed(body)).await.text;
    assert!(text.contains(r#"{"branch":"main","big":12345678901234567890.10,"who":"me"}"#), "{text}");
    assert_no_trace(&host).await;
    assert!(!host.api("/metrics").await.text.contains("trigger=\"t.push\""));

    // A real one spends the limit: then the dry run says how it stands.
    let real = host.post("t.push").header("x-hub-signature-256", github_signature(body.as_bytes(), SECRET));
    assert_eq!(real.body(body).send().await.unwrap().status(), 200);
    let told = attempt(&host, "triggers/t.push", signed(body)).await;
    assert_eq!(told["answer"]["status"], 200);
    assert!(outcome_of(&told, "rate_limit").1.contains("would hear 429 now, for 60 s"), "{told}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_step_that_fails_says_why_and_ends_it() {
    let host = host().await;
    let forged = json!({"body": "{}", "headers": [["x-hub-signature-256", "sha256=00"]]});
    let large = signed(&format!("{{\"ref\": \"{}\"}}", "x".repeat(1024)));
    for (trigger, request, status, outcome, step, why) in [
        ("t.push", forged, 401, "bad_signature", "signature", "signature"),
        ("t.push", large, 413, "too_large", "body", "1024 bytes"),
        ("t.push", signed("nothing"), 400, "undecodable", "decode", ""),
        ("t.push", signed(r#"{"kind": "other"}"#), 200, "ignored", "match", "`$.kind` does not match"),
        ("t.push", signed(r#"{"kind": "tag", "ref": 7}"#), 422, "schema_violation", "schema", "/ref"),
        ("t.push", signed(r#"{"kind": "tag", "ref": "x"}"#), 422, "mapping_failed", "mapping", "who"),
        ("t.push", json!({"method": "PUT", "body": "{}"}), 405, "bad_method", "media", ""),
        ("t.shut", signed("{}"), 503, "secret_missing", "open", "nobody_has_it"),
    ] {
        let told = attempt(&host, &format!("triggers/{trigger}"), request).await;
        assert_eq!(
            (&told["outcome"], &told["answer"]["status"]),
            (&json!(outcome), &json!(status)),
            "{told}"
        );
        let (at, detail) = failed(&told);
        assert_eq!(at, step, "{told}");
        assert!(detail.contains(why), "{detail}");
        assert_eq!(told["events"], json!([]));
    }
    let told = attempt(&host, "triggers/t.push", signed(r#"{"kind": "tag", "ref": 7}"#)).await;
    let problem: Value = serde_json::from_str(told["answer"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/ref");
    let unsigned = json!({"json": {"kind": "push", "ref": "x", "who": "me"}, "verify": false});
    let told = attempt(&host, "triggers/t.push", unsigned).await;
    assert_eq!(told["outcome"], "accepted", "{told}");
    assert_eq!(outcome_of(&told, "signature"), ("skipped", "left out, as asked"));
    assert_no_trace(&host).await;
    host.ask("POST", "/api/v1/triggers/t.push/webhooks/pause", Value::Null).await;
    let told = attempt(&host, "triggers/t.push", signed("{}")).await;
    assert_eq!((&told["outcome"], failed(&told).0.as_str()), (&json!("paused"), "open"));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn freshness_is_told_by_the_time_that_is_given() {
    let host = host().await;
    let at = NOW.unix_timestamp();
    let signature = github_signature(format!("{at}.{{}}").as_bytes(), SECRET).replace("sha256=", "");
    let request = json!({"body_base64": STANDARD.encode("{}"),
        "headers": {"stripe-signature": format!("t={at},v1={signature}"), "content-type": "application/json"}});
    let told = attempt(&host, "triggers/t.paid", request.clone()).await;
    assert_eq!(told["outcome"], "accepted", "{told}");
    // It is not enabled: who sends hears 404, who tries is told the rest.
    assert_eq!(outcome_of(&told, "key").0, "skipped");
    let mut late = request;
    late["at"] = json!("2026-11-22T10:06:00Z");
    let told = attempt(&host, "triggers/t.paid", late).await;
    assert_eq!((&told["outcome"], failed(&told).0.as_str()), (&json!("stale"), "signature"));
    assert_no_trace(&host).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_is_answered_and_ends_it() {
    let host = host().await;
    let told =
        attempt(&host, "triggers/t.hello", signed(r#"{"type": "url_verification", "challenge": "c"}"#)).await;
    assert_eq!((&told["outcome"], &told["answer"]["body"]), (&json!("handshake"), &json!("c")), "{told}");
    assert_eq!(outcome_of(&told, "handshake"), ("passed", "answered; nothing is stored"));
    assert_eq!(outcome_of(&told, "store").0, "skipped");
    assert_no_trace(&host).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packs_endpoint_tells_of_each_of_its_triggers() {
    let host = host().await;
    let told = attempt(&host, "packs/two", json!({"json": {"id": 1, "mapper": true}})).await;
    let refs: Vec<_> = told["events"].as_array().unwrap().iter().map(|event| &event["trigger_ref"]).collect();
    assert_eq!(refs.len(), 3, "{told}");
    assert!(
        ["two.kept", "two.other", "two.mapped"].iter().all(|name| refs.contains(&&json!(name))),
        "{told}"
    );
    assert_eq!(told["idempotency_key"], "1");
    let told = attempt(&host, "packs/two", json!({"json": []})).await;
    assert_eq!((&told["outcome"], &told["answer"]["status"]), (&json!("accepted"), &json!(200)), "{told}");
    assert_eq!(told["quarantined"][0]["trigger_ref"], "two.kept");
    assert_eq!(told["quarantined"][0]["cause"], "schema_violation");
    assert_eq!(outcome_of(&told, "schema").0, "failed");
    assert_no_trace(&host).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_for_tokens_that_may_write_and_reach_the_pack() {
    let host = host().await;
    let (read, bound) = (host.token("read", None).await, host.token("write", Some(&["two"])).await);
    let ask = async |token: &str, path: &str, body: Value| -> Answer {
        host.ask_as(token, "POST", &format!("/api/v1/{path}/test"), body).await
    };
    assert_eq!(ask(&read, "triggers/t.push", json!({})).await.status, 403);
    assert_eq!(ask(&bound, "triggers/t.push", json!({})).await.status, 404);
    assert_eq!(ask(&bound, "packs/two", json!({})).await.status, 200);
    for (body, told) in [
        (json!({"body": "", "json": {}}), "give one"),
        (json!({"body_base64": "?"}), "`body_base64`"),
        (json!({"headers": {"a b": "c"}}), "`a b`"),
        (json!({"colour": 1}), "unknown field `colour`"),
    ] {
        let answer = ask(&bound, "packs/two", body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains(told), "{}", answer.text);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_the_steps_in_a_table_and_in_json() {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new().await);
    let packs = folder.path().join("packs");
    fs::create_dir(&packs).unwrap();
    let copied = Command::new("cp").arg("-r").arg(repository().join("packs/github")).arg(&packs).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.env("HOOKPACK_DATABASE_URL", &database.url).env("HOOKPACK_SECRET_GITHUB_WEBHOOK", SECRET);
    let host = Process::start_with(folder.path(), command);
    let send = |secret: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
        command.args(["send", "github.push", "--dry-run", "--packs", "packs"]).args(more);
        command.args(["--url", &format!("http://{}", host.address), "--token", &host.token()]);
        command.env("HOOKPACK_SECRET_GITHUB_WEBHOOK", secret).current_dir(folder.path()).output().unwrap()
    };
    let good = send(SECRET, &[]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success(), "{text}{}", String::from_utf8_lossy(&good.stderr));
    for part in ["STEP", "authentic and fresh", "200 accepted", "event of github.push", "default_branch"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let forged = send("another secret", &["--output", "json"]);
    assert_eq!(forged.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&forged.stdout).unwrap();
    assert_eq!(told["data"]["outcome"], "bad_signature");
    let rows = "select count(*) from hookpack.request_log";
    assert_eq!(sqlx::query_scalar::<_, i64>(rows).fetch_one(&database.pool).await.unwrap(), 0);
    host.kill();
}
