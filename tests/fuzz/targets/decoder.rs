//! Any body under any content type and encoding.

#![no_main]

use hookpack::{
    decode::{Coding, Limits},
    json,
};
use hookpack_fuzz::request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let request = request(bytes);
    let Ok(coding) = Coding::of(&request.headers) else { return };
    let limits = Limits { bytes_max: 1 << 20, payloads_max: 100, form_fields_max: 100 };
    if let Ok(decoded) = coding.decode(&request, limits) {
        assert!(decoded.payloads.len() <= 100);
        for payload in &decoded.payloads {
            assert_eq!(json::parse(&payload.text()).as_ref(), Ok(&payload.value));
        }
    }
});
