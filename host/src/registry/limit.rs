//! The rate limit of one trigger or pack endpoint, exact over all hosts of a database. Only authentic requests count.
//!
//! What is left stands in the database. A host takes some of it at a time, more while many requests come, never more than
//! a twentieth of the limit, and gives back with a later request what it has not used for a while. So no more requests are let through than the
//! limit allows; one that another host would have had room for may be refused, (hosts - 1) twentieths early at most.

use std::time::Duration;

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    clock::Clock,
    config::RateLimit,
    limits::Over,
    store::rate_limits::{self, Taken},
};

/// Why a request is not let through.
#[derive(Debug)]
pub enum NotAdmitted {
    Over(Over),
    /// What is left can't be told: the database is away.
    Unknown(String),
}

#[derive(Debug)]
pub struct TriggerLimit {
    owner_ref: String,
    limit: RateLimit,
    pool: PgPool,
    clock: Clock,
    lease: Mutex<Lease>,
}

/// What this host has of the limit.
#[derive(Debug)]
struct Lease {
    left: i64,
    /// Taken so lately that it need not be given back.
    until: OffsetDateTime,
    /// Nothing is left anywhere until then.
    over_until: OffsetDateTime,
    /// How much to take the next time.
    share: i64,
    /// The database did not answer lately: nobody waits for it again until then.
    unknown_until: OffsetDateTime,
}

/// A share is at most this part of the limit, and is given back after this part of the window.
const PARTS: u32 = 20;
const STORE_WAIT: Duration = Duration::from_secs(2);
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

impl TriggerLimit {
    pub fn new(owner_ref: &str, limit: RateLimit, pool: &PgPool, clock: &Clock) -> Self {
        let past = OffsetDateTime::UNIX_EPOCH;
        let lease = Lease { left: 0, until: past, over_until: past, share: 1, unknown_until: past };
        let lease = Mutex::new(lease);
        Self { owner_ref: owner_ref.to_owned(), limit, pool: pool.clone(), clock: clock.clone(), lease }
    }

    pub async fn admit(&self) -> Result<(), NotAdmitted> {
        timeout(STORE_WAIT, self.admitted()).await.unwrap_or_else(|_| Err(unanswered()))
    }

    async fn admitted(&self) -> Result<(), NotAdmitted> {
        // One at a time asks the database: the others wait for its answer.
        let mut lease = self.lease.lock().await;
        let (now, window) = (self.clock.now(), Duration::from_secs(self.limit.window_seconds.get().into()));
        if lease.left > 0 && is_soon(lease.until, now, window) {
            lease.left -= 1;
            return Ok(());
        }
        if is_soon(lease.unknown_until, now, UNKNOWN_FOR) {
            return Err(unanswered());
        }
        if is_soon(lease.over_until, now, window) {
            return Err(NotAdmitted::Over(Over::after((lease.over_until - now).unsigned_abs())));
        }
        let share_max = i64::from((self.limit.requests.get() / PARTS).max(1));
        let used_up = lease.left == 0 && now < lease.until;
        lease.share = if used_up { (lease.share * 2).min(share_max) } else { (lease.share / 2).max(1) };
        // Gone from here before it is given back: should the answer be lost, nobody has it twice.
        let returned = std::mem::take(&mut lease.left);
        lease.unknown_until = now + UNKNOWN_FOR;
        let Taken { requests, wait_seconds } = self.take(lease.share, returned).await?;
        lease.unknown_until = now;
        let life = window / PARTS;
        (lease.left, lease.until) = (requests, now + life);
        if requests == 0 {
            let wait = Duration::try_from_secs_f64(wait_seconds).unwrap_or_default();
            lease.over_until = now + wait;
            return Err(NotAdmitted::Over(Over::after(wait)));
        }
        lease.left -= 1;
        Ok(())
    }

    /// Whether one more request would be let through now; none is taken.
    pub async fn standing(&self) -> Result<(), NotAdmitted> {
        let lease = self.lease.lock().await;
        let now = self.clock.now();
        if lease.left > 0 && now < lease.until {
            return Ok(());
        }
        if now < lease.over_until {
            return Err(NotAdmitted::Over(Over::after((lease.over_until - now).unsigned_abs())));
        }
        let looking = rate_limits::take(&self.pool, &self.owner_ref, self.limit, 0, 0, self.given_time());
        match timeout(STORE_WAIT, looking).await {
            Ok(Ok(Some(taken))) if taken.wait_seconds > 0.0 => {
                let wait = Duration::try_from_secs_f64(taken.wait_seconds).unwrap_or_default();
                Err(NotAdmitted::Over(Over::after(wait)))
            }
            // Nobody counts yet: all are there.
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(NotAdmitted::Unknown(error.to_string())),
            Err(_) => Err(NotAdmitted::Unknown("the database does not answer".to_owned())),
        }
    }

    /// Hosts' clocks differ: what they share goes by the database's, unless a test holds the time.
    fn given_time(&self) -> Option<OffsetDateTime> {
        match &self.clock {
            Clock::System => None,
            Clock::Held(_) => Some(self.clock.now()),
        }
    }

    async fn take(&self, wanted: i64, returned: i64) -> Result<Taken, NotAdmitted> {
        let now = self.given_time();
        let taking = async {
            let take = || rate_limits::take(&self.pool, &self.owner_ref, self.limit, wanted, returned, now);
            if let Some(taken) = take().await? {
                return Ok(taken);
            }
            rate_limits::begin(&self.pool, &self.owner_ref, self.limit).await?;
            take().await?.ok_or(sqlx::Error::RowNotFound)
        };
        taking.await.map_err(|error| NotAdmitted::Unknown(error.to_string()))
    }
}

/// Whether a time is to come, and is not so far away that the clock must have been put back.
fn is_soon(at: OffsetDateTime, now: OffsetDateTime, most: Duration) -> bool {
    at > now && at - now <= most
}

fn unanswered() -> NotAdmitted {
    NotAdmitted::Unknown("the database does not answer".to_owned())
}
