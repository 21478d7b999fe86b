//! Spans of requests for a collector: W3C Trace Context in, OTLP over HTTP out.
//!
//! A request leaves its times in a bounded queue, or is counted where that is full; everything else happens behind it.

mod context;
mod export;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use http::HeaderMap;
use time::OffsetDateTime;
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

pub use self::context::Context;
use self::export::Exporter;
use crate::{
    clock::Clock,
    config::Config,
    limits::Sampler,
    metrics::Metrics,
    model::{Outcome, TraceId},
    steps::Steps,
};

/// Which requests are traced, and where their spans go.
#[derive(Debug)]
pub struct Traces {
    queue: mpsc::Sender<Trace>,
    ratio: f64,
    parent_ratio: f64,
    /// So many a second, whatever senders ask for.
    limit: Sampler,
    metrics: Arc<Metrics>,
}

/// One request, as its spans tell of it: no body, no header, no key.
#[derive(Debug)]
pub struct Trace {
    pub context: Context,
    pub request_id: Uuid,
    pub began_at: OffsetDateTime,
    pub took: Duration,
    pub steps: Steps,
    pub method: &'static str,
    pub trigger_ref: Option<String>,
    pub outcome: Outcome,
    pub status: u16,
    pub body_bytes: i64,
}

impl Traces {
    /// `None` without a collector. The task ends when every handle is gone and what waits is sent.
    pub fn start(
        config: &Config,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<(Self, JoinHandle<()>)>> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
        let exporter = Exporter::new(endpoint, &config.otlp_headers, metrics.clone())
            .with_context(|| format!("`otlp_endpoint: {endpoint}`"))?;
        let (queue, waiting) = mpsc::channel(config.otlp_queue_traces_max.max(1));
        let traces = Self {
            queue,
            ratio: config.otlp_sample_ratio,
            parent_ratio: config.otlp_parent_sample_ratio,
            limit: Sampler::new(config.otlp_traces_per_second, clock),
            metrics: metrics.clone(),
        };
        Ok(Some((traces, tokio::spawn(exporter.run(waiting)))))
    }

    /// Whether a request is traced, and as part of what. A sender's wish counts within the limit: nobody vouches for it.
    pub fn sample(&self, request_id: Uuid, asked: Option<&Context>) -> Option<Context> {
        let context = asked.cloned().unwrap_or_else(|| Context::root(request_id));
        let ratio = if context.is_sampled { self.parent_ratio } else { self.ratio };
        if !context.trace_id.is_among(ratio) {
            return None;
        }
        if self.limit.sample().is_none() {
            self.metrics.trace("over_limit", 1);
            return None;
        }
        Some(context)
    }

    /// Hands a trace on, without waiting.
    pub fn send(&self, trace: Trace) {
        if self.queue.try_send(trace).is_err() {
            self.metrics.trace("dropped", 1);
        }
    }
}

impl TraceId {
    /// Whether it belongs to this part of all: by its last bytes, which are random in everybody's ids.
    fn is_among(self, ratio: f64) -> bool {
        const ALL: f64 = 4_294_967_296.0;
        let [.., a, b, c, d] = self.0;
        f64::from(u32::from_be_bytes([a, b, c, d])) < ratio * ALL
    }
}

/// What a request says of the trace that it is part of.
pub fn asked(headers: &HeaderMap) -> Option<Context> {
    Context::of(headers)
}
