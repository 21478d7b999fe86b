//! Computes until somebody stops it.

use std::hint::black_box;

use hookpack_sdk::{Delivery, Event, Result, mapper};

#[mapper]
fn transform(_: Delivery) -> Result<Event> {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_mul(31) + 1);
    }
}
