//! What stands in a pack without quotes is compared and stored as it is written.

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, TestHost};

fn trigger(name: &str, rest: &str) -> (String, String) {
    let webhook = "webhook: {enabled: true, verify: none}";
    let text = format!("name: {name}\nref: t.{name}\ntype: webhook\n{rest}\n{webhook}\n");
    (format!("t/triggers/{name}.yaml"), text)
}

async fn host(triggers: &[(String, String)]) -> TestHost {
    let files: Vec<_> = triggers.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    Setup::new(&files).start().await
}

/// `accepted` or `ignored`.
async fn outcome(host: &TestHost, name: &str, header: Option<&str>, body: &Value) -> String {
    let request =
        header.into_iter().fold(host.post(name), |request, value| request.header("x-version", value));
    let answer = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
    host.logged(&answer).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_matches_a_number_as_it_is_written() {
    let table = [
        ("1.10", vec!["1.10"], vec!["1.1", "1.100"]),
        ("1e3", vec!["1e3"], vec!["1000"]),
        ("2026_01", vec!["2026_01"], vec!["202601"]),
        ("0777", vec!["0777"], vec!["777", "511"]),
        ("0x1F", vec!["0x1F"], vec!["0x1f"]),
        ("0b11", vec!["0b11"], vec!["3"]),
        (
            "18446744073709551616",
            vec!["18446744073709551616"],
            vec!["18446744073709551617", "18446744073709552000"],
        ),
        ("[1.10, 2.0]", vec!["1.10", "2.0"], vec!["1.1", "2"]),
        ("True", vec!["True", "true"], vec!["TRUE"]),
    ];
    let triggers: Vec<_> = table
        .iter()
        .enumerate()
        .flat_map(|(index, (written, ..))| {
            let of = |kind: &str, selector: &str| {
                trigger(
                    &format!("{kind}{index}"),
                    &format!("payload_schema: true\nmatch: {{{selector}: {written}}}"),
                )
            };
            [of("h", "header:X-Version"), of("p", "$.version")]
        })
        .collect();
    let host = host(&triggers).await;
    for (index, (written, equal, different)) in table.iter().enumerate() {
        let expected = equal.iter().map(|text| (text, "accepted"));
        for (text, expected) in expected.chain(different.iter().map(|text| (text, "ignored"))) {
            let got = outcome(&host, &format!("t.h{index}"), Some(text), &json!({})).await;
            assert_eq!(got, expected, "header {text} for {written}");
            let got = outcome(&host, &format!("t.p{index}"), None, &json!({"version": text})).await;
            assert_eq!(got, expected, "\"{text}\" for {written}");
        }
    }
    let number = serde_json::from_str("{\"version\": 1.1}").unwrap();
    assert_eq!(outcome(&host, "t.p0", None, &number).await, "accepted", "numbers compare by value");
    host.stop().await;
}

/// Each line is one that authors of YAML have met: countries, times, hashes, versions.
#[tokio::test(flavor = "multi_thread")]
async fn words_and_numbers_of_yaml_1_1_are_text() {
    let lines = "payload_schema: true\nmatch:
  $.country: no
  $.flag: [on, yes, y]
  $.version: 1.10
  $.mode: 0777
  $.mac: 12:34:56
  $.sha: 1e3
  $.day: 2026-01-01
  $.tilde: ~";
    let host = host(&[trigger("one", lines)]).await;
    let texts = json!({"country": "no", "flag": "on", "version": "1.10", "mode": "0777", "mac": "12:34:56", "sha": "1e3",
        "day": "2026-01-01", "tilde": "~"});
    assert_eq!(outcome(&host, "t.one", None, &texts).await, "accepted");
    let others = json!({"country": false, "flag": true, "version": 1.1, "mode": 777, "mac": 45296, "sha": 1000,
        "day": "2026-01-01", "tilde": null});
    assert_eq!(outcome(&host, "t.one", None, &others).await, "ignored");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_and_constants_keep_their_digits() {
    let schema = "payload_schema: {properties: {n: {enum: [18446744073709551616, 1e400, 0x1F]}, max: {maximum: 0.1000000000000000000001}}}";
    let mapping = "mapping: {fields: {a: 1.10, b: 18446744073709551616, c: {const: [1e400, 0777, 2026_01, 0o17]}, d: {from: $.none, default: 2.50}}}";
    let host = host(&[trigger("one", &format!("{schema}\n{mapping}"))]).await;
    for (body, status) in [
        ("{\"n\": 18446744073709551616}", 200),
        ("{\"n\": 18446744073709551617}", 422),
        ("{\"n\": 18446744073709552000}", 422),
        ("{\"n\": 10e399}", 200),
        ("{\"n\": 1e401}", 422),
        ("{\"n\": 31.0}", 200),
        ("{\"max\": 0.1}", 200),
        ("{\"max\": 0.1000000000000000000001}", 200),
        ("{\"max\": 0.1000000000000000000002}", 422),
    ] {
        let answer = host.send("t.one", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
    let stored = r#"{"a":1.10,"b":18446744073709551616,"c":[1e400,"0777","2026_01",15],"d":2.50}"#;
    assert_eq!(host.events().await[0].1, stored);
    host.stop().await;
}
