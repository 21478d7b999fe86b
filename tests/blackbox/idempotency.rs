//! One delivery, one event: whoever sends it again, whenever, wherever.

use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::{Answer, NOW, Setup, TestDatabase, TestHost};

fn trigger(idempotency: &str) -> String {
    format!(
        "name: one\nref: t.one\ntype: webhook\npayload_schema: {{properties: {{n: {{type: integer}}}}}}
webhook: {{enabled: true, verify: none, idempotency: {idempotency}}}\n"
    )
}

async fn host(idempotency: &str) -> TestHost {
    Setup::new(&[("t/triggers/one.yaml", &trigger(idempotency))]).start().await
}

async fn send(host: &TestHost, key: &str, body: &str) -> Answer {
    Answer::of(host.post("t.one").header("x-id", key).body(body.to_owned()).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_twins_on_two_hosts_become_one_row_and_equal_answers() {
    let database = TestDatabase::new().await;
    let text = trigger("{key: \"header:x-id\"}");
    let one = Setup::new(&[("t/triggers/one.yaml", &text)]).start_on(&database).await;
    // Two hosts on one database share the master key.
    let mut setup = Setup::new(&[("t/triggers/one.yaml", &text)]);
    setup.config.master_key_file = Some(one.folder.path().join("data/master-key"));
    let two = setup.start_on(&database).await;
    assert_eq!(
        one.url("t.one").rsplit('/').next(),
        two.url("t.one").rsplit('/').next(),
        "one key for both hosts"
    );

    for round in 0..10 {
        let key = format!("delivery {round}");
        let twins = (0..32).map(|number| send(if number % 2 == 0 { &one } else { &two }, &key, "{\"n\": 1}"));
        let answers = join_all(twins).await;
        let firsts =
            answers.iter().filter(|answer| !answer.headers.contains_key("idempotency-replayed")).count();
        assert_eq!(firsts, 1, "one was first");
        for answer in &answers {
            assert_eq!((answer.status, &answer.text), (200, &answers[0].text));
        }
        assert_eq!(one.count("select count(*) from hookpack.event").await, round + 1);
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_is_not_the_first() {
    let host = host("{key: \"header:x-id\"}").await;
    assert_eq!(send(&host, "a", "{\"n\": \"x\"}").await.status, 422);
    let stored = send(&host, "a", "{\"n\": 1}").await;
    assert_eq!((stored.status, stored.header("idempotency-replayed")), (200, None));
    // What the second one says no longer matters: it is the same delivery. The log says that it is another body.
    let again = send(&host, "a", "{\"n\": 2}").await;
    let note = "the body differs from that of the first delivery of this key".to_owned();
    assert_eq!(host.logged(&again).await, ("duplicate".to_owned(), note));
    let same = send(&host, "a", "{\"n\": 1}").await;
    assert_eq!(host.logged(&same).await, ("duplicate".to_owned(), String::new()));
    assert_eq!((again.text, again.headers.contains_key("idempotency-replayed")), (stored.text, true));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_window_a_key_is_new_again() {
    let host = host("{key: \"header:x-id\", window_hours: 2}").await;
    let first = send(&host, "a", "{}").await;
    host.clock.advance(Duration::from_secs(2 * 3600 - 1));
    assert_eq!(send(&host, "a", "{}").await.text, first.text);
    host.clock.advance(Duration::from_secs(1));
    let second = send(&host, "a", "{}").await;
    assert_ne!(second.text, first.text);
    assert_eq!(send(&host, "a", "{}").await.text, second.text);
    assert_eq!(host.count("select count(*) from hookpack.event").await, 2);
    assert!(host.clock.now() > NOW);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_the_key_is_stored_without_one_unless_it_is_required() {
    let lenient = host("{key: $.id}").await;
    for body in ["{}", "{}", r#"{"id": null}"#, r#"{"id": {}}"#, r#"{"id": ""}"#] {
        let answer = lenient.send("t.one", body).await;
        assert_eq!(answer.status, 200);
        let (outcome, detail) = lenient.logged(&answer).await;
        assert_eq!(
            (outcome.as_str(), detail.as_str()),
            ("accepted", "stored without an idempotency key: the request lacks it")
        );
    }
    assert_eq!(lenient.count("select count(*) from hookpack.event where idempotency_key is null").await, 5);
    lenient.stop().await;

    let strict = host("{key: $.id, required: true}").await;
    let answer = strict.send("t.one", "{}").await;
    assert_eq!(answer.status, 400);
    assert_eq!(strict.logged(&answer).await.0, "key_missing");
    strict.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_can_be_a_key() {
    let host = host("{key: $.id}").await;
    let long = "x".repeat(100_000);
    for id in [
        r#""a""#,
        "7",
        "12345678901234567890123",
        r#""\u0000""#,
        r#""a\u0000b""#,
        &format!("\"{long}\""),
        r#""é🦀""#,
    ] {
        let body = format!("{{\"id\": {id}}}");
        let first = host.send("t.one", &body).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (200, None), "{}", first.text);
        assert_eq!(host.send("t.one", &body).await.text, first.text);
    }
    assert_eq!(host.count("select count(*) from hookpack.event").await, 7);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_itself_can_be_the_key() {
    let host = host("{key: \"sha256({body})\"}").await;
    let first = host.send("t.one", "{\"n\": 1}").await;
    assert_eq!(host.send("t.one", "{\"n\": 1}").await.text, first.text);
    assert_ne!(host.send("t.one", "{\"n\":1}").await.text, first.text);
    host.stop().await;
}

/// As `GoCardless` sends: what has an id is the member, and a member may come again in another delivery.
#[tokio::test(flavor = "multi_thread")]
async fn under_split_each_event_can_have_its_own_key() {
    let text = trigger("{event_key: $.id}") + "split: $.events[*]\n";
    let host_ = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    let keys = async || -> Vec<Option<String>> {
        let sql = "select idempotency_key from hookpack.event order by id";
        sqlx::query_scalar(sql).fetch_all(&host_.pool).await.unwrap()
    };
    let first = host_.send("t.one", r#"{"events": [{"id": "a"}, {"id": 7}]}"#).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let again = host_.send("t.one", r#"{"events": [{"id": "a"}, {"id": 7}]}"#).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = host_.send("t.one", r#"{"events": [{"id": 7}, {"id": "b"}, {"n": 1}]}"#).await;
    assert_eq!((other.status, other.header("idempotency-replayed")), (200, None));
    let (_, detail) = host_.logged(&other).await;
    assert!(detail.contains("1 stored without a key of their own"), "{detail}");
    assert!(detail.contains("1 of 3 events were stored before"), "{detail}");
    let own = ["a", "7", "b"].map(|key| Some(key.to_owned()));
    let mut stored = keys().await;
    stored.sort();
    let mut expected = own.to_vec();
    expected.push(None);
    expected.sort();
    assert_eq!(stored, expected);
    host_.stop().await;

    let text = trigger("{event_key: $.id, key: \"header:x-id\", required: true}") + "split: $.events[*]\n";
    let host_ = Setup::new(&[("t/triggers/one.yaml", &text)]).start().await;
    assert_eq!(send(&host_, "1", r#"{"events": [{"id": "a"}, {"n": 1}]}"#).await.status, 400);
    assert_eq!(host_.send("t.one", r#"{"events": [{"id": "a"}]}"#).await.status, 400);
    let first = send(&host_, "1", r#"{"events": [{"id": "a"}]}"#).await;
    assert_eq!(
        send(&host_, "1", r#"{"events": [{"id": "b"}]}"#).await.text,
        first.text,
        "the delivery's comes first"
    );
    assert_eq!(
        send(&host_, "2", r#"{"events": [{"id": "a"}]}"#).await.header("idempotency-replayed"),
        Some("true")
    );
    assert_eq!(host_.count("select count(*) from hookpack.event").await, 1);
    host_.stop().await;
}
