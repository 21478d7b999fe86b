//! The group-commit writer: whatever waits goes to the database in one transaction; each is answered after it.

mod health;
mod settle;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
    time::{timeout, timeout_at},
};

use self::{
    health::{Probe, WriteHealth},
    writer::Writer,
};
pub use self::{
    settle::{Again, settle_kept},
    writer::is_refusal,
};
use crate::{
    clock::Clock,
    config::Config,
    metrics::{Metrics, OfQueue},
    model::{Delivery, LogRow},
    store::{Database, Fault, batch::Stored},
};

/// Why a delivery is not in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// More waits already than the limits allow.
    Full,
    /// The database is away, or did not answer in time.
    Unavailable,
    /// The database refuses this very row; the reason is for the log.
    Refused(String),
}

/// Where requests hand their deliveries in.
#[derive(Debug)]
pub struct Ingest {
    deliveries: mpsc::Sender<Waiting>,
    logs: mpsc::Sender<LogRow>,
    queued_bytes: Arc<AtomicUsize>,
    queue_bytes_max: usize,
    store_wait: Duration,
    metrics: Arc<Metrics>,
    health: Arc<WriteHealth>,
    probes: mpsc::Sender<Probe>,
}

/// A delivery on its way, and who waits for it.
#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    bytes: usize,
    deadline: Instant,
    answer: oneshot::Sender<Result<Stored, NotStored>>,
}

/// The two queues; writers take turns at them.
#[derive(Debug)]
struct Queues {
    deliveries: mpsc::Receiver<Waiting>,
    logs: mpsc::Receiver<LogRow>,
}

/// For an answer to come back from the database's own time limit.
const GRACE: Duration = Duration::from_secs(2);
/// A write that takes longer can't be counted on.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// Rows of the request log that may wait; past it they are counted and dropped, deliveries never.
const LOG_ROWS_WAITING_MAX: usize = 20_000;

/// The writers at work; they end when every `Ingest` handle is gone and nothing waits any more.
#[derive(Debug)]
pub struct Writers(Vec<JoinHandle<()>>);

/// A writer that breaks leaves its batch unanswered, which its senders hear as 503; the next one goes on.
async fn keep_running(writer: impl Fn() -> Writer, sweeps: bool) {
    while let Err(error) = tokio::spawn(writer().run(sweeps)).await {
        tracing::error!(%error, "a writer broke; another one takes its place");
    }
}

impl Ingest {
    pub fn start(
        config: &Config,
        database: &Database,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Self>, Writers) {
        let (deliveries, deliveries_waiting) = mpsc::channel(config.queue_deliveries_max);
        let (logs, logs_waiting) = mpsc::channel(LOG_ROWS_WAITING_MAX);
        let queues = Arc::new(Mutex::new(Queues { deliveries: deliveries_waiting, logs: logs_waiting }));
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let (health, probes) = WriteHealth::new();
        let writers = (0..config.writers()).map(|number| {
            let health = health.clone();
            let (config, database, clock) = (config.clone(), database.clone(), clock.clone());
            let (queues, queued_bytes, metrics) = (queues.clone(), queued_bytes.clone(), metrics.clone());
            let writer = move || {
                let (queues, queued_bytes) = (queues.clone(), queued_bytes.clone());
                let (clock, metrics, health) = (clock.clone(), metrics.clone(), health.clone());
                Writer::new(&config, &database, queues, queued_bytes, clock, metrics, health)
            };
            // One of them also tidies up; more would only get in each other's way.
            tokio::spawn(keep_running(writer, number == 0))
        });
        let writers = Writers(writers.collect());
        let ingest = Self {
            deliveries,
            logs,
            queued_bytes,
            queue_bytes_max: config.queue_bytes_max,
            store_wait: Duration::from_secs(config.store_wait_seconds),
            metrics: metrics.clone(),
            health,
            probes,
        };
        (Arc::new(ingest), writers)
    }

    /// Returns when the delivery is committed, or is known to be somebody's repetition; never before.
    pub async fn store(&self, delivery: Delivery) -> Result<Stored, NotStored> {
        let bytes = delivery.bytes();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued + bytes > self.queue_bytes_max && queued > 0 {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(NotStored::Full);
        }
        let deadline = Instant::now() + self.store_wait;
        let (answer, answered) = oneshot::channel();
        if self.deliveries.try_send(Waiting { delivery, bytes, deadline, answer }).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(NotStored::Full);
        }
        // The writer keeps the deadline, so that who hears 503 is not stored after all; this only waits a little
        // longer than a statement that was begun in time can take.
        let given_up = deadline + self.store_wait + GRACE;
        match timeout_at(given_up.into(), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(NotStored::Unavailable),
        }
    }

    /// Writes a row of the request log some time soon; when too many wait it is counted and dropped.
    pub fn log(&self, mut row: LogRow) {
        row.took = Some(row.duration());
        if self.logs.try_send(row).is_err() {
            self.metrics.log_rows_dropped(1);
        }
    }

    /// Whether a write works now: what the last one came to, if that was a moment ago, else one that is made for this.
    pub async fn write_works(&self) -> Result<(), Fault> {
        if let Some(known) = self.health.fresh() {
            return known;
        }
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.probes.send(answer).await.map_err(|_| Fault::Away)?;
            answered.await.unwrap_or(Err(Fault::Away))
        };
        // A writer that tries to write tells why it can't, even if it does not find the time to answer.
        timeout(PROBE_WAIT, asked).await.unwrap_or_else(|_| Err(self.health.fault().unwrap_or(Fault::Away)))
    }

    /// What keeps writes from working, by the last one.
    pub fn write_fault(&self) -> Option<Fault> {
        self.health.fault()
    }

    /// What waits for a writer.
    pub fn waiting(&self) -> OfQueue {
        OfQueue {
            deliveries: self.deliveries.max_capacity() - self.deliveries.capacity(),
            bytes: self.queued_bytes.load(Ordering::Relaxed),
            log_rows: self.logs.max_capacity() - self.logs.capacity(),
        }
    }
}

impl Writers {
    /// Waits until everything that was handed in is written.
    pub async fn finish(self) {
        for writer in self.0 {
            if let Err(error) = writer.await {
                tracing::error!(%error, "a writer ended badly");
            }
        }
    }
}

impl Delivery {
    /// What it weighs while it waits.
    fn bytes(&self) -> usize {
        let events = self.events.iter().map(|event| event.payload.len() + event.metadata.len());
        let quarantined =
            self.quarantined.iter().map(|quarantined| quarantined.body.len() + quarantined.headers.len());
        let raw = self.raw.iter().map(|raw| raw.body.len() + raw.headers.len());
        events.chain(quarantined).chain(raw).sum()
    }
}
