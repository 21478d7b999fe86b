//! Mappers: WebAssembly components of pack authors, run within limits, each delivery in an instance of its own.
//!
//! A component is looked at (`component`), compiled in a child process (`compile`) or taken from the cache
//! (`cache`), instantiated once to see that it can be, and then called (`call`) on threads of its own (`workers`).

mod cache;
mod call;
pub mod compile;
mod component;
mod componentize;
mod engine;
mod mapper;
mod meter;
mod workers;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Linker};

pub use self::{
    cache::Cache,
    call::{Called, Delivery, Event, Failure, Transformed},
    component::{Anatomy, Refused},
    componentize::{WIT, componentize, componentize_plain},
    engine::Purpose,
    mapper::{Mapper, Record},
};
use self::{
    cache::Id,
    call::State,
    mapper::{Queue, Share},
    workers::Workers,
};
use crate::config::Config;

mod bindings {
    #![allow(clippy::pedantic, reason = "generated from the WIT")]
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "pack",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// What a mapper may take, from the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    pub workers: usize,
    pub calls_per_trigger_max: usize,
    pub wait: Duration,
    pub queue_deliveries_max: usize,
    pub queue_bytes_max: usize,
    pub deadline: Duration,
    pub memory_bytes_max: usize,
    pub table_elements_max: usize,
    pub stack_bytes_max: usize,
    pub output_bytes_max: usize,
    pub events_max: usize,
    pub compile_seconds: u64,
    pub compile_memory_bytes_max: u64,
}

impl Limits {
    pub fn of(config: &Config) -> Self {
        let workers = config.mapper_workers();
        Self {
            workers,
            calls_per_trigger_max: config.mapper_calls_per_trigger_max.unwrap_or(workers.div_ceil(4)).max(1),
            wait: Duration::from_secs(config.mapper_wait_seconds),
            queue_deliveries_max: config.mapper_queue_deliveries_max,
            queue_bytes_max: config.mapper_queue_bytes_max,
            deadline: Duration::from_millis(config.mapper_deadline_ms),
            memory_bytes_max: config.mapper_memory_bytes_max,
            table_elements_max: config.mapper_table_elements_max,
            stack_bytes_max: config.mapper_stack_bytes_max,
            output_bytes_max: config.mapper_output_bytes_max,
            events_max: config.events_per_delivery_max,
            compile_seconds: config.mapper_compile_seconds,
            compile_memory_bytes_max: config.mapper_compile_memory_bytes_max,
        }
    }
}

impl Limits {
    /// A component that wants more to begin with than any call may have. The pool has no error type; its words are
    /// held by tests.
    fn too_large(&self, error: &wasmtime::Error) -> Refused {
        let cause = error.root_cause().to_string();
        let (what, most, limit) = if cause.contains("minimum byte size") {
            ("bytes of memory", self.memory_bytes_max, "mapper_memory_bytes_max")
        } else if cause.contains("minimum element size") {
            ("table elements", self.table_elements_max, "mapper_table_elements_max")
        } else if cause.contains("exceeds") {
            return Refused::new(format!("this component is larger than a mapper may be: {cause}"), None);
        } else {
            return Refused::new(format!("what the compiler wrote can't be used: {cause}"), None);
        };
        Refused::new(format!("this component begins with more than {most} {what} ({limit}): {cause}"), None)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// Where mappers are made ready and run. Costs nothing until the first one is loaded.
pub struct Sandbox {
    limits: Limits,
    purpose: Purpose,
    compiler: Compiler,
    turns: Turns,
    cache: Option<Cache>,
    /// Told the size of each component that is about to be compiled.
    compiling: fn(usize),
    machine: OnceLock<Result<Arc<Machine>, String>>,
    /// What is known of components, by their hash: the same file in two triggers is one program.
    known: Mutex<HashMap<[u8; 32], Arc<Mutex<Known>>>>,
    /// What triggers that use mappers have of their own, by ref: it outlives a reload of their pack.
    shares: Mutex<HashMap<String, Weak<Share>>>,
}

/// What a component came to the last time.
#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// Ready, for as long as somebody uses it.
    Ready(Weak<Program>),
    /// Trying again would cost the same time, for the same answer.
    Refused(Refused),
}

impl Known {
    fn is_worth_keeping(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Ready(program) => program.strong_count() > 0,
            Self::Refused(_) => true,
        }
    }
}

/// Refused components that are remembered; past it, all are forgotten.
const KNOWN_MAX: usize = 1000;

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// Where components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In a child process of this program, within limits: whatever comes from outside.
    Child(PathBuf),
    /// In this very process: for fuzzing and benchmarks, whose components are their own risk.
    Here,
}

/// As many compilers at a time as there are cores: each may take all of one, and the memory that it is allowed.
#[derive(Debug)]
struct Turns {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// One of them, until it is dropped.
struct Turn<'a>(&'a Turns);

impl Default for Turns {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { free: Mutex::new(cores), given_back: Condvar::new() }
    }
}

impl Turns {
    fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.given_back.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}

/// The engine, its memory, its threads.
struct Machine {
    engine: Engine,
    linker: Linker<State>,
    workers: Workers,
    queue: Queue,
    /// Held by whoever tries a program that is being loaded: there is one instance for that.
    trial: Mutex<()>,
}

/// A component that is compiled, checked, and ready to be instantiated.
pub struct Program {
    pre: bindings::PackPre<State>,
    purpose: Purpose,
    machine: Arc<Machine>,
    pub about: About,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("about", &self.about).finish_non_exhaustive()
    }
}

/// How much mappers are used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    pub workers: usize,
    pub busy: usize,
    /// Deliveries that wait for a worker, and the bytes of their payloads.
    pub waiting: usize,
    pub waiting_bytes: usize,
}

/// What is known of a component.
#[derive(Clone, Debug)]
pub struct About {
    pub bytes: usize,
    pub sha256: [u8; 32],
    /// The version of the mapper interface that it speaks.
    pub interface: String,
    pub producers: Vec<String>,
    /// How long compiling took; `None` when it came from the cache.
    pub compiled: Option<Duration>,
}

impl Sandbox {
    pub fn new(config: &Config, purpose: Purpose, cache: Option<Cache>) -> Arc<Self> {
        let compiling = |bytes| tracing::info!(bytes, "compiling a mapper");
        Self::telling(config, purpose, cache, compiling)
    }

    /// A sandbox that compiles in this process.
    pub fn compiling_here(config: &Config, purpose: Purpose) -> Arc<Self> {
        Arc::new(Self { compiler: Compiler::Here, ..Self::made(config, purpose, None, |_| {}) })
    }

    /// The same, for who wants to hear why it takes a while.
    pub fn telling(
        config: &Config,
        purpose: Purpose,
        cache: Option<Cache>,
        compiling: fn(usize),
    ) -> Arc<Self> {
        Arc::new(Self::made(config, purpose, cache, compiling))
    }

    fn made(config: &Config, purpose: Purpose, cache: Option<Cache>, compiling: fn(usize)) -> Self {
        Self {
            limits: Limits::of(config),
            purpose,
            compiler: Compiler::Child(config.mapper_compiler()),
            turns: Turns::default(),
            cache,
            compiling,
            machine: OnceLock::new(),
            known: Mutex::default(),
            shares: Mutex::default(),
        }
    }

    /// Makes a component ready, or says in the author's words why it can't be. Blocks for as long as compiling takes.
    pub fn load(&self, component: &[u8]) -> Result<Arc<Program>, Refused> {
        let anatomy = Anatomy::read(component)?;
        let hash: [u8; 32] = Sha256::digest(component).into();
        let known = self.known(hash);
        // Held while it compiles: two triggers of one file wait for one child, those of others don't.
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Known::Ready(program) => {
                if let Some(program) = program.upgrade() {
                    return Ok(program);
                }
            }
            Known::Refused(refused) => return Err(refused.clone()),
            Known::Nothing => {}
        }
        let prepared = self.prepare(component, hash, anatomy).map(Arc::new);
        *known = match &prepared {
            Ok(program) => Known::Ready(Arc::downgrade(program)),
            Err(refused) => Known::Refused(refused.clone()),
        };
        prepared
    }

    /// Lets what was refused be tried again: a compiler that ran out of time may have it on another day.
    pub fn forget_refusals(&self) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| known.try_lock().map_or(true, |known| !matches!(&*known, Known::Refused(_))));
    }

    fn known(&self, hash: [u8; 32]) -> Arc<Mutex<Known>> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let used = |known: &Arc<Mutex<Known>>| {
            // Who holds one is about to fill it.
            Arc::strong_count(known) > 1
                || known.lock().unwrap_or_else(PoisonError::into_inner).is_worth_keeping()
        };
        all.retain(|_, known| used(known));
        if all.len() > KNOWN_MAX {
            all.retain(|_, known| Arc::strong_count(known) > 1);
        }
        all.entry(hash).or_default().clone()
    }

    fn prepare(&self, component: &[u8], sha256: [u8; 32], anatomy: Anatomy) -> Result<Program, Refused> {
        let machine = self.machine()?;
        let id = Id::of(&sha256, &machine.engine);
        let cached = self.cache.as_ref().and_then(|cache| cache.get(id, &machine.engine));
        let (code, compiled) = if let Some(code) = cached {
            (code, None)
        } else {
            let began = Instant::now();
            (self.compiling)(component.len());
            let artefact = {
                let _turn = self.turns.take();
                compile::compile(&self.compiler, component, self.purpose, &self.limits)?
            };
            let code =
                cache::revive(&machine.engine, &artefact).map_err(|error| self.limits.too_large(&error))?;
            let took = began.elapsed();
            if let Some(cache) = &self.cache {
                cache.put(id, &artefact);
            }
            (code, Some(took))
        };
        let unfit = |error: wasmtime::Error| {
            let help = "build it for the world `pack` of the WIT in `sdk/wit`".to_owned();
            Refused::new(format!("this component does not fit the mapper interface: {error:#}"), help)
        };
        let pre = machine.linker.instantiate_pre(&code).map_err(unfit)?;
        let pre = bindings::PackPre::new(pre).map_err(unfit)?;
        let about = About {
            bytes: component.len(),
            sha256,
            interface: anatomy.interface.unwrap_or_default(),
            producers: anatomy.producers,
            compiled,
        };
        let program = Program { pre, purpose: self.purpose, machine, about };
        let trial = program.machine.trial.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = call::rehearse(&program, &self.limits);
        drop(trial);
        match tried {
            Ok(()) => Ok(program),
            Err(reason) => Err(Refused::new(format!("this component can't be instantiated: {reason}"), None)),
        }
    }

    /// What goes on now; nothing before the first mapper is loaded.
    pub fn activity(&self) -> Activity {
        let workers = self.limits.workers;
        let Some(Ok(machine)) = self.machine.get() else {
            return Activity { workers, ..Activity::default() };
        };
        let busy = workers.saturating_sub(machine.workers.slots.available_permits());
        let (waiting, waiting_bytes) = machine.queue.waiting();
        Activity { workers, busy, waiting, waiting_bytes }
    }

    fn machine(&self) -> Result<Arc<Machine>, Refused> {
        let made = self.machine.get_or_init(|| {
            let told = |error: &dyn fmt::Display| format!("mappers can't run here: {error}");
            // One slot more than workers: a pack that is loaded tries its mappers while the others work.
            let slots = u32::try_from(self.limits.workers + 1).unwrap_or(u32::MAX);
            let engine = engine::pooled(&self.limits, self.purpose, slots)
                .map_err(|error| told(&format!("{error:#}")))?;
            let linker = Linker::new(&engine);
            let workers = Workers::start(&engine, self.limits.workers, self.limits.stack_bytes_max)
                .map_err(|error| told(&error))?;
            Ok(Arc::new(Machine {
                engine,
                linker,
                workers,
                queue: Queue::default(),
                trial: Mutex::default(),
            }))
        });
        made.clone().map_err(|message| Refused::new(message, None))
    }
}
