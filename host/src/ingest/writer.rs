//! One writer: a connection of its own, batch after batch, through every way in which a database can fail.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::field::display;
use uuid::Uuid;

use super::{
    GRACE, LOG_ROWS_WAITING_MAX, NotStored, Waiting,
    health::WriteHealth,
    queue::{Batch, Queue},
    settle::{Settled, Told, settle},
};
use crate::{
    clock::Clock,
    config::Config,
    metrics::Metrics,
    model::{Delivery, LogRow, Outcome},
    store::{
        Database, Fault,
        batch::{self, Stored},
        event_keys, session, stats, write_probe,
    },
};

pub(super) struct Writer {
    queue: Arc<Queue>,
    options: PgConnectOptions,
    limits: session::Limits,
    connection: Option<PgConnection>,
    health: Arc<WriteHealth>,
    /// Rows of the request log that wait for the database to come back.
    backlog: Vec<(LogRow, Option<Uuid>)>,
    clock: Clock,
    metrics: Arc<Metrics>,
    rows_max: usize,
    bytes_max: usize,
    /// A batch that takes longer than its statement may has lost its server, or is given up between two statements.
    statement_wait: Duration,
}

/// Owner and key of a delivery.
type OwnedKey = (String, String);

/// How the database failed; it decides what to do with the batch.
enum Failure {
    /// Some row of it can't be stored, however often it is tried.
    Data(String),
    /// Some row of it is refused for a reason that may pass: a trigger of the operator's, a limit of the server's.
    Raised(String),
    /// The server or the connection; the same batch may succeed later.
    Away(Outage),
}

/// Why nothing can be written for now.
struct Outage {
    fault: Fault,
    error: String,
}

/// The pause between two tries to reach the database.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How soon rows of the log are tried again after the database was away, and how many are written at a time.
const BACKLOG_PAUSE: Duration = Duration::from_millis(500);
const LOG_ROWS_MAX: usize = 1000;
/// How often counts of requests without a row are written.
const COUNTS_INTERVAL: Duration = Duration::from_secs(1);
/// How often keys whose window is over are forgotten, and how many of each kind at a time.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
const SWEEP_ROWS: i64 = 1000;

impl Writer {
    pub(super) fn new(
        config: &Config,
        database: &Database,
        queue: Arc<Queue>,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<WriteHealth>,
    ) -> Self {
        Self {
            queue,
            options: database.options.clone(),
            // Postgres itself ends what takes too long: a statement that is only left behind could still commit
            // when nobody counts on it any more, and a transaction that lost its host would keep others from its keys.
            limits: session::Limits {
                statement_seconds: config.store_wait_seconds,
                idle_in_transaction_seconds: config.store_wait_seconds,
            },
            connection: None,
            health,
            backlog: Vec::new(),
            clock,
            metrics,
            rows_max: config.batch_rows_max.max(1),
            bytes_max: config.batch_bytes_max,
            statement_wait: Duration::from_secs(config.store_wait_seconds) + GRACE / 2,
        }
    }

    pub(super) async fn run(mut self, sweeps: bool) {
        let (mut swept, mut counted) = (Instant::now(), Instant::now());
        let health = self.health.clone();
        loop {
            let batch = tokio::select! {
                biased;
                Some(answer) = health.next_probe(), if sweeps => {
                    // A question that is not waited for any more needs no answer.
                    let _ = answer.send(self.probe().await);
                    continue;
                }
                batch = self.next_batch() => batch,
            };
            let Some(batch) = batch else { break };
            self.write(batch.deliveries).await;
            self.write_logs(batch.logs.into_iter().map(|row| (row, None)).collect()).await;
            if counted.elapsed() >= COUNTS_INTERVAL {
                self.write_counts().await;
                counted = Instant::now();
            }
            if sweeps && swept.elapsed() > SWEEP_INTERVAL {
                self.sweep().await;
                swept = Instant::now();
            }
        }
        self.write_counts().await;
        if !self.backlog.is_empty() {
            tracing::warn!(
                rows = self.backlog.len(),
                "rows of the request log are lost: the database is away"
            );
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await.ok();
        }
    }

    /// What waits, up to the limits; `None` when all is done. It returns soon whether or not anything arrives: there may
    /// be counts to write, and sooner with rows left over from an outage.
    async fn next_batch(&self) -> Option<Batch> {
        let pause = if self.backlog.is_empty() { COUNTS_INTERVAL } else { BACKLOG_PAUSE };
        let next = self.queue.next_batch(self.rows_max, self.bytes_max);
        timeout(pause, next).await.unwrap_or_else(|_| Some(Batch::default()))
    }

    /// Stores deliveries and answers everyone who waits for one of them.
    async fn write(&mut self, waiting: Vec<Waiting>) {
        let (firsts, twins) = apart(waiting.into_iter());
        let repeated = self.write_firsts(firsts).await;
        self.answer_twins(twins, repeated).await;
    }

    /// Stores deliveries of which no two have one key. Returns what became of each key.
    async fn write_firsts(&mut self, firsts: Vec<Waiting>) -> HashMap<OwnedKey, Told> {
        let mut answers = HashMap::new();
        // A batch that holds a row which can't be stored is halved until that row is alone.
        let mut batches = vec![firsts];
        while let Some(batch) = batches.pop() {
            let batch: Vec<_> = in_time(batch).collect();
            if batch.is_empty() {
                continue;
            }
            match self.try_until_deadline(&batch).await {
                Ok(settled) => self.answer_all(batch, settled, &mut answers).await,
                Err(Failure::Raised(reason)) if batch.len() == 1 => {
                    let LogRow { id, trace_id, .. } = &batch[0].delivery.log;
                    let trace_id = trace_id.map(display);
                    tracing::error!(request_id = %id, trace_id, %reason, "the database refuses a delivery for now");
                    reply_all(batch, &NotStored::Unavailable);
                }
                Err(Failure::Data(reason)) if batch.len() == 1 => {
                    let LogRow { id, trace_id, .. } = &batch[0].delivery.log;
                    let trace_id = trace_id.map(display);
                    tracing::warn!(request_id = %id, trace_id, %reason, "the database refuses a delivery");
                    reply_all(batch, &NotStored::Refused(reason));
                }
                Err(Failure::Data(_) | Failure::Raised(_)) => {
                    let mut batch = batch;
                    let half = batch.split_off(batch.len() / 2);
                    batches.extend([half, batch]);
                }
                Err(Failure::Away(Outage { fault, error })) => {
                    tracing::error!(deliveries = batch.len(), %error, "{}: senders get 503", fault.message());
                    reply_all(batch, &NotStored::Unavailable);
                }
            }
        }
        answers
    }

    /// Tries a batch until its first waiter would give up; ids are the host's, so trying again is safe.
    async fn try_until_deadline(&mut self, batch: &[Waiting]) -> Result<Vec<Settled>, Failure> {
        let deadline = batch.iter().map(|waiting| waiting.deadline).min().unwrap_or_else(Instant::now);
        let deliveries: Vec<&Delivery> = batch.iter().map(|waiting| &waiting.delivery).collect();
        let mut is_first = true;
        loop {
            match self.try_once(&deliveries, deadline).await {
                Err(Failure::Away(outage)) => {
                    let gives_up = Instant::now() + RETRY_PAUSE >= deadline;
                    self.lost(&outage, !is_first || gives_up);
                    if gives_up {
                        return Err(Failure::Away(outage));
                    }
                    is_first = false;
                    tracing::debug!(error = outage.error, "trying again");
                    sleep(RETRY_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn try_once(
        &mut self,
        deliveries: &[&Delivery],
        deadline: Instant,
    ) -> Result<Vec<Settled>, Failure> {
        let wait = self.statement_wait;
        let connection = self.connection().await?;
        if Instant::now() >= deadline {
            return Err(Failure::away("connecting took too long".to_owned()));
        }
        let began = Instant::now();
        let settled = within(wait, settle(connection, deliveries)).await;
        match &settled {
            Ok(_) => {
                self.health.succeeded();
                self.metrics.batch_stored(deliveries.len(), began.elapsed());
            }
            Err(_) => self.metrics.batch_failed(),
        }
        settled
    }

    async fn answer_all(
        &mut self,
        batch: Vec<Waiting>,
        settled: Vec<Settled>,
        answers: &mut HashMap<OwnedKey, Told>,
    ) {
        let mut repetitions = Vec::new();
        for (Waiting { delivery, answer, .. }, settled) in batch.into_iter().zip(settled) {
            let event_id = batch::event_id(&delivery);
            let (told, again) = match settled {
                Settled::First => {
                    let body_checksum = delivery.key.as_ref().map(|key| key.body_checksum);
                    (Told { answer: delivery.answer, event_id, body_checksum }, false)
                }
                Settled::Overlapping { told, before } => (told, before == delivery.events.len()),
                Settled::Repeated(told) => {
                    repetitions.push((repetition(&delivery, &told), told.event_id));
                    (told, true)
                }
                Settled::Again => {
                    reply(answer, Err(NotStored::Unavailable));
                    continue;
                }
            };
            if let Some(key) = delivery.key {
                answers.insert((key.owner_ref, key.key), told.clone());
            }
            reply(answer, Ok(if again { Stored::Repeated(told.answer) } else { Stored::First(told.answer) }));
        }
        self.write_logs(repetitions).await;
    }

    /// Twins of one batch: the first was stored (or not), the others repeat it.
    async fn answer_twins(&mut self, twins: Vec<Waiting>, answers: HashMap<OwnedKey, Told>) {
        let mut repetitions = Vec::new();
        for waiting in twins {
            let key = waiting.delivery.key.clone().map(|key| (key.owner_ref, key.key));
            let result = match key.and_then(|key| answers.get(&key)) {
                Some(told) => {
                    repetitions.push((repetition(&waiting.delivery, told), told.event_id));
                    Ok(Stored::Repeated(told.answer.clone()))
                }
                // The first of them failed: this one is told to come again.
                None => Err(NotStored::Unavailable),
            };
            reply(waiting.answer, result);
        }
        self.write_logs(repetitions).await;
    }

    /// Writes rows of the log, the ones left over from an outage first; what can't be written now stays.
    async fn write_logs(&mut self, rows: Vec<(LogRow, Option<Uuid>)>) {
        self.backlog.extend(rows);
        let too_many = self.backlog.len().saturating_sub(LOG_ROWS_WAITING_MAX);
        if too_many > 0 {
            tracing::warn!(
                rows = too_many,
                "rows of the request log are only counted: too many wait for the database"
            );
            for (row, _) in self.backlog.drain(..too_many) {
                self.queue.count(&row);
            }
            self.metrics.log_rows_dropped(too_many);
        }
        while !self.backlog.is_empty() {
            let wait = self.statement_wait;
            let rows: Vec<_> = self.backlog.drain(..self.backlog.len().min(LOG_ROWS_MAX)).collect();
            let is_new = self.connection.is_none();
            let written = match self.connection().await {
                Ok(connection) => within(wait, batch::log(connection, &rows)).await,
                Err(failure) => Err(failure),
            };
            match written {
                Ok(()) => self.health.succeeded(),
                Err(Failure::Away(outage)) => {
                    self.lost(&outage, is_new);
                    tracing::debug!(error = outage.error, "the request log waits for the database");
                    self.backlog.splice(..0, rows);
                    return;
                }
                Err(Failure::Data(reason) | Failure::Raised(reason)) => {
                    tracing::error!(%reason, rows = rows.len(), "the database refuses rows of the request log");
                    self.metrics.log_rows_dropped(rows.len());
                }
            }
        }
    }

    /// Writes the counts of requests that the log leaves out. After a connection that broke they may be written twice.
    async fn write_counts(&mut self) {
        let counts = self.queue.take_counts();
        if counts.is_empty() {
            return;
        }
        let wait = self.statement_wait;
        let is_new = self.connection.is_none();
        let written = match self.connection().await {
            Ok(connection) => within(wait, stats::add(connection, &counts)).await,
            Err(failure) => Err(failure),
        };
        match written {
            Ok(()) => self.health.succeeded(),
            Err(Failure::Away(outage)) => {
                self.lost(&outage, is_new);
                tracing::debug!(error = outage.error, "counts of requests wait for the database");
                self.queue.put_back(counts);
            }
            Err(Failure::Data(reason) | Failure::Raised(reason)) => {
                tracing::error!(%reason, "the database refuses counts of requests");
            }
        }
    }

    async fn sweep(&mut self) {
        let (wait, now) = (self.statement_wait, self.clock.now());
        loop {
            let Ok(connection) = self.connection().await else { return };
            let forgotten = async {
                let deliveries = batch::forget_expired(connection, now, SWEEP_ROWS).await?;
                Ok(deliveries.max(event_keys::forget_expired(connection, now, SWEEP_ROWS).await?))
            };
            match within(wait, forgotten).await {
                Ok(forgotten) if forgotten >= SWEEP_ROWS.unsigned_abs() => {}
                Ok(_) => return,
                Err(_) => {
                    self.connection = None;
                    return;
                }
            }
        }
    }

    /// Whether writing works; where that is not known, it writes a row of its own.
    async fn probe(&mut self) -> Result<(), Fault> {
        if let Some(known) = self.health.fresh() {
            return known;
        }
        match self.write_probe(false).await {
            Ok(()) => Ok(()),
            Err(_) => self.write_probe(true).await,
        }
    }

    async fn write_probe(&mut self, is_last: bool) -> Result<(), Fault> {
        let (wait, needs_room) = (self.statement_wait, self.health.fault() == Some(Fault::DiskFull));
        let written = match self.connection().await {
            Ok(connection) if needs_room => within(wait, write_probe::grow(connection)).await,
            Ok(connection) => within(wait, write_probe::write(connection)).await,
            Err(failure) => Err(failure),
        };
        match written {
            Ok(()) => {
                self.health.succeeded();
                Ok(())
            }
            Err(Failure::Away(outage)) => {
                self.lost(&outage, is_last);
                Err(outage.fault)
            }
            Err(Failure::Data(error) | Failure::Raised(error)) => {
                tracing::error!(error, "the database refuses a row of `hookpack.write_probe`");
                Ok(())
            }
        }
    }

    /// The next write has a new connection: the session may be one that can't write any more. A session that was cut
    /// is no outage yet, only what fails again on the next one.
    fn lost(&mut self, outage: &Outage, is_outage: bool) {
        self.connection = None;
        if is_outage {
            self.health.failed(outage.fault, &outage.error);
        }
        self.metrics.store_failed(outage.fault);
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => within(self.statement_wait, self.connect()).await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let found = session::begin(&mut connection, self.limits).await?;
        tracing::debug!(synchronous_commit = found, "a writer has connected");
        Ok(connection)
    }
}

/// The deliveries whose time is not over: the others are answered, or their senders have gone.
fn in_time(waiting: Vec<Waiting>) -> impl Iterator<Item = Waiting> {
    let now = Instant::now();
    let (waiting, late): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|waiting| waiting.deadline > now);
    reply_all(late, &NotStored::Unavailable);
    waiting.into_iter().filter(|waiting| !waiting.answer.is_closed())
}

/// Keeps the first of every key and sets its twins aside: one statement can't claim a key twice.
fn apart(waiting: impl Iterator<Item = Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
    let mut seen = HashSet::new();
    waiting.partition(|waiting| match &waiting.delivery.key {
        Some(key) => seen.insert((key.owner_ref.clone(), key.key.clone())),
        None => true,
    })
}

/// The log row of a request that repeats a stored delivery.
fn repetition(delivery: &Delivery, told: &Told) -> LogRow {
    let detail = match (delivery.log.detail.clone(), told.note_for(delivery)) {
        (Some(detail), Some(note)) => Some(format!("{detail}; {note}")),
        (detail, note) => detail.or_else(|| note.map(str::to_owned)),
    };
    let (status, took) = (told.answer.status, Some(delivery.log.duration()));
    LogRow { outcome: Outcome::Duplicate, status, took, detail, ..delivery.log.clone() }
}

fn reply(answer: oneshot::Sender<Result<Stored, NotStored>>, result: Result<Stored, NotStored>) {
    // Who has stopped waiting hears nothing.
    drop(answer.send(result));
}

fn reply_all(batch: Vec<Waiting>, error: &NotStored) {
    for waiting in batch {
        reply(waiting.answer, Err(error.clone()));
    }
}

async fn within<T>(wait: Duration, work: impl Future<Output = sqlx::Result<T>>) -> Result<T, Failure> {
    match timeout(wait, work).await {
        Ok(result) => result.map_err(|error| Failure::of(&error)),
        Err(_) => Err(Failure::away(format!("no answer within {} s", wait.as_secs()))),
    }
}

impl Failure {
    fn away(error: String) -> Self {
        Self::Away(Outage { fault: Fault::Away, error })
    }

    fn of(error: &sqlx::Error) -> Self {
        let told = error.to_string();
        let away = |error| Self::Away(Outage { fault: Fault::of(error), error: error.to_string() });
        match error {
            sqlx::Error::Database(database) => {
                match database.code().as_deref().and_then(|code| code.get(..2)) {
                    // Data, integrity, views.
                    Some("22" | "23" | "44") => Self::Data(told),
                    // Raised by a trigger of the operator's; program limits.
                    Some("P0" | "54") => Self::Raised(told),
                    _ => away(error),
                }
            }
            sqlx::Error::Encode(_) => Self::Data(told),
            _ => away(error),
        }
    }
}

/// Whether the database is there and does not take this very row; else what was asked may be asked again.
pub fn is_refusal(error: &sqlx::Error) -> bool {
    match Failure::of(error) {
        Failure::Data(_) | Failure::Raised(_) => true,
        Failure::Away(_) => false,
    }
}
