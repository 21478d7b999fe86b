//! A trigger's use of a mapper: its share of the workers, its calls, and how they went.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{
    Limits, Program, Sandbox,
    call::{self, Called, Delivery, Failure},
};

/// A trigger's mapper: a program, its settings, and its share of the workers.
#[derive(Clone, Debug)]
pub struct Mapper {
    pub program: Arc<Program>,
    /// Its file inside the pack.
    pub file: String,
    settings: Arc<str>,
    /// What keeps one slow mapper from taking every worker.
    own: Arc<Semaphore>,
    limits: Limits,
    pub record: Arc<Record>,
}

/// How a mapper has done since it was loaded.
#[derive(Debug, Default)]
pub struct Record {
    pub calls: AtomicU64,
    pub failures: AtomicU64,
    /// In all, where it is counted: [`super::Purpose::Measure`].
    pub fuel: AtomicU64,
    /// When it last failed by its own fault, and how.
    pub last_failure: Mutex<Option<(OffsetDateTime, String)>>,
}

impl Sandbox {
    /// A trigger's own use of a program.
    pub fn mapper(&self, program: Arc<Program>, file: String, settings: String) -> Mapper {
        Mapper {
            program,
            file,
            settings: settings.into(),
            own: Arc::new(Semaphore::new(self.limits.calls_per_trigger_max)),
            limits: self.limits.clone(),
            record: Arc::default(),
        }
    }
}

impl Mapper {
    /// Transforms one delivery; `now` is when a failure is said to have been.
    pub async fn transform(&self, delivery: Delivery, now: OffsetDateTime) -> Called {
        let Ok(Some(permits)) = timeout(self.limits.wait, self.permits()).await else {
            let seconds = self.limits.wait.as_secs();
            let reason =
                format!("no worker was free for {} within {seconds} s (mapper_wait_seconds)", self.file);
            return Called { result: Err(Failure::Busy(reason)), fuel: None, memory_bytes: 0 };
        };
        let (answer, answered) = oneshot::channel();
        let (program, settings, limits) = (self.program.clone(), self.settings.clone(), self.limits.clone());
        self.program.machine.workers.run(move || {
            let called = call::transform(&program, &settings, &delivery, &limits);
            // Given back here and not where it is waited for: a sender who hangs up must not let another call in
            // while this one still runs.
            drop(permits);
            answer.send(called).ok();
        });
        let called = answered.await.unwrap_or_else(|_| Called {
            result: Err(Failure::Failed("its worker broke".to_owned())),
            fuel: None,
            memory_bytes: 0,
        });
        self.record(&called, now);
        called
    }

    /// The same on the thread that asks, past shares, workers and record: what a call by itself costs.
    pub fn transform_here(&self, delivery: &Delivery) -> Called {
        call::transform(&self.program, &self.settings, delivery, &self.limits)
    }

    /// Makes an instance and throws it away, on the thread that asks.
    pub fn instantiate_here(&self) -> Result<(), String> {
        call::rehearse(&self.program, &self.limits)
    }

    /// First the trigger's own share, then a worker: who waits for the one keeps nobody from the other.
    async fn permits(&self) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = self.own.clone().acquire_owned().await.ok()?;
        let slot = self.program.machine.workers.slots.clone().acquire_owned().await.ok()?;
        Some((own, slot))
    }

    fn record(&self, called: &Called, now: OffsetDateTime) {
        self.record.calls.fetch_add(1, Ordering::Relaxed);
        self.record.fuel.fetch_add(called.fuel.unwrap_or_default(), Ordering::Relaxed);
        if let Err(Failure::Failed(reason)) = &called.result {
            self.record.failures.fetch_add(1, Ordering::Relaxed);
            let mut last = self.record.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((now, reason.clone()));
        }
    }
}
