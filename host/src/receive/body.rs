//! The body, read while it streams in, within its limit and its time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::Refusal;
use crate::{config::Config, policy::Policy, request::Inbound};

/// A body on its way.
pub(super) enum Arrival {
    Streaming(Body),
    /// Read before its turn; what was wrong with it is told when its turn comes.
    Read(Result<Bytes, Refusal>),
}

impl Arrival {
    /// Reads the body at once: a handshake may lie in it.
    pub(super) async fn read_early(self, request: &mut Inbound, policy: &Policy, config: &Config) -> Self {
        let read = self.whole(request, policy, config).await;
        if let Ok(bytes) = &read {
            request.body = bytes.clone();
        }
        Self::Read(read)
    }

    /// The whole body; more than the policy allows is refused at the byte that passes the limit, or at the
    /// head that says so.
    pub(super) async fn whole(
        self,
        request: &Inbound,
        policy: &Policy,
        config: &Config,
    ) -> Result<Bytes, Refusal> {
        match self {
            Self::Streaming(body) => {
                read(body, &request.headers, policy.body_bytes_max, config.body_read_seconds).await
            }
            Self::Read(read) => read,
        }
    }
}

async fn read(body: Body, headers: &HeaderMap, bytes_max: usize, seconds_max: u64) -> Result<Bytes, Refusal> {
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|line| line.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > bytes_max as u64) {
        return Err(Refusal::too_large(bytes_max));
    }
    match timeout(Duration::from_secs(seconds_max), collect(body, bytes_max)).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::slow(seconds_max)),
    }
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut only: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::broken_off(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > bytes_max {
            return Err(Refusal::too_large(bytes_max));
        }
        // Most bodies come in one piece, which is passed on as it is.
        if only.is_none() && joined.is_empty() {
            only = Some(data);
        } else {
            joined.extend_from_slice(&only.take().unwrap_or_default());
            joined.extend_from_slice(&data);
        }
    }
    Ok(only.unwrap_or_else(|| joined.freeze()))
}
