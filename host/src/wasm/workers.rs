//! Threads for mappers, apart from those that serve requests: a mapper that computes keeps nobody else waiting.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use tokio::sync::Semaphore;
use wasmtime::Engine;

/// How often a running mapper is looked at: deadlines are kept to this.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// A worker's stack: what a mapper may use, and as much again as the host could ever need below it.
const HOST_STACK_BYTES: usize = 2 << 20;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub(super) struct Workers {
    jobs: Sender<Job>,
    /// One permit a worker: who has none waits here, where waiting costs nothing.
    pub(super) slots: Arc<Semaphore>,
    /// So many of them, at most, for mappers that were slow the last time: however many there are of those, most of
    /// the workers are for the others.
    pub(super) slow: Arc<Semaphore>,
    _crew: Arc<Crew>,
}

struct Crew {
    jobs: Mutex<Receiver<Job>>,
    count: usize,
    alive: AtomicUsize,
    stack_bytes: usize,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("count", &self.count).field("alive", &self.alive).finish_non_exhaustive()
    }
}

thread_local! {
    static DEMOTED: Cell<bool> = const { Cell::new(false) };
}

impl Workers {
    /// Starts the workers, and the clock that ticks for them.
    pub(super) fn start(engine: &Engine, count: usize, mapper_stack_bytes: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel();
        let crew = Arc::new(Crew {
            jobs: Mutex::new(waiting),
            count,
            alive: AtomicUsize::new(0),
            stack_bytes: mapper_stack_bytes + HOST_STACK_BYTES,
        });
        crew.fill_up()?;
        let (weak, engine) = (Arc::downgrade(&crew), engine.weak());
        thread::Builder::new().name("mapper-clock".to_owned()).spawn(move || {
            let mut missing = false;
            while let (Some(engine), Some(crew)) = (engine.upgrade(), weak.upgrade()) {
                engine.increment_epoch();
                let filled = crew.fill_up();
                if let (Err(error), false) = (&filled, missing) {
                    tracing::warn!(%error, "a mapper's worker can't be started; trying again");
                }
                missing = filled.is_err();
                drop((engine, crew));
                thread::sleep(TICK);
            }
        })?;
        let slow = Arc::new(Semaphore::new((count / 4).max(1)));
        Ok(Self { jobs, slots: Arc::new(Semaphore::new(count)), slow, _crew: crew })
    }

    /// Hands a job to the next free worker; who calls this holds a permit of `slots`.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The receiver lives as long as the crew, and that as long as this.
        self.jobs.send(Box::new(job)).ok();
    }
}

impl Crew {
    /// Puts a new worker in the place of each that has left.
    fn fill_up(self: &Arc<Self>) -> std::io::Result<()> {
        while self.alive.load(Ordering::Acquire) < self.count {
            let crew = self.clone();
            let thread = thread::Builder::new().name("mapper".to_owned()).stack_size(self.stack_bytes);
            self.alive.fetch_add(1, Ordering::AcqRel);
            if let Err(error) = thread.spawn(move || work(&crew)) {
                self.alive.fetch_sub(1, Ordering::AcqRel);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Job after job, until there can be no more, or until this thread has been demoted.
fn work(crew: &Arc<Crew>) {
    loop {
        let next = crew.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { break };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a mapper's worker broke; its delivery failed");
        }
        // An unprivileged thread can't raise itself again: another one takes its place.
        if DEMOTED.get() {
            break;
        }
    }
    crew.alive.fetch_sub(1, Ordering::AcqRel);
}

/// The CPU that this thread has had so far.
pub(super) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Lets every other thread of the machine go first: this one gets what nobody else wants. For a mapper that computes for
/// longer than honest ones do: it may go on to its deadline, at nobody's cost.
pub(super) fn demote() {
    if DEMOTED.replace(true) {
        return;
    }
    // The lowest nice value would not do: Linux lets such a thread finish its turn of some milliseconds before a
    // more important one that has just woken up.
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy,
            set_thread_priority_and_policy, thread_native_id,
        };
        let policy = ThreadSchedulePolicy::Normal(Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
            tracing::debug!(?error, "a mapper's worker keeps its priority");
        }
    }
}
