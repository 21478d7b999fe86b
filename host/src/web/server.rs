//! Listening: connections within limits, answered by a router, drained in order when the host stops.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use http::{HeaderValue, header};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::host::Host;

/// For how long a connection that has just come may keep a host that stops: its first request is on the way.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// Accepts until `stop` turns true; then lets what is in flight finish, for a while.
pub async fn serve(listener: TcpListener, router: Router, host: Arc<Host>, mut stop: watch::Receiver<bool>) {
    let config = &host.config;
    let places = Arc::new(Semaphore::new(config.connections_max));
    let mut connections = JoinSet::new();
    let door = Door::new(router, host.clone(), stop.clone());
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
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
        while connections.try_join_next().is_some() {}
        let connection = door.clone().keep(stream, peer);
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    for (stream, peer) in waiting(listener) {
        connections.spawn(door.clone().keep(stream, peer));
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_secs(config.drain_seconds), drained).await.is_err() {
        tracing::warn!(seconds = config.drain_seconds, "requests still in flight were cut off");
        connections.shutdown().await;
    }
}

/// The connections that the system has accepted already: closing the socket would reset them.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, peer) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(accept).collect()
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody who could tell is as good as being told.
    stop.wait_for(|stopped| *stopped).await.ok();
}

/// What every connection is served with.
#[derive(Clone)]
struct Door {
    router: Router,
    host: Arc<Host>,
    builder: http1::Builder,
    stop: watch::Receiver<bool>,
}

impl Door {
    fn new(router: Router, host: Arc<Host>, stop: watch::Receiver<bool>) -> Self {
        // HTTP/1 alone: proxies speak it to what is behind them, and its timer runs from a connection's first moment,
        // so that silent ones make room.
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(host.config.header_read_seconds))
            // A signature may be over many names; a head of more than that is nobody's webhook.
            .max_headers(128);
        Self { router, host, builder, stop }
    }

    /// Serves one connection to its end. When the host stops, that is the answer to the request under way; at once,
    /// where there is none; and for one that has only just come, after its first request.
    async fn keep(self, stream: TcpStream, peer: SocketAddr) {
        let Self { router, host, builder, mut stop } = self;
        let begun = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            begun.store(true, Ordering::Relaxed);
            answer(router.clone(), host.clone(), peer, request)
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(prepared(stream)), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = stopped(&mut stop) => None,
        };
        let just_came = ended.is_none() && !begun.load(Ordering::Relaxed);
        let ended =
            if just_came { timeout(FIRST_REQUEST_WAIT, connection.as_mut()).await.ok() } else { ended };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            connection.as_mut().graceful_shutdown();
            connection.await
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

async fn answer(
    router: Router,
    host: Arc<Host>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.oneshot(request.map(Body::new)).await?;
    // So that the sender's next request goes elsewhere.
    if host.stopping.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn prepared(stream: TcpStream) -> TcpStream {
    // Answers are small and wait for nothing.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY can't be set");
    }
    stream
}
