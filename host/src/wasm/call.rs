//! One call of a mapper: a fresh instance, a delivery in, events out, every way to fail told apart.

use std::{
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::Value;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::{
    Limits, Program, bindings::exports::hookpack::mapper::mapper as wit, engine::Purpose, meter::Meter,
    workers,
};
use crate::{json, printable::is_unsafe};

/// What a mapper is given.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub trigger: String,
    pub received_at: String,
    /// Lower-case names; nothing in them is a credential.
    pub headers: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    pub attributes: Vec<(String, String)>,
    pub content_type: String,
    /// The decoded request, one JSON document in UTF-8.
    pub payload: Bytes,
}

/// What a mapper made of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Transformed {
    Events(Vec<Event>),
    /// Nothing to store, for this reason.
    Skipped(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// One JSON document, as the mapper wrote it.
    pub payload: String,
    /// The same, read, for who asked for it.
    pub value: Option<Value>,
    /// The event's own idempotency key.
    pub key: Option<String>,
}

/// Why nothing came of a call; the reason is for the request log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The payload is none that the mapper understands.
    InvalidPayload(String),
    /// The mapper's own fault: it said so, it trapped, or it ran into a limit.
    Failed(String),
    /// No worker was free in time, or the machine was too busy to let it run; nothing says that it would fail.
    Busy(String),
}

/// A call and what it cost.
#[derive(Clone, Debug)]
pub struct Called {
    pub result: Result<Transformed, Failure>,
    /// Where it is counted: [`Purpose::Measure`].
    pub fuel: Option<u64>,
    pub memory_bytes: usize,
    /// It computed for longer than honest mappers do.
    pub slow: bool,
}

impl Called {
    /// A call that never was.
    pub(super) const fn failed(failure: Failure) -> Self {
        Self { result: Err(failure), fuel: None, memory_bytes: 0, slow: false }
    }
}

/// A mapper that has computed for so long is no longer in a hurry.
const DEMOTED_AFTER: Duration = Duration::from_millis(10);
/// From then on it rests so long after each tick of work.
const REST: Duration = Duration::from_millis(30);
/// So many times its deadline a call may take by the clock, when it has to wait for the CPU.
const CLOCK_FACTOR: u32 = 4;
/// A reason longer than this is cut: it goes into a row of the log.
const REASON_CHARACTERS_MAX: usize = 1000;

/// What belongs to one instance.
pub(super) struct State {
    meter: Meter,
    slow: bool,
    /// The CPU that it had got when its time was over, if that was little.
    starved: Option<Duration>,
}

/// Who calls: that decides what a long computation costs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// A thread that is there for it, and may lose its priority.
    Worker,
    /// A thread that has other things to do, before and after.
    Loader,
}

/// What a call is given beside its delivery.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) settings: &'a str,
    pub(super) limits: &'a Limits,
    /// Whether the events' values are wanted, too.
    pub(super) read_events: bool,
}

/// Transforms one delivery in an instance that nobody used before and nobody will use again.
pub(super) fn transform(program: &Program, terms: Terms<'_>, delivery: &Delivery) -> Called {
    let mut store = store(program, terms.limits, Caller::Worker);
    let given = store.get_fuel().ok();
    let result = called(&mut store, program, terms, delivery);
    let fuel = given.and_then(|given| Some(given - store.get_fuel().ok()?));
    let State { meter, slow, .. } = store.data();
    Called { result, fuel, memory_bytes: meter.memory_bytes(), slow: *slow }
}

/// Makes an instance and throws it away: what would fail for every delivery fails when the pack is loaded.
pub(super) fn rehearse(program: &Program, limits: &Limits) -> Result<(), String> {
    let mut store = store(program, limits, Caller::Loader);
    match program.pre.instantiate(&mut store) {
        Ok(_) => Ok(()),
        Err(error) => Err(reason(&error, &store, limits)),
    }
}

fn store(program: &Program, limits: &Limits, caller: Caller) -> Store<State> {
    let engine = program.pre.engine();
    let mut store = Store::new(engine, State { meter: Meter::new(limits), slow: false, starved: None });
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(limits.output_bytes_max);
    if program.purpose == Purpose::Measure {
        store.set_fuel(u64::MAX).ok();
    }
    // Before anything of the component runs: its start functions are code as well.
    let (began, deadline) = (Instant::now(), limits.deadline);
    // Asking for it takes longer than making a store, and few calls live to see a tick.
    let mut cpu_began = None;
    let mut rested = Duration::ZERO;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |mut context| {
        let (taken, cpu) = (began.elapsed(), workers::cpu_time());
        let until_here = taken.min(workers::TICK);
        let got = cpu.saturating_sub(*cpu_began.get_or_insert(cpu.saturating_sub(until_here)));
        if got >= deadline {
            return Ok(UpdateDeadline::Interrupt);
        }
        // The CPU's time counts, so that nobody fails because the machine is busy; but nobody waits for ever.
        if taken >= deadline.saturating_mul(CLOCK_FACTOR) {
            context.data_mut().starved = Some(got).filter(|got| *got + rested < deadline / 2);
            return Ok(UpdateDeadline::Interrupt);
        }
        if got >= DEMOTED_AFTER {
            context.data_mut().slow = true;
            if caller == Caller::Worker {
                workers::demote();
                // Priorities count within a group of processes only (a container, a service, a session). Where the
                // database is in another one, it matters that this one leaves some of its share.
                thread::sleep(REST);
                rested += REST;
            }
        }
        Ok(UpdateDeadline::Continue(1))
    });
    store
}

fn called(
    store: &mut Store<State>,
    program: &Program,
    terms: Terms<'_>,
    delivery: &Delivery,
) -> Result<Transformed, Failure> {
    let Terms { settings, limits, read_events } = terms;
    let Ok(payload) = std::str::from_utf8(&delivery.payload) else {
        return Err(Failure::InvalidPayload("the payload is not UTF-8".to_owned()));
    };
    let (headers, query) = (borrowed(&delivery.headers), borrowed(&delivery.query));
    let attributes = borrowed(&delivery.attributes);
    let given = wit::Delivery {
        context: wit::Context {
            trigger: &delivery.trigger,
            received_at: &delivery.received_at,
            headers: &headers,
            query: &query,
            settings,
            attributes: &attributes,
        },
        content_type: &delivery.content_type,
        payload,
    };
    let instance = program.pre.instantiate(&mut *store);
    let answer =
        instance.and_then(|instance| instance.hookpack_mapper_mapper().call_transform(&mut *store, given));
    match answer {
        Ok(Ok(events)) if events.len() > limits.events_max => Err(Failure::Failed(format!(
            "it returned {} events, {} are allowed (events_per_delivery_max)",
            events.len(),
            limits.events_max
        ))),
        Ok(Ok(events)) => {
            let events: Vec<_> = events
                .into_iter()
                .enumerate()
                .map(|(index, event)| read(index, event, read_events))
                .collect();
            Ok(Transformed::Events(events.into_iter().collect::<Result<_, _>>().map_err(Failure::Failed)?))
        }
        Ok(Err(wit::MapError::Skip(reason))) => Ok(Transformed::Skipped(printable(&reason))),
        Ok(Err(wit::MapError::InvalidPayload(reason))) => Err(Failure::InvalidPayload(printable(&reason))),
        Ok(Err(wit::MapError::Failed(reason))) => Err(Failure::Failed(printable(&reason))),
        Err(error) => match (error.downcast_ref::<Trap>(), store.data().starved) {
            (Some(Trap::Interrupt), Some(got)) => {
                let (got, clock) =
                    (got.as_millis(), limits.deadline.saturating_mul(CLOCK_FACTOR).as_millis());
                Err(Failure::Busy(format!(
                    "the machine is too busy: within {clock} ms it got {got} ms of CPU (mapper_deadline_ms)"
                )))
            }
            _ => Err(Failure::Failed(reason(&error, store, limits))),
        },
    }
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// What a mapper returns is text to wasmtime; that it is JSON, and not nested without end, is ours to see.
fn read(index: usize, event: wit::Event, wanted: bool) -> Result<Event, String> {
    let text = event.payload.as_bytes();
    let value = if wanted { json::parse(text).map(Some) } else { json::check(text).map(|()| None) };
    let value =
        value.map_err(|error| format!("event {index} that it returned is not valid JSON: {error}"))?;
    Ok(Event { payload: event.payload, value, key: event.key.filter(|key| !key.is_empty()) })
}

/// Why a call broke off, with the name of the limit where it was one.
fn reason(error: &wasmtime::Error, store: &Store<State>, limits: &Limits) -> String {
    let reached = store.data().meter.reached;
    match error.downcast_ref::<Trap>().copied() {
        Some(Trap::Interrupt) => {
            format!("it ran longer than {} ms (mapper_deadline_ms)", limits.deadline.as_millis())
        }
        Some(Trap::StackOverflow) => {
            format!(
                "it recursed deeper than {} bytes of stack (mapper_stack_bytes_max)",
                limits.stack_bytes_max
            )
        }
        trap => {
            let cause = trap.map_or_else(|| printable(&error.root_cause().to_string()), told);
            match reached {
                Some("mapper_memory_bytes_max") => format!(
                    "it wanted more than {} bytes of memory (mapper_memory_bytes_max): {cause}",
                    limits.memory_bytes_max
                ),
                Some(limit) => format!(
                    "it wanted more than {} table elements ({limit}): {cause}",
                    limits.table_elements_max
                ),
                None if cause.contains("hostcalls") => {
                    format!(
                        "it returned more than {} bytes (mapper_output_bytes_max)",
                        limits.output_bytes_max
                    )
                }
                None => cause,
            }
        }
    }
}

fn told(trap: Trap) -> String {
    match trap {
        Trap::UnreachableCodeReached => {
            "it trapped: it panicked, or reached code that must not be reached".to_owned()
        }
        other => format!("it trapped: {}", other.to_string().trim_start_matches("wasm trap: ")),
    }
}

/// A guest's words, as far as a row of the log takes them.
fn printable(text: &str) -> String {
    let visible = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c });
    visible.take(REASON_CHARACTERS_MAX).collect()
}
