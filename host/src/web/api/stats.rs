//! `/api/v1/stats`: how many requests came, how they ended, how long they took.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};

use super::{Data, Failures, data, moment, turn};
use crate::{
    host::Host,
    model::Outcome,
    store::stats::{CountRow, counts},
    web::{
        auth::{Caller, Read},
        error::ApiError,
        extract::Asked,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Wanted {
    /// Of this trigger, or pack's endpoint, only.
    trigger: Option<String>,
    /// RFC 3339; whole days in UTC are counted, that one included. 30 days ago unless told.
    since: Option<String>,
}

/// What is counted, of all and of each.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Stats {
    /// The first day.
    #[schema(value_type = String, format = Date)]
    since: String,
    total: Counts,
    /// Of every trigger and pack's endpoint that requests came to.
    triggers: Vec<OfOwner>,
}

/// What came to one trigger, or to a pack's endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct OfOwner {
    r#ref: String,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::web) struct Counts {
    requests: i64,
    body_bytes: i64,
    /// How many ended so: `accepted`, `bad_signature`, …
    outcomes: BTreeMap<String, i64>,
    /// How long they took, in microseconds; within 9 %.
    duration_us: Quantiles,
    #[serde(with = "time::serde::rfc3339::option")]
    last_request_at: Option<OffsetDateTime>,
    /// Quarantined requests that a replay turned into events; they count under `quarantined` in `outcomes`, too.
    replayed: i64,
    /// When the last request was accepted, or replayed from the quarantine.
    #[serde(with = "time::serde::rfc3339::option")]
    last_event_at: Option<OffsetDateTime>,
    #[serde(skip)]
    latencies: BTreeMap<i16, i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
struct Quantiles {
    p50: u64,
    p95: u64,
    p99: u64,
}

const DAYS: i64 = 30;

/// What `store::quarantine::end` counts a replay as: no outcome of a request.
const REPLAYED: &str = "replayed";

/// Counts, bytes, durations and the last request and event, of each trigger and of all. It costs the same however many
/// rows the request log has.
#[utoipa::path(get, path = "/api/v1/stats", tag = "stats", params(Wanted),
    responses((status = 200, body = Data<Stats>), Failures))]
pub(in crate::web) async fn stats(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<Data<Stats>>, ApiError> {
    let since = moment(wanted.since.as_ref(), "since")?;
    let since = since.unwrap_or_else(|| host.clock.now() - Duration::days(DAYS)).date();
    let (trigger, pack_refs) = (wanted.trigger.as_deref(), caller.who.pack_refs.as_deref());
    let _turn = turn(&host).await?;
    let rows = counts(&host.pool, trigger, pack_refs, since).await?;
    let mut total = Counts::default();
    let mut owners: BTreeMap<String, Counts> = BTreeMap::new();
    for row in rows {
        total.add(&row);
        // What came to no trigger is in the total.
        if !row.trigger_ref.is_empty() {
            owners.entry(row.trigger_ref.clone()).or_default().add(&row);
        }
    }
    let owners = owners.into_iter().map(|(r#ref, counts)| OfOwner { r#ref, counts: counts.done() });
    Ok(data(Stats { since: since.to_string(), total: total.done(), triggers: owners.collect() }))
}

impl Counts {
    fn add(&mut self, row: &CountRow) {
        if row.outcome == REPLAYED {
            self.replayed += row.requests;
            self.last_event_at = self.last_event_at.max(row.last_at);
            return;
        }
        self.requests += row.requests;
        self.body_bytes += row.body_bytes;
        *self.outcomes.entry(row.outcome.clone()).or_default() += row.requests;
        *self.latencies.entry(row.latency).or_default() += row.requests;
        self.last_request_at = self.last_request_at.max(row.last_at);
        if row.outcome == Outcome::Accepted.word() {
            self.last_event_at = self.last_event_at.max(row.last_at);
        }
    }

    fn done(mut self) -> Self {
        let at = |percent| duration_of(quantile(&self.latencies, self.requests, percent));
        self.duration_us = Quantiles { p50: at(50), p95: at(95), p99: at(99) };
        self
    }
}

/// The class that so many percent of the requests are in, or below.
fn quantile(latencies: &BTreeMap<i16, i64>, requests: i64, percent: i64) -> i16 {
    // Rounded up: of one request all quantiles are its own.
    let wanted = (requests * percent + 99) / 100;
    let mut counted = 0;
    for (latency, requests) in latencies {
        counted += requests;
        if counted >= wanted {
            return *latency;
        }
    }
    0
}

/// The middle of a class, as its multiples go.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^63")]
fn duration_of(latency: i16) -> u64 {
    ((f64::from(latency) + 0.5) / 4.0).exp2().round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_nine_percent() {
        let mut latencies = BTreeMap::new();
        let durations: Vec<u32> = (1..=1000).map(|number| number * number).collect();
        for duration in &durations {
            let begins = |class: &i16| (f64::from(*class) / 4.0).exp2() <= f64::from(*duration);
            let class = (0..100).rev().find(begins).unwrap();
            *latencies.entry(class).or_insert(0) += 1;
        }
        for percent in [50, 95, 99] {
            let exact = f64::from(durations[usize::try_from(percent * 10).unwrap() - 1]);
            let told = duration_of(quantile(&latencies, 1000, percent));
            let told = f64::from(u32::try_from(told).unwrap());
            assert!((told / exact - 1.0).abs() < 0.091, "{percent}: {told} for {exact}");
        }
        assert_eq!(quantile(&BTreeMap::from([(7, 1)]), 1, 50), 7);
        assert_eq!(quantile(&BTreeMap::new(), 0, 50), 0);
    }
}
