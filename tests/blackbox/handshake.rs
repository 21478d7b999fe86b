//! A sender makes sure of the URL: it hears its own words back, and nothing is stored.

use crate::harness::{Answer, SECRET, Setup, TestHost, github_signature};

async fn host(webhook: &str) -> TestHost {
    let text = format!(
        "name: one\nref: t.one\ntype: webhook\npayload_schema: true\nwebhook:\n  enabled: true\n{webhook}"
    );
    Setup::new(&[("t/triggers/one.yaml", &text)]).start().await
}

async fn signed(host: &TestHost, body: &str, secret: &str) -> Answer {
    let signature = github_signature(body.as_bytes(), secret);
    let request = host.post("t.one").header("x-hub-signature-256", signature).body(body.to_owned());
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_challenge_comes_back_and_an_unsigned_one_is_refused() {
    let host = host(
        "  preset: github
  secrets: [secret]
  handshake:
    - when: {json: {$.type: url_verification}}
      verify: signature
      respond: {type: text/plain, body: \"{json:$.challenge}\"}
",
    )
    .await;
    let challenge = r#"{"type": "url_verification", "challenge": "<b>c</b>"}"#;
    let answer = signed(&host, challenge, SECRET).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "<b>c</b>"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(host.logged(&answer).await.0, "handshake");

    // Without its proof it is a request like any other: badly signed.
    let forged = signed(&host, challenge, "another secret").await;
    assert_eq!((forged.status, host.logged(&forged).await.0.as_str()), (401, "bad_signature"));
    assert!(!forged.text.contains("<b>"));
    // What lacks the echoed member, and what is no handshake, goes on too.
    assert_eq!(signed(&host, r#"{"type": "url_verification"}"#, SECRET).await.status, 200);
    assert_eq!(signed(&host, r#"{"type": "event"}"#, SECRET).await.status, 200);
    assert_eq!(host.events().await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_with_the_token_is_answered_and_one_without_it_is_no_request_for_us() {
    let host = host(
        "  verify: none
  secrets: [secret]
  handshake:
    - when: {method: GET, query: {hub.mode: subscribe, hub.challenge: \"*\"}}
      token: {query: hub.verify_token}
      respond: {json: {hub.challenge: \"{query:hub.challenge}\", n: 1}}
",
    )
    .await;
    let get = async |token: &str| {
        let request = host.http.get(host.url("t.one"));
        let query = [("hub.mode", "subscribe"), ("hub.verify_token", token), ("hub.challenge", "12 34")];
        Answer::of(request.query(&query).send().await.unwrap()).await
    };
    let answer = get(SECRET).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"hub.challenge":"12 34","n":1}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(get("wrong").await.status, 405);
    assert_eq!(host.events().await.len(), 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_with_a_bad_signature_hears_the_status_that_it_waits_for() {
    let host = host(
        "  preset: github
  secrets: [secret]
  handshake:
    - when: {json: {$.type: 1}}
      verify: signature
      reject_status: 418
      respond: {status: 204, headers: {x-echo: \"{header:x-probe}\"}}
",
    )
    .await;
    assert_eq!(signed(&host, r#"{"type": 1}"#, "wrong").await.status, 418);
    let signature = github_signature(br#"{"type": 1}"#, SECRET);
    let request = host.post("t.one").header("x-hub-signature-256", signature).header("x-probe", "p");
    let answer = Answer::of(request.body(r#"{"type": 1}"#).send().await.unwrap()).await;
    assert_eq!((answer.status, answer.header("x-echo")), (204, Some("p")));
    host.stop().await;
}
