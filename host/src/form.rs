//! Forms (`a=1&b=x+y`), read in one way for everything: bodies and query strings.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// A name or a value, as the bytes that it stands for.
pub type Bytes<'a> = Cow<'a, [u8]>;

/// Names and values in their order. `+` is a blank, `%41` an A; a `%` without two hex digits stands for itself, and
/// nothing between two `&` is no field.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (Bytes<'_>, Bytes<'_>)> {
    let fields = text.split(|byte| *byte == b'&').filter(|field| !field.is_empty());
    fields.map(|field| {
        let (name, value) = match field.iter().position(|byte| *byte == b'=') {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (field, &[][..]),
        };
        (decoded(name), decoded(value))
    })
}

/// The same as text; what is not UTF-8 is replaced.
pub fn text_pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    let lossy = |bytes: Bytes<'_>| String::from_utf8_lossy(&bytes).into_owned();
    pairs(text.as_bytes()).map(move |(name, value)| (lossy(name), lossy(value)))
}

fn decoded(text: &[u8]) -> Bytes<'_> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        Cow::Owned(percent_decode(&spaced).collect())
    } else {
        percent_decode(text).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_their_order_and_decoded() {
        let pairs = |text: &str| text_pairs(text).collect::<Vec<_>>();
        let own = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (text, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("b=2&a=1&b=3", &[("b", "2"), ("a", "1"), ("b", "3")]),
            ("flag&=x&a=b=c", &[("flag", ""), ("", "x"), ("a", "b=c")]),
            ("a+b=c%20d+e&%C3%A9=%2B%26%3D", &[("a b", "c d e"), ("é", "+&=")]),
            ("a=100%&b=%zz%4&c=%00", &[("a", "100%"), ("b", "%zz%4"), ("c", "\0")]),
            ("a=%ff", &[("a", "\u{fffd}")]),
        ] {
            assert_eq!(pairs(text), own(expected), "{text}");
        }
    }
}
