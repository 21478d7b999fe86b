//! Traces: the spans that a collector gets, whose wish counts, and what happens without a collector.

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::harness::{
    Answer, Process, SECRET, Setup, TestDatabase, TestHost, eventually, github_signature, write,
};

const TRIGGER: &str = "name: one\nref: t.one\ntype: webhook\npayload_schema: true
webhook: {enabled: true, preset: github, secrets: [github_webhook]}\n";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";

/// What an OpenTelemetry collector does, as far as we need it.
struct Collector {
    endpoint: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    serving: JoinHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let take = async move |Json(body): Json<Value>| {
            kept.lock().unwrap().push(body);
            Json(json!({}))
        };
        let router = Router::new().route("/v1/traces", post(take));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, bodies, serving }
    }

    /// Every span so far.
    fn spans(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().unwrap();
        let scopes =
            bodies.iter().flat_map(|body| body["resourceSpans"][0]["scopeSpans"].as_array().unwrap());
        scopes.flat_map(|scope| scope["spans"].as_array().unwrap().clone()).collect()
    }

    /// Those of whole requests.
    fn requests(&self) -> Vec<Value> {
        self.spans().into_iter().filter(|span| span["kind"] == 2).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn host(endpoint: &str, change: impl FnOnce(&mut Setup)) -> TestHost {
    let mut setup = Setup::new(&[("t/triggers/one.yaml", TRIGGER)]);
    setup.config.otlp_endpoint = Some(endpoint.to_owned());
    setup.config.otlp_sample_ratio = 0.0;
    change(&mut setup);
    setup.start().await
}

async fn send(host: &TestHost, flags: &str) -> Answer {
    let request = host.post("t.one").header("x-hub-signature-256", github_signature(b"{}", SECRET));
    let request = request.header("traceparent", format!("00-{TRACE_ID}-{PARENT_ID}-{flags}"));
    Answer::of(request.header("tracestate", "vendor=1").body("{}").send().await.unwrap()).await
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("no {key} in {span}"))["value"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_spans_of_a_delivery_under_the_parent_that_was_sent() {
    let collector = Collector::start().await;
    let host = host(&collector.endpoint, |_| {}).await;
    let key = host.url("t.one").rsplit_once('/').unwrap().1.to_owned();
    let answer = send(&host, "01").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let request_id = answer.header("x-request-id").unwrap().to_owned();
    // What is left is sent before the host has stopped.
    host.stop().await;

    let spans = collector.spans();
    let own = &collector.requests()[0];
    assert_eq!((&own["traceId"], &own["parentSpanId"]), (&json!(TRACE_ID), &json!(PARENT_ID)));
    assert_eq!(
        (&own["traceState"], &own["name"]),
        (&json!("vendor=1"), &json!("POST /api/v1/webhooks/{key}"))
    );
    assert_eq!(attribute(own, "hookpack.trigger")["stringValue"], "t.one");
    assert_eq!(attribute(own, "hookpack.outcome")["stringValue"], "accepted");
    assert_eq!(attribute(own, "hookpack.request_id")["stringValue"], json!(request_id));
    assert_eq!(attribute(own, "http.response.status_code")["intValue"], "200");
    let steps: Vec<_> = spans.iter().filter(|span| span["parentSpanId"] == own["spanId"]).collect();
    for step in ["signature", "schema", "store"] {
        assert!(steps.iter().any(|span| span["name"] == step && span["traceId"] == TRACE_ID), "{step}");
    }
    assert_eq!(steps.len() + 1, spans.len());
    let nanos = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
    let ends = steps.iter().map(|span| nanos(span, "endTimeUnixNano")).max().unwrap();
    assert!(steps.iter().all(|span| nanos(span, "startTimeUnixNano") >= nanos(own, "startTimeUnixNano")));
    assert!(ends <= nanos(own, "endTimeUnixNano"));
    let told = format!("{:?}", collector.bodies.lock().unwrap());
    assert!(told.contains("service.name") && !told.contains(&key) && !told.contains(SECRET), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_senders_wish_counts_within_a_limit() {
    let collector = Collector::start().await;
    let host = host(&collector.endpoint, |setup| {
        setup.config.otlp_traces_per_second = 3.try_into().unwrap();
    })
    .await;
    for _ in 0..5 {
        assert_eq!(send(&host, "01").await.status, 200);
        assert_eq!(send(&host, "00").await.status, 200);
    }
    let metrics = host.api("/metrics").await.text;
    assert!(metrics.contains("hookpack_traces_total{outcome=\"over_limit\"} 2"), "{metrics}");
    host.stop().await;
    assert_eq!(collector.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_traces_begins_a_trace_of_its_own() {
    let collector = Collector::start().await;
    let host = host(&collector.endpoint, |setup| setup.config.otlp_sample_ratio = 1.0).await;
    let answer = host.send("t.one", "{}").await;
    assert_eq!(answer.status, 401);
    host.stop().await;
    let own = &collector.requests()[0];
    let request_id = answer.header("x-request-id").unwrap().replace('-', "");
    assert_eq!((&own["traceId"], &own["parentSpanId"]), (&json!(request_id), &json!("")));
    assert_eq!(attribute(own, "hookpack.outcome")["stringValue"], "bad_signature");
    assert!(!collector.spans().iter().any(|span| span["name"] == "store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_collector_that_is_away() {
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let host = host(&format!("http://{away}"), |setup| setup.config.otlp_queue_traces_max = 1).await;
    let began = Instant::now();
    eventually("traces that were given up", async || {
        assert_eq!(send(&host, "01").await.status, 200);
        let metrics = host.api("/metrics").await.text;
        let lost =
            |outcome: &str| !metrics.contains(&format!("hookpack_traces_total{{outcome=\"{outcome}\"}} 0"));
        (lost("failed") && lost("dropped")).then_some(())
    })
    .await;
    host.stop().await;
    assert!(began.elapsed() < Duration::from_secs(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_of_a_request_name_it_and_its_trace() {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new().await);
    write(&folder.path().join("packs/t/pack.yaml"), "ref: t\nname: t\nversion: 1.0.0\n");
    write(&folder.path().join("packs/t/triggers/one.yaml"), TRIGGER);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.env("HOOKPACK_DATABASE_URL", &database.url).env("HOOKPACK_SECRET_GITHUB_WEBHOOK", SECRET);
    command.env("HOOKPACK_SECRET_GRANTS", "{github_webhook: [t]}");
    command.env("HOOKPACK_LOG", "info,hookpack=debug").env("HOOKPACK_LOG_FORMAT", "json");
    let host = Process::start_with(folder.path(), command);
    let webhook = host.api("/api/v1/triggers/t.one/webhooks").await.json();
    let url = format!(
        "http://{}/api/v1/webhooks/{}",
        host.address,
        webhook["data"]["webhook_key"].as_str().unwrap()
    );
    let request =
        crate::harness::http().post(url).header("traceparent", format!("00-{TRACE_ID}-{PARENT_ID}-00"));
    let answer = Answer::of(request.body("{}").send().await.unwrap()).await;
    assert_eq!(answer.status, 401);
    let line = eventually("a line of the request", async || {
        let log = host.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| line["fields"].clone()).find(|fields| fields["message"] == "a request has ended")
    })
    .await;
    assert_eq!(line["request_id"], answer.header("x-request-id").unwrap());
    assert_eq!((&line["trace_id"], &line["outcome"]), (&json!(TRACE_ID), &json!("bad_signature")));
    host.kill();
}
