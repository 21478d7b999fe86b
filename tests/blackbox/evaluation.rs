//! One request's evaluation ends within its budget, whatever schema, template and payload come together.

use std::time::{Duration, Instant};

use crate::harness::{Setup, TestHost};

fn trigger(name: &str, rest: &str) -> String {
    format!("name: {name}\nref: t.{name}\ntype: webhook\nwebhook: {{enabled: true, verify: none}}\n{rest}\n")
}

/// Twice into each member: 2^depth of the payload, in any spelling.
const SCHEMA: &str = "payload_schema:
  $dynamicAnchor: node
  type: [object, string]
  anyOf:
    - {properties: {a: {$dynamicRef: '#node'}}, unevaluatedProperties: false}
    - {properties: {a: {$ref: '#'}}, unevaluatedProperties: false}
    - {properties: {a: {$recursiveRef: '#'}}, maxProperties: 0}";
const TEMPLATE: &str = "payload_schema: {type: object}
mapping: {template: {x: \"{{ payload.s | replace('a', payload.s) | length }}\"}}";
const JOIN: &str = "payload_schema: {type: object}
mapping: {template: {x: \"{{ payload.s | list | join(payload.s) | length }}\"}}";
const DOUBLING: &str = "payload_schema: {type: object}
mapping: {template: {x: \"{% set x = payload.s %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{{ x | length }}\"}}";

/// Ten thousand times what may be a megabyte.
fn many(member: &str, mapping: &str) -> String {
    let fields: String =
        (0..10_000).fold(String::new(), |text, number| format!("{text}    f{number}: {member}\n"));
    format!("payload_schema: {{type: object}}\nmapping:\n  {mapping}:\n{fields}")
}

async fn host() -> TestHost {
    let (fields, leaves) = (many("$", "fields"), many("\"{{ payload }}\"", "template"));
    let rows = [
        ("fields", &*fields),
        ("leaves", &*leaves),
        ("schema", SCHEMA),
        ("template", TEMPLATE),
        ("join", JOIN),
        ("doubling", DOUBLING),
    ];
    let files: Vec<_> =
        rows.map(|(name, rest)| (format!("t/triggers/{name}.yaml"), trigger(name, rest))).into();
    let files: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    Setup::new(&files).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_schema_or_template_takes_a_host_down() {
    let host = host().await;
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    let long = format!("{{\"s\": \"{}\"}}", "a".repeat(640_000));
    let table = [
        ("t.schema", &deep, 422, "schema_violation", ""),
        ("t.template", &long, 422, "mapping_failed", "evaluation_bytes_max (67108864) was reached"),
        ("t.join", &long, 422, "mapping_failed", "evaluation_bytes_max (67108864) was reached"),
        ("t.leaves", &long, 422, "mapping_failed", "evaluation_bytes_max (67108864) was reached"),
        ("t.fields", &long, 422, "mapping_failed", "(event_bytes_max)"),
        ("t.doubling", &long, 422, "mapping_failed", "evaluation_bytes_max (67108864) was reached"),
    ];
    for (trigger, body, status, outcome, detail) in table {
        let began = Instant::now();
        let answer = host.send(trigger, body).await;
        assert_eq!(answer.status, status, "{trigger}: {}", answer.text);
        let logged = host.logged(&answer).await;
        assert_eq!(logged.0, outcome, "{trigger}: {logged:?}");
        assert!(logged.1.contains(detail), "{trigger}: {logged:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{trigger} took {:?}", began.elapsed());
    }
    let answer = host.send("t.template", r#"{"s": "abc"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(host.events().await, [("t.template".to_owned(), r#"{"x":5}"#.to_owned())]);
    host.stop().await;
}
