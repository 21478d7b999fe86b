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
