//! A trigger's use of a mapper: its share of the workers, its calls, and how they went.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{
    Limits, Program, Sandbox,
    call::{self, Called, Delivery, Failure, Terms},
    workers,
};

/// A trigger's mapper: a program, its settings, and its share of the workers.
#[derive(Clone, Debug)]
pub struct Mapper {
    pub program: Arc<Program>,
    /// Its file inside the pack.
    pub file: Arc<str>,
    settings: Arc<str>,
    share: Arc<Share>,
    limits: Limits,
    /// Whether the values of its events are wanted: for `event_schema`.
    pub read_events: bool,
    pub record: Arc<Record>,
}

/// What a trigger has of its own, however often its pack is loaded.
#[derive(Debug)]
pub(super) struct Share {
    /// What keeps one slow mapper from taking every worker.
    calls: Arc<Semaphore>,
    /// Of each program that it uses, as long as it does: a version that is refused brings one, too.
    records: Mutex<HashMap<[u8; 32], Weak<Record>>>,
}

/// What a call holds while it runs.
type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

/// How a trigger's mapper has done since its program was first loaded.
#[derive(Debug, Default)]
pub struct Record {
    pub calls: AtomicU64,
    pub failures: AtomicU64,
    /// In all, where it is counted: [`super::Purpose::Measure`].
    pub fuel: AtomicU64,
    /// Whether its last call was one that others have to be kept from.
    pub slow: AtomicBool,
    /// When it last failed by its own fault, and how.
    pub last_failure: Mutex<Option<(OffsetDateTime, String)>>,
}

impl Sandbox {
    /// A trigger's own use of a program. A trigger of that ref that is loaded already has the same share of the
    /// workers, and, for the same program, the same record.
    pub fn mapper(&self, program: Arc<Program>, trigger: &str, file: String, settings: String) -> Mapper {
        let share = self.share(trigger);
        let record = share.record(program.about.sha256);
        let limits = self.limits.clone();
        Mapper {
            program,
            file: file.into(),
            settings: settings.into(),
            share,
            limits,
            read_events: false,
            record,
        }
    }

    fn share(&self, trigger: &str) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(trigger).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Share {
            calls: Arc::new(Semaphore::new(self.limits.calls_per_trigger_max)),
            records: Mutex::default(),
        });
        shares.retain(|_, share| share.strong_count() > 0);
        shares.insert(trigger.to_owned(), Arc::downgrade(&share));
        share
    }
}

impl Share {
    fn record(&self, program: [u8; 32]) -> Arc<Record> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = records.get(&program).and_then(Weak::upgrade) {
            return record;
        }
        let record = Arc::new(Record::default());
        records.retain(|_, record| record.strong_count() > 0);
        records.insert(program, Arc::downgrade(&record));
        record
    }
}

impl Mapper {
    /// Transforms one delivery; `now` is when a failure is said to have been.
    pub async fn transform(&self, delivery: Delivery, now: OffsetDateTime) -> Called {
        let busy = |reason: String| Called::failed(Failure::Busy(reason));
        let Some(waiting) = self.program.machine.queue.enter(delivery.payload.len(), &self.limits) else {
            let limits = "mapper_queue_deliveries_max, mapper_queue_bytes_max";
            return busy(format!("too much is waiting for mappers already ({limits})"));
        };
        let Ok(Some(permits)) = timeout(self.limits.wait, self.permits()).await else {
            let seconds = self.limits.wait.as_secs();
            return busy(format!(
                "no worker was free for {} within {seconds} s (mapper_wait_seconds)",
                self.file
            ));
        };
        drop(waiting);
        let (answer, answered) = oneshot::channel();
        let mapper = self.clone();
        self.program.machine.workers.run(move || {
            // Who was slow the last time begins where it ended then.
            if mapper.record.slow.load(Ordering::Relaxed) {
                workers::demote();
            }
            let called = call::transform(&mapper.program, mapper.terms(), &delivery);
            // Here, too: how it went counts whether or not anybody waits for it any more.
            mapper.record(&called, now);
            // Given back here and not where it is waited for: a sender who hangs up must not let another call in
            // while this one still runs.
            drop(permits);
            answer.send(called).ok();
        });
        let broken = |_| Called::failed(Failure::Failed("its worker broke".to_owned()));
        answered.await.unwrap_or_else(broken)
    }

    /// The same on the thread that asks, past shares, workers and record: what a call by itself costs.
    pub fn transform_here(&self, delivery: &Delivery) -> Called {
        call::transform(&self.program, self.terms(), delivery)
    }

    /// Makes an instance and throws it away, on the thread that asks.
    pub fn instantiate_here(&self) -> Result<(), String> {
        call::rehearse(&self.program, &self.limits)
    }

    fn terms(&self) -> Terms<'_> {
        Terms { settings: &self.settings, limits: &self.limits, read_events: self.read_events }
    }

    /// First the trigger's own share, then, of slow ones, theirs, then a worker: who waits for one of them keeps nobody
    /// from the next.
    async fn permits(&self) -> Option<Permits> {
        let workers = &self.program.machine.workers;
        let own = self.share.calls.clone().acquire_owned().await.ok()?;
        let among_slow = if self.record.slow.load(Ordering::Relaxed) {
            Some(workers.slow.clone().acquire_owned().await.ok()?)
        } else {
            None
        };
        let worker = workers.slots.clone().acquire_owned().await.ok()?;
        Some((own, among_slow, worker))
    }

    fn record(&self, called: &Called, now: OffsetDateTime) {
        self.record.slow.store(called.slow, Ordering::Relaxed);
        self.record.calls.fetch_add(1, Ordering::Relaxed);
        self.record.fuel.fetch_add(called.fuel.unwrap_or_default(), Ordering::Relaxed);
        if let Err(Failure::Failed(reason)) = &called.result {
            self.record.failures.fetch_add(1, Ordering::Relaxed);
            let mut last = self.record.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((now, reason.clone()));
        }
    }
}

/// Deliveries that wait for a worker, over all triggers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    deliveries: AtomicUsize,
    bytes: AtomicUsize,
}

/// A place in it, until it is given up.
struct Waiting<'a> {
    queue: &'a Queue,
    bytes: usize,
}

impl Queue {
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.deliveries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// `None` when more waits already than the limits allow.
    fn enter(&self, bytes: usize, limits: &Limits) -> Option<Waiting<'_>> {
        let deliveries = self.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Waiting { queue: self, bytes };
        let fits = deliveries <= limits.queue_deliveries_max
            && (before == 0 || before + bytes <= limits.queue_bytes_max);
        fits.then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.deliveries.fetch_sub(1, Ordering::Relaxed);
        self.queue.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
