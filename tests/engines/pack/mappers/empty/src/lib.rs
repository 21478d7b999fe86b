//! Nothing at all: what a delivery costs before its mapper has done anything.

use hookpack_sdk::{Delivery, Event, Result, mapper};

#[mapper]
fn transform(_: Delivery) -> Result<Vec<Event>> {
    Ok(Vec::new())
}
