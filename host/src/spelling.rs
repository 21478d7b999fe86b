//! What a misspelt word was probably meant to be (strsim).

use std::fmt::Write as _;

/// The one of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate));
    let near = distances.filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4);
    near.min().map(|(_, candidate)| candidate)
}

/// "did you mean" for a word that is not one of `known`; all of them when none is near.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    if let Some(candidate) = nearest(word, known) {
        format!("did you mean `{candidate}`?")
    } else {
        let mut text = String::from("known here: ");
        for (index, candidate) in known.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{candidate}");
        }
        text
    }
}
