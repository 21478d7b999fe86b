//! Listening: connections within limits, answered by a router, drained in order when the host stops.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::config::Config;

/// Accepts until `stop` turns true; then lets what is in flight finish, for a while.
pub async fn serve(listener: TcpListener, router: Router, config: Config, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(config.connections_max));
    let graceful = GracefulShutdown::new();
    // HTTP/1 alone: proxies speak it to what is behind them, and its timer runs from a connection's first moment,
    // so that silent ones make room.
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(config.header_read_seconds))
        // A signature may be over many names; a head of more than that is nobody's webhook.
        .max_headers(128);
    loop {
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() => permit,
            () = stopped(&mut stop) => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, say: waiting a moment is all that helps.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        let connection =
            graceful.watch(builder.serve_connection(TokioIo::new(prepared(stream)), service(&router, peer)));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if timeout(Duration::from_secs(config.drain_seconds), graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = config.drain_seconds, "requests still in flight were cut off");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody who could tell is as good as being told.
    stop.wait_for(|stopped| *stopped).await.ok();
}

fn prepared(stream: TcpStream) -> TcpStream {
    // Answers are small and wait for nothing.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY can't be set");
    }
    stream
}

fn service(
    router: &Router,
    peer: SocketAddr,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send + 'static,
> + Send
+ use<> {
    let router = router.clone();
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(Body::new))
    })
}
