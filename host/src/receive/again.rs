//! A quarantined request once more, through its pack as it is now. It was authentic when it came: nothing is verified
//! again, and its credentials are gone.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Limits, Refusal, deliverable, judge::judge_for};
use crate::{
    budget::{self, Budget},
    decode::Coding,
    host::Host,
    model::{Delivery, LogRow, Outcome},
    pack::Trigger,
    policy::OnInvalid,
    registry::{Registry, Target},
    request::Inbound,
    steps::Steps,
    store::quarantine::{KeptRequest, KeptRow},
};

/// What it comes to now.
#[derive(Debug)]
pub enum Again {
    Delivers(Box<Delivery>),
    Fails {
        cause: Outcome,
        detail: String,
    },
    /// Nothing is wrong with it: too much waits for mappers.
    Busy(String),
}

/// The trigger that a request was kept for, and the URL that it came to, as they are now; `None` when they are not there.
pub fn target_of(
    registry: &Registry,
    trigger_ref: &str,
    request: &KeptRequest,
) -> Option<(Arc<Trigger>, Target)> {
    let trigger = registry.trigger(trigger_ref)?.clone();
    let target = if request.owner_ref == trigger_ref {
        Target::Trigger(trigger.clone())
    } else {
        Target::Pack(registry.pack(&request.owner_ref)?.clone())
    };
    Some((trigger, target))
}

/// Decodes, matches, checks and maps it for that one trigger; what the others of its pack made of it is stored already.
pub async fn again(
    host: &Host,
    trigger: &Arc<Trigger>,
    target: &Target,
    row: &KeptRow,
    request: KeptRequest,
) -> Again {
    let key = request.idempotency_key.clone();
    through(host, trigger, target, &inbound(row.request_id, row.received_at, request), key).await
}

/// The same for a request that was kept beside its events.
pub async fn through(
    host: &Host,
    trigger: &Arc<Trigger>,
    target: &Target,
    request: &Inbound,
    key: Option<String>,
) -> Again {
    let budget = Budget::new(budget::Limits::of(&host.config), Instant::now());
    // It may have been kept before tokens were taken out.
    let redacted = match target.policy().verify.body_without_token(request, &budget) {
        Ok(body) => body.map(|body| Inbound { body, ..request.clone() }),
        Err(exhausted) => {
            return Again::Fails { cause: Outcome::MappingFailed, detail: exhausted.to_string() };
        }
    };
    let request = redacted.as_ref().unwrap_or(request);
    let judged = match Coding::of(&request.headers).map_err(Refusal::media) {
        Ok(coding) => {
            let (triggers, limits) = (std::slice::from_ref(trigger), Limits::of(&host.config, &budget));
            let (rejects, steps) = (Some(OnInvalid::Reject), &mut Steps::begin(Instant::now()));
            judge_for(target.policy(), triggers, rejects, request, coding, limits, steps).await
        }
        Err(refusal) => Err(refusal),
    };
    match judged {
        Ok(mut judged) => {
            // The part of the request that the key lay in may be one that is not kept.
            judged.key = judged.key.or(key);
            let mut log = log_row(request, trigger, target);
            match deliverable(target, request, judged, &mut log) {
                Some(delivery) => Again::Delivers(Box::new(delivery)),
                None => Again::Fails { cause: Outcome::Ignored, detail: log.detail.unwrap_or_default() },
            }
        }
        Err(refusal) => {
            let detail = refusal.detail.unwrap_or(refusal.told);
            match refusal.outcome {
                Outcome::MapperBusy => Again::Busy(detail),
                cause => Again::Fails { cause, detail },
            }
        }
    }
}

/// A kept request as it came.
pub fn inbound(id: Uuid, received_at: OffsetDateTime, request: KeptRequest) -> Inbound {
    let header = |(name, line): &(String, String)| {
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(line.as_bytes()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, line) in request.headers.iter().filter_map(header) {
        headers.append(name, line);
    }
    Inbound {
        id,
        received_at,
        source_ip: request.source_ip.addr(),
        method: request.method.parse().unwrap_or(http::Method::POST),
        path: request.path,
        query: request.query,
        headers,
        body: request.body.into(),
    }
}

/// What stands of it in the log; it is not written again.
fn log_row(request: &Inbound, trigger: &Trigger, target: &Target) -> LogRow {
    LogRow {
        id: request.id,
        trace_id: None,
        received_at: request.received_at,
        trigger_ref: Some(target.owner_ref().to_owned()),
        endpoint_key_id: None,
        source_ip: request.source_ip,
        user_agent: None,
        method: request.method.to_string(),
        body_bytes: i64::try_from(request.body.len()).unwrap_or(i64::MAX),
        status: 0,
        outcome: Outcome::Accepted,
        detail: None,
        verified: target.policy().verify.verifies(),
        started: Instant::now(),
        took: None,
        pack_version: Some(trigger.pack_version.clone()),
        headers: None,
    }
}
