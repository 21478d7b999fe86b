//! What waits for a writer: deliveries by endpoint, served by turns; rows of the request log; counts of rows left out.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

use super::{LOG_ROWS_WAITING_MAX, Waiting};
use crate::{
    config::Config,
    fair::{self, FairQueue},
    metrics::OfQueue,
    model::LogRow,
    store::stats::Counts,
};

/// The queue in front of the writers. An endpoint that is flooded fills its own part of it and no other.
#[derive(Debug)]
pub(super) struct Queue {
    all: Limits,
    of_endpoint: Limits,
    inner: Mutex<Inner>,
    arrived: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    deliveries: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Inner {
    deliveries: FairQueue<Uuid, Waiting>,
    logs: VecDeque<LogRow>,
    counts: Counts,
    is_closed: bool,
}

/// What one turn of a writer takes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) deliveries: Vec<Waiting>,
    pub(super) logs: Vec<LogRow>,
}

/// The limit that a delivery ran into, by the name of its setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full(pub(super) &'static str);

/// The bytes that an endpoint is served in one round.
const QUANTUM: usize = 64 << 10;
/// What a delivery costs beside its bytes.
const DELIVERY_COST: usize = 512;

impl Queue {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            all: Limits { deliveries: config.queue_deliveries_max, bytes: config.queue_bytes_max },
            of_endpoint: Limits {
                deliveries: config.endpoint_queue_deliveries_max,
                bytes: config.endpoint_queue_bytes_max,
            },
            inner: Mutex::new(Inner {
                deliveries: FairQueue::new(QUANTUM),
                logs: VecDeque::new(),
                counts: Counts::default(),
                is_closed: false,
            }),
            arrived: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, endpoint: Uuid, waiting: Waiting) -> Result<(), Full> {
        let mut inner = self.lock();
        let cost = waiting.bytes + DELIVERY_COST;
        let (all, own) = (inner.deliveries.waiting(), inner.deliveries.waiting_of(endpoint));
        let bytes = |waiting: fair::Waiting| waiting.bytes.saturating_sub(waiting.items * DELIVERY_COST);
        // One that is larger than the limit is taken while nothing else waits.
        let full = if own.items >= self.of_endpoint.deliveries {
            Some("endpoint_queue_deliveries_max")
        } else if own.items > 0 && bytes(own) + waiting.bytes > self.of_endpoint.bytes {
            Some("endpoint_queue_bytes_max")
        } else if all.items >= self.all.deliveries {
            Some("queue_deliveries_max")
        } else if all.items > 0 && bytes(all) + waiting.bytes > self.all.bytes {
            Some("queue_bytes_max")
        } else {
            None
        };
        if let Some(setting) = full {
            return Err(Full(setting));
        }
        inner.deliveries.push(endpoint, cost, waiting);
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Whether there was room for the row.
    pub(super) fn push_log(&self, row: LogRow) -> bool {
        let mut inner = self.lock();
        if inner.logs.len() >= LOG_ROWS_WAITING_MAX {
            inner.counts.add(&row);
            return false;
        }
        inner.logs.push_back(row);
        drop(inner);
        self.arrived.notify_one();
        true
    }

    /// Counts a row that the log leaves out.
    pub(super) fn count(&self, row: &LogRow) {
        self.lock().counts.add(row);
    }

    /// The counts so far; they begin again.
    pub(super) fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.lock().counts)
    }

    /// Counts that could not be written, for the next time.
    pub(super) fn put_back(&self, counts: Counts) {
        self.lock().counts.merge(counts);
    }

    /// Waits for the first row and takes what waits with it, up to the limits; `None` when all is done. Nothing is
    /// taken until it returns, so that it can be given up waiting.
    pub(super) async fn next_batch(&self, rows_max: usize, bytes_max: usize) -> Option<Batch> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            arrived.as_mut().enable();
            {
                let mut inner = self.lock();
                let batch = inner.batch(rows_max, bytes_max);
                let is_empty = batch.deliveries.is_empty() && batch.logs.is_empty();
                if !is_empty {
                    if !inner.deliveries.is_empty() || !inner.logs.is_empty() {
                        self.arrived.notify_one();
                    }
                    return Some(batch);
                }
                if inner.is_closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Nothing more comes: writers end when nothing waits any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_waiters();
    }

    pub(super) fn waiting(&self) -> OfQueue {
        let inner = self.lock();
        let waiting = inner.deliveries.waiting();
        OfQueue {
            deliveries: waiting.items,
            bytes: waiting.bytes.saturating_sub(waiting.items * DELIVERY_COST),
            log_rows: inner.logs.len(),
        }
    }
}

impl Inner {
    fn batch(&mut self, rows_max: usize, bytes_max: usize) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.deliveries.len() < rows_max && bytes < bytes_max {
            let Some((_, _, waiting)) = self.deliveries.pop() else { break };
            bytes += waiting.bytes;
            batch.deliveries.push(waiting);
        }
        let logs = self.logs.len().min(rows_max);
        batch.logs.extend(self.logs.drain(..logs));
        batch
    }
}
