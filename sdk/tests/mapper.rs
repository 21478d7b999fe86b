//! Mappers as their authors write and test them; the first one is the README's.

use hookpack_sdk::{
    Delivery, Error, Event, RawValue, Result, Value, failed, invalid_payload, json, mapper, skip, testing,
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Push {
    r#ref: String,
    commits: Vec<Commit>,
}

#[derive(Deserialize)]
struct Commit {}

#[derive(Serialize)]
struct Summary<'a> {
    branch: &'a str,
    commits: usize,
}

#[mapper]
fn transform(delivery: Delivery) -> Result<Event> {
    let push: Push = delivery.json()?;
    Event::json(&Summary { branch: push.branch(), commits: push.commits.len() })
}

impl Push {
    fn branch(&self) -> &str {
        self.r#ref.strip_prefix("refs/heads/").unwrap_or(&self.r#ref)
    }
}

#[test]
fn a_push_becomes_a_summary() {
    let push = json!({"ref": "refs/heads/main", "commits": [{}, {}]});
    let delivery = testing::delivery("github.push").header("X-GitHub-Event", "push").json(&push).build();
    let event = transform(delivery).unwrap();
    assert_eq!(event.value(), json!({"branch": "main", "commits": 2}));
    assert_eq!(event.key(), None);
}

#[test]
fn what_is_no_push_is_refused() {
    let delivery = testing::delivery("github.push").payload(r#"{"zen": "Keep it simple."}"#).build();
    assert_eq!(transform(delivery), Err(invalid_payload("missing field `ref` at line 1 column 26")));
}

#[test]
fn headers_are_found_in_any_case_and_the_first_one_counts() {
    let delivery = testing::delivery("a.b").header("X-Event", "one").header("x-event", "two").build();
    assert_eq!(delivery.header("X-EVENT"), Some("one"));
    assert_eq!(delivery.headers().collect::<Vec<_>>(), [("x-event", "one"), ("x-event", "two")]);
    assert_eq!(delivery.header("x-other"), None);
}

#[test]
fn query_and_attributes_are_found_by_their_exact_name() {
    let delivery = testing::delivery("a.b").query("Page", "7").attribute("region", "eu").build();
    assert_eq!((delivery.query("Page"), delivery.query("page")), (Some("7"), None));
    assert_eq!((delivery.attribute("region"), delivery.attribute("zone")), (Some("eu"), None));
}

#[test]
fn settings_that_do_not_fit_are_the_packs_fault() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Settings {
        limit: u8,
    }
    let with = |settings: Value| testing::delivery("a.b").settings(&settings).build();
    assert_eq!(with(json!({"limit": 3})).settings(), Ok(Settings { limit: 3 }));
    let Err(Error::Failed(reason)) = with(json!({"limit": "three"})).settings::<Settings>() else {
        panic!("a text passed as a number");
    };
    assert!(reason.starts_with("settings: invalid type: string \"three\", expected u8"), "{reason}");
}

#[test]
fn a_raw_value_keeps_every_digit() {
    let text = r#"{"amount": 0.10, "big": 12345678901234567890123}"#;
    let delivery = testing::delivery("a.b").payload(text).build();
    let raw: &RawValue = delivery.json().unwrap();
    assert_eq!(Event::json(raw).unwrap().payload(), text);
}

#[test]
fn an_error_says_what_it_is_and_why() {
    let cases = [
        (skip("a ping"), "skipped: a ping"),
        (invalid_payload("no id"), "invalid payload: no id"),
        (failed("no rate for EUR"), "failed: no rate for EUR"),
        ("x".parse::<u8>().unwrap_err().into(), "invalid payload: invalid digit found in string"),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn what_has_no_form_in_json_is_the_mappers_fault() {
    let map = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(Event::json(&map), Err(Error::Failed(_))));
}
