//! Telling whoever waits for events that some were stored: one ear for all of them.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// The host's side.
#[derive(Debug)]
pub struct News {
    /// Counted up with everything that is heard; `None` once the host stops.
    heard: watch::Sender<Option<u64>>,
    places: Arc<Semaphore>,
    /// Somebody has come to wait.
    came: Notify,
}

/// One that waits.
#[derive(Debug)]
pub struct Waiting {
    heard: watch::Receiver<Option<u64>>,
    /// Free again when it goes.
    _place: OwnedSemaphorePermit,
}

impl News {
    /// For so many who wait.
    pub fn new(waiting_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(waiting_max.min(Semaphore::MAX_PERMITS)));
        Self { heard: watch::Sender::new(Some(0)), places, came: Notify::new() }
    }

    /// `None` when there is no place.
    pub fn wait(&self) -> Option<Waiting> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let waiting = Waiting { heard: self.heard.subscribe(), _place: place };
        self.came.notify_one();
        Some(waiting)
    }

    /// Returns when there is somebody to tell.
    pub async fn somebody_waits(&self) {
        while !self.is_wanted() {
            self.came.notified().await;
        }
    }

    pub fn is_wanted(&self) -> bool {
        self.heard.receiver_count() > 0
    }

    pub fn tell(&self) {
        self.heard.send_modify(|count| *count = count.map(|count| count.wrapping_add(1)));
    }

    /// The host stops: nobody is to wait any longer.
    pub fn end(&self) {
        self.heard.send_replace(None);
    }
}

impl Waiting {
    /// Whether there will be anything to hear; what is told from here on is new.
    pub fn look(&mut self) -> bool {
        self.heard.borrow_and_update().is_some()
    }

    /// Returns when something was told since the last look.
    pub async fn hear(&mut self) {
        // Nobody who could tell is as good as being told.
        self.heard.changed().await.ok();
    }
}
