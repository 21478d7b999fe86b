//! The SDK's sources, carried in the binary: a mapper is always built with the SDK of the host that will run it.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Every file of the crate, by its path in it.
const FILES: [(&str, &str); 13] = [
    ("Cargo.toml", include_str!("../../../../sdk/Cargo.toml")),
    ("README.md", include_str!("../../../../sdk/README.md")),
    ("src/arena.rs", include_str!("../../../../sdk/src/arena.rs")),
    ("src/bindings.rs", include_str!("../../../../sdk/src/bindings.rs")),
    ("src/delivery.rs", include_str!("../../../../sdk/src/delivery.rs")),
    ("src/error.rs", include_str!("../../../../sdk/src/error.rs")),
    ("src/event.rs", include_str!("../../../../sdk/src/event.rs")),
    ("src/glue.rs", include_str!("../../../../sdk/src/glue.rs")),
    ("src/lib.rs", include_str!("../../../../sdk/src/lib.rs")),
    ("src/testing.rs", include_str!("../../../../sdk/src/testing.rs")),
    ("macros/Cargo.toml", include_str!("../../../../sdk/macros/Cargo.toml")),
    ("macros/src/lib.rs", include_str!("../../../../sdk/macros/src/lib.rs")),
    ("wit/mapper.wit", crate::wasm::WIT),
];

/// Puts the crate into a folder. Files that are there already keep their time, so that nothing is built again.
pub(super) fn unpack(folder: &Path) -> Result<()> {
    for (file, text) in FILES {
        write_if_other(&folder.join(file), text)?;
    }
    Ok(())
}

pub(super) fn write_if_other(path: &Path, text: &str) -> Result<()> {
    let doing = || path.display().to_string();
    if fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(doing)?;
    }
    fs::write(path, text).with_context(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_the_sdk_is_carried() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let mut waiting = vec![sdk.join("src"), sdk.join("macros/src"), sdk.join("wit")];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    waiting.push(path);
                    continue;
                }
                let inside = path.strip_prefix(&sdk).unwrap().to_str().unwrap();
                assert!(FILES.iter().any(|(file, _)| *file == inside), "{inside} is not carried");
            }
        }
    }
}
