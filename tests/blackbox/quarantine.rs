//! Quarantine: what a pack could make nothing of is kept whole, and becomes its event once the pack is mended.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Setup, TestDatabase, TestHost, eventually, write};

const BROKEN: &str = "name: any\nref: one.any\ntype: webhook\npayload_schema: {required: [nobody_sends_this]}\n\
    webhook: {enabled: true, verify: none, on_invalid: quarantine, keep_headers: [X-Kept], idempotency: {key: $.id}}\n";

fn mended() -> String {
    let mapping = "mapping: {fields: {number: $.n, where: 'query:place'}}\n";
    BROKEN.replace("[nobody_sends_this]", "[n]") + mapping
}

async fn broken() -> TestHost {
    Setup::new(&[("one/triggers/any.yaml", BROKEN)]).start().await
}

/// Another text of the trigger, in force.
async fn change(host: &TestHost, text: &str) {
    write(&host.packs().join("one/triggers/any.yaml"), text);
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
}

async fn keep(host: &TestHost, body: &str) {
    let answer = host.send("one.any", body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

/// Ids of what is kept, the newest first.
async fn ids(host: &TestHost, query: &str) -> Vec<String> {
    let answer = host.api(&format!("/api/v1/quarantine{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let rows = answer.json()["data"].as_array().unwrap().clone();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

async fn replay(host: &TestHost, id: &str) -> Value {
    let answer = host.api_post(&format!("/api/v1/quarantine/{id}/replay")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_day_of_a_broken_pack() {
    let host = broken().await;
    let url = format!("{}?place=here", host.url("one.any"));
    let request = host.http.post(url).header("content-type", "application/json").header("x-kept", "yes");
    let first = Answer::of(request.body(r#"{"id": "a", "n": 1.50}"#).send().await.unwrap()).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let request_id = first.header("x-request-id").unwrap();

    let [id] = &ids(&host, "?trigger=one.any&cause=schema_violation&state=open").await[..] else { panic!() };
    for nothing in
        ["?trigger=one.other", "?cause=mapping_failed", "?state=replayed", "?since=2027-01-01T00:00:00Z"]
    {
        assert!(ids(&host, nothing).await.is_empty(), "{nothing}");
    }
    let shown = host.api(&format!("/api/v1/quarantine/{id}")).await.json()["data"].clone();
    assert_eq!(shown["request_id"], request_id);
    assert_eq!(
        (&shown["state"], &shown["attempts"], &shown["query"]),
        (&json!("open"), &json!(0), &json!("place=here"))
    );
    assert_eq!(shown["body"], r#"{"id": "a", "n": 1.50}"#);
    assert_eq!(shown["body_base64"], "eyJpZCI6ICJhIiwgIm4iOiAxLjUwfQ==");
    assert_eq!(shown["headers"]["x-kept"], json!(["yes"]));
    assert!(shown["detail"].as_str().unwrap().contains("nobody_sends_this"), "{shown}");

    // Still broken: it goes on waiting, with what it fails on now.
    let again = replay(&host, id).await;
    assert_eq!((&again["state"], &again["outcome"]), (&json!("open"), &json!("schema_violation")));
    change(&host, &mended().replace("$.n,", "{from: $.m, required: true},")).await;
    assert_eq!(replay(&host, id).await["outcome"], "mapping_failed");
    let shown = host.api(&format!("/api/v1/quarantine/{id}")).await.json()["data"].clone();
    assert_eq!((&shown["cause"], &shown["attempts"]), (&json!("mapping_failed"), &json!(2)));
    assert!(shown["detail"].as_str().unwrap().contains("$.m"), "{shown}");
    assert!(host.events().await.is_empty());

    host.clock.advance(Duration::from_hours(5));
    change(&host, &mended()).await;
    let done = replay(&host, id).await;
    assert_eq!((&done["state"], &done["outcome"]), (&json!("replayed"), &json!("accepted")));
    let event_id = done["event_id"].as_str().unwrap();
    let event = host.api(&format!("/api/v1/events/{event_id}")).await.json()["data"].clone();
    assert_eq!(event["payload"].to_string(), r#"{"number":1.50,"where":"here"}"#);
    assert_eq!(
        (&event["received_at"], &event["idempotency_key"]),
        (&json!("2026-11-22T10:00:00Z"), &json!("a"))
    );
    assert_eq!(event["metadata"]["request_id"], request_id);
    assert_eq!(event["metadata"]["headers"]["x-kept"], "yes");
    // Its row in the log is what it was, and leads to the event.
    let row = host.api(&format!("/api/v1/requests/{request_id}")).await.json()["data"].clone();
    assert_eq!((&row["outcome"], &row["event_id"]), (&json!("quarantined"), &json!(event_id)));
    // Whoever asks again hears the same.
    assert_eq!(replay(&host, id).await, done);
    assert_eq!(ids(&host, "?state=replayed").await, std::slice::from_ref(id));
    // To its sender it was stored then: a repetition hears so.
    let retry = host.send("one.any", r#"{"id": "a", "n": 1.50}"#).await;
    assert_eq!((retry.status, retry.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(retry.json()["data"]["event_id"], event_id);
    assert_eq!(host.events().await.len(), 1);
    let trail = host.api("/api/v1/audit?action=quarantine.replay").await.json()["data"].clone();
    assert_eq!(trail.as_array().unwrap().len(), 3);
    assert_eq!((&trail[0]["subject"], &trail[0]["detail"]["event_id"]), (&json!(id), &json!(event_id)));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_replays_at_once_on_two_hosts_are_one_event() {
    let database = TestDatabase::new().await;
    let one = Setup::new(&[("one/triggers/any.yaml", BROKEN)]).start_on(&database).await;
    for number in 0..3 {
        keep(&one, &format!(r#"{{"id": "k{number}", "n": {number}}}"#)).await;
    }
    // Nobody's key: without one, too, a request becomes its event once.
    keep(&one, r#"{"n": 3}"#).await;
    let mut setup = Setup::new(&[("one/triggers/any.yaml", &mended())]);
    setup.config.master_key_file = Some(one.folder.path().join("data/master-key"));
    let two = setup.start_on(&database).await;
    change(&one, &mended()).await;
    for id in ids(&one, "").await {
        let path = format!("/api/v1/quarantine/{id}/replay");
        let replays =
            (0..20).map(|number| if number % 2 == 0 { one.api_post(&path) } else { two.api_post(&path) });
        let answers = join_all(replays).await;
        let told: Vec<_> = answers.iter().map(|answer| (answer.status, answer.text.as_str())).collect();
        assert_eq!(told[0].0, 200, "{}", told[0].1);
        assert!(told.iter().all(|answer| *answer == told[0]), "{told:?}");
    }
    assert_eq!(one.events().await.len(), 4);
    two.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_sender_sent_again_meanwhile_is_not_stored_twice() {
    let host = broken().await;
    keep(&host, r#"{"id": "a", "n": 1}"#).await;
    // The same delivery, three times: it failed each time.
    keep(&host, r#"{"id": "b", "n": 1}"#).await;
    keep(&host, r#"{"id": "b", "n": 1}"#).await;
    change(&host, &mended()).await;
    let retry = host.send("one.any", r#"{"id": "a", "n": 1}"#).await;
    assert_eq!(retry.status, 200, "{}", retry.text);
    let [b2, b1, a] = &ids(&host, "").await[..] else { panic!() };
    // Long after the window: what waits is remembered all the same.
    host.clock.advance(Duration::from_hours(24 * 30));
    let told = replay(&host, a).await;
    assert_eq!(
        (&told["outcome"], &told["event_id"]),
        (&json!("duplicate"), &retry.json()["data"]["event_id"])
    );
    let first = replay(&host, b1).await;
    assert_eq!(first["outcome"], "accepted");
    let second = replay(&host, b2).await;
    assert_eq!((&second["outcome"], &second["event_id"]), (&json!("duplicate"), &first["event_id"]));
    assert_eq!(host.events().await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_replayed_in_chunks() {
    let host = broken().await;
    keep(&host, r#"{"id": "first", "n": 0}"#).await;
    // As 1,199 more requests would have left them; every hundredth fails on.
    let sql = r#"insert into hookpack.quarantine
        select gen_random_uuid(), gen_random_uuid(), received_at, trigger_ref, pack_version, cause, detail, method, path, query,
               source_ip, headers, convert_to(case when i % 100 = 0 then '{}' else '{"n": ' || i || '}' end, 'UTF8'), 'k' || i,
               owner_ref
        from hookpack.quarantine, generate_series(1, 1199) i"#;
    sqlx::query(sql).execute(&host.pool).await.unwrap();
    change(&host, &mended()).await;
    let nobody = host.ask("POST", "/api/v1/quarantine/replay", json!({"trigger": "one.other"})).await;
    assert_eq!(
        nobody.json()["data"],
        json!({"replayed": 0, "duplicates": 0, "still_failing": 0, "left": 0, "next_cursor": null})
    );
    let (mut replayed, mut failing, mut cursor, mut calls) = (0, 0, Value::Null, 0);
    loop {
        let body = json!({"trigger": "one.any", "cause": "schema_violation", "limit": 500, "cursor": cursor});
        let answer = host.ask("POST", "/api/v1/quarantine/replay", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let told = answer.json()["data"].clone();
        replayed += told["replayed"].as_i64().unwrap();
        failing += told["still_failing"].as_i64().unwrap();
        assert_eq!(told["left"].as_i64().unwrap(), 1200 - replayed - failing);
        calls += 1;
        cursor = told["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!((replayed, failing), (1189, 11));
    assert!(calls >= 3, "{calls}");
    assert_eq!(host.events().await.len(), 1189);
    assert_eq!(host.count("select count(*) from hookpack.quarantine where replayed_at is null").await, 11);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_packs_url_each_trigger_has_its_own_second_chance() {
    let trigger = |name: &str, schema: &str| {
        format!(
            "name: {name}\nref: p.{name}\ntype: webhook\npayload_schema: {schema}\nwebhook: {{verify: none, on_invalid: quarantine}}\n"
        )
    };
    let pack = "ref: p\nname: p\nversion: 1.0.0\nendpoint: {enabled: true}\n\
        webhook: {verify: none, idempotency: {key: $.id}}\n";
    let (good, bad) = ("true", "{required: [x]}");
    let host = Setup::new(&[
        ("p/pack.yaml", pack),
        ("p/triggers/a.yaml", &trigger("a", good)),
        ("p/triggers/b.yaml", &trigger("b", bad)),
        ("p/triggers/c.yaml", &trigger("c", bad)),
    ])
    .start()
    .await;
    let sent = host.send("p", r#"{"id": "k"}"#).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    // To its sender it is stored: a repetition is none, and adds nothing.
    assert_eq!(host.send("p", r#"{"id": "k"}"#).await.header("idempotency-replayed"), Some("true"));
    assert_eq!(ids(&host, "").await.len(), 2);
    for name in ["b", "c"] {
        write(&host.packs().join(format!("p/triggers/{name}.yaml")), &trigger(name, good));
    }
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    for id in ids(&host, "").await {
        assert_eq!(replay(&host, &id).await["outcome"], "accepted");
    }
    let mut stored: Vec<_> = host.events().await.into_iter().map(|(trigger_ref, _)| trigger_ref).collect();
    stored.sort();
    assert_eq!(stored, ["p.a", "p.b", "p.c"]);
    let keys = "select count(*) from hookpack.event where idempotency_key = 'k'";
    assert_eq!(host.count(keys).await, 3);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_can_be_deleted_and_waits_while_its_pack_is_away() {
    let host = broken().await;
    keep(&host, r#"{"id": "a", "n": 1}"#).await;
    keep(&host, r#"{"id": "b", "n": 1}"#).await;
    let [b, a] = &ids(&host, "").await[..] else { panic!() };
    assert_eq!(host.ask("DELETE", &format!("/api/v1/quarantine/{a}"), Value::Null).await.status, 204);
    for (method, path) in [("DELETE", ""), ("GET", ""), ("POST", "/replay")] {
        let path = format!("/api/v1/quarantine/{a}{path}");
        assert_eq!(host.ask(method, &path, Value::Null).await.status, 404, "{method} {path}");
    }
    let trail = host.api("/api/v1/audit").await.json()["data"][0].clone();
    assert_eq!((&trail["action"], &trail["subject"]), (&json!("quarantine.delete"), &json!(a)));

    fs::remove_dir_all(host.packs().join("one")).unwrap();
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    let path = format!("/api/v1/quarantine/{b}/replay");
    let answer = eventually("a pack that is gone", async || {
        Some(host.api_post(&path).await).filter(|answer| answer.status == 409)
    })
    .await;
    assert!(answer.text.contains("one.any is not there"), "{}", answer.text);
    let many = host.ask("POST", "/api/v1/quarantine/replay", json!({})).await.json()["data"].clone();
    assert_eq!((&many["still_failing"], &many["left"]), (&json!(1), &json!(0)));
    assert_eq!(ids(&host, "?state=open").await, std::slice::from_ref(b));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_replays_what_its_scope_and_its_packs_allow() {
    let two = BROKEN.replace("one.", "two.");
    let host =
        Setup::new(&[("one/triggers/any.yaml", BROKEN), ("two/triggers/any.yaml", &two)]).start().await;
    for reference in ["one.any", "two.any"] {
        assert_eq!(host.send(reference, r#"{"n": 1}"#).await.status, 202);
    }
    let (read, bound) = (host.token("read", None).await, host.token("write", Some(&["one"])).await);
    let [two, one] = &ids(&host, "").await[..] else { panic!() };
    for (token, id, [get, replay, delete]) in
        [(&read, one, [200, 403, 403]), (&bound, two, [404, 404, 404]), (&bound, one, [200, 200, 204])]
    {
        let path = format!("/api/v1/quarantine/{id}");
        let ask = async |method: &str, path: &str| host.ask_as(token, method, path, Value::Null).await.status;
        assert_eq!(ask("GET", &path).await, get);
        assert_eq!(ask("POST", &format!("{path}/replay")).await, replay);
        assert_eq!(ask("DELETE", &path).await, delete);
    }
    assert_eq!(host.ask_as(&read, "POST", "/api/v1/quarantine/replay", json!({})).await.status, 403);
    let many =
        host.ask_as(&bound, "POST", "/api/v1/quarantine/replay", json!({})).await.json()["data"].clone();
    assert_eq!((&many["still_failing"], &many["left"]), (&json!(0), &json!(0)));
    let listed = host.ask_as(&bound, "GET", "/api/v1/quarantine", Value::Null).await.json();
    assert_eq!(listed["data"], json!([]));
    host.stop().await;
}

const WINDOW: &str = "idempotency: {key: $.id, window_hours: 1}";

/// Every key whose time is over is forgotten, as the host does each minute.
async fn sweep(host: &TestHost) {
    let mut connection = host.pool.acquire().await.unwrap();
    let now = host.clock.now();
    hookpack::store::batch::forget_expired(&mut connection, now, 1000).await.unwrap();
    hookpack::store::event_keys::forget_expired(&mut connection, now, 1000).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_were_stored_meanwhile_are_not_stored_again_long_after() {
    let with_window = |text: &str| text.replace("idempotency: {key: $.id}", WINDOW);
    let host = Setup::new(&[("one/triggers/any.yaml", &with_window(BROKEN))]).start().await;
    let batch = async || {
        let sent = host.http.post(host.url("one.any")).header("content-type", "application/x-ndjson");
        sent.body("{\"id\": \"a\", \"n\": 1}\n{\"id\": \"b\", \"n\": 2}\n").send().await.unwrap().status()
    };
    assert_eq!(batch().await, 202);
    change(&host, &with_window(&mended())).await;
    assert_eq!(batch().await, 200);
    host.clock.advance(Duration::from_hours(3));
    sweep(&host).await;
    let [id] = &ids(&host, "?state=open").await[..] else { panic!() };
    assert_eq!(replay(&host, id).await["outcome"], "duplicate");
    assert_eq!(host.events().await.len(), 2);
    // Nothing waits any more: now they may be forgotten.
    host.clock.advance(Duration::from_hours(9));
    sweep(&host).await;
    assert_eq!(host.count("select count(*) from hookpack.event_key").await, 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_delivery_that_was_kept_twice_is_one_event_though_its_key_has_another_holder() {
    let with_window = |text: &str| text.replace("idempotency: {key: $.id}", WINDOW);
    let host = Setup::new(&[("one/triggers/any.yaml", &with_window(BROKEN))]).start().await;
    let body = r#"{"id": "a", "n": 1}"#;
    keep(&host, body).await;
    keep(&host, body).await;
    let [second, first] = &ids(&host, "?state=open").await[..] else { panic!() };
    change(&host, &with_window(&mended())).await;
    host.clock.advance(Duration::from_hours(2));
    // Another delivery that has the same name, long after.
    assert_eq!(host.send("one.any", body).await.status, 200);
    assert_eq!(replay(&host, first).await["outcome"], "accepted");
    assert_eq!(replay(&host, second).await["outcome"], "duplicate");
    assert_eq!(host.events().await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_sender_sent_again_is_found_though_its_key_has_another_holder() {
    let with_window = |text: &str| text.replace("idempotency: {key: $.id}", WINDOW);
    let host = Setup::new(&[("one/triggers/any.yaml", &with_window(BROKEN))]).start().await;
    let body = r#"{"id": "a", "n": 1}"#;
    keep(&host, body).await;
    change(&host, &with_window(&mended())).await;
    assert_eq!(host.send("one.any", body).await.status, 200);
    host.clock.advance(Duration::from_hours(2));
    assert_eq!(host.send("one.any", body).await.status, 200);
    let [id] = &ids(&host, "?state=open").await[..] else { panic!() };
    assert_eq!(replay(&host, id).await["outcome"], "duplicate");
    assert_eq!(host.events().await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_the_database_refuses_does_not_hold_up_those_behind_it() {
    let host = broken().await;
    for n in ["\"poison\"", "1", "2"] {
        keep(&host, &format!(r#"{{"id": {n}, "n": {n}}}"#)).await;
    }
    change(&host, &mended()).await;
    let guard = "alter table hookpack.event add constraint mine check (payload::text not like '%poison%')";
    sqlx::query(guard).execute(&host.pool).await.unwrap();
    let answer = host.ask("POST", "/api/v1/quarantine/replay", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let chunk = &answer.json()["data"];
    assert_eq!(
        (&chunk["replayed"], &chunk["still_failing"], &chunk["left"]),
        (&json!(2), &json!(1), &json!(0))
    );
    let [id] = &ids(&host, "?state=open").await[..] else { panic!() };
    let shown = host.api(&format!("/api/v1/quarantine/{id}")).await.json()["data"].clone();
    assert_eq!((&shown["cause"], &shown["attempts"]), (&json!("store_refused"), &json!(1)), "{shown}");
    sqlx::query("alter table hookpack.event drop constraint mine").execute(&host.pool).await.unwrap();
    assert_eq!(replay(&host, id).await["outcome"], "accepted");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_log_nor_the_quarantine_keeps_the_key_that_a_proxy_repeats() {
    let signed = BROKEN.replace("verify: none", "verify: {token: {header: x-proof}}, secrets: [secret]");
    let host = Setup::new(&[("one/triggers/any.yaml", &signed)]).start().await;
    let url = host.url("one.any");
    let key = url.rsplit_once('/').unwrap().1.to_owned();
    for (proof, status) in [(crate::harness::SECRET, 202), ("wrong", 401)] {
        let sent = host.http.post(&url).header("content-type", "application/json").header("x-proof", proof);
        let sent =
            sent.header("x-original-uri", format!("/api/v1/webhooks/{key}?a=1")).header("referer", &url);
        let answer = Answer::of(sent.header("x-their-token", "hush").body("{}").send().await.unwrap()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        host.logged(&answer).await;
    }
    for sql in [
        "select headers::text from hookpack.quarantine",
        "select headers::text from hookpack.request_log where status = 401",
    ] {
        let headers: String = sqlx::query_scalar(sql).fetch_one(&host.pool).await.unwrap();
        assert!(headers.contains("/api/v1/webhooks/…?a=1") && !headers.contains(&key), "{sql}: {headers}");
    }
    let [id] = &ids(&host, "").await[..] else { panic!() };
    let shown = host.api(&format!("/api/v1/quarantine/{id}")).await;
    assert!(!shown.text.contains("hush") && shown.text.contains("x-their-token"), "{}", shown.text);
    host.stop().await;
}
