//! Rate limits of one host: of each source address, of all together; counted in memory, without races.

mod bodies;
mod log_rows;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Reference as _,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};

pub use self::{
    bodies::{BodyBudget, BodyLease, BudgetExceeded},
    log_rows::{LogAllowance, RowSize},
};
use crate::{
    clock::Clock,
    config::{Config, RateLimit},
    offload::Offload,
};

type Direct = RateLimiter<NotKeyed, InMemoryState, Clock, NoOpMiddleware<Nanos>>;
type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, Clock, NoOpMiddleware<Nanos>>;

/// Over a limit; the next request fits after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub retry_after: Duration,
}

/// The limits of the whole host, before anybody is believed.
#[derive(Debug)]
pub struct HostLimits {
    /// The memory for request bodies in flight.
    pub bodies: Arc<BodyBudget>,
    /// Which refused requests that nothing vouches for get a row in the request log.
    pub log_rows: LogAllowance,
    /// Where large bodies are checked.
    pub offload: Offload,
    sources: Option<Keyed<IpAddr>>,
    sources_max: usize,
    total: Option<Direct>,
    wrong_tokens: Option<WrongTokens>,
    clock: Clock,
}

/// Addresses that went on guessing tokens: they are not heard for a while.
#[derive(Debug)]
struct WrongTokens {
    limiter: Keyed<IpAddr>,
    unheard_until: Mutex<HashMap<IpAddr, Nanos>>,
}

impl HostLimits {
    pub fn new(config: &Config, clock: &Clock) -> Self {
        let keyed = |limit: RateLimit| Keyed::hashmap_with_clock(limit.quota(), clock.clone());
        Self {
            bodies: BodyBudget::new(config),
            log_rows: LogAllowance::new(config, clock),
            offload: Offload::new(config),
            sources: config.source_rate_limit.map(keyed),
            sources_max: config.sources_max,
            total: config.total_rate_limit.map(|limit| direct(limit.quota(), clock)),
            wrong_tokens: config
                .wrong_token_rate_limit
                .map(|limit| WrongTokens { limiter: keyed(limit), unheard_until: Mutex::default() }),
            clock: clock.clone(),
        }
    }

    pub fn admit(&self, source: IpAddr) -> Result<(), Over> {
        if let Some(sources) = &self.sources {
            let until = sources.check_key(&limited_as(source));
            if sources.len() > self.sources_max {
                // The ones that have all their requests again; the limit holds for the others.
                sources.retain_recent();
            }
            until.map_err(|until| Over::after(until.wait_time_from(self.clock.governed())))?;
        }
        match &self.total {
            Some(total) => {
                total.check().map_err(|until| Over::after(until.wait_time_from(self.clock.governed())))
            }
            None => Ok(()),
        }
    }
}

impl HostLimits {
    /// Whether an address may show a token at all.
    pub fn may_try_token(&self, source: IpAddr) -> Result<(), Over> {
        let Some(WrongTokens { unheard_until, .. }) = &self.wrong_tokens else { return Ok(()) };
        let (source, now) = (limited_as(source), self.clock.governed());
        let mut unheard_until = unheard_until.lock().unwrap_or_else(PoisonError::into_inner);
        match unheard_until.get(&source) {
            Some(until) if *until > now => Err(Over::after(until.duration_since(now).into())),
            Some(_) => {
                unheard_until.remove(&source);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes note of a token that is none.
    pub fn token_failed(&self, source: IpAddr) {
        let Some(WrongTokens { limiter, unheard_until }) = &self.wrong_tokens else { return };
        let (source, now) = (limited_as(source), self.clock.governed());
        if limiter.len() > self.sources_max {
            limiter.retain_recent();
        }
        let Err(until) = limiter.check_key(&source) else { return };
        let mut unheard_until = unheard_until.lock().unwrap_or_else(PoisonError::into_inner);
        if unheard_until.len() > self.sources_max {
            unheard_until.retain(|_, until| *until > now);
        }
        unheard_until.insert(source, now + Nanos::from(until.wait_time_from(now)));
        tracing::warn!(%source, "too many wrong tokens: this address is not heard for a while");
    }
}

/// The address that limits count: of IPv6 the /64, all of which one client has.
pub fn limited_as(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(source) => IpAddr::V4(source),
        IpAddr::V6(source) => {
            let network = source.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// Lets some of many through and counts the others: for log rows that a stranger could make without end.
#[derive(Debug)]
pub struct Sampler {
    limiter: Direct,
    left_out: AtomicU64,
}

impl Sampler {
    pub fn new(per_second: NonZeroU32, clock: &Clock) -> Self {
        Self { limiter: direct(Quota::per_second(per_second), clock), left_out: AtomicU64::new(0) }
    }

    /// How many were left out since the last one that was let through; `None` when this one is left out too.
    pub fn sample(&self) -> Option<u64> {
        if self.limiter.check().is_ok() {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

fn direct(quota: Quota, clock: &Clock) -> Direct {
    RateLimiter::direct_with_clock(quota, clock.clone())
}

impl Over {
    /// In whole seconds, as `Retry-After` wants them.
    pub fn after(wait: Duration) -> Self {
        let started = u64::from(wait.subsec_nanos() > 0);
        Self { retry_after: Duration::from_secs((wait.as_secs() + started).max(1)) }
    }
}

impl Clock {
    fn governed(&self) -> Nanos {
        governor::clock::Clock::now(self)
    }
}
