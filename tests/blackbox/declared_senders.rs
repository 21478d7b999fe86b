//! Senders that no preset is for, declared from their documentation in a few lines, and signed here by hand.

use hmac::{KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::harness::{Answer, SECRET, Setup, TestHost};

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes)
}

fn sha256(message: &str) -> Vec<u8> {
    let mut mac = hmac::Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

async fn host(webhook: &str) -> TestHost {
    assert!(webhook.trim().lines().count() <= 10, "ten lines");
    let head =
        "name: t\nref: s.t\ntype: webhook\npayload_schema: {type: object}\nwebhook:\n  enabled: true\n";
    Setup::new(&[("s/triggers/t.yaml", &format!("{head}{webhook}"))]).start().await
}

async fn status(request: reqwest::RequestBuilder) -> u16 {
    Answer::of(request.send().await.unwrap()).await.status
}

/// <https://www.contentful.com/developers/docs/extensibility/app-framework/request-verification/>
#[tokio::test]
async fn contentful_signs_the_headers_that_it_names() {
    let host = host(
        r#"  verify:
    hmac: sha256
    signed: "{method}\n{target}\n{headers:x-contentful-signed-headers}\n{body}"
    signature: {header: x-contentful-signature, encoding: hex}
    timestamp: {header: x-contentful-timestamp, unit: ms, tolerance: 30}
  secrets: [secret]
"#,
    )
    .await;
    let path = host.url("s.t").split_once("/api").map(|(_, path)| format!("/api{path}")).unwrap();
    let body = r#"{"sys": {"type": "Entry"}}"#;
    let time = (host.clock.now().unix_timestamp_nanos() / 1_000_000).to_string();
    let names = "x-contentful-signed-headers,x-contentful-timestamp,x-contentful-topic";
    let listed = |time: &str, topic: &str| {
        format!(
            "x-contentful-signed-headers:{names};x-contentful-timestamp:{time};x-contentful-topic:{topic}"
        )
    };
    let signature = |time: &str, query: &str| {
        hex::encode(sha256(&format!("POST\n{path}{query}\n{}\n{body}", listed(time, "publish"))))
    };
    let send = |time: &str, topic: &str, query: &str, signature: &str| {
        let request = host
            .http
            .post(format!("{}{query}", host.url("s.t")))
            .header("content-type", "application/json")
            .header("x-contentful-signed-headers", names)
            .header("x-contentful-timestamp", time)
            .header("x-contentful-topic", topic)
            .header("x-contentful-signature", signature);
        status(request.body(body))
    };
    assert_eq!(send(&time, "publish", "", &signature(&time, "")).await, 200);
    assert_eq!(send(&time, "delete", "", &signature(&time, "")).await, 401, "a header that is signed");
    assert_eq!(
        send(&time, "publish", "?role=admin", &signature(&time, "")).await,
        401,
        "a query that is not"
    );
    assert_eq!(send(&time, "publish", "?b=%20&a=1", &signature(&time, "?b=%20&a=1")).await, 200);
    let late = (time.parse::<i64>().unwrap() - 31_000).to_string();
    assert_eq!(send(&late, "publish", "", &signature(&late, "")).await, 401, "late");
}

/// <https://developer.box.com/guides/webhooks/v2/signatures-v2/>: one of two keys, each in a header of its own.
#[tokio::test]
async fn box_signs_with_two_keys_in_two_headers() {
    let host = host(
        r#"  verify:
    hmac: sha256
    signed: "{body}{timestamp}"
    signature: {header: "BOX-SIGNATURE-*", encoding: base64}
    timestamp: {header: BOX-DELIVERY-TIMESTAMP, unit: rfc3339, tolerance: 600}
  secrets: [secret]
  idempotency: {key: "header:BOX-DELIVERY-ID"}
"#,
    )
    .await;
    let (body, time) = (r#"{"type": "webhook_event"}"#, "2026-11-22T01:59:30-08:00");
    let signature = base64(&sha256(&format!("{body}{time}")));
    let send = |primary: &str, secondary: &str| {
        let request =
            host.post("s.t").header("box-delivery-timestamp", time).header("box-signature-version", "1");
        let request =
            request.header("box-signature-algorithm", "HmacSHA256").header("box-delivery-id", primary);
        let request =
            request.header("box-signature-primary", primary).header("box-signature-secondary", secondary);
        status(request.body(body))
    };
    assert_eq!(send(&signature, "AAAA").await, 200);
    assert_eq!(send("AAAA", &signature).await, 200);
    assert_eq!(send("AAAA", "BBBB").await, 401);
}

/// <https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/>: SHA-1 over body and URL, and a HEAD before.
#[tokio::test]
async fn trello_signs_the_url_and_asks_with_head() {
    let host = host(
        r#"  verify:
    hmac: sha1
    signed: "{body}{url}"
    signature: {header: X-Trello-Webhook, encoding: base64}
  secrets: [secret]
  handshake: [{when: {method: HEAD}, respond: {status: 200}}]
"#,
    )
    .await;
    let url = host.url("s.t");
    assert_eq!(status(host.http.head(&url)).await, 200);
    let body = r#"{"action": {"id": "51f9424bcd6e040f3c002412"}}"#;
    let mut mac = hmac::Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{body}{url}").as_bytes());
    let signature = base64(&mac.finalize().into_bytes());
    assert_eq!(status(host.post("s.t").header("x-trello-webhook", &signature).body(body)).await, 200);
    assert_eq!(status(host.post("s.t").header("x-trello-webhook", &signature).body("{}")).await, 401);
}
