//! A signed body that is sent again under other headers: it is the same delivery, or it is refused.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use crate::harness::{Answer, SECRET, Setup, TestHost, github_signature};

const SIGNED: &str = "  verify: {hmac: sha256, signed: \"{body}\", signature: {header: x-sig, prefix: \"sha256=\", encoding: hex}}\n  secrets: [s_own]\n";

async fn host(webhook: &str) -> TestHost {
    let head = "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook:\n  enabled: true\n";
    start(&format!("{head}{webhook}")).await
}

async fn start(trigger: &str) -> TestHost {
    let mut setup = Setup::new(&[("s/triggers/t.yaml", trigger)]);
    setup.environment = setup.environment.with("HOOKPACK_SECRET_S_OWN", SECRET);
    setup.start().await
}

/// One request with the signature of this body.
async fn send(host: &TestHost, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = host.http.post(host.url("s.t"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header("x-sig", github_signature(body, SECRET)).body(body.to_vec());
    Answer::of(request.send().await.unwrap()).await
}

/// What became of a repetition: `replayed`, or its status.
fn outcome(answer: &Answer) -> String {
    match answer.header("idempotency-replayed") {
        Some(_) => "replayed".to_owned(),
        None => answer.status.to_string(),
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Sends the body as its sender does, and then once under each of these headers.
async fn replay(key: &str, first: &[(&str, &str)], body: &[u8], rows: &[(&[(&str, &str)], &str)]) {
    let host = host(&format!("{SIGNED}  idempotency: {{key: '{key}'}}\n")).await;
    let answer = send(&host, first, body).await;
    assert_eq!(outcome(&answer), "200", "{}", answer.text);
    for (headers, expected) in rows {
        let answer = send(&host, headers, body).await;
        assert_eq!(outcome(&answer), *expected, "{headers:?}: {}", answer.text);
    }
    assert_eq!(host.count("select count(*) from hookpack.event").await, 1);
    host.stop().await;
}

const TYPE: &str = "content-type";

#[tokio::test(flavor = "multi_thread")]
async fn stripe_s_event_is_stored_once_whatever_it_is_called() {
    let text = "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, preset: stripe, secrets: [s_own]}\n";
    let host = start(text).await;
    let body = r#"{"id": "evt_1", "type": "x", "data": "&id=evt_2&"}"#;
    let time = host.clock.now().unix_timestamp();
    let signature = github_signature(format!("{time}.{body}").as_bytes(), SECRET).replace("sha256=", "");
    let signature = format!("t={time},v1={signature}");
    for (headers, expected) in [
        (&[(TYPE, "application/json")][..], "200"),
        (&[(TYPE, "application/x-ndjson")], "replayed"),
        (&[(TYPE, "application/jsonl")], "replayed"),
        (&[(TYPE, "text/plain")], "replayed"),
        (&[(TYPE, "application/vnd.x+json; charset=us-ascii")], "replayed"),
        (&[], "replayed"),
        (&[(TYPE, "application/x-www-form-urlencoded")], "401"),
        (&[(TYPE, "application/x-www-form-urlencoded; charset=latin1")], "401"),
        (&[(TYPE, "text/plain; charset=utf-16le")], "401"),
        (&[(TYPE, "text/plain; charset=latin1")], "401"),
        (&[(TYPE, "text/xml")], "401"),
        (&[(TYPE, "application/octet-stream")], "401"),
        (&[(TYPE, "application/cloudevents+json")], "400"),
        (&[(TYPE, "application/json"), ("content-encoding", "gzip")], "400"),
        (&[(TYPE, "application/json"), ("content-encoding", "deflate")], "400"),
        (
            &[
                (TYPE, "application/json"),
                ("ce-id", "1"),
                ("ce-source", "/"),
                ("ce-type", "x"),
                ("ce-specversion", "1.0"),
            ],
            "replayed",
        ),
    ] {
        let mut request = host.http.post(host.url("s.t")).header("stripe-signature", &signature);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = Answer::of(request.body(body).send().await.unwrap()).await;
        assert_eq!(outcome(&answer), expected, "{headers:?}: {}", answer.text);
    }
    assert_eq!(host.count("select count(*) from hookpack.event").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_stored_once_as_one_document_too() {
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/json")], "replayed"),
        (&[(TYPE, "text/plain")], "replayed"),
        (&[(TYPE, "application/octet-stream")], "401"),
    ];
    replay("$.id", &[(TYPE, "application/x-ndjson")], b"{\"id\": \"a\"}\n", rows).await;
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/x-ndjson")], "replayed"),
        (&[(TYPE, "application/json")], "400"),
        (&[(TYPE, "text/plain")], "401"),
        (&[(TYPE, "application/x-www-form-urlencoded")], "401"),
    ];
    let host = host(&format!("{SIGNED}  idempotency: {{key: $.id}}\n")).await;
    let body = b"{\"id\": \"a\"}\n{\"id\": \"b\", \"text\": \"&id=c&\"}\n";
    assert_eq!(send(&host, &[(TYPE, "application/jsonl")], body).await.status, 200);
    for (headers, expected) in rows {
        assert_eq!(outcome(&send(&host, headers, body).await), *expected, "{headers:?}");
    }
    assert_eq!(host.count("select count(*) from hookpack.event").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_stored_once_in_whatever_charset_it_is_said_to_be() {
    let form = "application/x-www-form-urlencoded";
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/x-www-form-urlencoded; charset=latin1")], "replayed"),
        (&[(TYPE, "application/x-www-form-urlencoded; charset=gbk")], "replayed"),
        (&[(TYPE, "text/plain")], "401"),
        (&[(TYPE, "application/octet-stream")], "401"),
        (&[(TYPE, "application/json")], "400"),
    ];
    replay("$.id", &[(TYPE, form)], "id=%C3%A9%C3%A9&x=1".as_bytes(), rows).await;
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/x-www-form-urlencoded; charset=latin2")], "replayed"),
        (&[(TYPE, form)], "400"),
    ];
    let latin = "application/x-www-form-urlencoded; charset=latin1";
    replay("$.id", &[(TYPE, latin)], b"id=%E9&x=1", rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_not_stored_again_as_bytes() {
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/x-ndjson"), ("content-encoding", "gzip")], "replayed"),
        (&[(TYPE, "application/octet-stream"), ("content-encoding", "gzip")], "401"),
        (&[(TYPE, "application/x-www-form-urlencoded"), ("content-encoding", "gzip")], "401"),
        (&[(TYPE, "application/octet-stream")], "401"),
        (&[(TYPE, "application/json")], "400"),
        (&[(TYPE, "application/x-www-form-urlencoded; charset=latin1")], "401"),
    ];
    let first = [(TYPE, "application/json"), ("content-encoding", "gzip")];
    replay("$.id", &first, &gzip(b"{\"id\": \"a\"}"), rows).await;
}

const EVENT: &str =
    r#"{"specversion": "1.0", "id": "e1", "source": "/s", "type": "x", "data": {"id": "d1", "n": 1}}"#;
const HEADERS: [(&str, &str); 5] = [
    (TYPE, "application/json"),
    ("ce-specversion", "1.0"),
    ("ce-id", "e2"),
    ("ce-source", "/s"),
    ("ce-type", "x"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_is_stored_once_as_json_and_under_headers_of_its_own() {
    let structured = [(TYPE, "application/cloudevents+json")];
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/json")], "401"),
        (&[(TYPE, "application/x-ndjson")], "401"),
        (&HEADERS, "401"),
    ];
    replay("attribute:id", &structured, EVENT.as_bytes(), rows).await;
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/json")], "401"),
        (&[(TYPE, "application/x-ndjson")], "401"),
        (&HEADERS, "401"),
    ];
    replay("$.n", &structured, EVENT.as_bytes(), rows).await;
    // A member of this name is there in both.
    let rows: &[(&[(&str, &str)], &str)] = &[(&[(TYPE, "application/json")], "replayed"), (&HEADERS, "401")];
    replay("$.id", &structured, EVENT.as_bytes(), rows).await;
    let rows: &[(&[(&str, &str)], &str)] = &[(&structured, "replayed"), (&HEADERS, "401")];
    replay("$.id", &[(TYPE, "application/json")], EVENT.as_bytes(), rows).await;
    replay("$.data.id", &[(TYPE, "application/json")], EVENT.as_bytes(), rows).await;
    let batch = format!("[{EVENT}]");
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[(TYPE, "application/json")], "401"),
        (&[(TYPE, "application/x-ndjson")], "401"),
        (&HEADERS, "401"),
    ];
    for key in ["$.id", "attribute:id"] {
        replay(key, &[(TYPE, "application/cloudevents-batch+json")], batch.as_bytes(), rows).await;
    }
    let rows: &[(&[(&str, &str)], &str)] = &[(&[(TYPE, "application/cloudevents-batch+json")], "replayed")];
    replay("$[0].id", &[(TYPE, "application/json")], batch.as_bytes(), rows).await;
}

/// Fields that an attacker has had written into a signed document are no fields, whatever tells deliveries apart.
#[tokio::test(flavor = "multi_thread")]
async fn signed_json_is_never_taken_for_a_form() {
    let host = host(&format!("{SIGNED}  idempotency: {{key: \"header:x-id\"}}\n")).await;
    let body = br#"{"text": "&role=admin&"}"#;
    for (kind, status) in [
        ("application/json", 200),
        ("application/x-www-form-urlencoded", 401),
        ("application/x-www-form-urlencoded; charset=latin1", 401),
    ] {
        let answer = send(&host, &[(TYPE, kind), ("x-id", kind)], body).await;
        assert_eq!(answer.status, status, "{kind}: {}", answer.text);
    }
    let (outcome, detail) =
        host.logged(&send(&host, &[(TYPE, "application/x-www-form-urlencoded")], body).await).await;
    assert_eq!(outcome, "bad_signature");
    assert!(detail.contains("the headers say that they are a form"), "{detail}");
}
