//! What the fuzz targets share: a sandbox that compiles in this process, and one call.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hookpack::{
    config::Config,
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
