//! Any line as a selector, over any payload.

#![no_main]

use hookpack::{
    budget::Budget,
    json,
    selector::{JsonPath, Selected, Selector, Subject},
};
use hookpack_fuzz::{head_and_body, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (line, rest) = head_and_body(bytes, b"\n");
    let Ok(text) = std::str::from_utf8(line) else { return };
    let Ok(mut payload) = json::parse(rest) else { return };
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    let request = request(b"");
    let attributes = [("type".to_owned(), "fuzz".to_owned())].into();
    let budget = &Budget::default();
    let subject = Subject { request: &request, attributes: &attributes, payload: &payload, budget };
    match selector.select(subject) {
        Ok(Selected::Many(_)) => assert!(!selector.is_singular()),
        Ok(Selected::Nothing | Selected::One(_)) | Err(_) => {}
    }
    if let Ok(path) = JsonPath::parse(text)
        && path.set(&mut payload, "fresh".into())
    {
        assert_eq!(path.value(&payload), Some(&"fresh".into()), "{text}");
    }
});
