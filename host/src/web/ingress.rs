//! The public door: one webhook request in, one answer out.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use uuid::Uuid;

use crate::{
    host::Host,
    model::Answer,
    receive::{self, Receipt, Refusal},
    verify::handshake::Shaken,
};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn ingress(
    State(host): State<Arc<Host>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(key): Path<String>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let (id, receipt) = receive::receive(&host, peer.ip(), &key, head, body).await;
    told(id, receipt)
}

/// What the sender hears.
pub(super) fn told(id: Uuid, receipt: Receipt) -> Response {
    let mut response = match receipt {
        Receipt::Answered(answer) => answered(answer),
        Receipt::Replayed(answer) => {
            let mut response = answered(answer);
            response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
            response
        }
        Receipt::Shaken(shaken) => shook(shaken),
        Receipt::Refused(refusal) => refused(&refusal, &refusal.problem(id)),
    };
    // What a sender quotes when it asks what became of its request: the id of the log's row.
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}

/// The asker's words come back as plain data, whatever a browser would like to make of them.
fn shook(shaken: Shaken) -> Response {
    let Shaken { status, content_type, headers, body, store: _ } = shaken;
    let mut response = answered(Answer { status, content_type, body });
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn answered(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response()
}

fn refused(refusal: &Refusal, problem: &receive::Problem<'_>) -> Response {
    let mut response = super::error::problem(problem);
    let headers = response.headers_mut();
    if let Some(wait) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}
