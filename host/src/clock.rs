//! The time of day, from one place, so that a test can hold it still.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use governor::nanos::Nanos;
use time::OffsetDateTime;

/// What everything in the host asks for the time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// Unix time in microseconds; moves only when its holder moves it.
    Held(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `at` until [`Clock::advance`] moves it.
    pub fn held(at: OffsetDateTime) -> Self {
        Self::Held(Arc::new(AtomicI64::new(micros(at))))
    }

    /// Now, in UTC, in whole microseconds: what Postgres can store without rounding.
    pub fn now(&self) -> OffsetDateTime {
        let micros = match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one room that may")]
            Self::System => micros(OffsetDateTime::now_utc()),
            Self::Held(micros) => micros.load(Ordering::SeqCst),
        };
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Moves a held clock; the system's goes by itself.
    pub fn advance(&self, by: Duration) {
        if let Self::Held(micros) = self {
            micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

/// Rate limits count by the same clock.
impl governor::clock::Clock for Clock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let since = Self::now(self) - OffsetDateTime::UNIX_EPOCH;
        Nanos::from(since.unsigned_abs())
    }
}

fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}
