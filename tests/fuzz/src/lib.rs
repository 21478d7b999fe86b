//! What the fuzz targets share: a sandbox that compiles in this process, and one call.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use hookpack::{
    config::Config,
    request::Inbound,
    wasm::{Delivery, Failure, Mapper, Purpose, Sandbox, Transformed},
};
use time::OffsetDateTime;
use tokio::runtime::{Builder, Runtime};

/// One for the whole run; a component has 50 ms and 4 MiB.
pub fn sandbox() -> &'static Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        let config = Config {
            mapper_workers: Some(1),
            mapper_deadline_ms: 50,
            mapper_memory_bytes_max: 4 << 20,
            ..Config::default()
        };
        Sandbox::compiling_here(&config, Purpose::Serve)
    })
}

/// Gives a mapper this payload.
pub fn call(mapper: &Mapper, payload: &[u8]) -> Result<Transformed, Failure> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
    let delivery = Delivery {
        trigger: "fuzz.target".to_owned(),
        received_at: "2026-11-22T10:00:00Z".to_owned(),
        headers: vec![("x-event".to_owned(), "fuzz".to_owned())],
        query: Vec::new(),
        attributes: Vec::new(),
        content_type: "application/json".to_owned(),
        payload: Bytes::copy_from_slice(payload),
    };
    runtime.block_on(mapper.transform(delivery, OffsetDateTime::UNIX_EPOCH)).result
}

/// What stands before the first `end`, and what after it; all of it before, when there is none.
pub fn head_and_body<'a>(bytes: &'a [u8], end: &[u8]) -> (&'a [u8], &'a [u8]) {
    match bytes.windows(end.len()).position(|window| window == end) {
        Some(at) => (&bytes[..at], &bytes[at + end.len()..]),
        None => (bytes, &[]),
    }
}

/// A request: a query on its first line, then header lines, an empty line, a body.
pub fn request(bytes: &[u8]) -> Inbound {
    let (head, body) = head_and_body(bytes, b"\n\n");
    let mut lines = head.split(|byte| *byte == b'\n');
    let query = lines.next().map(|line| String::from_utf8_lossy(line).into_owned());
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = head_and_body(line, b": ");
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    Inbound {
        id: uuid::Uuid::nil(),
        received_at: OffsetDateTime::UNIX_EPOCH,
        source_ip: [127, 0, 0, 1].into(),
        method: http::Method::POST,
        path: "/api/v1/webhooks/wh_x".to_owned(),
        query,
        headers,
        body: Bytes::copy_from_slice(body),
    }
}
