use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::budget::Limits;

fn select(path: &str, payload: &Value) -> Value {
    let budget = Budget::default();
    json!(JsonPath::parse(path).unwrap().all(payload, &budget).unwrap())
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn nodes_come_one_after_the_other() {
    let payload = json!({"list": [{"a": 1, "b": 2}, {"b": 4, "a": 3}], "s": {"x": [5, {"x": 6}]}});
    for (path, expected) in [
        ("$.list[*]['a','b']", json!([1, 2, 3, 4])),
        ("$.list[*]['b','a','b']", json!([2, 1, 2, 4, 3, 4])),
        ("$.list[1,0].a", json!([3, 1])),
        ("$['list','s'][0,'x']", json!([{"a": 1, "b": 2}, [5, {"x": 6}]])),
        ("$..x", json!([[5, {"x": 6}], 6])),
        ("$..[0]", json!([{"a": 1, "b": 2}, 5])),
        ("$.list[::-1].b", json!([4, 2])),
        ("$.list[5:-9:-1].b", json!([4, 2])),
        ("$.list[::0]", json!([])),
        ("$.s.x[?@ == 5, ?@.x]", json!([5, {"x": 6}])),
        ("$[?@[?@ > 4]]", json!([])),
        ("$[?@[?@[?@ == 5]]]", json!([{"x": [5, {"x": 6}]}])),
        ("$[?count(@.nothing[*]) == 0]", json!([payload["list"], payload["s"]])),
        ("$.list[?length(@) == 2 && value(@..a) >= 3].b", json!([4])),
        ("$.list[?@['a'] == $.s.x[1].x || !@.b]", json!([])),
        ("$.list[?@.no == @.nothing].a", json!([1, 3])),
        ("$ .list [ 0 ] .a", json!([1])),
    ] {
        assert_eq!(select(path, &payload), expected, "{path}");
    }
}

#[test]
fn numbers_and_texts_are_compared_exactly() {
    let payload = parse(
        r#"[1, 1.0, 1e400, 1e401, -0, 9007199254740993, "b", "\ud83d\ude00", "\uffee", [1, {"a": 1e0}], null]"#,
    );
    for (path, expected) in [
        ("$[?@ == 1]", "[1, 1.0]"),
        ("$[?@ == 1.00]", "[1, 1.0]"),
        ("$[?@ == 10e399]", "[1e400]"),
        ("$[?@ > 1e400]", "[1e401]"),
        ("$[?@ >= 1e400]", "[1e400, 1e401]"),
        ("$[?@ == 0]", "[-0]"),
        ("$[?@ == 9007199254740992]", "[]"),
        ("$[?@ > 9007199254740992 && @ < 1e300]", "[9007199254740993]"),
        // UTF-16 would have it the other way round.
        ("$[?@ > '\u{ffee}']", "[\"\u{1f600}\"]"),
        ("$[?@ == $[9]]", r#"[[1, {"a": 1e0}]]"#),
        ("$[?@ <= null]", "[null]"),
    ] {
        assert_eq!(select(path, &payload).to_string(), parse(expected).to_string(), "{path}");
    }
}

#[test]
fn patterns_are_i_regexps() {
    let payload = json!(["ab", "a\nb", "xaby", "a&&b", "[", "^", "Ж", "a-b", "aab"]);
    for (path, expected) in [
        ("$[?match(@, 'a.b')]", json!(["a-b", "aab"])),
        ("$[?search(@, 'ab')]", json!(["ab", "xaby", "aab"])),
        ("$[?match(@, 'a[&&b]+b')]", json!(["a&&b"])),
        ("$[?match(@, '[\\\\[^]')]", json!(["[", "^"])),
        ("$[?match(@, '\\\\p{Lu}')]", json!(["Ж"])),
        ("$[?match(@, 'a[+-]b|a{2}b')]", json!(["a-b", "aab"])),
        ("$[?match(@, 1)]", json!([])),
        ("$[?match(@, $[0])]", json!(["ab"])),
        ("$[?match(@, $[4])]", json!([])),
    ] {
        assert_eq!(select(path, &payload), expected, "{path}");
    }
    for pattern in
        ["\\\\d+", "a**", "(a", "a)", "[", "[]", "a{,2}", "\\\\p{Xx}", "(?i)a", "a{99999}", "[b-a]", "\\\\1"]
    {
        let error = JsonPath::parse(&format!("$[?match(@, '{pattern}')]")).unwrap_err();
        assert!(error.contains("at character 13"), "{error}");
    }
}

#[test]
fn a_wrong_path_names_the_character() {
    for (path, character, word) in [
        ("$.a[", 5, "a name in quotes"),
        ("$.a..", 6, "a name"),
        ("$.a b", 4, "blank"),
        ("$..a b", 5, "blank"),
        ("$ .list [ 0 ] . a", 16, "a name"),
        ("$.é.1", 5, "a name"),
        ("$['a", 3, "not closed"),
        ("$['\\ud800']", 4, "surrogate"),
        ("$[01]", 3, "leading zeros"),
        ("$[9007199254740992]", 3, "out of range"),
        ("$[?@.id in [1]]", 9, "`,` or `]`"),
        ("$[?(@.a]", 8, "`)`"),
        ("$[?!@.a == 1]", 9, "`,` or `]`"),
        ("$[?1]", 4, "compare it"),
        ("$[?length(@.a)]", 4, "compare it"),
        ("$[?@.* == 1]", 4, "one value"),
        ("$[?match(@.a, 'x') == true]", 4, "can't be compared"),
        ("$[?count(1) == 1]", 10, "a path"),
        ("$[?length(@.*) == 1]", 11, "one value"),
        ("$[?len(@) == 1]", 4, "no function"),
        ("$[?@.a == abc]", 11, "quotes"),
        ("$[?@.a == 01]", 11, "number"),
    ] {
        let error = JsonPath::parse(path).unwrap_err();
        let found = error.contains(&format!("at character {character}: ")) && error.contains(word);
        assert!(found, "{path}: {error}");
    }
}

#[test]
fn reading_takes_linear_time_and_has_a_depth() {
    let nested = |depth: usize| format!("$[?{}@.a{}]", "(".repeat(depth), ")".repeat(depth));
    JsonPath::parse(&nested(20)).unwrap();
    assert!(JsonPath::parse(&nested(400)).unwrap_err().contains("nested more than 32 deep"));
    let began = Instant::now();
    for text in ["$[?!(", "$[?(search((subset_of((nin((", "$[?@[?@[?@[?((((((", "$[?@", "$..", "$[1,"] {
        for times in [1, 10, 100, 900 / text.len()] {
            let _ = JsonPath::parse(&text.repeat(times)[..]);
            let _ = JsonPath::parse(&format!("${}", text[1..].repeat(times)));
        }
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    // What stands in quotes is only text.
    let quoted = format!("$['{}']", "..((??".repeat(150));
    assert!(JsonPath::parse(&quoted).unwrap().is_singular());
    assert!(JsonPath::parse(&format!("$.{}", "a".repeat(1000))).is_err());
}

/// A hundred members deep and wide enough for the worst of paths.
#[test]
fn every_evaluation_ends_within_the_budget() {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!({"a": deep, "b": [1, 2, 3], "p": "(x{0,90}){0,90}"});
    }
    let payload = json!([deep, (0..5000).collect::<Vec<_>>(), "x".repeat(100_000)]);
    let limits = Limits { steps_max: 2_000_000, bytes_max: 1 << 20, time: Duration::from_mins(1) };
    let stars = "*,".repeat(40) + "*";
    for path in [
        "$..[?count($..*)>999999999]",
        &format!("$[{stars}][{stars}][{stars}][{stars}][{stars}]"),
        "$..*..*..*..*",
        "$..[?@..[?@..[?@..[?@..x]]]]",
        "$..[?length($[2]) == 1 && search($[2], 'y')]",
        "$..[?search($[2], @.p)]",
        "$..[?$ == $[0]]",
        &format!("$[?{}@]", "$..*[?".repeat(20)),
    ] {
        let Ok(path) = JsonPath::parse(path) else { continue };
        let began = Instant::now();
        let budget = Budget::new(limits, began);
        let _timed = budget.timed();
        let result = path.all(&payload, &budget);
        println!("{:?} {:?} {}", began.elapsed(), result.map(|nodes| nodes.len()), path.text());
        assert!(began.elapsed() < Duration::from_secs(10), "{}", path.text());
    }
}

#[test]
fn a_value_is_put_where_a_singular_path_leads() {
    let mut payload = json!({"a": [1, {"b": 2}]});
    for (path, placed) in [
        ("$.a[1].c", true),
        ("$.a[0]", true),
        ("$.a[7]", false),
        ("$.x.y", false),
        ("$", false),
        ("$.a[*]", false),
    ] {
        assert_eq!(JsonPath::parse(path).unwrap().set(&mut payload, json!("new")), placed, "{path}");
    }
    assert_eq!(payload, json!({"a": ["new", {"b": 2, "c": "new"}]}));
}

/// Runs `tests/suites/run jsonpath`: see there.
#[test]
#[ignore = "needs a suite that is not in the repository: tests/suites/README.md"]
#[expect(clippy::disallowed_methods, reason = "the script names its files in the environment")]
fn suite() {
    let read = |name: &str| std::fs::read_to_string(std::env::var(name).unwrap()).unwrap();
    let suite: Value = serde_json::from_str(&read("HOOKPACK_SUITE")).unwrap();
    let known: std::collections::BTreeSet<String> = match std::env::var("HOOKPACK_SUITE_BASELINE") {
        Ok(_) => read("HOOKPACK_SUITE_BASELINE")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect(),
        Err(_) => std::collections::BTreeSet::new(),
    };
    let cases = suite["tests"].as_array().unwrap();
    let mut failed = std::collections::BTreeSet::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        if let Err(reason) = suite_case(case) {
            println!("{name}: {reason}");
            failed.insert(name.to_owned());
        }
    }
    println!("{} of {} are right", cases.len() - failed.len(), cases.len());
    assert_eq!(failed, known, "what fails, and what the baseline expects to fail");
}

fn suite_case(case: &Value) -> Result<(), String> {
    let path = case["selector"].as_str().unwrap();
    let is_invalid = case["invalid_selector"] == json!(true);
    let parsed = match JsonPath::parse(path) {
        Ok(_) if is_invalid => return Err(format!("`{path}` is invalid and is read")),
        Err(_) if is_invalid => return Ok(()),
        parsed => parsed?,
    };
    let found =
        parsed.all(&case["document"], &Budget::default()).map_err(|exhausted| exhausted.to_string())?;
    let found = json!(found);
    let is_right = match &case["results"] {
        Value::Array(allowed) => allowed.contains(&found),
        _ => case["result"] == found,
    };
    if is_right { Ok(()) } else { Err(format!("`{path}` selects {found}")) }
}
