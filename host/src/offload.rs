//! Requests take turns at the processor, by webhook URL: a flooded one has no more of it than another that wants some.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};
use uuid::Uuid;

use crate::{config::Config, fair::FairPermits};

/// Where the checks of bodies run: small ones on the thread that has read them, large ones on others.
#[derive(Debug)]
pub struct Offload {
    inline_bytes_max: usize,
    small: FairPermits,
    large: FairPermits,
}

/// The bytes of body that an endpoint is served in one round.
const LARGE_QUANTUM: usize = 64 << 10;
const SMALL_QUANTUM: usize = 4 << 10;
/// What a request costs at least, in bytes of body.
const COST_MIN: usize = 1 << 10;
/// Small bodies that are checked at a time, for each core. Fewer would leave threads without work while the next one
/// is woken.
const SMALL_PERMITS: usize = 4;

impl Offload {
    pub fn new(config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            inline_bytes_max: config.inline_body_bytes_max,
            small: FairPermits::new(SMALL_PERMITS * cores, SMALL_QUANTUM),
            large: FairPermits::new(config.large_body_workers(), LARGE_QUANTUM),
        }
    }

    /// Runs checks of a body of so many bytes to their end, when it is its endpoint's turn. While they wait for something
    /// themselves, others have theirs.
    pub async fn run<T>(&self, endpoint: Uuid, bytes: usize, checks: impl Future<Output = T>) -> T {
        let is_large = bytes > self.inline_bytes_max;
        let permits = if is_large { &self.large } else { &self.small };
        let mut checks = pin!(checks);
        loop {
            let permit = permits.acquire(endpoint, bytes.max(COST_MIN)).await;
            if !is_large {
                step_back().await;
            }
            let step = |context: &mut Context<'_>| {
                let mut poll = || checks.as_mut().poll(context);
                Poll::Ready(if is_large { off_thread(poll) } else { poll() })
            };
            let polled = poll_fn(step).await;
            drop(permit);
            if let Poll::Ready(output) = polled {
                return output;
            }
            woken().await;
        }
    }
}

/// Lets the requests that have come meanwhile join the queue. Without it each would do all of its work when its bytes
/// are read, and the order would be that of the threads' own queues: one request of a polite sender behind one of every
/// connection of a flood.
async fn step_back() {
    let mut is_first = true;
    let step = |context: &mut Context<'_>| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    };
    poll_fn(step).await;
}

/// Returns when the task is polled again: whatever it waits for has its waker already.
async fn woken() {
    let mut is_first = true;
    poll_fn(|_| if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(()) }).await;
}

/// Has another thread take over the other tasks of this one meanwhile.
fn off_thread<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_waits_lets_others_work_and_comes_to_its_end() {
        let config = Config { large_body_workers: Some(1), inline_body_bytes_max: 10, ..Config::default() };
        let offload = Arc::new(Offload::new(&config));
        let (tell, told) = tokio::sync::oneshot::channel();
        let own = offload.clone();
        let waiting = tokio::spawn(async move {
            own.run(Uuid::nil(), 100, async {
                let told: i32 = told.await.unwrap();
                sleep(Duration::from_millis(1)).await;
                told
            })
            .await
        });
        // It has the only permit, or had it.
        assert_eq!(offload.run(Uuid::max(), 100, async { 1 }).await, 1);
        tell.send(2).unwrap();
        assert_eq!(waiting.await.unwrap(), 2);
        assert_eq!(offload.run(Uuid::max(), 10, async { 3 }).await, 3);
    }

    #[tokio::test]
    async fn a_request_of_another_endpoint_does_not_wait_for_a_flood() {
        let offload = Arc::new(Offload::new(&Config::default()));
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for endpoint in [1; 1000].into_iter().chain([2]) {
            let (offload, done) = (offload.clone(), done.clone());
            tokio::spawn(async move {
                offload.run(Uuid::from_u128(endpoint), 10, async { done.send(endpoint).unwrap() }).await;
            });
        }
        let mut before = 0;
        while order.recv().await != Some(2) {
            before += 1;
        }
        assert!(before < 200, "{before} of the flood came first");
    }
}
