//! Secrets of the store: they go in, overlap for a grace time, and never come out.

use std::{fs, time::Duration};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{SECRET, Setup, TestHost, eventually, github_signature};

const GITHUB: &str = "name: push\nref: acme.push\ntype: webhook\npayload_schema: {type: object}\n\
    webhook: {enabled: true, preset: github, secrets: [acme]}\n";
const VALUE: &str = "a-secret-that-nobody-may-see";

async fn acme() -> TestHost {
    Setup::new(&[("acme/triggers/push.yaml", GITHUB)]).start().await
}

/// What a sender hears that signs with this secret.
async fn signed(host: &TestHost, secret: &str) -> u16 {
    let body = "{}";
    let sent =
        host.post("acme.push").header("x-hub-signature-256", github_signature(body.as_bytes(), secret));
    // Each is a delivery of its own.
    let sent = sent.header("x-github-delivery", uuid::Uuid::now_v7().to_string()).body(body);
    sent.send().await.unwrap().status().as_u16()
}

async fn put(host: &TestHost, name: &str, body: Value) -> crate::harness::Answer {
    host.ask("PUT", &format!("/api/v1/secrets/{name}"), body).await
}

#[tokio::test]
async fn a_trigger_is_closed_until_its_secret_is_set_and_open_at_once_then() {
    let host = acme().await;
    assert_eq!(signed(&host, VALUE).await, 503);
    let set = put(&host, "acme", json!({"value": VALUE})).await;
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!((signed(&host, VALUE).await, signed(&host, "another").await), (200, 401));
    assert_eq!(host.ask("DELETE", "/api/v1/secrets/acme", Value::Null).await.status, 204);
    assert_eq!(signed(&host, VALUE).await, 503);
    assert_eq!(host.ask("DELETE", "/api/v1/secrets/acme", Value::Null).await.status, 404);
    host.stop().await;
}

#[tokio::test]
async fn old_and_new_verify_together_for_the_grace_time() {
    let host = acme().await;
    put(&host, "acme", json!({"value": VALUE})).await;
    let rotated = host.ask("POST", "/api/v1/secrets/acme/rotate", json!({"grace_seconds": 60})).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let fresh = rotated.json()["data"]["value"].as_str().unwrap().to_owned();
    assert_eq!(rotated.json()["data"]["old_until"], "2026-11-22T10:01:00Z");
    assert_eq!((signed(&host, VALUE).await, signed(&host, &fresh).await), (200, 200));
    let shown = host.api("/api/v1/secrets").await.json()["data"].clone();
    let acme = shown.as_array().unwrap().iter().find(|secret| secret["name"] == "acme").unwrap();
    assert_eq!((acme["origin"].clone(), acme["used_by"].clone()), (json!("operator"), json!(["acme.push"])));
    let versions: Vec<_> = acme["versions"].as_array().unwrap().iter().map(|own| &own["version"]).collect();
    assert_eq!(versions, [2, 1]);
    host.clock.advance(Duration::from_mins(1));
    eventually("the end of the old version", async || (signed(&host, VALUE).await == 401).then_some(()))
        .await;
    assert_eq!(signed(&host, &fresh).await, 200);
    // Without a grace time the one before ends with the call.
    put(&host, "acme", json!({"value": VALUE})).await;
    assert_eq!((signed(&host, VALUE).await, signed(&host, &fresh).await), (200, 401));
    host.stop().await;
}

#[tokio::test]
async fn what_the_environment_provides_is_rotated_with_a_grace_time_too() {
    let github = GITHUB.replace("[acme]", "[secret]");
    let host = Setup::new(&[("acme/triggers/push.yaml", &github)]).start().await;
    assert_eq!(signed(&host, SECRET).await, 200);
    let rotated = host.ask("POST", "/api/v1/secrets/secret/rotate", Value::Null).await;
    let fresh = rotated.json()["data"]["value"].as_str().unwrap().to_owned();
    assert_eq!((signed(&host, SECRET).await, signed(&host, &fresh).await), (200, 200));
    host.clock.advance(Duration::from_hours(24));
    eventually("the end of the old value", async || (signed(&host, SECRET).await == 401).then_some(())).await;
    assert_eq!(signed(&host, &fresh).await, 200);
    // Once nothing is stored the environment counts again.
    host.ask("DELETE", "/api/v1/secrets/secret", Value::Null).await;
    assert_eq!((signed(&host, SECRET).await, signed(&host, &fresh).await), (200, 401));
    host.stop().await;
}

#[tokio::test]
async fn a_made_up_value_has_the_form_that_its_policies_want() {
    let trigger = |name: &str, webhook: &str| {
        format!(
            "name: {name}\nref: acme.{name}\ntype: webhook\npayload_schema: {{type: object}}\nwebhook: {webhook}\n"
        )
    };
    let host = Setup::new(&[
        ("acme/triggers/svix.yaml", &trigger("svix", "{preset: standard-webhooks, secrets: [acme_svix]}")),
        ("acme/triggers/plain.yaml", &trigger("plain", "{preset: github, secrets: [acme_plain, acme_both]}")),
        ("acme/triggers/other.yaml", &trigger("other", "{preset: standard-webhooks, secrets: [acme_both]}")),
        ("acme/triggers/public.yaml", &trigger("public", "{preset: discord, secrets: [acme_public]}")),
    ])
    .start()
    .await;
    let rotate =
        async |name: &str| host.ask("POST", &format!("/api/v1/secrets/{name}/rotate"), Value::Null).await;
    let svix = rotate("acme_svix").await.json()["data"]["value"].as_str().unwrap().to_owned();
    let coded = svix.strip_prefix("whsec_").unwrap_or_else(|| panic!("{svix}"));
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(coded).unwrap().len(), 32);
    let plain = rotate("acme_plain").await.json()["data"]["value"].as_str().unwrap().to_owned();
    assert_eq!(hex::decode(&plain).unwrap().len(), 32);
    for (name, told) in [("acme_public", "public key"), ("acme_both", "different forms")] {
        let answer = rotate(name).await;
        assert_eq!(answer.status, 409, "{}", answer.text);
        assert!(answer.text.contains(told), "{}", answer.text);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_value_shows_nowhere() {
    let host = acme().await;
    put(&host, "acme", json!({"value": VALUE})).await;
    put(&host, "acme", json!({"value": format!("{VALUE}-2"), "grace_seconds": 3600})).await;
    signed(&host, VALUE).await;
    for path in [
        "/api/v1/secrets",
        "/api/v1/audit",
        "/api/v1/requests",
        "/api/v1/triggers/acme.push/webhooks",
        "/readyz",
        "/metrics",
    ] {
        let answer = host.api(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text.contains(VALUE), "{path}: {}", answer.text);
    }
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("select value_sealed from hookpack.secret").fetch_all(&host.pool).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(!row.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()));
    }
    let running = &host.running.as_ref().unwrap().host;
    for told in [
        format!("{:?}", running.stored.load()),
        format!("{:?}", running.secrets.load()),
        format!("{:?}", running.config),
    ] {
        assert!(!told.contains(VALUE), "{told}");
    }
    // A body that is none of ours is not quoted either.
    let wrong = put(&host, "acme", json!({"value": VALUE, "grace": 1})).await;
    assert_eq!(wrong.status, 400);
    assert!(!wrong.text.contains(VALUE), "{}", wrong.text);
    let wrong = put(&host, "acme", json!({"value": [VALUE]})).await;
    assert!(wrong.status == 400 && !wrong.text.contains(VALUE), "{}", wrong.text);
    let wrong = put(&host, "acme", json!([VALUE])).await;
    assert!(wrong.status == 400 && !wrong.text.contains(VALUE), "{}", wrong.text);
    host.stop().await;
}

#[tokio::test]
async fn what_a_secret_may_be_is_told() {
    let mut setup = Setup::new(&[("acme/triggers/push.yaml", GITHUB)]);
    setup.config.secret_versions_max = 2;
    let host = setup.start().await;
    for (name, body, told) in [
        ("Acme", json!({"value": "x"}), "can't be the name of a secret"),
        ("..%2Fx", json!({"value": "x"}), "can't be the name of a secret"),
        ("acme", json!({}), "missing field `value`"),
        ("acme", json!({"value": ""}), "`value` has 1 to"),
        ("acme", json!({"value": 12_345_678}), "put it into quotes"),
        ("acme", json!({"value": "x".repeat(70_000)}), "`value` has 1 to"),
        ("acme", json!({"value": "x", "grace_seconds": 4_000_000_000_u32}), "`grace_seconds`"),
        ("acme", json!({"value": "x", "grace_seconds": -1}), "`grace_seconds`"),
    ] {
        let answer = put(&host, name, body).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text);
        assert!(answer.text.contains(told), "{name}: {}", answer.text);
    }
    for _ in 0..2 {
        assert_eq!(put(&host, "acme", json!({"value": "x", "grace_seconds": 60})).await.status, 200);
    }
    let one_more = put(&host, "acme", json!({"value": "x", "grace_seconds": 60})).await;
    assert_eq!(one_more.status, 409, "{}", one_more.text);
    let (read, bound) = (host.token("read", None).await, host.token("write", Some(&["acme"])).await);
    for token in [read, bound] {
        let answer = host.ask_as(&token, "PUT", "/api/v1/secrets/acme", json!({"value": "x"})).await;
        assert_eq!(answer.status, 403, "{}", answer.text);
    }
    host.stop().await;
}

#[tokio::test]
async fn two_hosts_that_rotate_the_master_key_at_once_lose_nothing() {
    let database = crate::harness::TestDatabase::new().await;
    let one = Setup::new(&[("acme/triggers/push.yaml", GITHUB)]).start_on(&database).await;
    let mut other = Setup::new(&[("acme/triggers/push.yaml", GITHUB)]);
    other.config.master_key_file = Some(one.folder.path().join("data/master-key"));
    let two = other.start_on(&database).await;
    put(&one, "acme", json!({"value": VALUE})).await;
    let rotate = async |host: &TestHost| {
        let answer = host.ask("POST", "/api/v1/master-key/rotate", Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["data"]["unreadable"], 0);
    };
    for _ in 0..5 {
        tokio::join!(rotate(&one), rotate(&two), rotate(&one), rotate(&two));
    }
    for host in [&one, &two] {
        let answer = host.ask("POST", "/api/v1/master-key/reseal", Value::Null).await;
        assert_eq!(answer.json()["data"], json!({"endpoint_keys": 1, "secrets": 1, "unreadable": 0}));
    }
    // Also for who knows nothing but the file.
    let mut other = Setup::new(&[("acme/triggers/push.yaml", GITHUB)]);
    other.config.master_key_file = Some(one.folder.path().join("data/master-key"));
    let three = other.start_on(&database).await;
    assert_eq!(signed(&three, VALUE).await, 200);
    for host in [one, two, three] {
        host.stop().await;
    }
}

#[tokio::test]
async fn another_master_key_seals_everything_anew() {
    let database = crate::harness::TestDatabase::new().await;
    let host = Setup::new(&[("acme/triggers/push.yaml", GITHUB)]).start_on(&database).await;
    put(&host, "acme", json!({"value": VALUE})).await;
    let url = host.url("acme.push");
    let file = host.folder.path().join("data/master-key");
    let old = fs::read_to_string(&file).unwrap();
    let rotated = host.ask("POST", "/api/v1/master-key/rotate", Value::Null).await;
    assert_eq!(rotated.json()["data"], json!({"endpoint_keys": 1, "secrets": 1, "unreadable": 0}));
    assert_eq!(signed(&host, VALUE).await, 200);
    assert_eq!(host.url("acme.push"), url);
    let now = fs::read_to_string(&file).unwrap();
    assert!(now.lines().count() == 2 && now.ends_with(&old), "the one before stays for hosts that are late");

    // With the new key alone another host opens everything; with the old one alone nothing.
    for (keys, status) in [(now.lines().next().unwrap(), 200), (old.trim(), 503)] {
        let other = Setup::new(&[("acme/triggers/push.yaml", GITHUB)]);
        let mut other = other;
        other.config.master_key = Some(hookpack::secret::SecretText::new(keys));
        let other = other.start_on(&database).await;
        let to = url.replace(&host.address.to_string(), &other.address.to_string());
        let sent = other.http.post(to).header("content-type", "application/json").body("{}");
        let sent = sent.header("x-hub-signature-256", github_signature(b"{}", VALUE));
        let sent = sent.header("x-github-delivery", uuid::Uuid::now_v7().to_string());
        assert_eq!(sent.send().await.unwrap().status(), status);
        let refused = other.ask("POST", "/api/v1/master-key/rotate", Value::Null).await;
        assert_eq!(refused.status, 409, "a given key is not the host's to renew: {}", refused.text);
        other.stop().await;
    }
    host.stop().await;
}

#[tokio::test]
async fn a_key_put_in_front_by_hand_is_taken_and_seals_anew() {
    let host = acme().await;
    put(&host, "acme", json!({"value": VALUE})).await;
    let file = host.folder.path().join("data/master-key");
    let old = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{}\n{old}", "ab".repeat(32))).unwrap();
    let resealed = host.ask("POST", "/api/v1/master-key/reseal", Value::Null).await;
    assert_eq!(resealed.json()["data"], json!({"endpoint_keys": 1, "secrets": 1, "unreadable": 0}));
    fs::write(&file, format!("{}\n", "ab".repeat(32))).unwrap();
    assert_eq!(
        host.ask("POST", "/api/v1/master-key/reseal", Value::Null).await.json()["data"]["unreadable"],
        0
    );
    assert_eq!(signed(&host, VALUE).await, 200);
    // A file that is broken changes nothing, is told, and keeps nobody from anything else.
    fs::write(&file, "broken\n").unwrap();
    assert_eq!(host.ask("POST", "/api/v1/master-key/reseal", Value::Null).await.status, 409);
    assert_eq!(signed(&host, VALUE).await, 200);
    assert!(host.api("/readyz").await.text.contains("master key"));
    let paused = host.ask("POST", "/api/v1/triggers/acme.push/webhooks/pause", Value::Null).await;
    assert_eq!((paused.status, signed(&host, VALUE).await), (200, 403));
    // A file that has lost the key that seals is not written over.
    fs::write(&file, format!("{}\n", "cd".repeat(32))).unwrap();
    let rotated = host.ask("POST", "/api/v1/master-key/rotate", Value::Null).await;
    assert!(rotated.status == 200 && rotated.json()["data"]["unreadable"] == 2, "{}", rotated.text);
    fs::write(&file, format!("{}\n{}\n", fs::read_to_string(&file).unwrap().trim(), "ab".repeat(32)))
        .unwrap();
    let resealed = host.ask("POST", "/api/v1/master-key/reseal", Value::Null).await;
    assert_eq!(resealed.json()["data"], json!({"endpoint_keys": 1, "secrets": 1, "unreadable": 0}));
    host.stop().await;
}

#[tokio::test]
async fn the_first_admin_token_is_shown_once_or_given() {
    let database = crate::harness::TestDatabase::new().await;
    let setup = Setup::new(&[("acme/triggers/push.yaml", GITHUB)]);
    let (config, environment, clock) = (setup.config.clone(), setup.environment.clone(), setup.clock.clone());
    let host = setup.start_on(&database).await;
    let shown = host.running.as_ref().unwrap().fresh_admin_token.clone().unwrap();
    assert_eq!(host.ask_as(shown.get(), "GET", "/api/v1/tokens", Value::Null).await.status, 200);
    let folder = &host.folder;
    let start = async |given: Option<&str>| {
        let mut config = config.clone();
        config.database_url = Some(database.url.clone());
        config.listen = ([127, 0, 0, 1], 0).into();
        config.data_dir = folder.path().join("data");
        config.admin_token = given.map(hookpack::secret::SecretText::new);
        hookpack::serve::Running::start(config, &environment, clock.clone()).await
    };
    let again = start(None).await.unwrap();
    assert!(again.fresh_admin_token.is_none());
    again.stop().await;
    let given = start(Some("a-token-from-somebody-s-vault")).await.unwrap();
    let url = format!("http://{}/api/v1/tokens", given.address);
    let answer = host.http.get(url).bearer_auth("a-token-from-somebody-s-vault").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    given.stop().await;
    let Err(error) = start(Some("short")).await else { panic!("a token that anybody could guess") };
    assert!(
        format!("{error:#}").contains("`admin_token`") && !format!("{error:#}").contains("short\""),
        "{error:#}"
    );
    host.stop().await;
}
