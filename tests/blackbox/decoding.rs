//! Every way to write a body, over HTTP: what is stored of it, what is refused, and that nothing is read in two ways.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Setup, TestHost, github_signature};

const OPEN: &str = "webhook: {enabled: true, verify: none}";
const FORM: &str = "application/x-www-form-urlencoded";
const LINES: &str = "application/x-ndjson";
const EVENT: &str = "application/cloudevents+json; charset=utf-8";
const EVENTS: &str = "application/cloudevents-batch+json";

fn trigger(name: &str, rest: &str) -> String {
    format!("name: {name}\nref: t.{name}\ntype: webhook\npayload_schema: true\n{rest}\n")
}

async fn one(rest: &str) -> TestHost {
    Setup::new(&[("t/triggers/one.yaml", &trigger("one", rest))]).start().await
}

async fn post(host: &TestHost, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let request = host.http.post(host.url("t.one"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request.body(body).send().await.unwrap()).await
}

async fn send(host: &TestHost, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    post(host, &[("content-type", content_type)], body).await
}

/// Payload and attributes of the event that was stored last.
async fn last(host: &TestHost) -> (String, Value) {
    let sql = "select payload::text, metadata from hookpack.event order by id desc limit 1";
    let (payload, metadata): (String, Value) = sqlx::query_as(sql).fetch_one(&host.pool).await.unwrap();
    (payload, metadata["attributes"].clone())
}

async fn payloads(host: &TestHost) -> Vec<String> {
    host.events().await.into_iter().map(|(_, payload)| payload).collect()
}

/// The detail in the log, after status and outcome were looked at.
async fn refused(host: &TestHost, answer: &Answer, status: u16, outcome: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text);
    let (got, detail) = host.logged(answer).await;
    assert_eq!(got, outcome, "{detail}");
    detail
}

fn event(id: &str, more: &Value) -> Value {
    let mut event = json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "paid"});
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn every_content_type_becomes_one_json_document() {
    let host = one(OPEN).await;
    for (content_type, body, stored) in [
        ("application/json", &b" {\"n\": 1.10} "[..], " {\"n\": 1.10} "),
        ("application/vnd.x+json; charset=UTF-8", b"7", "7"),
        (FORM, b"b=2&a=x+%C3%A9&b=&c", r#"{"b":["2",""],"a":"x é","c":""}"#),
        (FORM, b"payload=%7B%22n%22%3A+1.10%7D", r#"{"n": 1.10}"#),
        (FORM, b"payload=%7B%7D&token=x", r#"{"payload":"{}","token":"x"}"#),
        (FORM, b"", "{}"),
        ("application/x-www-form-urlencoded; charset=ISO-8859-1", b"name=Gr%FC%DFe", r#"{"name":"Grüße"}"#),
        ("text/plain; charset=UTF-8", b"{\"Type\": \"Notification\"}", "{\"Type\": \"Notification\"}"),
        ("text/plain", b"[1,\n2]", "[1,\n2]"),
        ("text/plain", b"12", r#""12""#),
        ("text/plain", b"{\"broken\": ", r#""{\"broken\": ""#),
        ("text/plain; charset=windows-1252", b"5 \x80", r#""5 €""#),
        ("text/xml", "<a>é</a>\n".as_bytes(), r#""<a>é</a>\n""#),
        ("application/xml; charset=latin1", b"<a>\xe9</a>", r#""<a>é</a>""#),
        ("application/octet-stream", &[0, 255, 1, 2], r#""AP8BAg==""#),
        ("image/png", b"", r#""""#),
        // A byte order mark is not part of a JSON document.
        ("application/json", b"\xef\xbb\xbf {\"n\": 1.10}", " {\"n\": 1.10}"),
        ("application/vnd.x+json", b"\xef\xbb\xbf7", "7"),
        ("text/plain", b"\xef\xbb\xbf[1]", "[1]"),
        (FORM, b"payload=%EF%BB%BF%7B%22n%22%3A1.10%7D", r#"{"n":1.10}"#),
    ] {
        let answer = send(&host, content_type, body).await;
        assert_eq!(answer.status, 200, "{content_type} {body:?}: {}", answer.text);
        assert!(answer.json()["data"]["events"].is_null(), "one event, not a list");
        assert_eq!(last(&host).await, (stored.to_owned(), Value::Null), "{content_type}");
    }
    let answer = post(&host, &[], "{\"no\": \"type\"}").await;
    assert_eq!((answer.status, last(&host).await.0.as_str()), (200, "{\"no\": \"type\"}"));

    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(b"a=1").unwrap();
    let headers = [("content-type", FORM), ("content-encoding", "gzip")];
    assert_eq!(post(&host, &headers, gzip.finish().unwrap()).await.status, 200);
    assert_eq!(last(&host).await.0, r#"{"a":"1"}"#);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_or_broken_says_why() {
    let mut setup = Setup::new(&[("t/triggers/one.yaml", &trigger("one", OPEN))]);
    setup.config.form_fields_max = 3;
    setup.config.events_per_delivery_max = 3;
    let host = setup.start().await;
    for (content_type, named) in [
        ("multipart/form-data; boundary=x", "multipart"),
        ("application/json; charset=ISO-8859-1", "send JSON in UTF-8"),
        ("application/x-ndjson; charset=utf-16", "send JSON in UTF-8"),
        ("text/plain; charset=klingon", "klingon"),
        ("application/cloudevents+avro", "as JSON"),
        ("json", "`json`"),
        ("application/json, application/json", "is not one media type"),
        ("text/plain, application/json", "is not one media type"),
    ] {
        let answer = send(&host, content_type, "{}").await;
        let detail = refused(&host, &answer, 415, "unsupported_media").await;
        assert!(detail.contains(named) && answer.text.contains(named), "{detail}");
    }
    let second_broken = json!([event("1", &json!({})), {"id": "2"}]).to_string();
    for (content_type, body, named) in [
        (FORM, &b"a=%ff"[..], "the body is not valid UTF-8"),
        (FORM, b"a&b&c&d", "form_fields_max"),
        (FORM, b"%24serde_json::private::Number=1", "a member's name begins with"),
        ("text/plain", b"\xfc", "the body is not valid UTF-8"),
        (LINES, b"{}\n\n{\"a\": }\n{}", "line 3 is not valid JSON: expected value at column 7"),
        (LINES, b"{}\n\xef\xbb\xbf{}", "line 2 is not valid JSON"),
        (EVENT, b"{", "the body is not valid JSON"),
        (EVENT, b"[]", "a CloudEvent is a JSON object"),
        (EVENT, br#"{"specversion": "0.3"}"#, "`specversion` is `0.3`"),
        (EVENT, br#"{"specversion": "1.0", "id": "1", "type": "x"}"#, "the CloudEvent has no `source`"),
        (EVENT, br#"{"specversion":"1.0","id":"\u0000","type":"x","source":"/"}"#, "control character"),
        (EVENTS, b"{}", "a batch of CloudEvents is a JSON list"),
        (EVENTS, second_broken.as_bytes(), "member 1 of the batch: the CloudEvent has no `specversion`"),
    ] {
        let answer = send(&host, content_type, body.to_vec()).await;
        let detail = refused(&host, &answer, 400, "undecodable").await;
        assert!(detail.contains(named), "{detail}");
        assert_eq!(answer.json()["detail"], detail, "the sender hears it, too");
    }
    let four = json!(vec![event("1", &json!({})); 4]).to_string();
    for (content_type, body) in [(LINES, "1\n2\n3\n4"), (EVENTS, &four)] {
        let answer = send(&host, content_type, body.to_owned()).await;
        let detail = refused(&host, &answer, 413, "too_large").await;
        assert!(detail.contains("events_per_delivery_max"), "{detail}");
    }
    assert_eq!(send(&host, LINES, "1\n2\n3\n").await.status, 200);
    assert_eq!(payloads(&host).await, ["1", "2", "3"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_json_is_refused_or_kept_and_never_read_in_two_ways() {
    let mapped = "mapping: {fields: {n: $.n, lines: {from: \"$.list[*]\"}}}";
    let text = trigger("one", &format!("{OPEN}\nmatch: {{$.n: {{type: integer}}}}\n{mapped}"));
    let plain = trigger("plain", OPEN);
    let host = Setup::new(&[("t/triggers/one.yaml", &text), ("t/triggers/plain.yaml", &plain)]).start().await;
    // Of two members of one name the last counts for match and mapping; what isn't mapped is stored as sent.
    let twice = r#"{"n": "x", "n": 1.0E2, "n": 12345678901234567890123}"#;
    for content_type in ["application/json", LINES, "text/plain"] {
        assert_eq!(send(&host, content_type, twice).await.status, 200, "{content_type}");
        assert_eq!(last(&host).await.0, r#"{"n":12345678901234567890123,"lines":[]}"#);
    }
    assert_eq!(host.send("t.one", r#"{"n": 1, "n": "x"}"#).await.json()["data"]["ignored"], true);
    assert_eq!(host.send("t.plain", twice).await.status, 200);
    assert_eq!(last(&host).await.0, twice);
    let read: String =
        sqlx::query_scalar("select payload->>'n' from hookpack.event order by id desc limit 1")
            .fetch_one(&host.pool)
            .await
            .unwrap();
    assert_eq!(read, "12345678901234567890123", "Postgres takes the last as well");

    for number in ["1.10", "1E5", "-0", "1e400", "0.000000000000000000000000000001"] {
        assert_eq!(host.send("t.plain", number).await.status, 200, "{number}");
        assert_eq!(last(&host).await.0, number);
    }
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(host.send("t.plain", &deep(127)).await.status, 200);
    for broken in
        [&deep(128), "{}\u{feff}", "NaN", "[1] // x", "[01]", "{\"a\": \"\\ud800\"}", "{} {}", "{a: 1}", ""]
    {
        let answer = host.send("t.plain", broken).await;
        refused(&host, &answer, 400, "undecodable").await;
    }
    let latin = host.post("t.plain").body(b"\"\xfc\"".to_vec()).send().await.unwrap();
    assert_eq!(latin.status(), 400, "JSON is UTF-8");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_form_is_verified_as_sent_and_read_as_its_payload() {
    let rest = "webhook: {enabled: true, preset: github, secrets: [secret]}
match: {$.action: opened}
mapping: {fields: {number: $.number}}";
    let host = one(rest).await;
    let body = "payload=%7B%22action%22%3A%22opened%22%2C%22number%22%3A7%7D";
    let signature = github_signature(body.as_bytes(), SECRET);
    let headers =
        |id| [("content-type", FORM), ("x-hub-signature-256", signature.as_str()), ("x-github-delivery", id)];
    let first = post(&host, &headers("a"), body).await;
    assert_eq!((first.status, payloads(&host).await), (200, vec![r#"{"number":7}"#.to_owned()]));
    let again = post(&host, &headers("a"), body).await;
    assert_eq!((again.text, again.headers.contains_key("idempotency-replayed")), (first.text, true));
    let tampered = post(&host, &headers("b"), format!("{body}+")).await;
    refused(&host, &tampered, 401, "bad_signature").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloudevent_is_the_same_event_whichever_way_it_is_sent() {
    let rest = "webhook: {enabled: true, verify: none, idempotency: {key: attribute:id}}
match: {attribute:type: [paid, refunded], attribute:priority: 7}
mapping:
  fields: {n: $.n, subject: attribute:subject, from: {from: attribute:source, required: true}, at: {from: attribute:time, as: timestamp}}";
    let host = one(rest).await;
    let binary = |id: &'static str| {
        vec![
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "/shop"),
            ("ce-type", "paid"),
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("ce-priority", "7"),
            ("ce-time", "2026-11-22T11:00:00+01:00"),
        ]
    };
    let more = json!({"subject": "Euro €", "priority": 7, "time": "2026-11-22T11:00:00+01:00",
        "datacontenttype": "application/json", "data": {"n": 1}});
    let mapped = r#"{"n":1,"subject":"Euro €","from":"/shop","at":"2026-11-22T10:00:00Z"}"#;
    let attributes = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "paid", "subject": "Euro €",
            "priority": "7", "time": "2026-11-22T11:00:00+01:00", "datacontenttype": "application/json"})
    };
    assert_eq!(post(&host, &binary("A"), r#"{"n": 1}"#).await.status, 200);
    assert_eq!(last(&host).await, (mapped.to_owned(), attributes("A")));
    let first = send(&host, EVENT, event("B", &more).to_string()).await;
    assert_eq!((first.status, first.json()["data"]["events"].is_null()), (200, true), "{}", first.text);
    assert_eq!(last(&host).await, (mapped.to_owned(), attributes("B")));
    let batch = send(&host, EVENTS, json!([event("C", &more)]).to_string()).await;
    assert_eq!((batch.status, batch.json()["data"]["events"].as_array().unwrap().len()), (200, 1));
    assert_eq!(last(&host).await, (mapped.to_owned(), attributes("C")));

    // One delivery's key is its attribute, however it is written.
    let again = post(&host, &binary("B"), r#"{"n": 2}"#).await;
    assert_eq!((again.text, again.headers.contains_key("idempotency-replayed")), (first.text, true));
    assert_eq!(host.events().await.len(), 3);

    let other = event("D", &json!({"type": "deleted"}));
    let ignored = send(&host, EVENT, other.to_string()).await;
    assert_eq!(host.logged(&ignored).await.1, "t.one: `attribute:type` does not match");
    assert_eq!(host.send("t.one", "{}").await.json()["data"]["ignored"], true, "without attributes");

    for (name, value, named) in [
        ("ce-specversion", "1.1", "`specversion` is `1.1`"),
        ("ce-source", "", "no `source`"),
        ("ce-type", "%ff", "ce-type of the CloudEvent is not UTF-8"),
    ] {
        let headers =
            binary("E").into_iter().map(|header| if header.0 == name { (name, value) } else { header });
        let answer = post(&host, &headers.collect::<Vec<_>>(), "{}").await;
        let detail = refused(&host, &answer, 400, "undecodable").await;
        assert!(detail.contains(named), "{detail}");
    }
    let twice: Vec<_> = binary("E").into_iter().chain([("ce-id", "F")]).collect();
    refused(&host, &post(&host, &twice, "{}").await, 400, "undecodable").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_cloudevent_is_its_payload() {
    let host = one(OPEN).await;
    for (more, stored) in [
        (json!({}), "null"),
        (json!({"data": {"a": [1.5, "x"]}}), r#"{"a":[1.5,"x"]}"#),
        (json!({"data": "<a/>", "datacontenttype": "text/xml"}), r#""<a/>""#),
        (json!({"data_base64": "AP8="}), r#""AP8=""#),
        (json!({"data_base64": "eyJuIjogMX0=", "datacontenttype": "application/json"}), r#"{"n": 1}"#),
    ] {
        let answer = send(&host, EVENT, event("1", &more).to_string()).await;
        assert_eq!((answer.status, last(&host).await.0.as_str()), (200, stored), "{more}");
    }
    let exact = r#"{"specversion":"1.0","id":"1","source":"/","type":"x","data":{"n":1.10,"m":1E5,"n":2.0}}"#;
    assert_eq!(send(&host, EVENT, exact).await.status, 200);
    let digits = last(&host).await.0;
    assert!(digits.starts_with(r#"{"n":2.0,"m":1"#), "{digits}");

    let headers = [
        ("content-type", "text/plain"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/"),
        ("ce-type", "x"),
    ];
    assert_eq!(post(&host, &headers, "hello").await.status, 200);
    let (payload, attributes) = last(&host).await;
    assert_eq!((payload.as_str(), &attributes["datacontenttype"]), (r#""hello""#, &json!("text/plain")));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_an_event_of_its_own_and_all_are_stored_or_none() {
    let pack = "ref: t\nname: t\nversion: 1.0.0\nwebhook: {verify: none}\nendpoint: {enabled: true}\n";
    let one = trigger("one", "match: {$.kind: a}\nmapping: {fields: {one: $.n}}")
        .replace("payload_schema: true", "payload_schema: {properties: {n: {type: integer}}}");
    let two =
        trigger("two", "match: {$.kind: [a, b]}\nsplit: \"$.list[*]\"\nwebhook: {on_invalid: quarantine}")
            .replace("payload_schema: true", "payload_schema: {type: integer}");
    let host =
        Setup::new(&[("t/pack.yaml", pack), ("t/triggers/one.yaml", &one), ("t/triggers/two.yaml", &two)])
            .start()
            .await;
    let lines = async |body: &str| {
        let request = host.http.post(host.url("t")).header("content-type", LINES);
        Answer::of(request.body(body.to_owned()).send().await.unwrap()).await
    };
    let own = |events: &[(&str, &str)]| -> Vec<_> {
        events.iter().map(|(name, payload)| ((*name).to_owned(), (*payload).to_owned())).collect()
    };
    let answer =
        lines("{\"kind\":\"b\",\"list\":[1,2]}\n\n{\"kind\":\"c\"}\n{\"kind\":\"a\",\"n\":7}\r\n").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let stored = own(&[("t.two", "1"), ("t.two", "2"), ("t.one", r#"{"one":7}"#)]);
    assert_eq!(host.events().await, stored, "in the order of the lines");
    let listed: Vec<_> = answer.json()["data"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["trigger_ref"].clone())
        .collect();
    assert_eq!(listed, ["t.two", "t.two", "t.one"]);
    let (outcome, detail) = host.logged(&answer).await;
    assert_eq!(outcome, "accepted");
    assert!(detail.starts_with("1 of 3 match nothing; line 3: t.one: `$.kind` does not match"), "{detail}");

    // One line of the trigger that rejects refuses all of it, and names itself.
    let answer = lines("{\"kind\":\"b\",\"list\":[3]}\n{\"kind\":\"a\",\"n\":\"x\"}").await;
    let detail = refused(&host, &answer, 422, "schema_violation").await;
    assert!(detail.starts_with("line 2: t.one: /n"), "{detail}");
    assert_eq!(answer.json()["detail"], "Line 2 does not satisfy the schema.");
    assert_eq!(host.events().await.len(), 3, "nothing was stored");

    // The one that quarantines keeps the request whole, and none of its own events; the other's are stored.
    let body =
        "{\"kind\":\"b\",\"list\":[4]}\n{\"kind\":\"b\",\"list\":[5,\"x\"]}\n{\"kind\":\"a\",\"n\":8}\n";
    assert_eq!(lines(body).await.status, 200);
    assert_eq!(host.events().await[3..], own(&[("t.one", r#"{"one":8}"#)]));
    let kept: Vec<(String, String)> =
        sqlx::query_as("select convert_from(body, 'UTF8'), detail from hookpack.quarantine")
            .fetch_all(&host.pool)
            .await
            .unwrap();
    assert_eq!((kept.len(), kept[0].0.as_str()), (1, body));
    assert!(kept[0].1.starts_with("line 2: member 1 of `split`"), "{}", kept[0].1);

    for body in ["", "\n \n", "{\"kind\":\"c\"}"] {
        assert_eq!(lines(body).await.json()["data"]["ignored"], true, "{body:?}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_a_delivery_hold_for_all_lines_together() {
    let mut setup =
        Setup::new(&[("t/triggers/one.yaml", &trigger("one", &format!("{OPEN}\nsplit: \"$[*]\"")))]);
    setup.config.events_per_delivery_max = 4;
    setup.config.delivery_bytes_max = 20;
    let host = setup.start().await;
    for (body, named) in [
        ("[1,2]\n[3,4]\n[5]", "events_per_delivery_max"),
        ("[\"12345678\"]\n[\"123456789\"]", "delivery_bytes_max"),
    ] {
        let answer = send(&host, LINES, body).await;
        let detail = refused(&host, &answer, 422, "mapping_failed").await;
        assert!(detail.contains(named) && detail.starts_with("line "), "{detail}");
    }
    assert_eq!(send(&host, LINES, "[1,2]\n[3,4]").await.status, 200);
    assert_eq!(payloads(&host).await, ["1", "2", "3", "4"]);
    host.stop().await;

    // The attributes of a CloudEvent stand in the metadata of each member's event: they count each time.
    let mut setup =
        Setup::new(&[("t/triggers/one.yaml", &trigger("one", &format!("{OPEN}\nsplit: \"$[*]\"")))]);
    setup.config.delivery_bytes_max = 5000;
    let host = setup.start().await;
    let long = "x".repeat(2000);
    for (data, status) in [(json!([1, 2]), 200), (json!([1, 2, 3]), 422)] {
        let body = event("1", &json!({"subject": long, "data": data})).to_string();
        assert_eq!(send(&host, EVENT, body).await.status, status);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_comes_again_is_stored_once_by_whatever_tells_its_payloads_apart() {
    let host = one("webhook: {enabled: true, verify: none, idempotency: {key: $.id}}").await;
    let first = send(&host, LINES, "{\"id\":1}\n{\"id\":2}\n{}\n").await;
    assert_eq!((first.status, payloads(&host).await.len()), (200, 3));
    let detail = host.logged(&first).await.1;
    assert_eq!(detail, "1 of 3 stored without an idempotency key: they lack it");
    let keys: Vec<Option<String>> =
        sqlx::query_scalar("select idempotency_key from hookpack.event order by id")
            .fetch_all(&host.pool)
            .await
            .unwrap();
    assert_eq!(keys, [Some("1".to_owned()), Some("2".to_owned()), None]);

    // Another batch that overlaps: what is new in it is stored, and the answer names the others by their first ids.
    let overlapping = send(&host, LINES, "{\"id\":2}\n{\"id\":3}").await;
    assert_eq!(payloads(&host).await.len(), 4);
    assert_eq!(overlapping.json()["data"]["events"][0], first.json()["data"]["events"][1]);
    let again = send(&host, LINES, "{\"id\":3}\n{\"id\":1}").await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(host.logged(&again).await.0, "duplicate");
    assert_eq!(payloads(&host).await.len(), 4);
    // Alone it is a delivery like any other: its key is the delivery's.
    assert_eq!(host.send("t.one", "{\"id\":9}").await.status, 200);
    host.stop().await;

    let host = one("webhook: {enabled: true, verify: none, idempotency: {key: \"header:x-id\"}}").await;
    let headers = [("content-type", LINES), ("x-id", "a")];
    let first = post(&host, &headers, "1\n1").await;
    let again = post(&host, &headers, "1\n1\n1").await;
    assert_eq!((again.text, again.headers.contains_key("idempotency-replayed")), (first.text, true));
    assert_eq!(payloads(&host).await, ["1", "1"], "the key is the delivery's");
    host.stop().await;

    let strict = "webhook: {enabled: true, verify: none, idempotency: {key: attribute:id, required: true}}\nsplit: \"$[*]\"";
    let host = one(strict).await;
    let batch = |id: &str| json!([event(id, &json!({"data": [1, 2]})), event("x", &json!({"data": [3]}))]);
    assert_eq!(send(&host, EVENTS, batch("a").to_string()).await.status, 200);
    let keys: Vec<String> = sqlx::query_scalar("select idempotency_key from hookpack.event order by id")
        .fetch_all(&host.pool)
        .await
        .unwrap();
    assert_eq!(keys, ["a", "a/1", "x"]);
    assert_eq!(send(&host, EVENTS, batch("b").to_string()).await.status, 200);
    assert_eq!(payloads(&host).await, ["1", "2", "3", "1", "2"]);
    assert_eq!(
        send(&host, EVENTS, batch("b").to_string()).await.header("idempotency-replayed"),
        Some("true")
    );
    refused(&host, &send(&host, LINES, "[1]").await, 400, "key_missing").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_of_a_pack_can_be_forms_lines_and_cloudevents() {
    let files = [
        ("t/pack.yaml", "ref: t\nname: t\nversion: 1.0.0\n"),
        ("t/triggers/one.yaml", &trigger("one", OPEN) as &str),
        (
            "t/tests/one.yaml",
            r#"
trigger: t.one
cases:
  - name: a form
    request: {form: {a: 1, b: [x, y z], c: true}}
    expect: {status: 200, events: [{payload: {a: "1", b: [x, y z], c: "true"}}]}
  - name: lines
    request:
      headers: {Content-Type: application/x-ndjson}
      text: "{\"n\": 1}\n{\"n\": 2}\n"
    expect: {status: 200, events: [{payload: {n: 1}}, {payload: {n: 2}}]}
  - name: a structured event
    request:
      headers: {Content-Type: application/cloudevents+json}
      json: {specversion: "1.0", id: A, source: /shop, type: paid, data: {n: 1}}
    expect: {status: 200, events: [{payload: {n: 1}}]}
  - name: a text
    request: {text: hello}
    expect: {status: 200, events: [{payload: hello}]}
"#,
        ),
    ];
    let setup = Setup::new(&files);
    let folder = setup.config.packs.join("t");
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_hookpack"))
        .args(["pack", "test", folder.to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && told.contains("4 passed, 0 failed"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_is_signed_and_is_no_part_of_the_document() {
    let host =
        one("webhook: {enabled: true, preset: github, secrets: [secret], idempotency: {key: $.id}}").await;
    let body = "\u{feff}{\"id\": \"a\", \"n\": 1.10}";
    for (signed, status) in [(body, 200), (body.trim_start_matches('\u{feff}'), 401)] {
        let signature = github_signature(signed.as_bytes(), SECRET);
        let headers = [("content-type", "application/json"), ("x-hub-signature-256", signature.as_str())];
        assert_eq!(post(&host, &headers, body).await.status, status);
    }
    assert_eq!(payloads(&host).await, [&body[3..]]);
    host.stop().await;

    // Where the proof lies in the JSON, it is found.
    let host = one("webhook: {enabled: true, verify: {token: {json: $.token}}, secrets: [secret]}").await;
    let body = format!("\u{feff}{{\"token\": \"{SECRET}\"}}");
    assert_eq!(send(&host, "application/json", body).await.status, 200);
    let lines = format!("\u{feff}{}\n{}", event("1", &json!({})), event("2", &json!({})));
    let open = one(OPEN).await;
    assert_eq!(send(&open, LINES, lines).await.status, 200);
    let batch = format!("\u{feff}{}", json!([event("3", &json!({"data": 3}))]));
    assert_eq!(send(&open, EVENTS, batch).await.status, 200);
    assert_eq!(payloads(&open).await.len(), 3);
    host.stop().await;
    open.stop().await;
}

/// Google Calendar and Drive put everything into headers.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_body_and_content_type_is_an_event_where_schema_and_mapping_take_it() {
    let push = "
webhook:
  enabled: true
  verify: {token: {header: X-Goog-Channel-Token}}
  secrets: [secret]
  idempotency: {key: \"header:X-Goog-Message-Number\", required: true}
match: {\"header:X-Goog-Resource-State\": [sync, exists]}
mapping:
  fields:
    channel: {from: \"header:X-Goog-Channel-ID\", required: true}
    state: header:X-Goog-Resource-State
";
    let text = trigger("one", push).replace("payload_schema: true", "payload_schema: {type: 'null'}");
    let host = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    let sent = |number: &'static str| {
        [
            ("x-goog-channel-token", SECRET),
            ("x-goog-channel-id", "c1"),
            ("x-goog-resource-state", "exists"),
            ("x-goog-message-number", number),
        ]
    };
    assert_eq!(post(&host, &sent("1"), "").await.status, 200);
    let again = post(&host, &sent("1"), "").await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(payloads(&host).await, [r#"{"channel":"c1","state":"exists"}"#]);
    // A type is declared, and there is no such document.
    let typed: Vec<_> = sent("2").into_iter().chain([("content-type", "application/json")]).collect();
    refused(&host, &post(&host, &typed, "").await, 400, "undecodable").await;
    host.stop().await;

    let host = one(OPEN).await;
    assert_eq!(post(&host, &[], "").await.status, 200);
    assert_eq!(payloads(&host).await, ["null"]);
    host.stop().await;
    let text = trigger("one", OPEN).replace("payload_schema: true", "payload_schema: {type: object}");
    let host = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    refused(&host, &post(&host, &[], "").await, 422, "schema_violation").await;
    host.stop().await;
}
