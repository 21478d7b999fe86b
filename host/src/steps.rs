//! What each step of one request took.

use std::time::{Duration, Instant};

/// The steps of a request, in the order in which it meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Key,
    Address,
    HostLimits,
    Handshake,
    /// Not paused, and its secret is there.
    Open,
    /// Method, content type and encoding.
    Media,
    Body,
    /// Signature and freshness.
    Signature,
    RateLimit,
    Decode,
    Match,
    Schema,
    Mapping,
    Store,
}

impl Step {
    pub const ALL: [Self; 14] = [
        Self::Key,
        Self::Address,
        Self::HostLimits,
        Self::Handshake,
        Self::Open,
        Self::Media,
        Self::Body,
        Self::Signature,
        Self::RateLimit,
        Self::Decode,
        Self::Match,
        Self::Schema,
        Self::Mapping,
        Self::Store,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Handshake => "handshake",
            Self::Open => "open",
            Self::Media => "media",
            Self::Body => "body",
            Self::Address => "address",
            Self::HostLimits => "host_limits",
            Self::Signature => "signature",
            Self::RateLimit => "rate_limit",
            Self::Decode => "decode",
            Self::Match => "match",
            Self::Schema => "schema",
            Self::Mapping => "mapping",
            Self::Store => "store",
        }
    }
}

/// The time of one request, step by step. A step that is entered again goes on where it was left: of a batch, each has
/// the time of all payloads.
#[derive(Clone, Debug)]
pub struct Steps {
    took: [Option<Duration>; Step::ALL.len()],
    current: Step,
    since: Instant,
}

impl Steps {
    /// Begins with the first step.
    pub fn begin(at: Instant) -> Self {
        Self { took: [None; Step::ALL.len()], current: Step::Key, since: at }
    }

    pub fn enter(&mut self, step: Step) {
        self.leave();
        self.current = step;
    }

    /// Ends the step that is under way.
    pub fn leave(&mut self) {
        let now = Instant::now();
        *self.took[self.current as usize].get_or_insert_default() += now - self.since;
        self.since = now;
    }

    /// The step that is under way, or where it ended.
    pub fn current(&self) -> Step {
        self.current
    }

    /// `None`: it was not reached.
    pub fn took(&self, step: Step) -> Option<Duration> {
        self.took[step as usize]
    }

    /// Every step that was reached.
    pub fn reached(&self) -> impl Iterator<Item = (Step, Duration)> {
        Step::ALL.into_iter().filter_map(|step| Some((step, self.took(step)?)))
    }
}
