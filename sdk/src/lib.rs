#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![deny(unsafe_code)]

#[cfg(all(target_arch = "wasm32", not(target_os = "unknown")))]
compile_error!(
    "mappers are built for wasm32-unknown-unknown: a component that imports WASI is refused by the host"
);

mod delivery;
mod error;
mod event;
pub mod testing;

#[cfg(any(target_arch = "wasm32", test))]
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "a global allocator hands out raw memory"))]
mod arena;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, clippy::pedantic, reason = "generated: the component model's calling convention")]
#[rustfmt::skip]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[expect(unsafe_code, reason = "the host asks for memory by a C function")]
pub mod glue;

#[doc(no_inline)]
pub use serde_json::{self, Value, json, value::RawValue};

pub use crate::{
    delivery::Delivery,
    error::{Error, Result, failed, invalid_payload, skip},
    event::{Event, IntoEvents},
};

/// Makes a function the mapper that this crate is built into.
///
/// The function has any name, takes the [`Delivery`], and returns a [`Result`] of one [`Event`] or of many. A crate
/// has one mapper. The function stays as it is, so tests call it:
///
/// ```
/// use hookpack_sdk::{Delivery, Event, Result, json, mapper, testing};
///
/// #[mapper]
/// fn lines(delivery: Delivery) -> Result<Vec<Event>> {
///     let lines: Vec<&str> = delivery.json()?;
///     lines.iter().map(|line| Event::json(&json!({ "line": line }))).collect()
/// }
///
/// let delivery = testing::delivery("acme.log").json(&["one", "two"]).build();
/// assert_eq!(lines(delivery).unwrap().len(), 2);
/// ```
///
/// Another signature is an error that says what would be right:
///
/// ```compile_fail
/// # use hookpack_sdk::{Delivery, Event, Result, mapper};
/// #[mapper]
/// fn borrowed(delivery: &Delivery) -> Result<Event> {
///     Ok(Event::raw(delivery.payload()))
/// }
/// ```
///
/// ```compile_fail
/// # use hookpack_sdk::{Delivery, mapper};
/// #[mapper]
/// fn text(delivery: Delivery) -> String {
///     delivery.payload().to_owned()
/// }
/// ```
///
/// ```compile_fail
/// # use hookpack_sdk::{Delivery, Event, Result, mapper};
/// #[mapper]
/// async fn waits(delivery: Delivery) -> Result<Event> {
///     Ok(Event::raw(delivery.payload()))
/// }
/// ```
pub use hookpack_sdk_macros::mapper;

/// What `#[mapper]` writes; nothing here is for authors.
#[doc(hidden)]
pub mod __private {
    use crate::Delivery;
    pub use crate::event::Outcome;

    #[diagnostic::on_unimplemented(
        message = "a mapper takes the `Delivery` itself, not `{Self}`",
        label = "should be `hookpack_sdk::Delivery`",
        note = "write `fn transform(delivery: Delivery) -> Result<Event>`, and read the payload with `delivery.json()?`"
    )]
    pub trait Parameter {}

    impl Parameter for Delivery {}

    pub const fn takes<T: Parameter>() {}

    pub const fn returns<T: Outcome>() {}
}
