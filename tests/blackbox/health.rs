//! `/healthz` and `/readyz`: what they say, and that their words are in the API's own description.

use serde_json::{Value, json};

use crate::harness::{Setup, TestHost};

const OPEN: &str = "name: open\nref: t.open\ntype: webhook\npayload_schema: true
webhook: {enabled: true, verify: none}\n";
const SHUT: &str = "name: shut\nref: t.shut\ntype: webhook\npayload_schema: true
webhook: {enabled: true, preset: github, secrets: [nobody_has_it]}\n";

async fn ready(host: &TestHost) -> (u16, Value) {
    // Whoever balances has no token.
    let answer = host.ask_as("nobody", "GET", "/readyz", Value::Null).await;
    (answer.status, answer.json())
}

fn check<'a>(told: &'a Value, name: &str) -> &'a Value {
    let checks = told["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {told}"))
}

#[tokio::test]
async fn readiness_tells_what_was_looked_at() {
    let host = Setup::new(&[("t/triggers/open.yaml", OPEN)]).start().await;
    let (status, told) = ready(&host).await;
    assert_eq!((status, &told["status"], &told["reasons"]), (200, &json!("ready"), &json!([])));
    for name in ["database", "queue", "packs_folder", "packs", "overrides", "master_key", "secrets"] {
        assert_eq!(check(&told, name)["status"], "ok");
    }
    host.running.as_ref().unwrap().host.pool.close().await;
    let (status, told) = ready(&host).await;
    assert_eq!((status, &told["status"]), (503, &json!("unavailable")));
    assert_eq!(check(&told, "database")["status"], "failed");
    assert_eq!(told["reasons"], json!(["the database is away"]));
    assert_eq!(host.ask_as("nobody", "GET", "/healthz", Value::Null).await.json(), json!({"status": "ok"}));
    host.stop().await;
}

#[tokio::test]
async fn what_does_not_work_is_a_reason_and_no_refusal() {
    let files = [("t/triggers/shut.yaml", SHUT), ("broken/pack.yaml", "ref: broken\nversoin: 1\n")];
    let host = Setup::new(&files).start().await;
    let (status, told) = ready(&host).await;
    assert_eq!((status, &told["status"]), (200, &json!("degraded")), "{told}");
    assert_eq!(check(&told, "secrets")["reasons"], json!(["secret missing: nobody_has_it"]));
    assert_eq!(check(&told, "packs")["status"], "degraded");
    assert_eq!(check(&told, "database")["status"], "ok");
    assert_eq!(told["reasons"].as_array().unwrap().len(), 2, "{told}");
    host.stop().await;
}

#[tokio::test]
async fn health_is_in_the_apis_own_description() {
    let host = Setup::new(&[("t/triggers/open.yaml", OPEN)]).start().await;
    let document = host.api("/openapi.json").await.json();
    for (path, statuses) in [("/healthz", &["200"][..]), ("/readyz", &["200", "503"])] {
        let operation = &document["paths"][path]["get"];
        for status in statuses {
            assert!(operation["responses"][status].is_object(), "{path} {status}");
        }
        assert_eq!(operation["security"], json!([{}]), "no token is needed");
    }
    host.stop().await;
}
