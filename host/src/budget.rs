//! What one request may spend on evaluating JSONPaths, schemas and templates.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::config::Config;

/// One request's budget, from its handshake to the schema of its last event. Code that evaluates something spends from
/// it and ends when it is exhausted; from then on every further spending fails as well.
///
/// Only time inside [`Budget::timed`] counts: a request that waits for its body, a mapper or a key set spends none.
/// One thread at a time evaluates for a request, so plain loads and stores are enough.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    steps: AtomicU64,
    bytes: AtomicU64,
    created: Instant,
    /// Nanoseconds that earlier timed sections took.
    spent: AtomicU64,
    /// Nanoseconds that a large body has got beyond the limit.
    more_time: AtomicU64,
    /// When the current timed section began, in nanoseconds since `created`; [`NOT_TIMED`] outside of one.
    since: AtomicU64,
}

/// The limits of a [`Budget`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub steps_max: u64,
    pub bytes_max: u64,
    pub time: Duration,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Exhausted {
    #[error("evaluation_steps_max ({0}) was reached")]
    Steps(u64),
    #[error("evaluation_bytes_max ({0}) was reached")]
    Bytes(u64),
    /// In milliseconds. The machine may have been busy: the same request can succeed later.
    #[error("evaluation_ms ({0}) was reached")]
    Time(u64),
    /// Of the stack: a schema that refers to itself, and a payload as deep.
    #[error("the payload is nested too deeply for its schema")]
    Depth,
}

/// The clock is read once for so many steps.
const STEPS_PER_LOOK: u64 = 1024;
const NOT_TIMED: u64 = u64::MAX;

impl Limits {
    pub fn of(config: &Config) -> Self {
        Self {
            steps_max: config.evaluation_steps_max,
            bytes_max: config.evaluation_bytes_max,
            time: Duration::from_millis(config.evaluation_ms),
        }
    }
}

impl Budget {
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            steps: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            created: now,
            spent: AtomicU64::new(0),
            more_time: AtomicU64::new(0),
            since: AtomicU64::new(NOT_TIMED),
        }
    }

    /// Gives an authentic request as much time again for every MiB of its body beyond the first: a push of 25 MB takes
    /// longer than most requests, and its sender does not send it again.
    pub fn allow_for_body(&self, bytes: usize) {
        let more = self.limits.time.saturating_mul(u32::try_from(bytes >> 20).unwrap_or(u32::MAX));
        self.more_time.store(u64::try_from(more.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Takes `count` steps: about as many nodes visited or values compared.
    pub fn spend_steps(&self, count: u64) -> Result<(), Exhausted> {
        let before = self.steps.load(Relaxed);
        let after = before.saturating_add(count);
        self.steps.store(after, Relaxed);
        if after > self.limits.steps_max {
            return Err(Exhausted::Steps(self.limits.steps_max));
        }
        if before / STEPS_PER_LOOK == after / STEPS_PER_LOOK { Ok(()) } else { self.check_time() }
    }

    /// Takes `count` bytes that evaluation makes: copies, rendered text, results.
    pub fn spend_bytes(&self, count: usize) -> Result<(), Exhausted> {
        let after = self.bytes.load(Relaxed).saturating_add(count as u64);
        self.bytes.store(after, Relaxed);
        if after > self.limits.bytes_max {
            return Err(Exhausted::Bytes(self.limits.bytes_max));
        }
        Ok(())
    }

    /// Reads the clock now: before work that can't spend steps while it runs.
    pub fn check_time(&self) -> Result<(), Exhausted> {
        let running = self.since_creation().saturating_sub(self.since.load(Relaxed));
        let taken = self.spent.load(Relaxed).saturating_add(running);
        if u128::from(taken) > self.time().as_nanos() {
            return Err(self.too_late());
        }
        Ok(())
    }

    /// For what counts its steps itself.
    pub fn steps_left(&self) -> u64 {
        self.limits.steps_max.saturating_sub(self.steps.load(Relaxed))
    }

    /// For what counts its bytes itself.
    pub fn bytes_left(&self) -> u64 {
        self.limits.bytes_max.saturating_sub(self.bytes.load(Relaxed))
    }

    /// For what reads the clock itself, in a timed section.
    pub fn time_left(&self) -> Duration {
        self.time().saturating_sub(Duration::from_nanos(self.taken()))
    }

    /// What to say when a part of the steps was not enough.
    pub fn too_few_steps(&self) -> Exhausted {
        Exhausted::Steps(self.limits.steps_max)
    }

    /// Uses up what bytes are left.
    pub fn end_bytes(&self) -> Exhausted {
        self.bytes.store(u64::MAX, Relaxed);
        Exhausted::Bytes(self.limits.bytes_max)
    }

    /// Uses up what time is left.
    pub fn end_time(&self) -> Exhausted {
        self.spent.store(u64::MAX, Relaxed);
        self.too_late()
    }

    fn time(&self) -> Duration {
        self.limits.time.saturating_add(Duration::from_nanos(self.more_time.load(Relaxed)))
    }

    fn too_late(&self) -> Exhausted {
        Exhausted::Time(u64::try_from(self.time().as_millis()).unwrap_or(u64::MAX))
    }

    fn taken(&self) -> u64 {
        let running = self.since_creation().saturating_sub(self.since.load(Relaxed));
        self.spent.load(Relaxed).saturating_add(running)
    }

    /// Counts time until the guard is dropped. A section inside another one counts once.
    pub fn timed(&self) -> Timed<'_> {
        let is_outermost = self.since.load(Relaxed) == NOT_TIMED;
        if is_outermost {
            self.since.store(self.since_creation(), Relaxed);
        }
        Timed { budget: self, is_outermost }
    }

    /// Awaits something inside a timed section without counting the time.
    pub async fn waiting<T>(&self, work: impl Future<Output = T>) -> T {
        let was_timed = self.since.load(Relaxed) != NOT_TIMED;
        self.stop();
        let result = work.await;
        if was_timed {
            self.since.store(self.since_creation(), Relaxed);
        }
        result
    }

    fn stop(&self) {
        let since = self.since.swap(NOT_TIMED, Relaxed);
        let ran = self.since_creation().saturating_sub(since);
        self.spent.store(self.spent.load(Relaxed).saturating_add(ran), Relaxed);
    }

    fn since_creation(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_nanos()).unwrap_or(NOT_TIMED - 1)
    }
}

impl Default for Budget {
    /// With the default limits.
    fn default() -> Self {
        Self::new(Limits::of(&Config::default()), Instant::now())
    }
}

/// A section whose time counts.
#[derive(Debug)]
#[must_use]
pub struct Timed<'a> {
    budget: &'a Budget,
    is_outermost: bool,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        if self.is_outermost {
            self.budget.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(time: Duration) -> Budget {
        Budget::new(Limits { steps_max: 5000, bytes_max: 100, time }, Instant::now())
    }

    #[test]
    fn each_limit_ends_evaluation_by_its_name_and_stays_reached() {
        let budget = budget(Duration::from_hours(1));
        let _timed = budget.timed();
        assert_eq!(budget.spend_steps(5000), Ok(()));
        for _ in 0..2 {
            assert_eq!(budget.spend_steps(1), Err(Exhausted::Steps(5000)));
        }
        assert_eq!(budget.spend_bytes(100), Ok(()));
        for count in [1, usize::MAX, 0] {
            assert_eq!(budget.spend_bytes(count), Err(Exhausted::Bytes(100)));
        }
        assert_eq!(Exhausted::Steps(5000).to_string(), "evaluation_steps_max (5000) was reached");
        assert_eq!(Exhausted::Time(7).to_string(), "evaluation_ms (7) was reached");
    }

    #[test]
    fn a_large_body_gets_more_time() {
        let budget = budget(Duration::from_secs(2));
        for (bytes, seconds) in [(0, 2), ((1 << 20) - 1, 2), (1 << 20, 4), (25 << 20, 52)] {
            budget.allow_for_body(bytes);
            assert_eq!(budget.time(), Duration::from_secs(seconds), "{bytes}");
        }
    }

    #[tokio::test]
    async fn time_counts_inside_timed_sections_only() {
        let budget = budget(Duration::ZERO);
        assert_eq!(budget.spend_steps(STEPS_PER_LOOK), Ok(()), "outside of a section");
        budget.waiting(async { assert_eq!(budget.check_time(), Ok(())) }).await;
        assert_eq!(budget.check_time(), Ok(()), "waiting begins no section");
        let outer = budget.timed();
        let spent = || budget.spent.load(Relaxed);
        budget
            .waiting(async {
                let before = spent();
                let _ = budget.check_time();
                assert_eq!(spent(), before, "while it waits");
                assert_eq!(budget.since.load(Relaxed), NOT_TIMED);
            })
            .await;
        drop(budget.timed());
        assert_ne!(budget.since.load(Relaxed), NOT_TIMED, "the outer section goes on");
        assert_eq!(budget.check_time(), Err(Exhausted::Time(0)));
        assert_eq!(budget.spend_steps(1), Ok(()), "the clock is not read at each step");
        assert_eq!(budget.spend_steps(STEPS_PER_LOOK), Err(Exhausted::Time(0)));
        drop(outer);
    }
}
