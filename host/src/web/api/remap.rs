//! `POST /api/v1/events/{id}/remap`: what the delivery of an event would become today. A dry run.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Data, Failures, data};
use crate::{
    host::Host,
    model::Outcome,
    receive::again::{Again, inbound, target_of, through},
    store::{
        events::{self, EventRow},
        kept_requests,
    },
    web::{
        auth::{Caller, Write},
        error::ApiError,
        extract::Named,
    },
};

/// What the delivery of an event became, and what it would become now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Remapped {
    trigger_ref: String,
    request_id: Uuid,
    /// Of the pack that made the stored events, and of the one that runs.
    pack_version_then: Option<String>,
    pack_version_now: String,
    /// `accepted`, or what it would fail on.
    outcome: &'static str,
    detail: Option<String>,
    /// The payloads of the trigger's events of that delivery, as they are stored.
    #[schema(value_type = Vec<serde_json::Value>)]
    stored: Vec<Box<RawValue>>,
    /// The payloads that would be stored now.
    #[schema(value_type = Vec<serde_json::Value>)]
    mapped: Vec<Box<RawValue>>,
    /// Whether they are the same.
    same: bool,
    differences: Vec<Difference>,
}

/// One place where they differ.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct Difference {
    /// A JSON Pointer; its first part is the number of the event.
    pointer: String,
    /// Null where there is nothing, too.
    stored: Value,
    mapped: Value,
}

/// Differences that are told.
const DIFFERENCES_MAX: usize = 100;

/// Sends the delivery of an event through its pack as it is now, and stores nothing. Its request must have been kept
/// (`kept_request_days`), or have been replayed from the quarantine.
#[utoipa::path(post, path = "/api/v1/events/{id}/remap", tag = "events", params(("id" = Uuid, Path)),
    responses((status = 200, body = Data<Remapped>), Failures))]
pub(in crate::web) async fn remap(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<Json<Data<Remapped>>, ApiError> {
    let event = events::get(&host.pool, id).await?.filter(|row| caller.who.reaches(&row.pack_ref));
    let event = event.ok_or_else(|| ApiError::NotFound(format!("event {id}")))?;
    let request_id = request_id(&event).ok_or_else(not_kept)?;
    let request = kept_requests::get(&host.pool, request_id, id).await?.ok_or_else(not_kept)?;
    let target = target_of(&host.registry.load(), &event.trigger_ref, &request);
    let (trigger, target) =
        target.ok_or_else(|| ApiError::Conflict(format!("{} does not run.", event.trigger_ref)))?;
    let siblings = events::of_delivery(&host.pool, &event.trigger_ref, request_id, id).await?;
    let stored: Vec<_> = siblings.into_iter().map(|payload| payload.0).collect();
    let key = request.idempotency_key.clone();
    let request = inbound(request_id, event.received_at, request);
    let (outcome, detail, events) = match through(&host, &trigger, &target, &request, key).await {
        Again::Delivers(delivery) => (Outcome::Accepted, delivery.log.detail, delivery.events),
        Again::Fails { cause, detail } => (cause, Some(detail), Vec::new()),
        Again::Busy(reason) => return Err(ApiError::Unavailable(format!("Too much waits: {reason}."))),
    };
    let mapped: Vec<_> =
        events.into_iter().filter_map(|event| RawValue::from_string(event.payload).ok()).collect();
    let differences = differences(&stored, &mapped);
    Ok(data(Remapped {
        trigger_ref: event.trigger_ref,
        request_id,
        pack_version_then: event.pack_version,
        pack_version_now: trigger.pack_version.clone(),
        outcome: outcome.word(),
        detail,
        stored,
        mapped,
        same: differences.is_empty(),
        differences,
    }))
}

fn request_id(event: &EventRow) -> Option<Uuid> {
    let metadata: Value = serde_json::from_str(event.metadata.get()).ok()?;
    metadata["request_id"].as_str()?.parse().ok()
}

fn not_kept() -> ApiError {
    ApiError::Conflict(
        "The request of this event was not kept: set `kept_request_days`, and those that come from then on are."
            .to_owned(),
    )
}

fn differences(stored: &[Box<RawValue>], mapped: &[Box<RawValue>]) -> Vec<Difference> {
    let read = |payloads: &[Box<RawValue>]| {
        let texts = payloads.iter().map(|payload| payload.get());
        Value::Array(texts.map(|text| serde_json::from_str(text).unwrap_or(Value::Null)).collect())
    };
    let mut differences = Vec::new();
    compare(String::new(), &read(stored), &read(mapped), &mut differences);
    differences
}

fn compare(pointer: String, stored: &Value, mapped: &Value, differences: &mut Vec<Difference>) {
    if stored == mapped || differences.len() >= DIFFERENCES_MAX {
        return;
    }
    match (stored, mapped) {
        (Value::Object(one), Value::Object(other)) => {
            let fresh = other.keys().filter(|name| !one.contains_key(*name));
            for name in one.keys().chain(fresh) {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                compare(format!("{pointer}/{escaped}"), &stored[name], &mapped[name], differences);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for index in 0..one.len().max(other.len()) {
                let of = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
                compare(format!("{pointer}/{index}"), &of(one), &of(other), differences);
            }
        }
        _ => differences.push(Difference { pointer, stored: stored.clone(), mapped: mapped.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_that_differ_are_told_by_their_pointers() {
        let (one, other) =
            (json!([{"a": 1, "b/c": [1, 2], "d": 0}]), json!([{"a": 1, "b/c": [1], "e": true}]));
        let mut found = Vec::new();
        compare(String::new(), &one, &other, &mut found);
        let pointers: Vec<_> = found.iter().map(|found| found.pointer.as_str()).collect();
        assert_eq!(pointers, ["/0/b~1c/1", "/0/d", "/0/e"]);
    }
}
