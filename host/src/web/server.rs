//! Listening: connections within limits, answered by a router, drained in order when the host stops.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use hyper::{
    Request,
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use super::connections::{Connections, NoPlace, Place};
use crate::host::Host;

/// For how long a connection that has just come may keep a host that stops: its first request is on the way.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// How soon a place is looked for again where there is none: a connection may have become idle meanwhile.
const PLACE_INTERVAL: Duration = Duration::from_millis(100);
/// What a connection hears whose address has all its places at work.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";
/// Less than this can't be set.
const HEAD_BYTES_MIN: usize = 8192;

/// Accepts until `stop` turns true; then lets what is in flight finish, for a while.
pub async fn serve(listener: TcpListener, router: Router, host: Arc<Host>, mut stop: watch::Receiver<bool>) {
    let config = &host.config;
    let places = Connections::new(config, host.metrics.clone());
    let mut connections = JoinSet::new();
    let door = Door::new(router, host.clone(), stop.clone());
    let mut last = Vec::new();
    loop {
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
        let place = tokio::select! {
            place = place_for(&places, peer) => place,
            () = stopped(&mut stop) => {
                last.push((stream, peer));
                break;
            }
        };
        if let Some(place) = place {
            connections.spawn(door.clone().keep(stream, peer, place));
        } else {
            // It fits into the socket's buffer, or the other side does without.
            drop(stream.try_write(NO_PLACE));
            // Connections that are refused may come without a pause.
            tokio::task::yield_now().await;
        }
    }
    last.extend(waiting(listener));
    for (stream, peer) in last {
        let place = places.admit_last(peer.ip());
        connections.spawn(door.clone().keep(stream, peer, place));
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_secs(config.drain_seconds), drained).await.is_err() {
        tracing::warn!(seconds = config.drain_seconds, "requests still in flight were cut off");
        connections.shutdown().await;
    }
}

/// Waits for a place, where none is left in all; none where its address has all that it may have.
async fn place_for(places: &Arc<Connections>, peer: SocketAddr) -> Option<Place> {
    loop {
        match places.admit(peer.ip()) {
            Ok(place) => return Some(place),
            Err(NoPlace::Source) => return None,
            Err(NoPlace::Total) => drop(timeout(PLACE_INTERVAL, places.released()).await),
        }
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
        // HTTP/1 alone: proxies speak it to what is behind them. How long a head may take is up to the place: the
        // builder's own timer also runs between two requests.
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            // Also what is read of a body at a time.
            .max_buf_size(host.config.head_bytes_max.max(HEAD_BYTES_MIN))
            // A signature may be over many names; a head of more than that is nobody's webhook.
            .max_headers(128);
        Self { router, host, builder, stop }
    }

    /// Serves one connection to its end. When the host stops, that is the answer to the request under way; at once,
    /// where there is none; and for one that has only just come, after its first request.
    async fn keep(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let Self { router, host, builder, mut stop } = self;
        let (begun, place) = (Arc::new(AtomicBool::new(false)), Arc::new(place));
        let service = service_fn(|request: Request<Incoming>| {
            begun.store(true, Ordering::Relaxed);
            answer(router.clone(), host.clone(), peer, place.clone(), request)
        });
        let stream = TokioIo::new(Watched { stream: prepared(stream), place: place.clone() });
        let mut connection = pin!(builder.serve_connection(stream, service));
        let ended = tokio::select! {
            biased;
            ended = in_time(connection.as_mut(), &place) => Some(ended),
            () = stopped(&mut stop) => None,
        };
        let just_came = ended.is_none() && !begun.load(Ordering::Relaxed);
        let ended = if just_came {
            timeout(FIRST_REQUEST_WAIT, in_time(connection.as_mut(), &place)).await.ok()
        } else {
            ended
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            connection.as_mut().graceful_shutdown();
            in_time(connection.as_mut(), &place).await
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

/// The end of a connection, by itself or because it has been silent for too long or its place is needed.
async fn in_time(connection: impl Future<Output = hyper::Result<()>>, place: &Place) -> hyper::Result<()> {
    tokio::select! {
        biased;
        ended = connection => ended,
        () = place.is_needed() => Ok(()),
        () = place.is_overdue() => Ok(()),
    }
}

async fn answer(
    router: Router,
    host: Arc<Host>,
    peer: SocketAddr,
    place: Arc<Place>,
    mut request: Request<Incoming>,
) -> Result<http::Response<Answering>, Infallible> {
    if !place.request_begins() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(response.map(|body| Answering { body, place }));
    }
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.oneshot(request.map(Body::new)).await?;
    // So that the sender's next request goes elsewhere.
    if host.stopping.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Answering { body, place }))
}

/// The body of an answer; the connection is idle when it has been written.
struct Answering {
    body: Body,
    place: Arc<Place>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.place.request_ends();
    }
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that tells its place when bytes come.
struct Watched {
    stream: TcpStream,
    place: Arc<Place>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.place.bytes_arrived();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn prepared(stream: TcpStream) -> TcpStream {
    // Answers are small and wait for nothing.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY can't be set");
    }
    stream
}
