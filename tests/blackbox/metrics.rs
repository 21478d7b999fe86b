//! `/metrics` after real traffic: every name, and that the values are what happened.

use std::{collections::BTreeMap, fs};

use crate::harness::{Setup, TestHost, eventually, github_signature, repository};

const OPEN: &str = "name: open\nref: one.open\ntype: webhook\npayload_schema: {type: object}
webhook: {enabled: true, verify: none, idempotency: {key: $.id}}\n";
const SIGNED: &str = "name: signed\nref: one.signed\ntype: webhook\npayload_schema: true
webhook: {enabled: true, preset: github, secrets: [github_webhook]}\n";
const SHUT: &str = "name: shut\nref: one.shut\ntype: webhook\npayload_schema: true
webhook: {enabled: true, preset: github, secrets: [nobody_has_it]}\n";

async fn host() -> TestHost {
    let files = [
        ("one/triggers/open.yaml", OPEN),
        ("one/triggers/signed.yaml", SIGNED),
        ("one/triggers/shut.yaml", SHUT),
    ];
    Setup::new(&files).start().await
}

/// A scrape, read by the rules of `OpenMetrics`: types by family, values by name and labels.
struct Scrape {
    types: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(host: &TestHost) -> Self {
        let answer = host.api("/metrics").await;
        assert_eq!(answer.status, 200);
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(answer.header("content-type"), Some(kind));
        assert!(answer.text.ends_with("# EOF\n"), "{}", answer.text);
        assert_eq!(answer.text.matches("# EOF").count(), 1);
        Self::read(&answer.text)
    }

    fn read(text: &str) -> Self {
        let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
        let mut family = String::new();
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next());
                match what {
                    "TYPE" => {
                        let kind = rest.unwrap().to_owned();
                        assert!(types.insert(name.to_owned(), kind).is_none(), "{name} is told twice");
                        name.clone_into(&mut family);
                    }
                    "UNIT" => assert!(name.ends_with(&format!("_{}", rest.unwrap())), "{line}"),
                    "HELP" => assert!(!rest.unwrap().is_empty(), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] = match types[&family].as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_count", "_sum"],
                other => panic!("{other}"),
            };
            let own = name.strip_prefix(family.as_str());
            assert!(own.is_some_and(|suffix| suffixes.contains(&suffix)), "{line} is no {family}");
            assert!(values.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} twice");
        }
        Self { types, values }
    }

    fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.values.keys()))
    }

    fn ended(&self, trigger: &str, outcome: &str) -> f64 {
        self.value(&format!("hookpack_requests_total{{trigger=\"{trigger}\",outcome=\"{outcome}\"}}"))
    }
}

#[tokio::test]
async fn what_happened_is_counted_under_its_trigger_and_outcome() {
    let host = host().await;
    for body in [r#"{"id": "1"}"#, r#"{"id": "2"}"#, r#"{"id": "2"}"#, "[]", "nothing"] {
        host.send("one.open", body).await;
    }
    let signature = github_signature(b"{}", crate::harness::SECRET);
    for signature in [signature.as_str(), "sha256=00"] {
        let sent = host.post("one.signed").header("x-hub-signature-256", signature).body("{}");
        sent.send().await.unwrap();
    }
    assert_eq!(host.send("one.shut", "{}").await.status, 503);
    for _ in 0..3 {
        let url = format!("http://{}/api/v1/webhooks/wh_nobody", host.address);
        assert_eq!(host.http.post(url).body("{}").send().await.unwrap().status(), 404);
    }

    let scrape = Scrape::of(&host).await;
    for (trigger, outcome, count) in [
        ("one.open", "accepted", 2.0),
        ("one.open", "duplicate", 1.0),
        ("one.open", "schema_violation", 1.0),
        ("one.open", "undecodable", 1.0),
        ("one.signed", "accepted", 1.0),
        ("one.signed", "bad_signature", 1.0),
        ("one.shut", "secret_missing", 1.0),
        ("", "unknown_key", 3.0),
    ] {
        assert!((scrape.ended(trigger, outcome) - count).abs() < 0.1, "{trigger} {outcome}");
    }
    let counted = |series: &str, count: f64| {
        assert!((scrape.value(series) - count).abs() < 0.1, "{series}: {}", scrape.value(series));
    };
    counted("hookpack_request_duration_seconds_count", 11.0);
    counted("hookpack_request_duration_seconds_bucket{le=\"+Inf\"}", 11.0);
    for (step, reached) in [
        ("key", 11.0),
        ("signature", 7.0),
        ("decode", 6.0),
        ("schema", 5.0),
        ("mapping", 4.0),
        ("store", 4.0),
    ] {
        counted(&format!("hookpack_request_step_seconds_count{{step=\"{step}\"}}"), reached);
    }
    assert!(scrape.value("hookpack_request_step_seconds_sum{step=\"store\"}") > 0.0);
    assert!(scrape.value("hookpack_batch_duration_seconds_sum") > 0.0);
    counted("hookpack_batch_deliveries_sum", 4.0);
    for gauge in ["requests_in_flight", "queue_deliveries", "queue_bytes", "override_faults"] {
        counted(&format!("hookpack_{gauge}"), 0.0);
    }
    counted("hookpack_endpoints", 3.0);
    counted("hookpack_secrets_missing", 1.0);
    counted(&format!("hookpack_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0);
    assert!(scrape.value("hookpack_pool_connections") >= 1.0);
    host.stop().await;
}

#[tokio::test]
async fn a_trigger_that_is_gone_has_no_series_any_more() {
    let host = host().await;
    assert_eq!(host.send("one.open", "{}").await.status, 200);
    assert!(Scrape::of(&host).await.ended("one.open", "accepted") > 0.0);
    fs::remove_dir_all(host.packs().join("one")).unwrap();
    eventually("no series of it", async || {
        let text = host.api("/metrics").await.text;
        (!text.contains("trigger=\"one.open\"")).then_some(())
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn every_metric_is_in_the_readme() {
    let host = host().await;
    let scrape = Scrape::of(&host).await;
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let named = |family: &str, kind: &str| match kind {
        "counter" => readme.contains(&format!("`{family}_total`")),
        _ => readme.contains(&format!("`{family}`")),
    };
    let missing: Vec<_> = scrape.types.iter().filter(|(family, kind)| !named(family, kind)).collect();
    assert!(missing.is_empty(), "the README does not name {missing:?}");
    host.stop().await;
}
