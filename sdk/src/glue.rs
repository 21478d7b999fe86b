//! Between the types that cross the boundary and those that authors see.

use std::alloc::{self, Layout};

use crate::{Delivery, Error, Event, bindings::exports::hookpack::mapper::mapper as wit, event::Outcome};

/// Exports a function as `hookpack:mapper/mapper@1.0.0`; `#[mapper]` writes it.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_mapper {
    ($mapper:path) => {
        const _: () = {
            struct Mapper;

            impl $crate::bindings::exports::hookpack::mapper::mapper::Guest for Mapper {
                fn transform(
                    delivery: $crate::bindings::exports::hookpack::mapper::mapper::Delivery,
                ) -> ::core::result::Result<
                    ::std::vec::Vec<$crate::bindings::exports::hookpack::mapper::mapper::Event>,
                    $crate::bindings::exports::hookpack::mapper::mapper::MapError,
                > {
                    $crate::glue::transform($mapper, delivery)
                }
            }

            $crate::bindings::__export! { Mapper with_types_in $crate::bindings }
        };
    };
}

/// Calls an author's function for the host.
pub fn transform<O: Outcome>(
    mapper: impl FnOnce(Delivery) -> O,
    delivery: wit::Delivery,
) -> Result<Vec<wit::Event>, wit::MapError> {
    let events = mapper(delivery.into()).into_result()?;
    Ok(events.into_iter().map(wit::Event::from).collect())
}

impl From<wit::Delivery> for Delivery {
    fn from(wit::Delivery { context, content_type, payload }: wit::Delivery) -> Self {
        let wit::Context { trigger, received_at, headers, query, settings, attributes } = context;
        Self { trigger, received_at, headers, query, settings, attributes, content_type, payload }
    }
}

impl From<Event> for wit::Event {
    fn from(Event { payload, key }: Event) -> Self {
        Self { payload, key }
    }
}

impl From<Error> for wit::MapError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidPayload(reason) => Self::InvalidPayload(reason),
            Error::Skip(reason) => Self::Skip(reason),
            Error::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// What the generated code asks of its runtime: room for a list. It would be freed if a panic unwound; none does.
pub struct Cleanup;

impl Cleanup {
    /// Room for a list that may be empty.
    pub fn new(layout: Layout) -> (*mut u8, Option<Self>) {
        // SAFETY: nothing old is given.
        let room = unsafe { cabi_realloc(std::ptr::null_mut(), 0, layout.align(), layout.size()) };
        (room, None)
    }

    /// Never called: there is none.
    pub fn forget(self) {}
}

/// Room for what the host writes into this instance before it calls.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    // SAFETY: by the canonical ABI `align` is a power of two that suits both sizes, and `old` with `old_size` is
    // either nothing or what an earlier call gave.
    let new = unsafe {
        match (old_size, size) {
            (0, 0) => return std::ptr::without_provenance_mut(align),
            (0, _) => alloc::alloc(Layout::from_size_align_unchecked(size, align)),
            _ => alloc::realloc(old, Layout::from_size_align_unchecked(old_size, align), size),
        }
    };
    if new.is_null() {
        core::arch::wasm32::unreachable();
    }
    new
}
