//! Handshakes of senders that want more than an echo: MACs, secrets that they bring, proofs of their own.

use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Setup, TestHost, github_signature};

fn hmac_sha256(message: &[u8]) -> Vec<u8> {
    hex::decode(github_signature(message, SECRET).strip_prefix("sha256=").unwrap()).unwrap()
}

async fn host(webhook: &str) -> TestHost {
    let trigger = format!(
        "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook:\n  enabled: true\n{webhook}"
    );
    Setup::new(&[("s/triggers/t.yaml", &trigger)]).start().await
}

async fn get(host: &TestHost, query: &str) -> Answer {
    Answer::of(host.http.get(format!("{}?{query}", host.url("s.t"))).send().await.unwrap()).await
}

#[tokio::test]
async fn zoom_is_answered_with_a_mac_when_it_has_signed_the_question() {
    let host = host("  preset: zoom\n  secrets: [secret]\n").await;
    let body =
        json!({"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}})
            .to_string();
    let time = host.clock.now().unix_timestamp().to_string();
    let signature = format!("v0={}", hex::encode(hmac_sha256(format!("v0:{time}:{body}").as_bytes())));
    let ask = async |signature: &str| {
        let request =
            host.post("s.t").header("x-zm-request-timestamp", &time).header("x-zm-signature", signature);
        Answer::of(request.body(body.clone()).send().await.unwrap()).await
    };
    let answer = ask(&signature).await;
    let expected = hex::encode(hmac_sha256(b"qgg8vlvZRS6UYooatFL8Aw"));
    assert_eq!(answer.json(), json!({"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": expected}));
    assert_eq!(ask(&signature.replace("v0=", "v0=00")).await.status, 401);
    assert_eq!(host.count("select count(*) from hookpack.event").await, 0);
}

/// X asks without a signature. What it gets signed can't be sent as a delivery, whatever it says.
#[tokio::test]
async fn a_mac_for_strangers_signs_no_delivery() {
    let host = host("  preset: x\n  secrets: [secret]\n").await;
    let token = async |word: &str| {
        let answer = get(&host, &format!("crc_token={word}")).await;
        (answer.status == 200).then(|| answer.json()["response_token"].as_str().unwrap().to_owned())
    };
    let signed = token("9b4507b3-9040-4669-9ca3-6b94edb50553").await.unwrap();
    let expected = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        hmac_sha256(b"9b4507b3-9040-4669-9ca3-6b94edb50553"),
    );
    assert_eq!(signed, format!("sha256={expected}"));
    // Nothing that could be a document is signed.
    for word in ["%7B%22a%22%3A1%7D", "%5B1%5D", "%22text%22", "a%20b", "a%0Ab", &"x".repeat(257), ""] {
        assert_eq!(token(word).await, None, "{word}");
    }
    // And what is signed is no delivery, though JSON has such words: numbers, true, null.
    for word in ["123", "true", "null", "-1.5e3", "9b4507b3-9040-4669-9ca3-6b94edb50553", "abc"] {
        let signature = token(word).await.unwrap();
        for content_type in ["application/json", "application/x-www-form-urlencoded", "text/plain"] {
            let request = host.http.post(host.url("s.t")).header("content-type", content_type);
            let request = request.header("x-twitter-webhooks-signature", &signature).body(word.to_owned());
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert!(answer.status == 401 || answer.status == 415, "{word} {content_type}: {}", answer.status);
        }
    }
    let body = r#"{"for_user_id": "1"}"#;
    let signature = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, hmac_sha256(body.as_bytes()));
    let request =
        host.post("s.t").header("x-twitter-webhooks-signature", format!("sha256={signature}")).body(body);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// Asana brings the secret with its first request; who comes later brings nothing.
#[tokio::test]
async fn a_secret_that_a_sender_brings_is_kept_once_and_sealed() {
    let host = host("  preset: asana\n  secrets: [s_hook]\n").await;
    let shake = async |secret: &str| {
        let request = host.post("s.t").header("x-hook-secret", secret).body("{}");
        Answer::of(request.send().await.unwrap()).await
    };
    let deliver = async |secret: &str| {
        let body = r#"{"events": [{"action": "changed"}]}"#;
        let signature = github_signature(body.as_bytes(), secret).replace("sha256=", "");
        host.post("s.t")
            .header("x-hook-signature", signature)
            .body(body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let own = "6f0b2ce0e6f74d1f9b3f9a1a0c3f7a11";
    assert_eq!(deliver(own).await, 503, "it awaits its secret");
    assert_eq!(shake("short").await.status, 503, "that protects nothing");
    let answer = shake(own).await;
    assert_eq!((answer.status, answer.header("x-hook-secret")), (200, Some(own)));
    assert_eq!(deliver(own).await, 200);
    assert_eq!(shake("ffffffffffffffffffffffffffffffff").await.status, 401);
    assert_eq!(deliver("ffffffffffffffffffffffffffffffff").await, 401);
    assert_eq!(deliver(own).await, 200);
    // Sealed, and nowhere in the clear.
    let (sealed, named): (Vec<u8>, String) =
        sqlx::query_as("select value_sealed, name from hookpack.secret").fetch_one(&host.pool).await.unwrap();
    assert_eq!(named, "s_hook");
    assert!(!sealed.windows(own.len()).any(|bytes| bytes == own.as_bytes()));
    let log =
        "select count(*) from hookpack.request_log l where l::text like '%6f0b2ce0e6f74d1f9b3f9a1a0c3f7a11%'";
    assert_eq!(host.count(log).await, 0);
}

/// Many that ask at once: one is first, on any number of hosts.
#[tokio::test(flavor = "multi_thread")]
async fn of_secrets_that_are_brought_at_once_one_is_kept() {
    let host = host("  preset: notion\n  secrets: [s_hook]\n").await;
    let ask = |number: usize| {
        let request =
            host.post("s.t").body(json!({"verification_token": format!("secret_{number:032}")}).to_string());
        tokio::spawn(request.send())
    };
    let mut answered = 0;
    for asked in (0..20).map(ask).collect::<Vec<_>>() {
        answered += usize::from(asked.await.unwrap().unwrap().status() == 200);
    }
    assert_eq!((answered, host.count("select count(*) from hookpack.secret").await), (1, 1));
}

/// Discord's PING and an event of its webhooks differ in what is not there.
#[tokio::test]
async fn a_handshake_may_want_that_something_is_not_there() {
    let webhook = "  verify: none\n  handshake:\n    - when: {json: {$.type: 1, $.event: null}}\n      respond: {json: {type: 1}}\n";
    let host = host(webhook).await;
    assert_eq!(host.send("s.t", r#"{"type": 1}"#).await.json(), json!({"type": 1}));
    assert_eq!(host.send("s.t", r#"{"type": 1, "event": null}"#).await.json(), json!({"type": 1}));
    let event = host.send("s.t", r#"{"type": 1, "event": {"type": "APPLICATION_AUTHORIZED"}}"#).await;
    assert!(event.json()["data"]["event_id"].is_string(), "{}", event.text);
}

#[tokio::test]
async fn wechat_proves_itself_by_a_digest_of_what_it_sends() {
    let webhook = "  verify: none\n  params: {verify_token: a-token-of-ours}\n  handshake:
    - when: {method: GET, query: {echostr: \"*\"}}
      token: {query: signature, equals: \"{sha1hex-sorted:param:verify_token,query:timestamp,query:nonce}\"}
      respond: {type: text/plain, body: \"{query:echostr}\"}\n";
    let host = host(webhook).await;
    // echo -n 17953416001234a-token-of-ours | sha1sum, by other code.
    let mut words = ["a-token-of-ours", "1795341600", "1234"];
    words.sort_unstable();
    let digest = hex::encode(<sha1::Sha1 as sha2::Digest>::digest(words.concat()));
    let answer =
        get(&host, &format!("signature={digest}&timestamp=1795341600&nonce=1234&echostr=hello")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "hello"));
    let answer =
        get(&host, &format!("signature={digest}&timestamp=1795341600&nonce=1235&echostr=hello")).await;
    assert_eq!(answer.status, 405);
}

/// Each of these loads, and answers as its sender waits for.
#[tokio::test]
async fn every_known_handshake_can_be_declared() {
    let rows = [
        (
            "{when: {method: GET, query: {hub.mode: subscribe}}, token: {query: hub.verify_token}, respond: {json: {hub.challenge: \"{query:hub.challenge}\"}}}",
            "GET",
            &format!("hub.mode=subscribe&hub.verify_token={}&hub.challenge=c1", SECRET.replace(' ', "%20"))[..],
            "",
            json!({"hub.challenge": "c1"}),
        ),
        (
            "{when: {method: GET, query: {challenge: \"*\"}}, respond: {type: text/plain, body: \"{query:challenge}\"}}",
            "GET",
            "challenge=c2",
            "",
            json!("c2"),
        ),
        (
            "{when: {method: POST, query: {validationToken: \"*\"}}, respond: {type: text/plain, body: \"{query:validationToken}\"}}",
            "POST",
            "validationToken=c3",
            "",
            json!("c3"),
        ),
        (
            "{when: {method: GET, header: {X-Okta-Verification-Challenge: \"*\"}}, respond: {json: {verification: \"{header:X-Okta-Verification-Challenge}\"}}}",
            "GET",
            "",
            "",
            json!({"verification": "c4"}),
        ),
        (
            "{when: {header: {aeg-event-type: SubscriptionValidation}}, respond: {json: {validationResponse: \"{json:$[0].data.validationCode}\"}}}",
            "POST",
            "",
            r#"[{"data": {"validationCode": "c5"}}]"#,
            json!({"validationResponse": "c5"}),
        ),
        (
            "{when: {json: {$.challenge: \"*\"}}, respond: {json: {challenge: \"{json:$.challenge}\"}}}",
            "POST",
            "",
            r#"{"challenge": "c6"}"#,
            json!({"challenge": "c6"}),
        ),
        (
            "{when: {json: {$.type: url_verification}}, token: {json: $.token}, respond: {json: {challenge: \"{json:$.challenge}\"}}}",
            "POST",
            "",
            &format!(r#"{{"type": "url_verification", "token": "{SECRET}", "challenge": "c7"}}"#),
            json!({"challenge": "c7"}),
        ),
        (
            "{when: {method: OPTIONS, header: {WebHook-Request-Origin: [eventemitter.example.com]}}, respond: {status: 200, headers: {Allow: POST, WebHook-Allowed-Origin: \"{header:WebHook-Request-Origin}\"}}}",
            "OPTIONS",
            "",
            "",
            json!(""),
        ),
    ];
    for (declared, method, query, body, expected) in rows {
        let webhook = format!(
            "  secrets: [secret]\n  verify: {{token: {{header: X-Token}}}}\n  handshake: [{declared}]\n"
        );
        let host = host(&webhook).await;
        let url = format!("{}?{query}", host.url("s.t"));
        let request =
            host.http.request(method.parse().unwrap(), url).header("content-type", "application/json");
        let request = request
            .header("X-Okta-Verification-Challenge", "c4")
            .header("aeg-event-type", "SubscriptionValidation");
        let request =
            request.header("WebHook-Request-Origin", "eventemitter.example.com").body(body.to_owned());
        let answer = Answer::of(request.send().await.unwrap()).await;
        let got = serde_json::from_str(&answer.text).unwrap_or(Value::String(answer.text.clone()));
        assert_eq!((answer.status, got), (200, expected), "{declared}");
        assert_eq!(host.count("select count(*) from hookpack.event").await, 0);
    }
}
