//! A preset's idempotency key tells two deliveries apart, or there is none: a repeated key would lose an event.

use std::fs;

use hookpack::pack::presets::{self, Preset};
use serde_json::Value;

use crate::harness::{Answer, Setup, TestHost, repository, write};

/// The requests that `tests/interop/vectors` has for this preset.
fn vectors(preset: &str) -> Value {
    let file = repository().join(format!("tests/interop/vectors/data/{preset}.json"));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Whether the sender signs the URL: the recorded requests have another one than the test's host.
fn signs_the_url(preset: &Preset) -> bool {
    presets::text(&preset.name).contains("{url")
}

/// A handshake that signs a short word has a pack of its own: the pack's other triggers refuse such a word as signed text,
/// and Mailgun signs one.
fn pack(preset: &str) -> &'static str {
    if presets::text(preset).contains("{hmac-") { "h" } else { "s" }
}

fn reference(preset: &str) -> String {
    format!("{}.{preset}", pack(preset))
}

fn secret(preset: &str) -> String {
    format!("{}_{}", pack(preset), preset.replace('-', "_"))
}

/// One host with a trigger for each of these presets.
async fn host(presets: &[&Preset]) -> TestHost {
    let triggers: Vec<_> = presets
        .iter()
        .map(|preset| {
            let (name, reference, secret) = (&preset.name, reference(&preset.name), secret(&preset.name));
            let params = vectors(name)["params"].as_object().cloned().unwrap_or_default();
            let params = Value::Object(params);
            let text = format!(
                "name: {name}\nref: {reference}\ntype: webhook\npayload_schema: true\n\
                 webhook: {{enabled: true, preset: {name}, secrets: [{secret}], params: {params}}}\n"
            );
            (format!("{}/triggers/{name}.yaml", pack(name)), text)
        })
        .collect();
    let files: Vec<_> = triggers.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let mut setup = Setup::new(&files);
    for preset in presets {
        let document = vectors(&preset.name);
        if let Some(value) = document["secret"].as_str() {
            let name = format!("HOOKPACK_SECRET_{}", secret(&preset.name).to_uppercase());
            setup.environment = setup.environment.with(&name, value);
        }
        for (number, (url, text)) in document["pinned"].as_object().into_iter().flatten().enumerate() {
            let file = setup.folder.path().join(format!("pinned-{}-{number}", preset.name));
            write(&file, text.as_str().unwrap());
            setup.config.pinned_urls.insert(url.clone(), file);
        }
    }
    setup.start().await
}

async fn send(host: &TestHost, preset: &str, case: &Value) -> Answer {
    let mut request = host.http.post(host.url(&reference(preset)));
    for header in case["headers"].as_array().unwrap() {
        request = request.header(header[0].as_str().unwrap(), header[1].as_str().unwrap());
    }
    Answer::of(request.body(case["body"].as_str().unwrap().to_owned()).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_equal_notifications_are_two_events_unless_the_sender_names_them() {
    let presets: Vec<_> = presets::all().iter().filter(|preset| !signs_the_url(preset)).collect();
    let host = host(&presets).await;
    for preset in presets {
        let document = vectors(&preset.name);
        let case = &document["cases"][0];
        assert_eq!(case["expect"], "accepted", "{}", preset.name);
        let answers = [send(&host, &preset.name, case).await, send(&host, &preset.name, case).await];
        assert!(answers.iter().all(|answer| answer.status / 100 == 2), "{}: {answers:?}", preset.name);
        let stored: i64 = sqlx::query_scalar("select count(*) from hookpack.event where trigger_ref = $1")
            .bind(reference(&preset.name))
            .fetch_one(&host.pool)
            .await
            .unwrap();
        let expected = if preset.key().is_some() { 1 } else { 2 };
        assert_eq!(stored, expected, "{}", preset.name);
    }
    for nothing_unique in ["dropbox", "msgraph", "plaid"] {
        assert_eq!(presets::get(nothing_unique).unwrap().key(), None, "{nothing_unique}");
    }
    host.stop().await;
}

/// One action of a merchant sets off several topics, all with one event id.
#[tokio::test(flavor = "multi_thread")]
async fn two_topics_of_one_shopify_event_are_two_events() {
    let host = host(&[presets::get("shopify").unwrap()]).await;
    let case = &vectors("shopify")["cases"][0];
    for (topic, id) in [("orders/create", "one"), ("orders/paid", "two"), ("orders/paid", "two")] {
        let mut case = case.clone();
        for header in case["headers"].as_array_mut().unwrap() {
            match header[0].as_str().unwrap() {
                "X-Shopify-Topic" => header[1] = topic.into(),
                "X-Shopify-Webhook-Id" => header[1] = id.into(),
                _ => (),
            }
        }
        assert_eq!(send(&host, "shopify", &case).await.status, 200, "{topic}");
    }
    assert_eq!(host.events().await.len(), 2);
    host.stop().await;
}

/// Asana says every eight hours that a webhook is alive.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_heartbeat_of_asana_is_answered_and_not_stored() {
    let host = host(&[presets::get("asana").unwrap()]).await;
    let body = r#"{"events":[]}"#;
    let secret = vectors("asana")["secret"].as_str().unwrap().to_owned();
    let signature = crate::harness::github_signature(body.as_bytes(), &secret);
    let signature = signature.strip_prefix("sha256=").unwrap();
    for (signature, expected) in [(signature, 200), (signature, 200), ("00", 401)] {
        let request = host.post(&reference("asana")).header("x-hook-signature", signature).body(body);
        assert_eq!(Answer::of(request.send().await.unwrap()).await.status, expected);
    }
    assert!(host.events().await.is_empty());
    host.stop().await;
}
