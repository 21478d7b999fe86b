//! What libraries may still spend on this thread: steps, bytes, time and stack of one request's [`Budget`](crate::budget::Budget).
//!
//! Their schemas, values and templates carry no state of ours, so what they call of us spends from the meter of its
//! thread. Once something is used up, every further call is told `false`, and finds nothing any more: whatever is under
//! way has nothing left to go through, and ends by itself. Its result is then worth nothing.

use std::{cell::Cell, time::Instant};

use crate::budget::{Budget, Exhausted};

thread_local! {
    static METER: Meter = const {
        Meter {
            steps: Cell::new(0),
            next_look: Cell::new(0),
            bytes: Cell::new(0),
            deadline: Cell::new(None),
            stack_floor: Cell::new(0),
            ended_by: Cell::new(None),
        }
    };
}

struct Meter {
    /// Left.
    steps: Cell<u64>,
    /// With so many steps left the clock is read again.
    next_look: Cell<u64>,
    /// Left.
    bytes: Cell<u64>,
    deadline: Cell<Option<Instant>>,
    /// The lowest address that the stack may reach.
    stack_floor: Cell<usize>,
    ended_by: Cell<Option<End>>,
}

/// What was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Steps,
    Bytes,
    Time,
    Stack,
    /// What the caller counts itself.
    Other,
}

/// The clock is read once for so many steps.
const STEPS_PER_LOOK: u64 = 4096;
/// Stack of one run, in bytes: half of what a thread of the runtime has.
const STACK_MAX: usize = 1 << 20;
/// Bytes of a text that count as one step.
const BYTES_PER_STEP: usize = 64;

/// Runs something on this thread with what is left of the budget, but no more than `steps_max`; and whether that was
/// enough.
pub fn metered<T>(budget: &Budget, steps_max: u64, run: impl FnOnce() -> T) -> (T, Result<(), Exhausted>) {
    let (steps, bytes) = (budget.steps_left().min(steps_max), budget.bytes_left());
    METER.with(|meter| {
        meter.steps.set(steps);
        meter.next_look.set(steps.saturating_sub(STEPS_PER_LOOK));
        meter.bytes.set(bytes);
        meter.deadline.set(Instant::now().checked_add(budget.time_left()));
        meter.stack_floor.set(stack_address().saturating_sub(STACK_MAX));
        meter.ended_by.set(None);
    });
    let result = run();
    let (steps_left, bytes_left, ended_by) =
        METER.with(|meter| (meter.steps.get(), meter.bytes.get(), meter.ended_by.get()));
    let in_time = budget.spend_steps(if ended_by == Some(End::Steps) { steps } else { steps - steps_left });
    let in_space = budget.spend_bytes(usize::try_from(bytes - bytes_left).unwrap_or(usize::MAX));
    let spent = match ended_by {
        None => in_time.and(in_space),
        Some(End::Steps | End::Other) => Err(budget.too_few_steps()),
        Some(End::Bytes) => Err(budget.end_bytes()),
        Some(End::Time) => Err(budget.end_time()),
        Some(End::Stack) => Err(Exhausted::Depth),
    };
    (result, spent)
}

/// Takes steps; `false` from the moment on that something is used up.
#[inline]
pub fn spend(steps: u64) -> bool {
    METER.with(|meter| {
        let left = meter.steps.get();
        match left.checked_sub(steps) {
            Some(rest) if rest > meter.next_look.get() => {
                meter.steps.set(rest);
                true
            }
            rest => meter.look(rest),
        }
    })
}

/// As [`spend`], for so many bytes that are about to be made.
pub fn spend_bytes(bytes: usize) -> bool {
    METER.with(|meter| match meter.bytes.get().checked_sub(bytes as u64) {
        Some(left) => {
            meter.bytes.set(left);
            spend(of_text(bytes))
        }
        None => meter.end(End::Bytes),
    })
}

/// As [`spend`], where a look goes into a value: such calls nest.
#[inline]
pub fn enter() -> bool {
    let here = stack_address();
    METER.with(|meter| if here < meter.stack_floor.get() { meter.end(End::Stack) } else { spend(1) })
}

/// Ends it for a reason of the caller's.
pub fn end() {
    METER.with(|meter| meter.end(End::Other));
}

pub fn is_ended() -> bool {
    METER.with(|meter| meter.ended_by.get().is_some())
}

/// Steps of looking at so much text.
pub fn of_text(bytes: usize) -> u64 {
    1 + (bytes / BYTES_PER_STEP) as u64
}

impl Meter {
    #[cold]
    fn look(&self, rest: Option<u64>) -> bool {
        if self.ended_by.get().is_some() {
            return false;
        }
        let Some(rest) = rest.filter(|rest| *rest > 0) else { return self.end(End::Steps) };
        if self.deadline.get().is_some_and(|deadline| Instant::now() > deadline) {
            return self.end(End::Time);
        }
        self.steps.set(rest);
        self.next_look.set(rest.saturating_sub(STEPS_PER_LOOK));
        true
    }

    #[cold]
    fn end(&self, by: End) -> bool {
        if self.ended_by.get().is_none() {
            self.ended_by.set(Some(by));
        }
        // Every further step comes to `look`.
        self.next_look.set(u64::MAX);
        false
    }
}

/// Where the stack is now, roughly.
#[inline]
fn stack_address() -> usize {
    let here = 0_u8;
    (&raw const here).addr()
}
