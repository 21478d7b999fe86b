//! Every check in its order, with its status, its problem and its row in the log.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Setup, TestDatabase, TestHost, eventually, github_signature, http};

const OPEN: &str = "
name: open
ref: t.open
type: webhook
payload_schema: {type: object, required: [id], properties: {id: {type: integer}}}
webhook: {enabled: true, verify: none}
";

fn trigger(name: &str, rest: &str) -> String {
    format!("name: {name}\nref: t.{name}\ntype: webhook\npayload_schema: true\n{rest}")
}

async fn one(rest: &str) -> TestHost {
    Setup::new(&[("t/triggers/one.yaml", &trigger("one", rest))]).start().await
}

/// The outcome in the log, after the status and the problem were looked at.
async fn refused(host: &TestHost, answer: &Answer, status: u16) -> (String, String) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    host.logged(answer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_status_and_its_word() {
    let host = Setup::new(&[("t/triggers/open.yaml", OPEN)]).start().await;
    let send = async |content_type: &str, body: &str| {
        let request = host.http.post(host.url("t.open")).header("content-type", content_type);
        Answer::of(request.body(body.to_owned()).send().await.unwrap()).await
    };
    let unknown =
        host.http.post(format!("http://{}/api/v1/webhooks/wh_nobody", host.address)).send().await.unwrap();
    assert_eq!(refused(&host, &Answer::of(unknown).await, 404).await.0, "unknown_key");

    let answer = send("application/json", "{\"id\": 1").await;
    let (outcome, detail) = refused(&host, &answer, 400).await;
    assert_eq!(outcome, "undecodable");
    assert!(detail.contains("line 1 column 8"), "{detail}");

    for content_type in ["multipart/form-data; boundary=x", "json", "application/json; charset=utf-16"] {
        assert_eq!(refused(&host, &send(content_type, "{}").await, 415).await.0, "unsupported_media");
    }
    let get = Answer::of(host.http.get(host.url("t.open")).send().await.unwrap()).await;
    assert_eq!(get.header("allow"), Some("POST"));
    assert_eq!(refused(&host, &get, 405).await.0, "bad_method");

    let answer = send("application/json", "{\"id\": \"x\", \"more\": 1}").await;
    assert_eq!(refused(&host, &answer, 422).await.0, "schema_violation");
    let errors = answer.json()["errors"].clone();
    assert_eq!(
        errors,
        json!([{"pointer": "/id", "rule": "/properties/id/type", "message": "value is not of type \"integer\""}])
    );

    let answer = send("application/json", "{\"id\": 7}").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(host.events().await, [("t.open".to_owned(), "{\"id\": 7}".to_owned())]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_the_checks_is_the_one_that_is_promised() {
    // Each request breaks the checks from some point on; the first of them answers.
    let setup = Setup::new(&[(
        "t/triggers/one.yaml",
        &trigger(
            "one",
            "webhook: {enabled: true, preset: github, secrets: [secret], payload_size_limit_kb: 1, ip_allowlist: [192.0.2.0/24],
  rate_limit: {requests: 2, window_seconds: 60}, on_invalid: reject}
match: {header:x-event: push}
mapping: {fields: {id: {from: $.id, required: true}}}
event_schema: {properties: {id: {type: integer}}}",
        )
        .replace("payload_schema: true", "payload_schema: {required: [a]}"),
    )]);
    let mut setup = setup;
    setup.config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let host = setup.start().await;
    let large = format!("\"{}\"", "x".repeat(2000));
    let send = async |content_type: &str, source: &str, body: &str, secret: &str, event: &str| {
        let request = host.http.post(host.url("t.one")).header("content-type", content_type);
        let request = request.header("x-forwarded-for", source).header("x-event", event);
        let request = request.header("x-hub-signature-256", github_signature(body.as_bytes(), secret));
        let answer = Answer::of(request.body(body.to_owned()).send().await.unwrap()).await;
        let logged = host.logged(&answer).await;
        (answer.status, logged.0)
    };
    let (inside, outside) = ("192.0.2.7", "203.0.113.1");
    let rows = [
        (send("multipart/form-data", outside, &large, "wrong", "other").await, (403, "address_refused")),
        (send("multipart/form-data", inside, &large, "wrong", "other").await, (415, "unsupported_media")),
        (send("application/json", inside, &large, "wrong", "other").await, (413, "too_large")),
        (send("application/json", inside, "{", "wrong", "other").await, (401, "bad_signature")),
        (send("application/json", inside, "{", SECRET, "other").await, (400, "undecodable")),
        (send("application/json", inside, "{}", SECRET, "other").await, (200, "ignored")),
        // Two authentic requests were allowed; the forged ones before them did not count.
        (send("application/json", inside, "{", SECRET, "push").await, (429, "rate_limited")),
        (send("application/json", inside, "{", "wrong", "push").await, (401, "bad_signature")),
    ];
    for (got, (status, outcome)) in rows {
        assert_eq!(got, (status, outcome.to_owned()));
    }
    host.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(send("application/json", inside, "{}", SECRET, "push").await.1, "schema_violation");
    assert_eq!(send("application/json", inside, r#"{"a": 1}"#, SECRET, "push").await.1, "mapping_failed");
    host.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(
        send("application/json", inside, r#"{"a": 1, "id": "x"}"#, SECRET, "push").await.1,
        "mapping_failed"
    );
    assert_eq!(send("application/json", inside, r#"{"a": 1, "id": 1}"#, SECRET, "push").await.1, "accepted");
    assert_eq!(host.events().await, [("t.one".to_owned(), r#"{"id":1}"#.to_owned())]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_whose_secret_is_missing_is_closed_before_anything_is_read() {
    let setup = Setup::new(&[(
        "t/triggers/one.yaml",
        &trigger("one", "webhook: {enabled: true, preset: github, secrets: [nobody_has_it]}"),
    )]);
    let host = setup.start().await;
    let answer = host.send("t.one", "{").await;
    let (outcome, detail) = refused(&host, &answer, 503).await;
    assert_eq!((outcome.as_str(), detail.as_str()), ("secret_missing", "secret missing: nobody_has_it"));
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert!(!answer.text.contains("nobody_has_it"), "the sender must not learn which");
    let ready = host.api("/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
    assert_eq!(ready.json()["reasons"], json!(["secret missing: nobody_has_it"]));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_file_counts_as_soon_as_it_is_there() {
    let mut setup = Setup::new(&[(
        "t/triggers/one.yaml",
        &trigger("one", "webhook: {enabled: true, preset: github, secrets: [late]}"),
    )]);
    let secrets = setup.folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    setup.config.secrets_dir = Some(secrets.clone());
    let host = setup.start().await;
    assert_eq!(host.send("t.one", "{}").await.status, 503);
    std::fs::write(secrets.join("late"), "new\nold\n").unwrap();
    for secret in ["old", "new"] {
        eventually("an accepted request", async || {
            let request = host.post("t.one").header("x-hub-signature-256", github_signature(b"{}", secret));
            (request.body("{}").send().await.unwrap().status() == 200).then_some(())
        })
        .await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_over_long_body_is_refused_while_it_streams_in() {
    let host = one("webhook: {enabled: true, verify: none, payload_size_limit_kb: 1}").await;
    let exact = format!("\"{}\"", "x".repeat(1022));
    assert_eq!(host.send("t.one", &exact).await.status, 200);
    assert_eq!(refused(&host, &host.send("t.one", &format!("{exact} ")).await, 413).await.0, "too_large");

    // Chunked, without a length and without an end: the answer comes all the same.
    let answer = answer_to_endless(&host.url("t.one"));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    // A small gzip of a large document.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(format!("\"{}\"", "x".repeat(1 << 20)).as_bytes()).unwrap();
    let bomb = gzip.finish().unwrap();
    let answer = Answer::of(
        host.post("t.one")
            .header("content-encoding", "gzip")
            .body(bomb[..1000].to_vec())
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert!([400, 413].contains(&answer.status));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(format!("\"{}\"", "x".repeat(100_000)).as_bytes()).unwrap();
    let answer = Answer::of(
        host.post("t.one")
            .header("content-encoding", "gzip")
            .body(gzip.finish().unwrap())
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(refused(&host, &answer, 413).await.0, "too_large");
    host.stop().await;
}

/// The status line for a chunked body that has sent too much already, and goes on.
fn answer_to_endless(url: &str) -> String {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "Host: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = "x".repeat(1025);
    write!(stream, "POST /{path} HTTP/1.1\r\n{head}401\r\n{chunk}\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_counts_over_the_bytes_on_the_wire() {
    let host = one("webhook: {enabled: true, preset: github, secrets: [secret]}").await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"{\"b\" : 1.0}").unwrap();
    let body = gzip.finish().unwrap();
    let request = host.post("t.one").header("content-encoding", "gzip");
    let request = request.header("x-hub-signature-256", github_signature(&body, SECRET));
    let answer = Answer::of(request.body(body).send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(host.events().await[0].1, "{\"b\" : 1.0}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_arrive_as_they_were_sent_whatever_maps_them() {
    let numbers = r#"{"big":12345678901234567890123,"i64":9223372036854775807,"one":1.0,"e":1E5,"f":-1.50e-7,"z":0.10,"h":1e400}"#;
    let fields = "mapping: {fields: {big: $.big, i64: $.i64, one: $.one, e: $.e, f: $.f, z: $.z, h: $.h}}";
    let template = r#"mapping: {template: {big: "{{ payload.big }}", i64: "{{ payload.i64 }}", one: "{{ payload.one }}", e: "{{ payload.e }}", f: "{{ payload.f }}", z: "{{ payload.z }}", h: "{{ payload.h }}"}}"#;
    for mapping in ["", fields, template] {
        let host = one(&format!("webhook: {{enabled: true, verify: none}}\n{mapping}")).await;
        assert_eq!(host.send("t.one", numbers).await.status, 200);
        assert_eq!(host.events().await[0].1, numbers, "{mapping}");
        let api = host.api("/api/v1/events").await.text;
        assert!(api.contains(numbers), "{api}");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_and_templates_map_what_they_say() {
    let fields = "
webhook: {enabled: true, verify: none}
mapping:
  fields:
    sha: $.head.id
    event: header:x-event
    page: query:page
    author: {from: $.head.author, default: unknown}
    nothing: $.missing
    empty: {from: $.missing, default: null}
    nil: $.head.nil
    messages: \"$.commits[*].message\"
    count: {from: $.count, as: integer}
    at: {from: $.at, as: timestamp}
    source: {const: github}
    nested: {deep: [$.head.id, literal, 7]}
";
    let host = one(fields).await;
    let body = r#"{"head": {"id": "abc", "nil": null}, "commits": [{"message": "a"}, {"no": 1}, {"message": "b"}], "count": "12", "at": 1700000000}"#;
    let request =
        host.http.post(format!("{}?page=2", host.url("t.one"))).header("content-type", "application/json");
    let answer = Answer::of(request.header("x-event", "push").body(body).send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        host.events().await[0].1,
        r#"{"sha":"abc","event":"push","page":"2","author":"unknown","empty":null,"nil":null,"messages":["a","b"],"count":12,"at":"2023-11-14T22:13:20Z","source":"github","nested":{"deep":["abc","literal",7]}}"#
    );
    host.stop().await;

    let template = r#"
webhook: {enabled: true, verify: none}
mapping:
  template:
    title: "{{ payload.name | upper }} by {{ headers['x-by'] }}"
    all: "{{ payload.list }}"
    n: "{{ payload.list | length }}"
    from: "{{ trigger }}"
    fixed: [1, true]
"#;
    let host = one(template).await;
    let request = host.post("t.one").header("x-by", "me").body(r#"{"name": "x", "list": [1, {"a": 2}]}"#);
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(
        host.events().await[0].1,
        r#"{"title":"X by me","all":[1,{"a":2}],"n":2,"from":"t.one","fixed":[1,true]}"#
    );
    let answer = host.send("t.one", r#"{"list": []}"#).await;
    let (outcome, detail) = refused(&host, &answer, 422).await;
    assert_eq!(outcome, "mapping_failed");
    assert!(detail.contains("payload.name"), "{detail}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_stores_every_member_or_none() {
    let split = "
split: \"$.events[*]\"
webhook: {enabled: true, verify: none}
mapping: {fields: {n: $.n}}
";
    let text = trigger("one", split)
        .replace("payload_schema: true", "payload_schema: {properties: {n: {type: integer}}}");
    let host = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    let answer = host.send("t.one", r#"{"events": [{"n": 1}, {"n": 2}]}"#).await;
    assert_eq!(answer.status, 200);
    let ids: Vec<Value> = answer.json()["data"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event_id"].clone())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(answer.json()["data"]["event_id"], ids[0]);
    let payloads: Vec<_> = host.events().await.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [r#"{"n":1}"#, r#"{"n":2}"#]);

    let answer = host.send("t.one", r#"{"events": [{"n": 3}, {"n": "x"}]}"#).await;
    let (_, detail) = refused(&host, &answer, 422).await;
    assert!(detail.starts_with("member 1 of `split`"), "{detail}");
    let answer = host.send("t.one", r#"{"events": []}"#).await;
    assert_eq!((answer.status, answer.json()["data"]["ignored"].as_bool()), (200, Some(true)));
    assert_eq!(host.events().await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_s_url_hands_a_request_to_every_trigger_that_matches() {
    let pack = "ref: t\nname: t\nversion: 1.0.0\nwebhook: {verify: none, idempotency: {key: $.id}}\nendpoint: {enabled: true}\n";
    let one = trigger("one", "match: {$.kind: [a, b]}\nmapping: {fields: {one: $.id}}");
    let two = trigger("two", "match: {$.kind: {pattern: ^b}, $.n: 1}\nmapping: {fields: {two: $.id}}");
    let host =
        Setup::new(&[("t/pack.yaml", pack), ("t/triggers/one.yaml", &one), ("t/triggers/two.yaml", &two)])
            .start()
            .await;
    let both = host.send("t", r#"{"kind": "b", "n": 1.0, "id": "x"}"#).await;
    let refs: Vec<_> = both.json()["data"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["trigger_ref"].clone())
        .collect();
    assert_eq!(refs, ["t.one", "t.two"]);
    let again = host.send("t", r#"{"kind": "b", "n": 1.0, "id": "x"}"#).await;
    assert_eq!((again.text, again.headers.contains_key("idempotency-replayed")), (both.text, true));
    let none = host.send("t", r#"{"kind": "c", "id": "y"}"#).await;
    assert_eq!((none.status, none.json()["data"]["ignored"].as_bool()), (200, Some(true)));
    assert_eq!(host.logged(&none).await.1, "t.one: `$.kind` does not match; t.two: `$.kind` does not match");
    assert_eq!(host.events().await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_can_be_quarantined_and_what_is_answered_can_be_chosen() {
    let rest = "webhook: {enabled: true, verify: none, on_invalid: quarantine, idempotency: {key: $.id}, respond: {status: 202, type: text/plain, body: \"[accepted]\"}}";
    let text = trigger("one", rest).replace("payload_schema: true", "payload_schema: {required: [a]}");
    let host = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    let kept = host.send("t.one", r#"{"id": "x", "n": 1.0}"#).await;
    assert_eq!((kept.status, kept.json()["data"]["quarantined"].as_bool()), (202, Some(true)));
    let sql =
        "select trigger_ref, cause, convert_from(body, 'UTF8'), idempotency_key from hookpack.quarantine";
    let row: (String, String, String, String) = sqlx::query_as(sql).fetch_one(&host.pool).await.unwrap();
    assert_eq!(
        row,
        ("t.one".into(), "schema_violation".into(), r#"{"id": "x", "n": 1.0}"#.into(), "x".into())
    );
    assert_eq!(host.logged(&kept).await.0, "quarantined");

    // The key was not used up: the delivery can still be sent mended.
    let mended = host.send("t.one", r#"{"id": "x", "a": 1}"#).await;
    assert_eq!(
        (mended.status, mended.text.as_str(), mended.header("content-type")),
        (202, "[accepted]", Some("text/plain"))
    );
    let again = host.send("t.one", r#"{"id": "x", "a": 1}"#).await;
    assert_eq!(
        (again.status, again.text.as_str(), again.header("content-type")),
        (202, "[accepted]", Some("text/plain"))
    );
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(host.events().await.len(), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_host_come_before_the_signature() {
    let mut setup = Setup::new(&[(
        "t/triggers/one.yaml",
        &trigger("one", "webhook: {enabled: true, preset: github, secrets: [secret]}"),
    )]);
    setup.config.source_rate_limit = hookpack::config::RateLimit::new(2, 60);
    setup.config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let host = setup.start().await;
    let from = async |source: &str| {
        let request = host.post("t.one").header("x-forwarded-for", source).body("{}");
        Answer::of(request.send().await.unwrap()).await
    };
    let statuses = [from("192.0.2.1").await.status, from("192.0.2.1").await.status];
    assert_eq!(statuses, [401, 401]);
    let over = from("192.0.2.1").await;
    assert_eq!((over.status, over.header("retry-after")), (429, Some("30")));
    assert_eq!(from("192.0.2.2").await.status, 401);
    host.clock.advance(std::time::Duration::from_secs(30));
    assert_eq!(from("192.0.2.1").await.status, 401);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_knows_the_request_it_came_from() {
    let host = one("webhook: {enabled: true, verify: none, keep_headers: [X-Event]}").await;
    let request = host
        .post("t.one")
        .header("x-event", "push")
        .header("x-other", "no")
        .header("user-agent", "ci/1")
        .body("{}");
    let answer = Answer::of(request.send().await.unwrap()).await;
    let metadata: Value =
        sqlx::query_scalar("select metadata from hookpack.event").fetch_one(&host.pool).await.unwrap();
    assert_eq!(
        metadata,
        json!({
            "source": "webhook",
            "request_id": answer.header("x-request-id"),
            "received_at": "2026-11-22T10:00:00Z",
            "source_ip": "127.0.0.1",
            "user_agent": "ci/1",
            "headers": {"content-type": "application/json", "user-agent": "ci/1", "x-event": "push"},
        })
    );
    let sql = "select status, verified, body_bytes, host(source_ip), pack_version, event_id::text from hookpack.request_log";
    let row: (i16, bool, i64, String, String, String) =
        sqlx::query_as(sql).fetch_one(&host.pool).await.unwrap();
    let event_id = answer.json()["data"]["event_id"].as_str().unwrap().to_owned();
    assert_eq!(row, (200, false, 2, "127.0.0.1".into(), "1.0.0".into(), event_id));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_management_api_is_for_holders_of_a_token() {
    let host = one("webhook: {enabled: true, verify: none}").await;
    host.send("t.one", r#"{"n": 1}"#).await;
    for path in [
        "/api/v1/packs",
        "/api/v1/triggers",
        "/api/v1/events",
        "/api/v1/requests",
        "/api/v1/triggers/t.one/webhooks",
    ] {
        let url = format!("http://{}{path}", host.address);
        let bare = Answer::of(host.http.get(&url).send().await.unwrap()).await;
        assert_eq!((bare.status, bare.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        let wrong = Answer::of(host.http.get(&url).bearer_auth("hp_wrong").send().await.unwrap()).await;
        assert_eq!(wrong.status, 401, "{path}");
        assert_eq!(host.api(path).await.status, 200, "{path}");
    }
    let webhooks = host.api("/api/v1/triggers/t.one/webhooks").await.json();
    assert_eq!(webhooks["data"]["webhook_url"], host.url("t.one"));
    assert_eq!(host.api("/api/v1/triggers/t.two").await.status, 404);
    assert_eq!(host.api("/api/v1/events/not-an-id").await.status, 400);
    assert_eq!(host.api("/api/v1/events?since=yesterday").await.status, 400);
    let first = host.api("/api/v1/events?limit=1").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(host.api(&format!("/api/v1/events?limit=1&cursor={cursor}")).await.json()["data"], json!([]));
    // Health is for everybody.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http().get(format!("http://{}{path}", host.address)).send().await.unwrap().status(), 200);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_door_has_nothing_but_webhooks_when_the_api_has_its_own() {
    let mut setup = Setup::new(&[("t/triggers/open.yaml", OPEN)]);
    setup.config.admin_listen = Some(([127, 0, 0, 1], 0).into());
    let host = setup.start().await;
    assert_eq!(host.send("t.open", r#"{"id": 1}"#).await.status, 200);
    assert_eq!(host.api("/api/v1/events").await.status, 404);
    assert_eq!(host.api("/readyz").await.status, 404);
    let admin = host.running.as_ref().unwrap().admin_address.unwrap();
    let answer = host.http.get(format!("http://{admin}/readyz")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_holds_no_credentials() {
    let rest = "webhook: {enabled: true, preset: gitlab, secrets: [secret], on_invalid: quarantine}";
    let text = trigger("one", rest).replace("payload_schema: true", "payload_schema: {required: [a]}");
    let host = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    let request = host.post("t.one").header("x-gitlab-token", SECRET).header("x-other", "kept").body("{}");
    assert_eq!(request.send().await.unwrap().status(), 202);
    let row: String =
        sqlx::query_scalar("select q::text from hookpack.quarantine q").fetch_one(&host.pool).await.unwrap();
    assert!(row.contains("kept"), "{row}");
    let key = host.url("t.one").rsplit('/').next().unwrap().to_owned();
    assert!(!row.contains(SECRET) && !row.contains(&key), "{row}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_makes_room() {
    let mut setup = Setup::new(&[("t/triggers/open.yaml", OPEN)]);
    setup.config.header_read_seconds = 1;
    setup.config.connections_max = 2;
    let host = setup.start().await;
    let silent: Vec<_> = (0..2).map(|_| TcpStream::connect(host.address).unwrap()).collect();
    // Both places are taken by somebody who says nothing; the third is served when they have been sent away.
    assert_eq!(http().get(format!("http://{}/healthz", host.address)).send().await.unwrap().status(), 200);
    for mut stream in silent {
        assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap_or_default(), 0);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_webhook_keeps_its_key_and_refuses_everything() {
    let database = TestDatabase::new().await;
    let first = Setup::new(&[("t/triggers/open.yaml", OPEN)]).start_on(&database).await;
    assert_eq!(first.send("t.open", "{\"id\": 1}").await.status, 200);
    sqlx::raw_sql("update hookpack.endpoint set paused = true").execute(&database.pool).await.unwrap();
    // A host reads the state of its endpoints when it starts.
    let mut setup = Setup::new(&[("t/triggers/open.yaml", OPEN)]);
    setup.config.master_key_file = Some(first.folder.path().join("data/master-key"));
    let second = setup.start_on(&database).await;
    let answer = second.send("t.open", "{").await;
    assert_eq!(refused(&second, &answer, 403).await.0, "paused");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_after_the_key_changes_nothing_and_the_key_stays_secret() {
    let rest = "webhook: {enabled: true, verify: none, on_invalid: quarantine}";
    let text = trigger("one", rest).replace("payload_schema: true", "payload_schema: {required: [a]}");
    let host = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    let url = format!("{}/", host.url("t.one"));
    let key = host.url("t.one").rsplit('/').next().unwrap().to_owned();
    for (body, status) in [(r#"{"a": 1}"#, 200), ("{}", 202), ("{", 400)] {
        let request = host.http.post(&url).header("x-original-uri", &url).body(body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        host.logged(&answer).await;
    }
    let kept = "select (select string_agg(q::text, '') from hookpack.quarantine q) ||
                (select string_agg(l::text, '') from hookpack.request_log l)";
    let kept: String = sqlx::query_scalar(kept).fetch_one(&host.pool).await.unwrap();
    assert!(kept.contains("/api/v1/webhooks/…/") && !kept.contains(&key), "{kept}");
    host.stop().await;
}
