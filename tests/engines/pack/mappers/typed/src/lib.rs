//! The job as a mapper.

use hookpack_sdk::{Delivery, Event, Result, mapper};
use job::Push;

#[mapper]
fn transform(delivery: Delivery) -> Result<Event> {
    let push: Push = delivery.json()?;
    Event::json(&push.pick())
}
