//! Why a request is turned away: what its sender hears (nothing that helps an attacker) and what the log keeps.

use std::{net::IpAddr, time::Duration};

use http::{Method, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    budget::Exhausted,
    limits::{BudgetExceeded, Over},
    model::Outcome,
    policy_secrets::SecretProblem,
    registry::NotAdmitted,
    schema::Violation,
    verify::Unverified,
};

#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub outcome: Outcome,
    /// For the sender.
    pub told: String,
    pub violations: Vec<Violation>,
    pub retry_after: Option<Duration>,
    /// For the request log.
    pub detail: Option<String>,
}

/// RFC 9457, `application/problem+json`.
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    pub r#type: &'static str,
    pub title: &'a str,
    pub status: u16,
    pub detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Uuid>,
    #[serde(skip_serializing_if = "<[Violation]>::is_empty")]
    pub errors: &'a [Violation],
}

/// How long a sender is asked to wait for the store.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a sender is asked to wait for memory for its body.
const BODIES_RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a sender is asked to wait for a mapper's worker.
const MAPPER_RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a sender is asked to wait until somebody has set the webhook up.
const SETUP_RETRY_AFTER: Duration = Duration::from_mins(1);

impl Refusal {
    fn new(status: StatusCode, outcome: Outcome, told: impl Into<String>) -> Self {
        Self { status, outcome, told: told.into(), violations: Vec::new(), retry_after: None, detail: None }
    }

    /// What the sender hears is what the log keeps.
    fn open(status: StatusCode, outcome: Outcome, told: String) -> Self {
        Self { detail: Some(told.clone()), ..Self::new(status, outcome, told) }
    }

    fn logged(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub fn unknown_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, Outcome::UnknownKey, "There is no webhook at this URL.")
    }

    /// To its sender it is as if it had never been.
    pub fn key_expired() -> Self {
        Self::unknown_key().logged("the time of this key is over")
    }

    /// An operator's override and the pack contradict each other: nobody is let through by either.
    pub fn policy_unfit() -> Self {
        Self::pack_refused().logged("an override does not fit its pack; `hookpack trigger show` says why")
    }

    pub fn paused() -> Self {
        Self::new(StatusCode::FORBIDDEN, Outcome::Paused, "This webhook is paused.")
    }

    /// The key is known, and what it leads to can't be loaded: whoever tries again later may be heard.
    pub fn pack_refused() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Outcome::PackRefused, "This webhook can't receive now.")
            .logged("its pack is refused; `hookpack packs` says why".to_owned())
            .after(SETUP_RETRY_AFTER)
    }

    pub fn keys_unavailable(reason: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Outcome::KeysUnavailable,
            "This webhook can't be verified now.",
        )
        .logged(reason.to_owned())
        .after(SETUP_RETRY_AFTER)
    }

    /// No secret of these names that can be used, for these reasons.
    pub fn secret_missing(names: &[String], problems: &[SecretProblem]) -> Self {
        let own = problems.iter().filter(|problem| names.contains(&problem.name));
        let reasons: Vec<_> = own.map(SecretProblem::to_string).collect();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Outcome::SecretMissing, "This webhook is not set up yet.")
            .logged(reasons.join("; "))
            .after(SETUP_RETRY_AFTER)
    }

    pub fn method(method: &Method) -> Self {
        let told = format!("{method} is not understood here; send POST.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Outcome::BadMethod, told)
    }

    pub fn media(reason: String) -> Self {
        Self::open(StatusCode::UNSUPPORTED_MEDIA_TYPE, Outcome::UnsupportedMedia, reason)
    }

    pub fn too_large(bytes_max: usize) -> Self {
        let told = format!("The body is larger than {bytes_max} bytes.");
        Self::open(StatusCode::PAYLOAD_TOO_LARGE, Outcome::TooLarge, told)
    }

    pub fn inflated_too_large(bytes_max: usize) -> Self {
        let told = format!("The inflated body is larger than {bytes_max} bytes.");
        Self::open(StatusCode::PAYLOAD_TOO_LARGE, Outcome::TooLarge, told)
    }

    pub fn too_many_payloads(payloads_max: usize) -> Self {
        let told = format!("The body is a batch of more than {payloads_max}.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Outcome::TooLarge, told)
            .logged(format!("a batch of more than {payloads_max} (events_per_delivery_max)"))
    }

    pub fn bodies_full(exceeded: BudgetExceeded) -> Self {
        let BudgetExceeded { setting, bytes_max } = exceeded;
        let told = "Too many bodies are in flight; send it again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Outcome::Overloaded, told)
            .logged(format!("bodies in flight would take more than {bytes_max} bytes ({setting})"))
            .after(BODIES_RETRY_AFTER)
    }

    pub fn slow(seconds: u64) -> Self {
        let told = format!("The body did not arrive within {seconds} s.");
        Self::open(StatusCode::REQUEST_TIMEOUT, Outcome::TimedOut, told)
    }

    pub fn broken_off(reason: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Outcome::Undecodable, "The body broke off.").logged(reason)
    }

    pub fn address(source: IpAddr) -> Self {
        Self::new(StatusCode::FORBIDDEN, Outcome::AddressRefused, "This address may not send here.")
            .logged(format!("{source} is not on the allow-list"))
    }

    pub fn over_host_limit(over: Over) -> Self {
        Self::over(over, "over a limit of the host")
    }

    pub fn not_admitted(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Over(over) => Self::over(over, "over the trigger's rate limit"),
            NotAdmitted::Unknown(reason) => {
                Self::store_away().logged(format!("what is left of the rate limit can't be told: {reason}"))
            }
        }
    }

    fn over(over: Over, detail: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, Outcome::RateLimited, "Too many requests.")
            .logged(detail)
            .after(over.retry_after)
    }

    /// The sender hears that it failed, never which secret or which byte.
    pub fn unverified(unverified: Unverified) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, unverified.outcome, "The request could not be verified.")
            .logged(unverified.detail)
    }

    /// With the status that the sender's probe waits for.
    pub fn handshake(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED);
        Self::new(status, Outcome::BadSignature, "The request could not be verified.")
            .logged("a handshake without its proof")
    }

    pub fn undecodable(reason: String) -> Self {
        Self::open(StatusCode::BAD_REQUEST, Outcome::Undecodable, reason)
    }

    pub fn key_missing() -> Self {
        let told = "The request lacks what tells deliveries apart.";
        Self::new(StatusCode::BAD_REQUEST, Outcome::KeyMissing, told)
            .logged("the idempotency key is required and missing")
    }

    /// `whose`: `the payload`, or the line of it.
    pub fn violations(whose: &str, detail: String, violations: Vec<Violation>) -> Self {
        let told = format!("{} does not satisfy the schema.", capitalized(whose));
        let refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, Outcome::SchemaViolation, told);
        Self { violations, ..refusal }.logged(detail)
    }

    pub fn unmapped(whose: &str, detail: String, violations: Vec<Violation>) -> Self {
        let told = format!("{} can't be mapped to an event.", capitalized(whose));
        let refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, Outcome::MappingFailed, told);
        Self { violations, ..refusal }.logged(detail)
    }

    /// The mapper never saw it; nothing says that it would fail.
    pub fn mapper_busy(reason: String) -> Self {
        let told = "Too much is waiting to be mapped; send it again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Outcome::MapperBusy, told)
            .logged(reason)
            .after(MAPPER_RETRY_AFTER)
    }

    /// By the request's budget for evaluation.
    pub fn exhausted(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::Steps(_) | Exhausted::Bytes(_) | Exhausted::Depth => {
                Self::unmapped("the payload", exhausted.to_string(), Vec::new())
            }
            Exhausted::Time(_) => Self::mapper_busy(exhausted.to_string()),
        }
    }

    pub fn store_full(setting: &str) -> Self {
        let detail = format!("the queue of the store is full ({setting})");
        Self::store("Too much is waiting to be stored; send it again.", &detail)
    }

    pub fn store_away() -> Self {
        Self::store("The event could not be stored; send it again.", "the database is away")
    }

    fn store(told: &str, detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Outcome::StoreUnavailable, told)
            .logged(detail)
            .after(STORE_RETRY_AFTER)
    }

    /// It would be refused again: sending it again is no use, and the operator must look.
    pub fn store_refused(reason: String) -> Self {
        let told = "The event can't be stored as it is.";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Outcome::StoreRefused, told).logged(reason)
    }

    pub fn problem(&self, request_id: Uuid) -> Problem<'_> {
        Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.told,
            request_id: Some(request_id),
            errors: &self.violations,
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}", first.to_ascii_uppercase(), letters.as_str()))
}
