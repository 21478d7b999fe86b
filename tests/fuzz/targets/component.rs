//! Any bytes as a component file: read, compiled, instantiated and called, and nothing breaks but the component.

#![no_main]

use hookpack_fuzz::{call, sandbox};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let sandbox = sandbox();
    if let Ok(program) = sandbox.load(bytes) {
        let mapper = sandbox.mapper(program, "fuzz.component", "mappers/fuzz.wasm".to_owned(), "{}".to_owned());
        drop(call(&mapper, b"{\"a\": [1, \"two\"]}"));
    }
});
