//! Compiled mappers on disk: each file vouched for by the host's key, and made anew on any doubt.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use crate::secret::MasterKey;

/// Where compiled mappers are kept. Hosts that share one share the key as well.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    key: MasterKey,
    bytes_max: u64,
}

/// Names a component, the engine with all its settings, and the processor: an artefact is good for these alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id([u8; 32]);

/// In front of each artefact: who wrote it, for which id.
const SEAL_BYTES: usize = 24 + 32 + 16;

impl Id {
    pub(super) fn of(component_hash: &[u8; 32], engine: &Engine) -> Self {
        let mut hash = Hasher(Sha256::new());
        hash.0.update(env!("CARGO_PKG_VERSION"));
        hash.0.update(component_hash);
        // Wasmtime's own list: its version, every setting that shows in the code, the processor's features.
        std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hash);
        Self(hash.0.finalize().into())
    }
}

/// Lets what can be hashed by the standard library be hashed by SHA-256.
struct Hasher(Sha256);

impl std::hash::Hasher for Hasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl Cache {
    /// A folder of its own, closed to others.
    pub fn open(folder: &Path, key: MasterKey, bytes_max: u64) -> Result<Self> {
        let doing = || format!("the folder of compiled mappers {}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(doing)?;
        Ok(Self { folder: folder.to_owned(), key, bytes_max })
    }

    /// A mapper that was compiled before; `None` when it was not, or when its file is not to be trusted.
    pub(super) fn get(&self, id: Id, engine: &Engine) -> Option<Component> {
        let path = self.path(id);
        // Read once, then checked and used: what happens to the file meanwhile doesn't matter.
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a compiled mapper can't be read; it is compiled again");
                return None;
            }
        };
        let vouched = bytes.split_at_checked(SEAL_BYTES).and_then(|(seal, artefact)| {
            let named = self.key.open(seal, artefact)?;
            (named == id.0).then_some(artefact)
        });
        let Some(artefact) = vouched else {
            tracing::warn!(path = %path.display(), "a compiled mapper was damaged or made by somebody else; it is compiled again");
            return None;
        };
        match revive(engine, artefact) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a compiled mapper does not fit; it is compiled again");
                None
            }
        }
    }

    /// Keeps an artefact for the next start. That it can't be kept is no reason not to use it.
    pub(super) fn put(&self, id: Id, artefact: &[u8]) {
        if let Err(error) = self.write(id, artefact).and_then(|()| self.make_room(id)) {
            tracing::warn!(folder = %self.folder.display(), error = %format!("{error:#}"), "a compiled mapper can't be kept");
        }
    }

    /// Written beside and renamed: another host that shares the folder sees the whole file or none.
    fn write(&self, id: Id, artefact: &[u8]) -> Result<()> {
        let seal = self.key.seal(&id.0, artefact)?;
        let fresh = fresh_name(&self.folder)?;
        fs::write(&fresh, [&seal, artefact].concat()).context("writing")?;
        fs::rename(&fresh, self.path(id)).context("renaming")
    }

    /// Removes the oldest entries while all together are too large. Nothing else in the folder is ours.
    fn make_room(&self, newest: Id) -> Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another host may have removed it just now.
            let Ok(about) = entry.metadata() else { continue };
            if about.is_file() && is_entry(&entry.file_name().to_string_lossy()) {
                entries.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), entry.path()));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in entries {
            if total <= self.bytes_max {
                break;
            }
            if path != self.path(newest) && fs::remove_file(&path).is_ok() {
                total -= length;
            }
        }
        Ok(())
    }

    fn path(&self, id: Id) -> PathBuf {
        self.folder.join(format!("{}.cwasm", hex::encode(id.0)))
    }
}

/// `<64 hex digits>.cwasm`, or what a writer that was killed left behind.
fn is_entry(name: &str) -> bool {
    let stem = name.strip_suffix(".cwasm").or_else(|| name.strip_suffix(".cwasm-new"));
    stem.is_some_and(|stem| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A name that no other writer has.
fn fresh_name(folder: &Path) -> Result<PathBuf> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("the system's random source")?;
    Ok(folder.join(format!("{}.cwasm-new", hex::encode(random))))
}

/// An artefact as code that runs. Only for bytes that our own compiler has just written, or that the host's key
/// vouches for: wasmtime runs them as they are.
pub(super) fn revive(engine: &Engine, artefact: &[u8]) -> wasmtime::Result<Component> {
    #[expect(unsafe_code, reason = "wasmtime can't check machine code; the callers know who wrote it")]
    // SAFETY: both callers have these bytes from `Engine::precompile_component`, the one straight from the child,
    // the other through a file whose authenticated encryption was checked over the very bytes that are used here.
    unsafe {
        Component::deserialize(engine, artefact)
    }
}
