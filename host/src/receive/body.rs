//! The body, read while it streams in, within its limit, its time and the host's memory for bodies.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::Refusal;
use crate::{config::Config, limits::BodyLease, policy::Policy};

/// How much of the body of a refused request is read and thrown away, and for how long, so that its sender gets to
/// read the answer: a connection that is closed while the sender still writes is reset.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
const DISCARD_WAIT: Duration = Duration::from_secs(2);

/// The body of one request: as much of it as has been read, the rest of it, and the memory that it holds.
pub(super) struct Arrival {
    rest: Option<Body>,
    read: Buffer,
    /// What is wrong with it. It is told when its turn comes.
    fault: Option<Refusal>,
    lease: Option<BodyLease>,
    /// The length that its head declares.
    declared: Option<u64>,
    /// When it must have arrived, from the first read on.
    deadline: Option<Instant>,
    /// The sender waits for a `100 Continue` before it sends a body.
    expects: bool,
}

/// The bytes of a body. Most bodies come in one piece, which is passed on as it is.
#[derive(Default)]
enum Buffer {
    #[default]
    Empty,
    One(Bytes),
    Joined(Vec<u8>),
}

impl Arrival {
    pub(super) fn new(body: Body, headers: &HeaderMap) -> Self {
        let declared = headers.get(header::CONTENT_LENGTH);
        Self {
            rest: Some(body).filter(|body| !body.is_end_stream()),
            read: Buffer::Empty,
            fault: None,
            lease: None,
            declared: declared.and_then(|line| line.to_str().ok()?.parse().ok()),
            deadline: None,
            expects: headers.contains_key(header::EXPECT),
        }
    }

    /// Charges what is read to the budget, on the account of this request's address and endpoint.
    pub(super) fn charge(&mut self, lease: BodyLease) {
        self.lease = Some(lease);
    }

    /// The whole body if it is small enough that an unauthenticated client may have it read and parsed; else none.
    pub(super) async fn small(&mut self, bytes_max: usize, config: &Config) -> Option<Bytes> {
        if self.declared.is_some_and(|declared| declared > bytes_max as u64) {
            return None;
        }
        match self.read_to(bytes_max, config.body_read_seconds).await {
            Ok(true) => Some(self.read.share()),
            Ok(false) => None,
            Err(refusal) => {
                self.fault = Some(refusal);
                None
            }
        }
    }

    /// The whole body; more than the policy allows is refused at the byte that passes the limit, or at the
    /// head that says so.
    pub(super) async fn whole(&mut self, policy: &Policy, config: &Config) -> Result<Bytes, Refusal> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let bytes_max = policy.body_bytes_max;
        if self.declared.is_some_and(|declared| declared > bytes_max as u64) {
            return Err(Refusal::too_large(bytes_max));
        }
        if self.read_to(bytes_max, config.body_read_seconds).await? {
            Ok(self.read.share())
        } else {
            Err(Refusal::too_large(bytes_max))
        }
    }

    /// Reads on until the body ends, which is true, or is longer than `bytes_max`.
    async fn read_to(&mut self, bytes_max: usize, seconds_max: u64) -> Result<bool, Refusal> {
        let deadline =
            *self.deadline.get_or_insert_with(|| Instant::now() + Duration::from_secs(seconds_max));
        match timeout_at(deadline, self.collect(bytes_max)).await {
            Ok(result) => result,
            Err(_) => Err(Refusal::slow(seconds_max)),
        }
    }

    async fn collect(&mut self, bytes_max: usize) -> Result<bool, Refusal> {
        while self.read.len() <= bytes_max {
            let Some(rest) = &mut self.rest else { return Ok(true) };
            let Some(frame) = rest.frame().await else {
                self.rest = None;
                return Ok(true);
            };
            let frame = frame.map_err(|error| Refusal::broken_off(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                let expected = self.declared.and_then(|declared| usize::try_from(declared).ok());
                let capacity = self.read.capacity_with(data.len(), expected);
                if let Some(lease) = &mut self.lease {
                    lease.grow_to(capacity).map_err(Refusal::bodies_full)?;
                }
                self.read.push(data, capacity);
            }
        }
        Ok(false)
    }

    /// Gives back the memory of what has been read.
    pub(super) fn release(&mut self) {
        self.read = Buffer::Empty;
        self.lease = None;
    }

    /// Reads and throws away a little of what nothing will ask for, after the answer.
    pub(super) fn discard_rest(self) {
        // The protocol has no place for a `100 Continue` after an answer, and the sender sends nothing without it.
        let Some(mut rest) = self.rest.filter(|_| !self.expects) else { return };
        let discard = async move {
            let mut left = DISCARDED_BYTES_MAX;
            while let Some(Ok(frame)) = rest.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(less) = left.checked_sub(length) else { return };
                left = less;
            }
        };
        tokio::spawn(timeout(DISCARD_WAIT, discard));
    }
}

impl Buffer {
    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => bytes.len(),
            Self::Joined(bytes) => bytes.len(),
        }
    }

    /// The memory that it takes with `more` bytes: twice as much each time, but not more than the head announced.
    fn capacity_with(&self, more: usize, expected: Option<usize>) -> usize {
        let needed = self.len() + more;
        match self {
            Self::Empty => needed,
            Self::Joined(bytes) if bytes.capacity() >= needed => bytes.capacity(),
            Self::One(_) | Self::Joined(_) => {
                let doubled = needed.max(2 * self.len());
                expected.map_or(doubled, |expected| doubled.min(expected)).max(needed)
            }
        }
    }

    fn push(&mut self, data: Bytes, capacity: usize) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(data),
            Self::One(first) => {
                let mut joined = Vec::with_capacity(capacity);
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                Self::Joined(joined)
            }
            Self::Joined(mut joined) => {
                joined.reserve_exact(capacity - joined.len());
                joined.extend_from_slice(&data);
                Self::Joined(joined)
            }
        }
    }

    /// The bytes so far, without a copy.
    fn share(&mut self) -> Bytes {
        let bytes = match std::mem::take(self) {
            Self::Empty => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Joined(bytes) => Bytes::from(bytes),
        };
        *self = Self::One(bytes.clone());
        bytes
    }
}
