//! Statistics: every row of the request log is counted once, however it came there.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use hookpack::{store::batch, tidy::sum_up};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    event_keys::{Host, delivery, under_key},
    harness::{Setup, TestDatabase, TestHost, eventually},
};

const TRIGGER: &str = "name: any\nref: PACK.any\ntype: webhook\npayload_schema: {required: [n]}\n\
    webhook: {enabled: true, verify: none, idempotency: {key: $.id}}\n";

async fn two_packs() -> TestHost {
    let (one, two) = (TRIGGER.replace("PACK", "one"), TRIGGER.replace("PACK", "two"));
    Setup::new(&[("one/triggers/any.yaml", &one), ("two/triggers/any.yaml", &two)]).start().await
}

async fn stats(host: &TestHost, query: &str) -> Value {
    let answer = host.api(&format!("/api/v1/stats{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].clone()
}

/// The same, once so many requests are counted: refusals are logged a little after they are answered.
async fn stats_of(host: &TestHost, requests: i64) -> Value {
    eventually("all requests to be counted", async || {
        Some(stats(host, "").await).filter(|stats| stats["total"]["requests"] == requests)
    })
    .await
}

/// Requests by outcome, deltas and sums together.
async fn counted(pool: &PgPool) -> BTreeMap<String, i64> {
    let sql = "select outcome, sum(requests)::bigint from
               (select outcome, requests from hookpack.request_count
                union all select outcome, requests from hookpack.request_count_delta) c
               group by outcome having sum(requests) <> 0";
    sqlx::query_as::<_, (String, i64)>(sql).fetch_all(pool).await.unwrap().into_iter().collect()
}

async fn logged(pool: &PgPool) -> BTreeMap<String, i64> {
    let sql = "select outcome, count(*) from hookpack.request_log group by outcome";
    sqlx::query_as::<_, (String, i64)>(sql).fetch_all(pool).await.unwrap().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_is_counted_by_trigger_and_outcome() {
    let host = two_packs().await;
    assert_eq!(host.send("one.any", r#"{"id": "a", "n": 1}"#).await.status, 200);
    host.clock.advance(Duration::from_mins(1));
    assert_eq!(host.send("one.any", r#"{"id": "b", "n": 1}"#).await.status, 200);
    host.clock.advance(Duration::from_mins(1));
    assert_eq!(host.send("one.any", r#"{"id": "b", "n": 1}"#).await.status, 200);
    assert_eq!(host.send("one.any", "{}").await.status, 422);
    assert_eq!(host.send("two.any", "{").await.status, 400);
    let nobody = format!("http://{}/api/v1/webhooks/wh_nobody", host.address);
    assert_eq!(host.http.post(nobody).send().await.unwrap().status(), 404);

    let told = stats_of(&host, 6).await;
    assert_eq!(told["since"], "2026-10-23");
    let total =
        json!({"accepted": 2, "duplicate": 1, "schema_violation": 1, "undecodable": 1, "unknown_key": 1});
    assert_eq!(told["total"]["outcomes"], total);
    let [one, two] = &told["triggers"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&one["ref"], &two["ref"]), (&json!("one.any"), &json!("two.any")));
    assert_eq!(one["outcomes"], json!({"accepted": 2, "duplicate": 1, "schema_violation": 1}));
    assert_eq!((&one["requests"], &one["body_bytes"]), (&json!(4), &json!(19 * 3 + 2)));
    assert_eq!(one["last_request_at"], "2026-11-22T10:02:00Z");
    assert_eq!(one["last_event_at"], "2026-11-22T10:01:00Z");
    assert_eq!(two["last_event_at"], Value::Null);
    let quantile = |name: &str| one["duration_us"][name].as_u64().unwrap();
    assert!(0 < quantile("p50") && quantile("p50") <= quantile("p95") && quantile("p95") <= quantile("p99"));

    // Summed up or not, it is the same; and some time it is, by itself.
    sum_up(&host.running.as_ref().unwrap().host).await.unwrap();
    assert_eq!(stats(&host, "").await, told);
    assert_eq!(host.send("two.any", r#"{"id": "c", "n": 1}"#).await.status, 200);
    eventually("counts to be summed up", async || {
        let left = host.count("select count(*) from hookpack.request_count_delta").await;
        (left == 0 && host.count("select sum(requests)::bigint from hookpack.request_count").await == 7)
            .then_some(())
    })
    .await;

    let narrow = stats(&host, "?trigger=two.any").await;
    assert_eq!((&narrow["total"]["requests"], narrow["triggers"].as_array().unwrap().len()), (&json!(2), 1));
    assert_eq!(stats(&host, "?since=2026-11-23T00:00:00Z").await["total"]["requests"], 0);
    let bound = host.token("read", Some(&["two"])).await;
    let theirs = host.ask_as(&bound, "GET", "/api/v1/stats", Value::Null).await;
    assert_eq!(theirs.json()["data"]["total"]["requests"], 2);
    assert!(!theirs.text.contains("one.any"));

    let key = host.api("/api/v1/triggers/one.any/webhooks").await.json()["data"]["keys"][0].clone();
    assert_eq!((&key["requests"], &key["last_used_at"]), (&json!(4), &json!("2026-11-22T10:02:00Z")));
    let body = json!({"label": "another"});
    let added = host.ask("POST", "/api/v1/triggers/one.any/webhooks/keys", body).await.json()["data"].clone();
    assert_eq!((&added["requests"], &added["last_used_at"]), (&json!(0), &Value::Null));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_tried_twice_counts_once() {
    let database = TestDatabase::new().await;
    let (plain, keyed) = (delivery(&[""]), under_key("k", delivery(&[""])));
    let mut db = database.pool.acquire().await.unwrap();
    for _ in 0..2 {
        batch::store(&mut db, &[&plain, &keyed], true).await.unwrap();
        batch::log(&mut db, &[(plain.log.clone(), None)]).await.unwrap();
    }
    assert_eq!(counted(&database.pool).await, BTreeMap::from([("accepted".to_owned(), 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_out_to_be_a_repetition_is_counted_as_one() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    host.store(&delivery(&["a", "b"])).await;
    // All of it was there; and then a part.
    host.store(&delivery(&["b", "a"])).await;
    host.store(&delivery(&["b", "c"])).await;
    let told = BTreeMap::from([("accepted".to_owned(), 2), ("duplicate".to_owned(), 1)]);
    assert_eq!(logged(&database.pool).await, told);
    assert_eq!(counted(&database.pool).await, told);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_while_two_hosts_sum_up() {
    let database = TestDatabase::new().await;
    let text = TRIGGER.replace("PACK", "one");
    let one = Setup::new(&[("one/triggers/any.yaml", &text)]).start_on(&database).await;
    let mut setup = Setup::new(&[("one/triggers/any.yaml", &text)]);
    setup.config.master_key_file = Some(one.folder.path().join("data/master-key"));
    let two = setup.start_on(&database).await;
    let hosts = [&one, &two];
    let send = |number: usize| async move {
        let body = format!(r#"{{"id": "{}", "n": 1}}"#, number % 150);
        assert_eq!(hosts[number % 2].send("one.any", &body).await.status, 200);
        if number.is_multiple_of(10) {
            sum_up(&hosts[number % 4 / 2].running.as_ref().unwrap().host).await.unwrap();
        }
    };
    for round in 0..10 {
        join_all((round * 30..round * 30 + 30).map(send)).await;
    }
    let told = BTreeMap::from([("accepted".to_owned(), 150), ("duplicate".to_owned(), 150)]);
    eventually("every row of the log", async || (logged(&database.pool).await == told).then_some(())).await;
    assert_eq!(counted(&database.pool).await, told);
    one.stop().await;
    two.stop().await;
}
