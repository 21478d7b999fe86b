//! What one would write by hand for one sender: verify, parse, check, map, one INSERT, answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use hmac::{Hmac, KeyInit, Mac};
use jsonschema::Validator;
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcDateTime};
use uuid::Uuid;

const SCHEMA: &str = include_str!("../../packs/github/schemas/push.json");
const STORE: &str = include_str!("../../store.sql");
const REPEATED: &str = include_str!("../../repeated.sql");
const POOL_CONNECTIONS: u32 = 16;

struct Receiver {
    key: Hmac<Sha256>,
    schema: Validator,
    pool: PgPool,
}

pub(crate) async fn router(database_url: &str, secret: &str) -> anyhow::Result<Router> {
    let receiver = Receiver {
        key: Hmac::new_from_slice(secret.as_bytes())?,
        schema: jsonschema::validator_for(&serde_json::from_str(SCHEMA)?)?,
        pool: PgPoolOptions::new()
            .min_connections(POOL_CONNECTIONS)
            .max_connections(POOL_CONNECTIONS)
            .test_before_acquire(false) // a round trip less
            .connect(database_url)
            .await
            .context("connecting to the database")?,
    };
    Ok(Router::new().route("/hook", post(receive)).with_state(Arc::new(receiver)))
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, StatusCode> {
    let arrived = Arrived { clock: Instant::now(), at: UtcDateTime::now(), peer, body_bytes: body.len() };

    if !is_authentic(&receiver.key, header(&headers, "x-hub-signature-256"), &body) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let payload = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    if header(&headers, "x-github-event") != "push" {
        return Ok(Json(json!({"data": {"ignored": true}})));
    }
    if !receiver.schema.is_valid(&payload) {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let event = mapped(&payload, header(&headers, "x-github-delivery"));
    let event_id = store(&receiver.pool, &arrived, &headers, &event)
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;

    Ok(Json(json!({"data": {
        "event_id": event_id,
        "trigger_ref": "github.push",
        "received_at": rfc3339(arrived.at),
        "message": "Webhook received successfully",
    }})))
}

struct Arrived {
    clock: Instant,
    at: UtcDateTime,
    peer: SocketAddr,
    body_bytes: usize,
}

/// Compares in constant time, over the bytes as they came.
fn is_authentic(key: &Hmac<Sha256>, signature: &str, body: &[u8]) -> bool {
    let Some(expected) = signature.strip_prefix("sha256=").and_then(|digits| hex::decode(digits).ok()) else {
        return false;
    };
    key.clone().chain_update(body).verify_slice(&expected).is_ok()
}

fn mapped(payload: &Value, delivery: &str) -> Value {
    let head = &payload["head_commit"];
    let commits = payload["commits"].as_array().map(Vec::as_slice).unwrap_or_default();
    json!({
        "source": "github",
        "delivery": delivery,
        "repository": payload["repository"]["full_name"],
        "private": payload["repository"]["private"],
        "branch": payload["ref"],
        "before": payload["before"],
        "after": payload["after"],
        "forced": payload["forced"],
        "compare_url": payload["compare"],
        "pusher": payload["pusher"]["name"],
        "head": {
            "id": head["id"],
            "message": head["message"],
            "author": head["author"].get("name").unwrap_or(&json!("unknown")),
        },
        "messages": commits.iter().map(|commit| &commit["message"]).collect::<Vec<_>>(),
    })
}

async fn store(pool: &PgPool, arrived: &Arrived, headers: &HeaderMap, event: &Value) -> sqlx::Result<Uuid> {
    let delivery = header(headers, "x-github-delivery");
    let user_agent = header(headers, "user-agent");
    let source_ip = arrived.peer.ip().to_string();
    let metadata = json!({
        "source": "webhook",
        "request_id": Uuid::now_v7(),
        "received_at": rfc3339(arrived.at),
        "source_ip": source_ip,
        "user_agent": user_agent,
        "headers": {
            "content-type": header(headers, "content-type"),
            "user-agent": user_agent,
            "x-github-delivery": delivery,
            "x-github-event": header(headers, "x-github-event"),
        },
    });
    let logged = |statement| {
        sqlx::query_scalar(statement)
            .bind(delivery)
            .bind(OffsetDateTime::from(arrived.at))
            .bind(&source_ip)
            .bind(user_agent)
            .bind(i32::try_from(arrived.body_bytes).unwrap_or(i32::MAX))
            .bind(i32::try_from(arrived.clock.elapsed().as_micros()).unwrap_or(i32::MAX))
    };
    let stored = logged(STORE)
        .bind(Uuid::now_v7())
        .bind(event.to_string())
        .bind(metadata.to_string())
        .fetch_optional(pool)
        .await?;
    match stored {
        Some(event_id) => Ok(event_id),
        None => logged(REPEATED).fetch_one(pool).await,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn rfc3339(at: UtcDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
