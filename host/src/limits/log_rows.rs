//! How many rows of the request log unauthenticated clients may have written: per endpoint, and in all.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use uuid::Uuid;

use super::{Direct, direct};
use crate::{
    clock::Clock,
    config::{Config, RateLimit},
};

/// The rows that requests may still have which nothing vouches for.
#[derive(Debug)]
pub struct LogAllowance {
    total: Rows,
    endpoint_limit: Option<RateLimit>,
    endpoints: Mutex<HashMap<Uuid, Arc<Rows>>>,
    clock: Clock,
}

#[derive(Debug)]
struct Rows {
    all: Option<Direct>,
    whole: Option<Direct>,
    left_out: AtomicU64,
}

/// How a request appears in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowSize {
    /// With its headers.
    Whole,
    Short,
}

/// Rows with headers in an hour: enough to see what is wrong.
const WHOLE_ROWS_OF_ENDPOINT: Option<RateLimit> = RateLimit::new(100, 3600);
const WHOLE_ROWS: Option<RateLimit> = RateLimit::new(1000, 3600);
/// Endpoints that are remembered; past it, those of which nothing is left out are forgotten.
const ENDPOINTS_MAX: usize = 10_000;

impl LogAllowance {
    pub fn new(config: &Config, clock: &Clock) -> Self {
        Self {
            total: Rows::new(config.unverified_rows_rate_limit, WHOLE_ROWS, clock),
            endpoint_limit: config.endpoint_unverified_rows_rate_limit,
            endpoints: Mutex::default(),
            clock: clock.clone(),
        }
    }

    /// How the next request of an endpoint is logged, and how many of it were left out since the last one that was;
    /// `None` when this one is left out, too.
    pub fn admit(&self, endpoint: Uuid) -> Option<(RowSize, u64)> {
        let own = self.of(endpoint);
        if spend(own.all.as_ref()) && spend(self.total.all.as_ref()) {
            let is_whole = spend(own.whole.as_ref()) && spend(self.total.whole.as_ref());
            let size = if is_whole { RowSize::Whole } else { RowSize::Short };
            Some((size, own.left_out.swap(0, Ordering::Relaxed)))
        } else {
            own.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    /// How long the row of a request is that has one anyway.
    pub fn size(&self) -> RowSize {
        if spend(self.total.whole.as_ref()) { RowSize::Whole } else { RowSize::Short }
    }

    fn of(&self, endpoint: Uuid) -> Arc<Rows> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() > ENDPOINTS_MAX {
            endpoints.retain(|_, rows| rows.left_out.load(Ordering::Relaxed) > 0);
        }
        let fresh = || Arc::new(Rows::new(self.endpoint_limit, WHOLE_ROWS_OF_ENDPOINT, &self.clock));
        endpoints.entry(endpoint).or_insert_with(fresh).clone()
    }
}

impl Rows {
    fn new(limit: Option<RateLimit>, whole: Option<RateLimit>, clock: &Clock) -> Self {
        let limiter = |limit: RateLimit| direct(limit.quota(), clock);
        Self { all: limit.map(limiter), whole: whole.map(limiter), left_out: AtomicU64::new(0) }
    }
}

fn spend(limiter: Option<&Direct>) -> bool {
    limiter.is_none_or(|limiter| limiter.check().is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_endpoint_has_its_rows_the_first_of_them_whole_and_the_rest_is_counted() {
        let clock = Clock::held(datetime!(2026-11-22 10:00 UTC));
        let config = Config {
            endpoint_unverified_rows_rate_limit: RateLimit::new(150, 60),
            unverified_rows_rate_limit: RateLimit::new(200, 60),
            ..Config::default()
        };
        let allowance = LogAllowance::new(&config, &clock);
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let rows: Vec<_> = (0..1000).map_while(|_| allowance.admit(one)).collect();
        assert_eq!(rows.len(), 150);
        assert!(rows[..100].iter().all(|row| *row == (RowSize::Whole, 0)));
        assert!(rows[100..].iter().all(|row| *row == (RowSize::Short, 0)));
        assert_eq!(allowance.admit(one), None);
        assert_eq!((0..100).filter_map(|_| allowance.admit(other)).count(), 50);
        clock.advance(Duration::from_secs(1));
        assert_eq!(allowance.admit(one), Some((RowSize::Short, 2)));
    }
}
