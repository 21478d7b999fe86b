//! What JSON Schemas of a pack assert, what they may refer to, and what of them asserts nothing.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{Setup, write};

fn trigger(rest: &str) -> String {
    format!("name: one\nref: t.one\ntype: webhook\n{rest}\nwebhook: {{enabled: true, verify: none}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_that_is_known_is_checked() {
    let table = [
        ("date", "2026-02-28", "2026-02-30"),
        ("date-time", "2026-11-22T10:00:00Z", "2026-11-22 10:00"),
        ("duration", "P1DT2H", "1 day"),
        ("email", "a@example.com", "a@b@c"),
        ("hostname", "example.com", "exa_mple.com"),
        ("idn-email", "用户@例子.广告", "用户.例子"),
        ("idn-hostname", "例子.广告", "a..例子"),
        ("ipv4", "192.0.2.1", "192.0.2.256"),
        ("ipv6", "2001:db8::1", "2001:db8:::1"),
        ("iri", "https://例子.example/ü", "https://例子 example"),
        ("iri-reference", "/ü?a", "\\ü"),
        ("json-pointer", "/a~1b", "a/b"),
        ("regex", "^a+$", "(a"),
        ("relative-json-pointer", "1/a", "/a"),
        ("time", "10:00:00Z", "25:00:00Z"),
        ("uri", "https://example.com/a", "/a"),
        ("uri-reference", "/a", "\\a"),
        ("uri-template", "https://example.com/{id}", "https://example.com/{id"),
        ("uuid", "0191f6e2-6b1c-7cc0-9f3e-000000000001", "0191f6e2"),
    ];
    let properties: Vec<_> =
        table.iter().map(|(format, ..)| format!("{format}: {{format: {format}}}")).collect();
    let schema = format!("payload_schema: {{properties: {{{}}}}}", properties.join(", "));
    let host = Setup::new(&[("t/triggers/one.yaml", &trigger(&schema))]).start().await;
    for (format, right, wrong) in table {
        for (text, status) in [(right, 200), (wrong, 422)] {
            let answer = host.send("t.one", &json!({format: text}).to_string()).await;
            assert_eq!(answer.status, status, "{format}: {text}: {}", answer.text);
        }
    }
    host.stop().await;
}

/// As many senders publish theirs: every part with an `$id` of its own, and references by it.
const BUNDLE: &str = r##"{
  "$id": "https://schemas.example.com/order.json",
  "type": "object",
  "properties": {
    "buyer": {"$ref": "https://schemas.example.com/person.json"},
    "lines": {"items": {"$ref": "line.json"}},
    "gift": {"$ref": "person.json#/$defs/name"},
    "note": {"$ref": "line.json#sku"}
  },
  "$defs": {
    "person": {"$id": "person.json", "type": "object", "required": ["name"],
      "properties": {"name": {"$ref": "#/$defs/name"}}, "$defs": {"name": {"type": "string"}}},
    "line": {"$id": "https://schemas.example.com/line.json", "type": "object",
      "properties": {"sku": {"$ref": "#sku"}, "of": {"$ref": "order.json"}},
      "$defs": {"sku": {"$anchor": "sku", "pattern": "^[A-Z]+$"}}}
  }
}"##;

#[tokio::test(flavor = "multi_thread")]
async fn a_bundled_schema_refers_to_its_parts_by_id() {
    let inline = trigger(&format!("payload_schema: {}", BUNDLE.replace('\n', " ")));
    let by_id = trigger("payload_schema: {$ref: \"https://schemas.example.com/order.json\"}");
    for trigger in [trigger("payload_schema: {$ref: ../schemas/order.json}"), by_id, inline] {
        let files = [("t/triggers/one.yaml", trigger.as_str()), ("t/schemas/order.json", BUNDLE)];
        let host = Setup::new(&files).start().await;
        for (body, status) in [
            (
                r#"{"buyer": {"name": "Ada"}, "lines": [{"sku": "A", "of": {"lines": []}}], "gift": "Bo", "note": "B"}"#,
                200,
            ),
            (r#"{"buyer": {}}"#, 422),
            (r#"{"buyer": {"name": 1}}"#, 422),
            (r#"{"lines": [{"sku": "a"}]}"#, 422),
            (r#"{"lines": [{"of": {"buyer": {}}}]}"#, 422),
            (r#"{"gift": 1}"#, 422),
            (r#"{"note": "b"}"#, 422),
        ] {
            let answer = host.send("t.one", body).await;
            assert_eq!(answer.status, status, "{body}: {}", answer.text);
        }
        host.stop().await;
    }
}

/// Faults and warnings of a pack with one trigger, `message; help`.
fn check(folder: &Path, trigger: &str) -> Vec<String> {
    write(&folder.join("t/pack.yaml"), "ref: t\nname: T\nversion: 1.0.0\n");
    write(&folder.join("t/triggers/one.yaml"), trigger);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    let output =
        command.args(["pack", "check", "t", "--output", "json"]).current_dir(folder).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told =
        |one: &Value| format!("{}; {}", one["message"].as_str().unwrap(), one["help"].as_str().unwrap_or(""));
    let all =
        ["faults", "warnings"].into_iter().flat_map(|kind| report[kind].as_array().unwrap().iter().map(told));
    all.collect()
}

#[test]
fn what_is_outside_of_the_pack_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (schema, named) in [
        ("{$ref: \"https://schemas.example.com/order.json\"}", "`https://schemas.example.com/order.json`"),
        (
            "{$id: \"https://schemas.example.com/a.json\", properties: {b: {$ref: \"b.json\"}}}",
            "`https://schemas.example.com/b.json`",
        ),
        (
            "{$id: \"https://schemas.example.com/a.json\", properties: {b: {$ref: \"#/$defs/none\"}}}",
            "$defs/none",
        ),
    ] {
        let told = check(folder.path(), &trigger(&format!("payload_schema: {schema}")));
        assert!(told.len() == 1 && told[0].contains(named), "{schema}: {told:?}");
    }
}

/// What a reference by `$id` costs is seen like that of any other.
#[test]
fn references_by_id_that_double_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let level = |level: usize| {
        let below = format!("https://schemas.example.com/{}.json", level + 1);
        format!(
            "l{level}: {{$id: \"https://schemas.example.com/{level}.json\", allOf: [{{$ref: \"{below}\"}}, {{$ref: \"{}.json\"}}]}}",
            level + 1
        )
    };
    let levels: Vec<_> = (0..30).map(level).collect();
    let last = "l30: {$id: \"https://schemas.example.com/30.json\", type: object}";
    let schema =
        format!("{{$ref: \"https://schemas.example.com/0.json\", $defs: {{{}, {last}}}}}", levels.join(", "));
    let told = check(folder.path(), &trigger(&format!("payload_schema: {schema}")));
    assert!(told.len() == 1 && told[0].contains("takes more than"), "{told:?}");
}

#[test]
fn a_word_that_asserts_nothing_gets_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let old = "$schema: \"http://json-schema.org/draft-07/schema#\"";
    for (schema, warning) in [
        ("{properties: {a: {type: string, nullable: true}}}", Some("write `type: [string, \"null\"]`")),
        ("{properties: {a: {required_if: b}}}", Some("`required_if` is not a keyword")),
        ("{properties: {a: {example: 1}}}", Some("did you mean `examples`?")),
        ("{discriminator: {propertyName: kind}}", Some("OpenAPI has it")),
        ("{properties: {a: {x-internal: true, $comment: none}, nullable: {type: string}}}", None),
        ("{items: {format: phone}}", Some("the format `phone` is not known and is not checked")),
        ("{items: {format: idn-email}}", None),
        (
            &format!("{{{old}, items: {{format: uuid}}}}"),
            Some("`uuid` is checked from 2019-09 on, and not in draft 7"),
        ),
        (
            &format!("{{{old}, prefixItems: [{{type: string}}]}}"),
            Some("`prefixItems` is a keyword from 2020-12 on"),
        ),
        ("{$schema: \"http://json-schema.org/draft-04/schema#\", id: \"https://a.example/b\"}", None),
    ] {
        let told = check(folder.path(), &trigger(&format!("payload_schema: {schema}")));
        match warning {
            Some(warning) => assert!(told.len() == 1 && told[0].contains(warning), "{schema}: {told:?}"),
            None => assert_eq!(told, Vec::<String>::new(), "{schema}"),
        }
    }
}
