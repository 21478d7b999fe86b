//! The README stays true: what the code has, it names.

use std::fs;

use hookpack::{config::Config, model::Outcome, pack::presets};

use crate::harness::repository;

#[test]
fn every_setting_outcome_preset_and_pack_is_in_the_readme() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let packs = fs::read_dir(repository().join("packs")).unwrap().flatten();
    let named = Config::keys()
        .into_iter()
        .chain(Outcome::ALL.iter().map(|outcome| outcome.word().to_owned()))
        .chain(presets::names().into_iter().map(str::to_owned))
        .chain(packs.map(|pack| pack.file_name().to_string_lossy().into_owned()));
    let missing: Vec<_> = named.filter(|word| !readme.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "the README does not name {missing:?}");
}

#[test]
fn every_file_that_the_readme_links_to_is_there() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with('#') && !link.contains("://")) {
        let path = repository().join(link.split('#').next().unwrap());
        assert!(path.exists(), "the README links to {link}, which is not there");
    }
}

#[test]
fn the_table_of_presets_names_the_key_of_each() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for preset in presets::all() {
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{}` |", preset.name))).unwrap();
        let key = preset.key().map_or_else(|| "none".to_owned(), |key| format!("`{key}`"));
        assert!(row.ends_with(&format!("| {key} |")), "{row}\nthe key is {key}");
    }
}

/// `name` of each trigger file, without a YAML reader: it is a key of the first column.
fn trigger_names(pack: &std::path::Path) -> Vec<String> {
    let files = fs::read_dir(pack.join("triggers")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        text.lines().find_map(|line| line.strip_prefix("name: ")).unwrap().to_owned()
    };
    let mut names: Vec<_> = files.map(name).collect();
    names.sort();
    names
}

#[test]
fn the_table_of_packs_names_their_triggers() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for pack in fs::read_dir(repository().join("packs")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = pack.file_name().unwrap().to_str().unwrap();
        let row = format!("| [`{name}`](packs/{name}) | {} |", trigger_names(&pack).join(", "));
        assert!(readme.lines().any(|line| line == row), "the README has no row\n{row}");
        let own = fs::read_to_string(pack.join("README.md")).unwrap();
        for trigger in trigger_names(&pack) {
            assert!(own.contains(&format!("`{name}.{trigger}`")), "{name}/README.md does not name {trigger}");
        }
    }
}

/// The security model names a file of tests and functions in it, each in backquotes.
#[test]
fn every_test_that_the_security_model_names_is_there() {
    let page = fs::read_to_string(repository().join("docs/security-model.md")).unwrap();
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with('|')) {
        let words: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let Some(at) =
            words.iter().position(|word| word.split_once('.').is_some_and(|(_, kind)| kind == "rs"))
        else {
            continue;
        };
        let text = fs::read_to_string(repository().join("tests/blackbox").join(words[at])).unwrap();
        for test in &words[at + 1..] {
            assert!(text.contains(&format!("fn {test}(")), "{}: no test `{test}`", words[at]);
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}
