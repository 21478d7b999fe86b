//! A bounded number of permits, handed out to lanes by deficit round robin.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::FairQueue;

/// Permits for work that costs bytes; who finds none free waits in the lane of its key.
#[derive(Debug)]
pub struct FairPermits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    queue: FairQueue<Uuid, oneshot::Sender<Permit>>,
}

/// One permit, until it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Mutex<State>>);

impl FairPermits {
    pub fn new(permits: usize, quantum: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: permits.max(1), queue: FairQueue::new(quantum) })))
    }

    /// Waits until it is this lane's turn.
    pub async fn acquire(&self, key: Uuid, bytes: usize) -> Permit {
        let granted = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Permit(self.0.clone());
            }
            let (grant, granted) = oneshot::channel();
            state.queue.push(key, bytes, grant);
            granted
        };
        // A grant is dropped unsent only with the permits themselves.
        granted.await.unwrap_or_else(|_| Permit(self.0.clone()))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).queue.waiting().items
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let next = std::iter::from_fn(|| state.queue.pop()).find(|(_, _, grant)| !grant.is_closed());
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some((_, _, grant)) = next {
            // One that has stopped waiting in this very moment gives it back by dropping it.
            drop(grant.send(Self(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_flooded_lane_does_not_hold_up_another() {
        let (flooded, polite) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let permits = Arc::new(FairPermits::new(1, 10));
        let first = permits.acquire(flooded, 10).await;
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for lane in [flooded; 50].into_iter().chain([polite]) {
            let (own, done) = (permits.clone(), done.clone());
            let before = permits.waiting();
            tokio::spawn(async move {
                let permit = own.acquire(lane, 10).await;
                done.send(lane).unwrap();
                drop(permit);
            });
            while permits.waiting() == before {
                tokio::task::yield_now().await;
            }
        }
        drop(first);
        let order = [order.recv().await, order.recv().await, order.recv().await];
        assert!(order.contains(&Some(polite)), "{order:?}");
    }

    #[tokio::test]
    async fn a_permit_is_not_lost_with_one_that_stopped_waiting() {
        let permits = FairPermits::new(1, 10);
        let held = permits.acquire(Uuid::nil(), 1).await;
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(1), permits.acquire(Uuid::nil(), 1)).await.is_err());
        }
        drop(held);
        for _ in 0..3 {
            timeout(Duration::from_secs(10), permits.acquire(Uuid::max(), 1)).await.unwrap();
        }
    }
}
