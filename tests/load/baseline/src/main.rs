//! The two axum contestants of the load comparison: `bare` answers at once, `insert` does the whole job with
//! one INSERT a request.

mod insert;

use std::net::SocketAddr;

use anyhow::{Context, bail};
use axum::body::Bytes;
use axum::routing::{get, post};
use axum::{Router, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: load-baseline bare PORT | load-baseline insert PORT DATABASE_URL SECRET";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (port, hook) = match arguments[..] {
        ["bare", port] => (port, bare()),
        ["insert", port, database_url, secret] => (port, insert::router(database_url, secret).await?),
        _ => bail!(USAGE),
    };

    let app = hook.route("/readyz", get(|| async { "ready" }));
    let port: u16 = port.parse().with_context(|| format!("{port:?} is no port"))?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let mut stop = signal(SignalKind::terminate())?;
    serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move { _ = stop.recv().await })
        .await?;
    Ok(())
}

/// Reads the body and answers 200: what axum does when there is nothing to do.
fn bare() -> Router {
    Router::new().route("/hook", post(|_body: Bytes| async { "ok" }))
}
