//! The group-commit writer: whatever waits goes to the database in one transaction; each is answered after it.

mod health;
mod queue;
mod settle;
mod writer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{timeout, timeout_at},
};

use self::{
    health::{Probe, WriteHealth},
    queue::{Full, Queue},
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
    /// More waits already than a limit allows, by the name of its setting.
    Full(&'static str),
    /// The database is away, or did not answer in time.
    Unavailable,
    /// The database refuses this very row; the reason is for the log.
    Refused(String),
}

/// Where requests hand their deliveries in.
#[derive(Debug)]
pub struct Ingest {
    queue: Arc<Queue>,
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

/// For an answer to come back from the database's own time limit.
const GRACE: Duration = Duration::from_secs(2);
/// A write that takes longer can't be counted on.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// Rows of the request log that may wait; past it they are only counted, deliveries never.
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
        let queue = Arc::new(Queue::new(config));
        let (health, probes) = WriteHealth::new();
        let writers = (0..config.writers()).map(|number| {
            let health = health.clone();
            let (config, database, clock) = (config.clone(), database.clone(), clock.clone());
            let (queue, metrics) = (queue.clone(), metrics.clone());
            let writer = move || {
                let (clock, metrics, health) = (clock.clone(), metrics.clone(), health.clone());
                Writer::new(&config, &database, queue.clone(), clock, metrics, health)
            };
            // One of them also tidies up; more would only get in each other's way.
            tokio::spawn(keep_running(writer, number == 0))
        });
        let writers = Writers(writers.collect());
        let ingest = Self {
            queue,
            store_wait: Duration::from_secs(config.store_wait_seconds),
            metrics: metrics.clone(),
            health,
            probes,
        };
        (Arc::new(ingest), writers)
    }

    /// Returns when the delivery is committed, or is known to be somebody's repetition; never before.
    pub async fn store(&self, delivery: Delivery) -> Result<Stored, NotStored> {
        let (bytes, endpoint) = (delivery.bytes(), delivery.log.endpoint_key_id.unwrap_or_default());
        let deadline = Instant::now() + self.store_wait;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { delivery, bytes, deadline, answer };
        self.queue.push(endpoint, waiting).map_err(|Full(setting)| NotStored::Full(setting))?;
        // The writer keeps the deadline, so that who hears 503 is not stored after all; this only waits a little
        // longer than a statement that was begun in time can take.
        let given_up = deadline + self.store_wait + GRACE;
        match timeout_at(given_up.into(), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(NotStored::Unavailable),
        }
    }

    /// Writes a row of the request log some time soon; when too many wait it is only counted.
    pub fn log(&self, mut row: LogRow) {
        row.took = Some(row.duration());
        if !self.queue.push_log(row) {
            self.metrics.log_rows_dropped(1);
        }
    }

    /// Counts a request that has no row in the log.
    pub fn count(&self, mut row: LogRow) {
        row.took = Some(row.duration());
        self.queue.count(&row);
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
        self.queue.waiting()
    }
}

impl Drop for Ingest {
    /// The writers end when what waits is written.
    fn drop(&mut self) {
        self.queue.close();
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
