//! Gives the payload back.

use hookpack_sdk::{Delivery, Event, Result, mapper};

#[mapper]
fn transform(delivery: Delivery) -> Result<Event> {
    Ok(Event::raw(delivery.payload()))
}
