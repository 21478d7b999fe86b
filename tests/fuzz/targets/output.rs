//! Any bytes as what a mapper returns: pointers, lengths, discriminants, text and JSON are the guest's to choose.

#![no_main]

use std::sync::{Arc, OnceLock};

use hookpack::wasm::{Failure, Mapper, Sandbox, Transformed};
use hookpack_fuzz::{call, sandbox};
use libfuzzer_sys::fuzz_target;

/// Writes the bytes that its payload spells to 1024 and says that its answer lies there: `tests/fuzz/seeds/answering.wasm`.
const ANSWERING: &[u8] = include_bytes!("../seeds/answering.wasm");

fn answering() -> &'static (Arc<Sandbox>, Mapper) {
    static MADE: OnceLock<(Arc<Sandbox>, Mapper)> = OnceLock::new();
    MADE.get_or_init(|| {
        let sandbox = sandbox().clone();
        let program = sandbox.load(ANSWERING).expect("it is sound");
        let mapper = sandbox.mapper(program, "fuzz.output", "mappers/answering.wasm".to_owned(), "{}".to_owned());
        (sandbox, mapper)
    })
}

fuzz_target!(|bytes: &[u8]| {
    // A payload is text: each byte is spelt by two letters.
    let spelt: Vec<u8> = bytes.iter().flat_map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]).collect();
    match call(&answering().1, &spelt) {
        Ok(Transformed::Events(events)) => {
            for event in events {
                // What gets through is JSON that the host reads the same way again.
                assert!(hookpack::json::parse(event.payload.as_bytes()).is_ok(), "{}", event.payload);
            }
        }
        Ok(Transformed::Skipped(reason)) => assert!(!reason.contains('\n')),
        Err(Failure::InvalidPayload(reason) | Failure::Failed(reason)) => assert!(!reason.contains('\n')),
        Err(Failure::Busy(reason)) => panic!("one call at a time: {reason}"),
    }
});
