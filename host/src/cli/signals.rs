//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process whatever is stuck.
//!
//! They are waited for on a thread with a runtime of its own: every thread of the other one may be blocked.

use std::{process::exit, sync::mpsc as blocking, thread, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Who asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Ctrl-C: a person sits before it.
    Interrupt,
    /// What a service manager sends.
    Terminate,
}

pub(super) struct Signals(mpsc::Receiver<Stop>);

/// How long the last line may take to be written: what reads the log may be stuck as well.
const LAST_LINE_WAIT: Duration = Duration::from_millis(200);

impl Signals {
    pub(super) fn listen() -> Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_io().build().context("starting a runtime for signals")?;
        let (interrupt, terminate) = {
            let _entered = runtime.enter();
            let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
            (interrupt, signal(SignalKind::terminate()).context("listening for SIGTERM")?)
        };
        let (first, receiver) = mpsc::channel(1);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(wait(interrupt, terminate, first)))
            .context("starting a thread for signals")?;
        Ok(Self(receiver))
    }

    /// Returns when the process is asked to end.
    pub(super) async fn first(&mut self) -> Stop {
        // The thread ends with the process only.
        self.0.recv().await.unwrap_or(Stop::Terminate)
    }
}

async fn wait(mut interrupt: Signal, mut terminate: Signal, first: mpsc::Sender<Stop>) {
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => Stop::Interrupt,
            _ = terminate.recv() => Stop::Terminate,
        }
    };
    first.send(next().await).await.ok();
    end_at_once(next().await);
}

/// As a shell reports a process that the signal itself had ended.
fn end_at_once(stop: Stop) -> ! {
    let (done, written) = blocking::channel();
    thread::spawn(move || {
        tracing::warn!("a second signal: ended at once, with whatever was under way");
        done.send(()).ok();
    });
    written.recv_timeout(LAST_LINE_WAIT).ok();
    exit(match stop {
        Stop::Interrupt => 130,
        Stop::Terminate => 143,
    })
}
