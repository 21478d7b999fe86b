//! Large bodies take turns at the processor: by webhook URL, and off the threads that serve connections.

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

/// Where the checks of large bodies run.
#[derive(Debug)]
pub struct Offload {
    inline_bytes_max: usize,
    permits: FairPermits,
}

/// The bytes of body that an endpoint is served in one round.
const QUANTUM: usize = 64 << 10;

impl Offload {
    pub fn new(config: &Config) -> Self {
        Self {
            inline_bytes_max: config.inline_body_bytes_max,
            permits: FairPermits::new(config.large_body_workers(), QUANTUM),
        }
    }

    /// Runs checks of a body of so many bytes to their end. Those of a small body run at once; those of a larger one
    /// when it is its endpoint's turn. While they wait for something themselves, others have their turn.
    pub async fn run<T>(&self, endpoint: Uuid, bytes: usize, checks: impl Future<Output = T>) -> T {
        if bytes <= self.inline_bytes_max {
            return checks.await;
        }
        let mut checks = pin!(checks);
        loop {
            let permit = self.permits.acquire(endpoint, bytes).await;
            let step = |context: &mut Context<'_>| Poll::Ready(off_thread(|| checks.as_mut().poll(context)));
            let polled = poll_fn(step).await;
            drop(permit);
            if let Poll::Ready(output) = polled {
                return output;
            }
            woken().await;
        }
    }
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
}
