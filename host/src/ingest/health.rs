//! Whether the writers' writes work: what the last one came to.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use crate::store::Fault;

/// A question to a writer whether writing works.
pub(super) type Probe = oneshot::Sender<Result<(), Fault>>;

/// Questions that may wait for a writer; a further one waits to be asked.
const PROBES_WAITING_MAX: usize = 16;

/// For so long the outcome of a write says how the next one will end.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// Shared by the writers, which tell it what their writes came to.
#[derive(Debug)]
pub(super) struct WriteHealth {
    last: Mutex<Last>,
    probes: tokio::sync::Mutex<mpsc::Receiver<Probe>>,
}

#[derive(Debug, Default)]
struct Last {
    /// `None` before the first write.
    at: Option<Instant>,
    fault: Option<Fault>,
}

impl WriteHealth {
    /// Also returns where the writers are asked.
    pub(super) fn new() -> (Arc<Self>, mpsc::Sender<Probe>) {
        let (sender, probes) = mpsc::channel(PROBES_WAITING_MAX);
        let health = Self { last: Mutex::default(), probes: tokio::sync::Mutex::new(probes) };
        (Arc::new(health), sender)
    }

    /// The next question; `None` when none will come any more.
    pub(super) async fn next_probe(&self) -> Option<Probe> {
        self.probes.lock().await.recv().await
    }

    pub(super) fn succeeded(&self) {
        if let Some(fault) = self.record(None) {
            tracing::info!(after = fault.as_str(), "the database takes writes again");
        }
    }

    /// Logs only the first failure; the condition can last.
    pub(super) fn failed(&self, fault: Fault, error: &str) {
        if self.record(Some(fault)) != Some(fault) {
            tracing::error!(fault = fault.as_str(), error, "nothing can be stored: {}", fault.message());
        }
    }

    /// What keeps writes from working, as far as is known.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.last().fault
    }

    /// What the last write came to, if it was a moment ago.
    pub(super) fn fresh(&self) -> Option<Result<(), Fault>> {
        let last = self.last();
        last.at.filter(|at| at.elapsed() < FRESH).map(|_| last.fault.map_or(Ok(()), Err))
    }

    /// Returns the fault before.
    fn record(&self, fault: Option<Fault>) -> Option<Fault> {
        let mut last = self.last();
        last.at = Some(Instant::now());
        std::mem::replace(&mut last.fault, fault)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
