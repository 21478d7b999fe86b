//! What operators want otherwise than a pack: it is checked like a pack, outlives its versions, and shows where it differs.

use serde_json::{Value, json};

use crate::harness::{Setup, TestHost, write};

const PACK: &str = "ref: one\nname: One\nversion: 1.0.0\nwebhook: {payload_size_limit_kb: 8}\n";
const TRIGGER: &str = "name: any\nref: one.any\ntype: webhook\npayload_schema: {type: object}\n\
    webhook: {enabled: true, verify: none, rate_limit: {requests: 100, window_seconds: 60}}\n";
const PATH: &str = "/api/v1/triggers/one.any/webhooks";

async fn one() -> TestHost {
    Setup::new(&[("one/pack.yaml", PACK), ("one/triggers/any.yaml", TRIGGER)]).start().await
}

async fn patch(host: &TestHost, body: Value) -> Value {
    let answer = host.ask("PATCH", PATH, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].clone()
}

async fn becomes(host: &TestHost, trigger: &str) {
    write(&host.packs().join("one/triggers/any.yaml"), trigger);
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
}

#[tokio::test]
async fn an_override_is_in_force_at_once_and_says_where_each_value_comes_from() {
    let host = one().await;
    let before = host.api(PATH).await.json()["data"].clone();
    let sources = &before["policy_sources"];
    assert_eq!((&sources["rate_limit"], &sources["payload_size_limit_kb"]), (&json!("pack"), &json!("pack")));
    assert_eq!(sources["ip_allowlist"], "default");

    let after = patch(&host, json!({"payload_size_limit_kb": 1, "ip_allowlist": ["127.0.0.0/8"]})).await;
    assert_eq!(after["policy"]["payload_size_limit_kb"], 1);
    assert_eq!(after["policy_sources"]["payload_size_limit_kb"], "operator");
    assert_eq!(after["policy_sources"]["rate_limit"], "pack");
    let large = format!(r#"{{"x": "{}"}}"#, "x".repeat(2000));
    assert_eq!(host.send("one.any", &large).await.status, 413);
    assert_eq!(host.send("one.any", "{}").await.status, 200);

    patch(&host, json!({"ip_allowlist": ["192.0.2.0/24"]})).await;
    assert_eq!(host.send("one.any", "{}").await.status, 403);
    let after = patch(&host, json!({"ip_allowlist": null, "payload_size_limit_kb": null})).await;
    assert_eq!((&after["overrides"], &after["policy"]["payload_size_limit_kb"]), (&json!([]), &json!(8)));
    assert_eq!(host.send("one.any", &large).await.status, 200);
    host.stop().await;
}

#[tokio::test]
async fn an_overridden_rate_limit_and_signature_hold() {
    let host = one().await;
    patch(&host, json!({"rate_limit": {"requests": 2, "window_seconds": 60}})).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(host.send("one.any", "{}").await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    patch(&host, json!({"rate_limit": null})).await;
    assert_eq!(host.send("one.any", "{}").await.status, 200);
    let token = json!({"token": {"header": "x-token"}});
    let after = patch(&host, json!({"signature": token, "secrets": ["secret"]})).await;
    assert_eq!(
        (&after["policy"]["verify"], &after["policy_sources"]["verify"]),
        (&json!("token"), &json!("operator"))
    );
    assert_eq!(host.send("one.any", "{}").await.status, 401);
    host.stop().await;
}

#[tokio::test]
async fn an_override_outlives_the_packs_versions_and_shows_what_they_changed() {
    let host = one().await;
    patch(&host, json!({"rate_limit": {"requests": 7, "window_seconds": 60}})).await;
    becomes(&host, &TRIGGER.replace("requests: 100", "requests: 50")).await;
    let shown = host.api(PATH).await.json()["data"].clone();
    assert_eq!(shown["policy"]["rate_limit"]["requests"], 7);
    let own = &shown["overrides"][0];
    assert_eq!(own["pack_value"], json!({"requests": 50, "window_seconds": 60}));
    assert_eq!(own["pack_value_then"], json!({"requests": 100, "window_seconds": 60}));
    assert_eq!(own["pack_changed"], true);
    // Said again, it is said of the pack as it is now.
    let shown = patch(&host, json!({"rate_limit": {"requests": 8, "window_seconds": 60}})).await;
    assert_eq!(shown["overrides"][0]["pack_changed"], false);

    // Away and back: it is the same operator's word.
    std::fs::rename(host.packs().join("one"), host.folder.path().join("away")).unwrap();
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    std::fs::rename(host.folder.path().join("away"), host.packs().join("one")).unwrap();
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    assert_eq!(host.api(PATH).await.json()["data"]["policy"]["rate_limit"]["requests"], 8);
    host.stop().await;
}

#[tokio::test]
async fn an_override_is_checked_like_a_pack_and_changes_nothing_when_it_is_wrong() {
    let host = one().await;
    for (body, status, told) in [
        (json!({"rate_limit": {"requests": 0, "window_seconds": 60}}), 422, "requests"),
        (json!({"rate_limit": {"requests": 1}}), 422, "window_seconds"),
        (json!({"ip_allowlist": ["nowhere"]}), 422, "nowhere"),
        (json!({"preset": "githup"}), 422, "github"),
        (json!({"payload_size_limit_kb": "big"}), 422, "payload_size_limit_kb"),
        (json!({"enabled": true}), 400, "enabled"),
        (json!({"rate_limits": null}), 400, "rate_limits"),
        (json!({"verify": "none", "signature": "none"}), 400, "one key"),
        (json!(["rate_limit"]), 400, "The body"),
    ] {
        let answer = host.ask("PATCH", PATH, body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(answer.text.contains(told), "{body}: {}", answer.text);
    }
    assert_eq!(host.api(PATH).await.json()["data"]["overrides"], json!([]));
    assert_eq!(host.send("one.any", "{}").await.status, 200);
    host.stop().await;
}

#[tokio::test]
async fn an_override_that_no_longer_fits_its_pack_lets_nobody_through() {
    let host = one().await;
    patch(&host, json!({"keep_headers": ["X-Proof"]})).await;
    assert_eq!(host.send("one.any", "{}").await.status, 200);
    // Now that header holds the sender's secret, which is never kept.
    becomes(&host, &TRIGGER.replace("verify: none", "verify: {token: {header: x-proof}}, secrets: [secret]"))
        .await;
    let answer = host.send("one.any", "{}").await;
    assert_eq!(answer.status, 503);
    assert!(host.logged(&answer).await.1.contains("override"), "{:?}", host.logged(&answer).await);
    let shown = host.api(PATH).await.json()["data"].clone();
    assert!(shown["override_faults"][0]["message"].as_str().unwrap().contains("never kept"), "{shown}");
    let ready = host.api("/readyz").await;
    assert!(ready.status == 200 && ready.text.contains("one.any"), "{}", ready.text);
    patch(&host, json!({"keep_headers": null})).await;
    assert_eq!(host.send("one.any", "{}").await.status, 401);
    host.stop().await;
}

#[tokio::test]
async fn a_pack_endpoint_has_overrides_of_its_own() {
    let pack = format!("{PACK}endpoint: {{enabled: true}}\n")
        .replace("{payload_size_limit_kb: 8}", "{payload_size_limit_kb: 8, verify: none}");
    let host = Setup::new(&[("one/pack.yaml", &pack), ("one/triggers/any.yaml", TRIGGER)]).start().await;
    let answer =
        host.ask("PATCH", "/api/v1/packs/one/webhooks", json!({"ip_allowlist": ["192.0.2.1/32"]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((host.send("one", "{}").await.status, host.send("one.any", "{}").await.status), (403, 200));
    host.stop().await;
}

/// By overrides a secret could be read out prefix by prefix: each of these chooses how it is read, or goes back to what
/// the pack says.
#[tokio::test]
async fn a_token_that_is_bound_to_packs_changes_nothing_of_whom_they_believe() {
    let host = one().await;
    let bound = host.token("write", Some(&["one"])).await;
    let verify = json!({"hmac": "sha256", "secret": {"strip": "It"}, "signed": "{body}",
        "signature": {"header": "x-sig", "encoding": "hex"}});
    for body in [
        json!({"preset": "svix"}),
        json!({"preset": null}),
        json!({"verify": verify}),
        json!({"signature": verify}),
        json!({"verify": "none"}),
        json!({"verify": null}),
        json!({"signature": null}),
        json!({"secrets": ["theirs"]}),
        json!({"secrets": null}),
        json!({"handshake": []}),
        json!({"handshake": null}),
        json!({"params": {"x": "y"}}),
        json!({"params": null}),
        json!({"rate_limit": null, "verify": "none"}),
    ] {
        for path in [PATH, "/api/v1/packs/one/webhooks"] {
            let answer = host.ask_as(&bound, "PATCH", path, body.clone()).await;
            assert_eq!(answer.status, 403, "{path} {body}: {}", answer.text);
        }
    }
    let other = json!({"rate_limit": {"requests": 5, "window_seconds": 1}});
    let answer = host.ask_as(&bound, "PATCH", PATH, other).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    host.stop().await;
}
