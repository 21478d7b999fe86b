//! What checking one value by a schema costs beyond [`crate::meter`]: errors written down, names compared.

use std::cell::Cell;

use super::pattern::WORK_PER_STEP;
use crate::{
    budget::{Budget, Exhausted},
    meter::{self, end, is_ended, of_text, spend},
};

thread_local! {
    static ERRORS: Errors = const {
        Errors { left: Cell::new(0), long_names: Cell::new(0), name_states: Cell::new(0) }
    };
}

struct Errors {
    left: Cell<u64>,
    /// Bytes of the long member names that were seen: each error may repeat them in its pointer.
    long_names: Cell<u64>,
    /// States of the expressions that each member's name is compared with.
    name_states: Cell<usize>,
}

/// What one run may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) steps: u64,
    pub(super) errors: u64,
    pub(super) name_states: usize,
}

/// A name is long from so many bytes on.
const LONG_NAME: usize = 256;
/// Bytes that an error keeps, and that count as one more.
const BYTES_PER_ERROR: u64 = 1024;
/// However much one error keeps, it counts as no more than so many: some are told.
const COUNT_MAX: u64 = 400;

/// Runs `check` on this thread with so much to spend; and whether that was enough.
pub(super) fn metered<T>(
    budget: &Budget,
    allowance: Allowance,
    check: impl FnOnce() -> T,
) -> (T, Result<(), Exhausted>) {
    ERRORS.with(|errors| {
        errors.left.set(allowance.errors);
        errors.long_names.set(0);
        errors.name_states.set(allowance.name_states);
    });
    meter::metered(budget, allowance.steps, check)
}

/// Takes the steps of a member's name; and as long as it may be, each error below it repeats it.
pub(super) fn spend_name(name: &str) -> bool {
    let states = ERRORS.with(|errors| {
        if name.len() >= LONG_NAME {
            errors.long_names.set(errors.long_names.get() + name.len() as u64);
        }
        errors.name_states.get()
    });
    spend(of_text(name.len()) + (name.len().saturating_mul(states) / WORK_PER_STEP) as u64)
}

/// Whether one more error may be written down, that keeps so many bytes of the value.
pub(super) fn spend_error(bytes: usize) -> bool {
    ERRORS.with(|errors| {
        let count = 1 + (errors.long_names.get() + bytes as u64) / BYTES_PER_ERROR;
        match errors.left.get().checked_sub(count.min(COUNT_MAX)) {
            Some(left) if !is_ended() => {
                errors.left.set(left);
                true
            }
            _ => {
                end();
                false
            }
        }
    })
}
