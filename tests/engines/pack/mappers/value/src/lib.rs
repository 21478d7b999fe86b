//! The job as a mapper, by way of a tree of the whole payload.

use hookpack_sdk::{Delivery, Event, Result, Value, mapper};

#[mapper]
fn transform(delivery: Delivery) -> Result<Event> {
    let push: Value = delivery.json()?;
    Event::json(&job::pick(&push))
}
