//! Any body under any content type and encoding.

#![no_main]

use hookpack::{decode::Coding, json};
use hookpack_fuzz::request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let request = request(bytes);
    let Ok(coding) = Coding::of(&request.headers) else { return };
    if let Ok(payload) = coding.decode(&request.body, 1 << 20) {
        assert_eq!(json::parse(&payload.text).as_ref(), Ok(&payload.value));
    }
});
