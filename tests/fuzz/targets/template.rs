//! Any line as what a signature covers, over any request.

#![no_main]

use hookpack::{
    budget::Budget,
    verify::{Seen, template::Template},
};
use hookpack_fuzz::{head_and_body, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (line, rest) = head_and_body(bytes, b"\n");
    let Ok(text) = std::str::from_utf8(line) else { return };
    let template = match Template::parse(text, |name| (name == "known").then(|| "value".to_owned())) {
        Ok(template) => template,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    let request = request(rest);
    let budget = Budget::default();
    let seen = Seen::new(&request, "https://hooks.example.com", &budget);
    if let Ok(signed) = template.bytes(&seen, Some("1795341600")) {
        // Each part adds no more than the request holds.
        let most = (text.len() + 1) * (rest.len() * 2 + 256);
        assert!(signed.len() <= most, "{} bytes of {} and {}", signed.len(), text.len(), rest.len());
    }
});
