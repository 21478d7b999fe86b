//! Keys of endpoints: enabled, disabled, regenerated, paused; several of them, each with its time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, TestHost};

const CLOSED: &str =
    "name: any\nref: one.any\ntype: webhook\npayload_schema: {type: object}\nwebhook: {verify: none}\n";
const OPEN: &str = "name: any\nref: one.any\ntype: webhook\npayload_schema: {type: object}\nwebhook: {verify: none, enabled: true}\n";

async fn act(host: &TestHost, owner: &str, action: &str) -> Answer {
    host.ask("POST", &format!("/api/v1/{owner}/webhooks/{action}"), Value::Null).await
}

/// What a sender hears at a URL that the API shows.
async fn heard(host: &TestHost, url: &Value) -> u16 {
    let sent = host.http.post(url.as_str().unwrap()).header("content-type", "application/json").body("{}");
    sent.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn an_endpoint_is_enabled_paused_resumed_regenerated_and_disabled() {
    for owner in ["triggers/one.any", "packs/one"] {
        let host = Setup::new(&[("one/triggers/any.yaml", CLOSED)]).start().await;
        let before = host.api(&format!("/api/v1/{owner}/webhooks")).await.json();
        assert_eq!(before["data"]["webhook_enabled"], false, "{before}");
        assert_eq!(before["data"]["webhook_url"], Value::Null);
        assert_eq!(act(&host, owner, "regenerate").await.status, 400);
        assert_eq!(act(&host, owner, "pause").await.status, 400);

        let enabled = act(&host, owner, "enable").await.json()["data"].clone();
        let key = enabled["webhook_key"].as_str().unwrap();
        assert!(key.starts_with("wh_") && key.len() == 35, "{enabled}");
        assert_eq!(heard(&host, &enabled["webhook_url"]).await, 200);
        assert_eq!(act(&host, owner, "enable").await.json()["data"]["webhook_key"], key);

        assert_eq!(act(&host, owner, "pause").await.json()["data"]["webhook_paused"], true);
        assert_eq!(heard(&host, &enabled["webhook_url"]).await, 403);
        assert_eq!(act(&host, owner, "resume").await.json()["data"]["webhook_paused"], false);
        assert_eq!(heard(&host, &enabled["webhook_url"]).await, 200);

        let fresh = act(&host, owner, "regenerate").await.json()["data"].clone();
        assert_ne!(fresh["webhook_key"], key);
        assert_eq!(heard(&host, &enabled["webhook_url"]).await, 404);
        assert_eq!(heard(&host, &fresh["webhook_url"]).await, 200);

        act(&host, owner, "pause").await;
        let disabled = act(&host, owner, "disable").await.json()["data"].clone();
        assert_eq!((&disabled["webhook_enabled"], &disabled["webhook_key"]), (&json!(false), &Value::Null));
        assert_eq!(heard(&host, &fresh["webhook_url"]).await, 404);
        assert_eq!(act(&host, owner, "disable").await.status, 200);
        // Enabled again it is as new: another key, and not paused.
        let again = act(&host, owner, "enable").await.json()["data"].clone();
        assert_ne!(again["webhook_key"], fresh["webhook_key"]);
        assert_eq!(heard(&host, &again["webhook_url"]).await, 200);
        host.stop().await;
    }
}

#[tokio::test]
async fn what_an_operator_has_disabled_no_new_version_of_the_pack_enables() {
    let host = Setup::new(&[("one/triggers/any.yaml", CLOSED)]).start().await;
    assert_eq!(act(&host, "triggers/one.any", "disable").await.status, 200);
    crate::harness::write(&host.packs().join("one/triggers/any.yaml"), OPEN);
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    let shown = host.api("/api/v1/triggers/one.any/webhooks").await.json();
    assert_eq!(shown["data"]["webhook_enabled"], false, "{shown}");
    host.stop().await;
}

#[tokio::test]
async fn further_keys_open_the_same_endpoint_until_they_end() {
    let mut setup = Setup::new(&[("one/triggers/any.yaml", OPEN)]);
    setup.config.endpoint_keys_max = 3;
    let host = setup.start().await;
    let keys = "/api/v1/triggers/one.any/webhooks/keys";
    let add = async |body: Value| host.ask("POST", keys, body).await;
    let long = add(json!({"label": "shop in Bern"})).await;
    assert_eq!(long.status, 201, "{}", long.text);
    let long = long.json()["data"].clone();
    let brief =
        add(json!({"label": "a trial", "expires_at": "2026-11-22T11:00:00Z"})).await.json()["data"].clone();
    assert_eq!(add(json!({"label": "one too many"})).await.status, 409);
    for key in [&long, &brief] {
        assert_eq!(heard(&host, &key["webhook_url"]).await, 200);
    }
    let shown = host.api("/api/v1/triggers/one.any/webhooks").await.json()["data"].clone();
    let labels: Vec<_> = shown["keys"].as_array().unwrap().iter().map(|key| key["label"].clone()).collect();
    assert_eq!(labels, [Value::Null, json!("shop in Bern"), json!("a trial")]);
    assert_eq!(shown["keys"][0]["main"], true);

    host.clock.advance(Duration::from_hours(1));
    assert_eq!(heard(&host, &brief["webhook_url"]).await, 404);
    assert_eq!(heard(&host, &long["webhook_url"]).await, 200);
    let id = |key: &Value| format!("{keys}/{}", key["id"].as_str().unwrap());
    assert_eq!(host.ask("DELETE", &id(&shown["keys"][0]), Value::Null).await.status, 409);
    assert_eq!(host.ask("DELETE", &id(&long), Value::Null).await.status, 204);
    assert_eq!(host.ask("DELETE", &id(&long), Value::Null).await.status, 404);
    assert_eq!(heard(&host, &long["webhook_url"]).await, 404);
    // The others do not change when the main one is replaced.
    act(&host, "triggers/one.any", "regenerate").await;
    let shown = host.api("/api/v1/triggers/one.any/webhooks").await.json()["data"].clone();
    assert_eq!(shown["keys"].as_array().unwrap().len(), 2);
    assert_eq!(shown["keys"][1]["id"], brief["id"]);
    host.stop().await;
}

#[tokio::test]
async fn a_key_is_ended_while_its_pack_is_away_too() {
    let host = Setup::new(&[("one/triggers/any.yaml", OPEN)]).start().await;
    let path = "/api/v1/triggers/one.any/webhooks";
    let further =
        host.ask("POST", &format!("{path}/keys"), json!({"label": "leaked"})).await.json()["data"].clone();
    let main = host.url("one.any");
    std::fs::rename(host.packs().join("one"), host.folder.path().join("away")).unwrap();
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    let id = further["id"].as_str().unwrap();
    assert_eq!(host.ask("DELETE", &format!("{path}/keys/{id}"), Value::Null).await.status, 204);
    assert_eq!(act(&host, "triggers/one.any", "enable").await.status, 404);
    assert_eq!(act(&host, "triggers/one.any", "disable").await.status, 204);
    assert_eq!(act(&host, "triggers/one.any", "disable").await.status, 404);
    std::fs::rename(host.folder.path().join("away"), host.packs().join("one")).unwrap();
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    for url in [json!(main), further["webhook_url"].clone()] {
        assert_eq!(heard(&host, &url).await, 404);
    }
    host.stop().await;
}

#[tokio::test]
async fn what_a_key_may_be_is_told() {
    let host = Setup::new(&[("one/triggers/any.yaml", OPEN)]).start().await;
    for (body, told) in [
        (json!({}), "missing field `label`"),
        (json!({"label": ""}), "`label`"),
        (json!({"label": "x", "expires_at": "2020-01-01T00:00:00Z"}), "in the past"),
        (json!({"label": "x", "expires": 1}), "unknown field `expires`"),
    ] {
        let answer = host.ask("POST", "/api/v1/triggers/one.any/webhooks/keys", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.text.contains(told), "{body}: {}", answer.text);
    }
    assert_eq!(act(&host, "triggers/one.any", "explode").await.status, 400);
    assert_eq!(act(&host, "triggers/one.none", "enable").await.status, 404);
    host.stop().await;
}

#[tokio::test]
async fn keys_are_changed_with_the_right_token_alone_and_leave_a_trail() {
    let host = Setup::new(&[("one/triggers/any.yaml", OPEN)]).start().await;
    let (read, bound) = (host.token("read", None).await, host.token("write", Some(&["other"])).await);
    let path = "/api/v1/triggers/one.any/webhooks/regenerate";
    assert_eq!(host.ask_as(&read, "POST", path, Value::Null).await.status, 403);
    assert_eq!(host.ask_as(&bound, "POST", path, Value::Null).await.status, 404);
    let own = host.token("write", Some(&["one"])).await;
    let key = host.ask_as(&own, "POST", path, Value::Null).await.json()["data"]["webhook_key"].clone();
    let trail = host.api("/api/v1/audit?subject=one.any").await;
    assert_eq!(trail.json()["data"][0]["action"], "webhook.regenerate");
    assert_eq!(trail.json()["data"][0]["actor"], "a write token");
    assert!(!trail.text.contains(key.as_str().unwrap()), "{}", trail.text);
    host.stop().await;
}
