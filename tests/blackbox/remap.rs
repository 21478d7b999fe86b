//! What a stored delivery would become through the pack as it is now.

use std::num::NonZeroU32;

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, TestHost, write};

const TRIGGER: &str = "name: any\nref: one.any\ntype: webhook\npayload_schema: {type: object}\nsplit: $.items[*]\n\
    webhook: {enabled: true, verify: {token: {header: x-token}}, secrets: [secret], on_invalid: quarantine}\n\
    mapping: {fields: {n: $.n, from: {const: v1}}}\n";

async fn host(days: u32, trigger: &str) -> TestHost {
    let mut setup = Setup::new(&[("one/triggers/any.yaml", trigger)]);
    setup.config.kept_request_days = NonZeroU32::new(days);
    setup.start().await
}

async fn send(host: &TestHost, body: &str) -> Answer {
    let sent = host.post("one.any").header("x-token", crate::harness::SECRET).body(body.to_owned());
    Answer::of(sent.send().await.unwrap()).await
}

async fn becomes(host: &TestHost, trigger: &str) {
    write(&host.packs().join("one/triggers/any.yaml"), trigger);
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
}

async fn remap(host: &TestHost, id: &Value) -> Answer {
    host.ask("POST", &format!("/api/v1/events/{}/remap", id.as_str().unwrap()), Value::Null).await
}

#[tokio::test]
async fn a_kept_delivery_is_mapped_again_and_nothing_is_stored() {
    let host = host(7, TRIGGER).await;
    let events = send(&host, r#"{"items": [{"n": 1.0}, {"n": 2}]}"#).await.json()["data"]["events"].clone();
    let same = remap(&host, &events[1]["event_id"]).await;
    assert_eq!(same.status, 200, "{}", same.text);
    assert_eq!(same.json()["data"]["same"], true, "{}", same.text);
    assert!(same.text.contains(r#""n":1.0"#), "digits are as they were sent: {}", same.text);

    becomes(&host, &TRIGGER.replace("const: v1", "const: v2")).await;
    let other = remap(&host, &events[0]["event_id"]).await.json()["data"].clone();
    assert_eq!((&other["same"], &other["outcome"]), (&json!(false), &json!("accepted")));
    assert_eq!(
        other["differences"],
        json!([{"pointer": "/0/from", "stored": "v1", "mapped": "v2"}, {"pointer": "/1/from", "stored": "v1", "mapped": "v2"}])
    );
    becomes(&host, &TRIGGER.replace("n: $.n", "n: {from: $.missing, required: true}")).await;
    let failed = remap(&host, &events[0]["event_id"]).await.json()["data"].clone();
    assert_eq!((&failed["outcome"], &failed["mapped"]), (&json!("mapping_failed"), &json!([])));
    assert_eq!(host.count("select count(*) from hookpack.event").await, 2);
    assert_eq!(host.count("select count(*) from hookpack.kept_request").await, 1);
    let kept: String = sqlx::query_scalar("select headers::text from hookpack.kept_request")
        .fetch_one(&host.pool)
        .await
        .unwrap();
    assert!(!kept.contains(crate::harness::SECRET), "{kept}");
    let read = host.token("read", None).await;
    let path = format!("/api/v1/events/{}/remap", events[0]["event_id"].as_str().unwrap());
    assert_eq!(host.ask_as(&read, "POST", &path, Value::Null).await.status, 403);
    host.clock.advance(std::time::Duration::from_hours(24 * 8));
    hookpack::tidy::forget(&host.running.as_ref().unwrap().host).await.unwrap();
    assert_eq!(host.count("select count(*) from hookpack.kept_request").await, 0);
    assert_eq!(remap(&host, &events[0]["event_id"]).await.status, 409);
    host.stop().await;
}

#[tokio::test]
async fn without_its_request_nothing_can_be_mapped_again_and_the_setting_is_told() {
    let host = host(0, TRIGGER).await;
    let events = send(&host, r#"{"items": [{"n": 1}]}"#).await.json()["data"]["events"].clone();
    let answer = remap(&host, &events[0]["event_id"]).await;
    assert_eq!(answer.status, 409);
    assert!(answer.text.contains("kept_request_days"), "{}", answer.text);
    assert_eq!(remap(&host, &json!(uuid::Uuid::now_v7().to_string())).await.status, 404);
    assert_eq!(host.count("select count(*) from hookpack.kept_request").await, 0);
    host.stop().await;
}

#[tokio::test]
async fn what_was_replayed_from_the_quarantine_can_be_mapped_again() {
    let broken = TRIGGER.replace("n: $.n", "n: {from: $.missing, required: true}");
    let host = host(0, &broken).await;
    assert_eq!(send(&host, r#"{"items": [{"n": 1}]}"#).await.status, 202);
    becomes(&host, TRIGGER).await;
    assert_eq!(host.ask("POST", "/api/v1/quarantine/replay", json!({})).await.json()["data"]["replayed"], 1);
    let event = host.api("/api/v1/events").await.json()["data"][0].clone();
    let answer = remap(&host, &event["id"]).await;
    assert_eq!(answer.json()["data"]["same"], true, "{}", answer.text);
    host.stop().await;
}
