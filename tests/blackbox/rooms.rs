//! The dependency direction of the rooms: each uses only the ones below it in `lib.rs`.

use std::{fs, path::Path};

use crate::harness::repository;

#[test]
fn a_room_uses_only_the_rooms_below_it() {
    let source = repository().join("host/src");
    let map = fs::read_to_string(source.join("lib.rs")).unwrap();
    let rooms: Vec<&str> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(rooms.len() > 15, "{rooms:?}");
    let mut wrong = Vec::new();
    for (height, room) in rooms.iter().enumerate() {
        for (file, text) in files_of(&source, room) {
            // Tests may stand on anything.
            let code = text.split("#[cfg(test)]").next().unwrap().replace(['\n', ' '], "");
            for above in &rooms[..height] {
                let named =
                    [format!("crate::{above}::"), format!("crate::{{{above}::"), format!(",{above}::")];
                if named.iter().any(|name| code.contains(name)) {
                    wrong.push(format!("{file}: `{room}` uses `{above}`, which stands above it"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A room is `<room>.rs` and everything under `<room>/`.
fn files_of(source: &Path, room: &str) -> Vec<(String, String)> {
    let mut waiting = vec![source.join(format!("{room}.rs")), source.join(room)];
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        } else if path.is_file() {
            let name = path.strip_prefix(source).unwrap().display().to_string();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    files
}
