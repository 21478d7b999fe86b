//! Certificates and key sets that senders publish: pinned, had or not had.

use std::fs;

use serde_json::Value;

use crate::harness::{Answer, Setup, TestHost, repository, write};

fn vectors(preset: &str) -> Value {
    let file = repository().join(format!("tests/interop/vectors/data/{preset}.json"));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// A host with one trigger of this preset, and the files that stand for URLs.
async fn host(preset: &str, document: &Value, pinned: bool) -> TestHost {
    let params = serde_json::to_string(&document["params"].as_object().cloned().unwrap_or_default()).unwrap();
    let trigger = format!(
        "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook: {{enabled: true, preset: {preset}, secrets: [own], params: {params}}}\n"
    );
    let mut setup = Setup::new(&[("s/triggers/t.yaml", &trigger)]);
    if pinned {
        for (number, (url, text)) in document["pinned"].as_object().unwrap().iter().enumerate() {
            let file = setup.folder.path().join(format!("pinned-{number}"));
            write(&file, text.as_str().unwrap());
            setup.config.pinned_urls.insert(url.clone(), file);
        }
    }
    setup.start().await
}

/// Each recorded request, over HTTP.
async fn send(host: &TestHost, case: &Value) -> Answer {
    let mut request = host.http.post(host.url("s.t"));
    for header in case["headers"].as_array().unwrap() {
        request = request.header(header[0].as_str().unwrap(), header[1].as_str().unwrap());
    }
    let body = case["body"].as_str().unwrap().to_owned();
    Answer::of(request.body(body).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sender_publishes_can_be_pinned() {
    for preset in ["sns", "paypal", "pubsub-push", "plaid"] {
        let document = vectors(preset);
        let host = host(preset, &document, true).await;
        for case in document["cases"].as_array().unwrap() {
            let answer = send(&host, case).await;
            let expected = if case["expect"] == "accepted" { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{preset}: {}: {}", case["name"], answer.text);
        }
    }
}

/// Nobody can be reached from here: the sender is asked to come again, and nothing is let through.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_had_is_asked_for_again_and_believes_nobody() {
    for preset in ["sns", "plaid"] {
        let document = vectors(preset);
        let host = host(preset, &document, false).await;
        let case = &document["cases"][0];
        let answer = send(&host, case).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("60")),
            "{preset}: {}",
            answer.text
        );
        let (outcome, detail) = host.logged(&answer).await;
        assert_eq!(outcome, "keys_unavailable");
        assert!(!detail.is_empty() && !answer.text.contains("https://"), "{detail}: {}", answer.text);
    }
}

/// A certificate's URL is the sender's to name, and the declaration's to allow: nothing else is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lies_where_the_declaration_says() {
    let document = vectors("sns");
    let host = host("sns", &document, true).await;
    let accepted =
        document["cases"].as_array().unwrap().iter().find(|case| case["expect"] == "accepted").unwrap();
    let body: Value = serde_json::from_str(accepted["body"].as_str().unwrap()).unwrap();
    for url in [
        "http://sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com@127.0.0.1/a.pem",
        "https://sns.us-east-1.amazonaws.com:8443/a.pem",
        "https://sns.us-east-1.amazonaws.com/../a.pem",
        "https://sns.us-east-1.amazonaws.com/a.pem?x=.pem",
        "https://sns.us-east-1.amazonaws.com/a.pem#x.pem",
        "https://127.0.0.1/a.pem",
        "https://SNS.us-east-1.amazonaws.com\\@evil.example/a.pem",
    ] {
        let mut body = body.clone();
        body["SigningCertURL"] = url.into();
        let mut case = accepted.clone();
        case["body"] = body.to_string().into();
        let answer = send(&host, &case).await;
        assert_eq!(answer.status, 401, "{url}: {}", answer.text);
    }
}
