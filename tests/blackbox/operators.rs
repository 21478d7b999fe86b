//! Who may ask the management API, and what they are told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Setup, TestHost};

const TRIGGER: &str = "name: any\nref: PACK.any\ntype: webhook\npayload_schema: {type: object}\nwebhook: {enabled: true, verify: none}\n";

async fn two_packs() -> TestHost {
    let one = TRIGGER.replace("PACK", "one");
    let two = TRIGGER.replace("PACK", "two");
    Setup::new(&[("one/triggers/any.yaml", &one), ("two/triggers/any.yaml", &two)]).start().await
}

#[tokio::test]
async fn a_scope_includes_the_ones_below_it_and_no_other() {
    let host = two_packs().await;
    let [read, write, admin] =
        [host.token("read", None).await, host.token("write", None).await, host.token("admin", None).await];
    for (method, path, allowed) in [
        ("GET", "/api/v1/packs", [200, 200, 200]),
        ("GET", "/api/v1/events", [200, 200, 200]),
        ("POST", "/api/v1/packs/reload", [403, 200, 200]),
        ("GET", "/api/v1/tokens", [403, 403, 200]),
        ("GET", "/api/v1/audit", [403, 403, 200]),
    ] {
        for (token, status) in [&read, &write, &admin].into_iter().zip(allowed) {
            let answer = host.ask_as(token, method, path, Value::Null).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        }
        assert_eq!(host.ask_as("hp_nobody", method, path, Value::Null).await.status, 401);
    }
    host.stop().await;
}

#[tokio::test]
async fn who_may_only_read_sees_no_key() {
    let host = two_packs().await;
    let (read, write) = (host.token("read", None).await, host.token("write", None).await);
    let key = host.url("one.any").rsplit_once('/').unwrap().1.to_owned();
    for path in ["/api/v1/triggers", "/api/v1/triggers/one.any", "/api/v1/triggers/one.any/webhooks"] {
        assert!(!host.ask_as(&read, "GET", path, Value::Null).await.text.contains(&key), "{path}");
        assert!(host.ask_as(&write, "GET", path, Value::Null).await.text.contains(&key), "{path}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_token_that_is_bound_to_packs_reaches_nothing_else() {
    let host = two_packs().await;
    let bound = host.token("write", Some(&["one"])).await;
    for reference in ["one.any", "two.any"] {
        assert_eq!(host.send(reference, "{}").await.status, 200);
    }
    let ask = async |path: &str| host.ask_as(&bound, "GET", path, Value::Null).await;
    for (path, wanted) in [
        ("/api/v1/packs/one", 200),
        ("/api/v1/packs/two", 404),
        ("/api/v1/triggers/one.any", 200),
        ("/api/v1/triggers/two.any", 404),
        ("/api/v1/triggers/two.any/webhooks", 404),
        ("/api/v1/packs/two/webhooks", 404),
    ] {
        assert_eq!(ask(path).await.status, wanted, "{path}");
    }
    for path in ["/api/v1/packs", "/api/v1/triggers", "/api/v1/events", "/api/v1/requests"] {
        let answer = ask(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text.contains("two"), "{path}: {}", answer.text);
    }
    let theirs = host.api("/api/v1/events?trigger=two.any").await.json()["data"][0]["id"].clone();
    assert_eq!(ask(&format!("/api/v1/events/{}", theirs.as_str().unwrap())).await.status, 404);
    let reload = host.ask_as(&bound, "POST", "/api/v1/packs/reload", Value::Null).await;
    assert_eq!(reload.status, 403, "{}", reload.text);
    host.stop().await;
}

#[tokio::test]
async fn a_token_ends_when_it_is_revoked_and_when_its_time_is_over() {
    let host = two_packs().await;
    let body = json!({"label": "for an hour", "scope": "read", "expires_at": "2026-11-22T11:00:00Z"});
    let brief = host.ask("POST", "/api/v1/tokens", body).await.json()["data"].clone();
    let body = json!({"label": "until it is revoked", "scope": "read"});
    let long = host.ask("POST", "/api/v1/tokens", body).await.json()["data"].clone();
    let status = async |token: &Value| {
        host.ask_as(token["token"].as_str().unwrap(), "GET", "/api/v1/packs", Value::Null).await.status
    };
    assert_eq!((status(&brief).await, status(&long).await), (200, 200));
    host.clock.advance(Duration::from_hours(1));
    assert_eq!((status(&brief).await, status(&long).await), (401, 200));
    let path = format!("/api/v1/tokens/{}", long["id"].as_str().unwrap());
    assert_eq!(host.ask("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(status(&long).await, 401);
    assert_eq!(host.ask("DELETE", &path, Value::Null).await.status, 404);

    let trail = host.ask("GET", "/api/v1/audit", Value::Null).await.json()["data"].clone();
    let actions: Vec<_> =
        trail.as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["token.revoke", "token.create", "token.create"]);
    assert_eq!(trail[0]["actor"], "admin token of the data folder");
    assert_eq!(trail[0]["source_ip"], "127.0.0.1");
    let told = trail.to_string();
    assert!(!told.contains(long["token"].as_str().unwrap()), "{told}");
    host.stop().await;
}

#[tokio::test]
async fn what_a_token_may_be_is_told() {
    let host = two_packs().await;
    for (body, told) in [
        (json!({"scope": "read"}), "missing field `label`"),
        (json!({"label": " ", "scope": "read"}), "`label`"),
        (json!({"label": "x", "scope": "root"}), "unknown variant `root`"),
        (json!({"label": "x", "scope": "read", "packs": []}), "`packs` is empty"),
        (json!({"label": "x", "scope": "read", "packs": ["../x"]}), "can't be the ref"),
        (json!({"label": "x", "scope": "admin", "packs": ["one"]}), "can't have the scope `admin`"),
        (json!({"label": "x", "scope": "read", "expires_at": "2020-01-01T00:00:00Z"}), "in the past"),
        (json!({"label": "x", "scope": "read", "colour": 1}), "unknown field `colour`"),
    ] {
        let answer = host.ask("POST", "/api/v1/tokens", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.text.contains(told), "{body}: {}", answer.text);
    }
    host.stop().await;
}

#[tokio::test]
async fn whoever_guesses_tokens_is_not_heard_for_a_while() {
    let mut setup = Setup::new(&[("one/triggers/any.yaml", &TRIGGER.replace("PACK", "one"))]);
    setup.config.wrong_token_rate_limit = hookpack::config::RateLimit::new(3, 60);
    let host = setup.start().await;
    let guess = async || host.ask_as("hp_guess", "GET", "/api/v1/packs", Value::Null).await;
    for _ in 0..4 {
        assert_eq!(guess().await.status, 401);
    }
    let answer = guess().await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("20"));
    assert_eq!(host.api("/api/v1/packs").await.status, 429);
    // Webhooks have nothing to do with it.
    assert_eq!(host.send("one.any", "{}").await.status, 200);
    host.clock.advance(Duration::from_secs(21));
    assert_eq!(host.api("/api/v1/packs").await.status, 200);
    host.stop().await;
}

#[tokio::test]
async fn the_api_describes_itself() {
    let host = two_packs().await;
    let answer = host.ask_as("nobody", "GET", "/openapi.json", Value::Null).await;
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    let operation = &document["paths"]["/api/v1/triggers/{ref}/webhooks"]["get"];
    assert!(operation["responses"]["200"].is_object() && operation["responses"]["404"].is_object());
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    host.stop().await;
}

#[tokio::test]
async fn a_refused_request_is_shown_in_full_and_none_of_its_secrets() {
    let trigger = TRIGGER
        .replace("PACK", "one")
        .replace("verify: none", "verify: {token: {header: x-proof}}, secrets: [secret]");
    let host = Setup::new(&[("one/triggers/any.yaml", &trigger)]).start().await;
    let sent = host.post("one.any").header("x-proof", "hush 1").header("authorization", "Bearer hush 2");
    let sent = sent.header("cookie", "hush=3").header("x-their-token", "hush 4").header("x-note", "one");
    let sent = sent.header("x-note", "two").body("{}").send().await.unwrap();
    let answer = crate::harness::Answer::of(sent).await;
    assert_eq!(answer.status, 401);
    host.logged(&answer).await;
    let shown = host.api(&format!("/api/v1/requests/{}", answer.header("x-request-id").unwrap())).await;
    assert!(!shown.text.contains("hush"), "{}", shown.text);
    let headers = shown.json()["data"]["headers"].clone();
    assert_eq!((&headers["x-note"], &headers["x-proof"]), (&json!(["one", "two"]), &json!(["…"])));
    let stranger = host
        .http
        .post(format!("http://{}/api/v1/webhooks/wh_nobody", host.address))
        .header("x-secret", "hush 5");
    let answer = crate::harness::Answer::of(stranger.send().await.unwrap()).await;
    host.logged(&answer).await;
    let shown = host.api(&format!("/api/v1/requests/{}", answer.header("x-request-id").unwrap())).await;
    assert_eq!(shown.json()["data"]["headers"]["x-secret"], json!(["…"]), "{}", shown.text);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_take_long_leave_room_for_everything_else() {
    let host = two_packs().await;
    let read = host.token("read", None).await;
    assert_eq!(host.ask_as(&read, "GET", "/api/v1/packs", Value::Null).await.status, 200);
    // Nobody can read the events until this ends.
    let mut lock = host.pool.begin().await.unwrap();
    sqlx::query("lock table hookpack.event in access exclusive mode").execute(&mut *lock).await.unwrap();
    let searches = (0..20).map(|_| host.ask_as(&read, "GET", "/api/v1/events?contains=%7B%7D", Value::Null));
    let searches = futures_util::future::join_all(searches);
    let others = async {
        crate::harness::eventually("searches that wait", async || {
            let sql = "select count(*) from pg_stat_activity where datname = current_database()
                       and wait_event_type = 'Lock' and query like '%hookpack.event%'";
            (host.count(sql).await >= 5).then_some(())
        })
        .await;
        assert_eq!(host.api("/readyz").await.status, 200);
        assert_eq!(host.ask_as(&read, "GET", "/api/v1/triggers", Value::Null).await.status, 200);
        lock.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(searches, others);
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    host.stop().await;
}

#[tokio::test]
async fn a_word_that_nobody_knows_is_no_filter() {
    let host = two_packs().await;
    for (path, told) in [
        ("/api/v1/events?triger=one.any", "unknown field `triger`"),
        ("/api/v1/requests?outcome=acepted", "did you mean `accepted`"),
        ("/api/v1/quarantine?cause=schema", "known here"),
        ("/api/v1/stats?since=yesterday", "or a day"),
    ] {
        let answer = host.api(path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        assert!(answer.text.contains(told), "{path}: {}", answer.text);
    }
    assert_eq!(host.api("/api/v1/stats?since=2026-11-22").await.status, 200);
    host.stop().await;
}
