//! Sending spans: in batches, as the JSON of OTLP, to a collector that may be away.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::Trace;
use crate::{metrics::Metrics, secret::SecretText};

/// Traces in one request to the collector.
const BATCH_TRACES_MAX: usize = 256;
/// How long the first of a batch waits for more.
const LINGER: Duration = Duration::from_millis(500);
const WAIT: Duration = Duration::from_secs(10);
/// How often a batch is tried, and the pause in between.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_SERVER` and `STATUS_CODE_ERROR` of OTLP.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const ERROR: u8 = 2;

pub(super) struct Exporter {
    http: reqwest::Client,
    url: reqwest::Url,
    resource: Value,
    metrics: Arc<Metrics>,
    /// Whether the last batch was taken: only changes are told.
    is_well: bool,
}

impl Exporter {
    pub(super) fn new(
        endpoint: &str,
        headers: &BTreeMap<String, SecretText>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let whole = endpoint.trim_end_matches('/');
        let url = if whole.ends_with("/v1/traces") { whole.to_owned() } else { format!("{whole}/v1/traces") };
        let url: reqwest::Url = url.parse()?;
        if !["http", "https"].contains(&url.scheme()) {
            bail!("spans are sent over http or https");
        }
        let mut sent = HeaderMap::new();
        sent.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            let mut value =
                HeaderValue::from_str(value.get()).with_context(|| format!("`otlp_headers.{name}`"))?;
            value.set_sensitive(true);
            sent.insert(name.parse::<HeaderName>().with_context(|| format!("`otlp_headers.{name}`"))?, value);
        }
        // It fails only when somebody installed one before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(WAIT).no_proxy().default_headers(sent).build()?;
        let resource = json!({"attributes": [
            text("service.name", "hookpack"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &Uuid::now_v7().to_string()),
        ]});
        Ok(Self { http, url, resource, metrics, is_well: true })
    }

    /// Sends until nothing can come any more.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Trace>) {
        let mut batch = Vec::with_capacity(BATCH_TRACES_MAX);
        while waiting.recv_many(&mut batch, 1).await > 0 {
            let more = async {
                while batch.len() < BATCH_TRACES_MAX {
                    let left = BATCH_TRACES_MAX - batch.len();
                    if waiting.recv_many(&mut batch, left).await == 0 {
                        break;
                    }
                }
            };
            timeout(LINGER, more).await.ok();
            self.send(&batch).await;
            batch.clear();
        }
    }

    async fn send(&mut self, batch: &[Trace]) {
        let body = self.body(batch).to_string();
        let mut result = self.post(&body).await;
        for _ in 1..TRIES {
            let Err(Failed { again: true, .. }) = &result else { break };
            sleep(PAUSE).await;
            result = self.post(&body).await;
        }
        self.metrics.trace(if result.is_ok() { "sent" } else { "failed" }, batch.len());
        match (&result, self.is_well) {
            (Err(failed), true) => {
                tracing::warn!(url = %self.url, reason = failed.reason, "spans can't be sent: they are dropped until they can");
            }
            (Ok(()), false) => tracing::info!(url = %self.url, "spans are sent again"),
            _ => {}
        }
        self.is_well = result.is_ok();
    }

    async fn post(&self, body: &str) -> Result<(), Failed> {
        let sent = self.http.post(self.url.clone()).body(body.to_owned()).send().await;
        let status =
            sent.map_err(|error| Failed { reason: error.without_url().to_string(), again: true })?.status();
        if status.is_success() {
            return Ok(());
        }
        let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        Err(Failed { reason: format!("the collector answers {status}"), again })
    }

    fn body(&self, batch: &[Trace]) -> Value {
        let spans: Vec<Value> = batch.iter().flat_map(spans).collect();
        json!({"resourceSpans": [{
            "resource": self.resource,
            "scopeSpans": [{"scope": {"name": "hookpack", "version": env!("CARGO_PKG_VERSION")}, "spans": spans}],
        }]})
    }
}

/// Why a batch was not taken, and whether it may be the next time.
struct Failed {
    reason: String,
    again: bool,
}

/// The request's own span, and one for each of its steps.
fn spans(trace: &Trace) -> Vec<Value> {
    let trace_id = trace.context.trace_id.to_string();
    let own_id = span_id();
    let began = trace.began_at.unix_timestamp_nanos();
    let span = |id: &str, parent: Option<&str>, name: &str, kind: u8, from: Duration, took: Duration| {
        let at = |after: Duration| (began + i128::try_from(after.as_nanos()).unwrap_or_default()).to_string();
        json!({
            "traceId": trace_id, "spanId": id, "parentSpanId": parent.unwrap_or_default(),
            "traceState": trace.context.state.as_deref().unwrap_or_default(), "name": name, "kind": kind,
            "startTimeUnixNano": at(from), "endTimeUnixNano": at(from + took),
        })
    };
    let parent = trace.context.parent_id.map(hex::encode);
    let name = format!("{} {ROUTE}", trace.method);
    let mut own = span(&own_id, parent.as_deref(), &name, SERVER, Duration::ZERO, trace.took);
    own["attributes"] = attributes(trace);
    own["status"] = if trace.status >= 500 { json!({"code": ERROR}) } else { json!({}) };
    let mut spans = vec![own];
    let mut from = Duration::ZERO;
    for (step, took) in trace.steps.reached() {
        spans.push(span(&span_id(), Some(&own_id), step.word(), INTERNAL, from, took));
        from += took;
    }
    spans
}

/// The URL without the key, which opens something.
const ROUTE: &str = "/api/v1/webhooks/{key}";

fn attributes(trace: &Trace) -> Value {
    let number = |key: &str, value: i64| json!({"key": key, "value": {"intValue": value.to_string()}});
    let mut attributes = vec![
        text("http.request.method", trace.method),
        text("http.route", ROUTE),
        number("http.response.status_code", trace.status.into()),
        number("http.request.body.size", trace.body_bytes),
        text("hookpack.request_id", &trace.request_id.to_string()),
        text("hookpack.outcome", trace.outcome.word()),
    ];
    attributes.extend(trace.trigger_ref.as_deref().map(|trigger_ref| text("hookpack.trigger", trigger_ref)));
    Value::Array(attributes)
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Eight bytes that nobody else has, never all zero.
fn span_id() -> String {
    // The second half of a v7 uuid: a part of a counter and random bits; the mark of its variant is set.
    hex::encode(&Uuid::now_v7().as_bytes()[8..])
}
