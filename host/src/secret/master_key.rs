//! The master key: what seals endpoint keys and secrets in the database. Several may open; the first one seals.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use super::{SecretText, private_file, random};

/// Whoever holds it sees when it is another one.
#[derive(Clone)]
pub struct MasterKey(Arc<Ring>);

struct Ring {
    /// `None`: it was given, and does not change while the host runs.
    file: Option<PathBuf>,
    keys: ArcSwap<Vec<Key>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Key([u8; 32]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Keys that stand in a file after a rotation: hosts that have not read it yet still seal with the one before.
const KEPT: usize = 2;

impl MasterKey {
    /// Reads the key file (64 hex digits a line, 32 bytes each), or makes it at first start, readable by its owner only.
    pub fn load_or_make(path: &Path) -> Result<Self> {
        private_file::read_or_make(path, || Ok(Key::fresh()?.text()))?;
        let keys = read(path)?;
        Ok(Self(Arc::new(Ring { file: Some(path.to_owned()), keys: ArcSwap::from_pointee(keys) })))
    }

    /// The key, or several of them with commas between, the one that seals first.
    pub fn given(text: &SecretText) -> Result<Self> {
        let keys = text.get().split([',', '\n']).map(str::trim).filter(|key| !key.is_empty());
        let keys = keys.map(Key::parse).collect::<Result<Vec<_>>>().context("`master_key`")?;
        if keys.is_empty() {
            bail!("`master_key` is empty: give 64 hex digits (32 bytes)");
        }
        Ok(Self(Arc::new(Ring { file: None, keys: ArcSwap::from_pointee(keys) })))
    }

    /// Encrypts `plain`; `about` (what it belongs to) must be the same when it is opened.
    pub fn seal(&self, plain: &[u8], about: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let nonce = random::<24>()?;
        let payload = Payload { msg: plain, aad: about.as_ref() };
        let keys = self.0.keys.load();
        let sealed = keys.first().and_then(|key| key.cipher().encrypt(&XNonce::from(nonce), payload).ok());
        let sealed = sealed.context("can't encrypt with the master key")?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The plain bytes again; `None` when another master key sealed them.
    pub fn open(&self, sealed: &[u8], about: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
        let about = about.as_ref();
        let open =
            |key: &Key| key.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: about }).ok();
        self.0.keys.load().iter().find_map(open)
    }

    /// Whether it was given and can't be renewed by the host.
    pub fn is_given(&self) -> bool {
        self.0.file.is_none()
    }

    /// Reads the file again; whether other keys stand in it than before.
    pub fn reread(&self) -> Result<bool> {
        let Some(file) = &self.0.file else { return Ok(false) };
        let keys = read(file)?;
        let is_other = **self.0.keys.load() != keys;
        if is_other {
            self.0.keys.store(Arc::new(keys));
        }
        Ok(is_other)
    }

    /// Another key seals from now on; all that opened so far still open.
    pub fn renew(&self) -> Result<()> {
        let fresh = Key::fresh()?;
        self.replace(|keys| [vec![fresh.clone()], keys.to_vec()].concat())
    }

    /// Forgets the keys that nothing is sealed with any more, but for the last one.
    pub fn retire(&self) -> Result<()> {
        self.replace(|keys| keys.iter().take(KEPT).cloned().collect())
    }

    fn replace(&self, with: impl Fn(&[Key]) -> Vec<Key>) -> Result<()> {
        let Some(file) = &self.0.file else { bail!("the master key was given, not read from a file") };
        let before = read(file)?;
        // What is sealed now must open later: a file without the key that seals is not written over.
        if !self.0.keys.load().first().is_some_and(|own| before.contains(own)) {
            bail!("{} has lost the key that this host seals with", file.display());
        }
        let keys = with(&before);
        let text: String = keys.iter().map(|key| key.text() + "\n").collect();
        private_file::replace(file, &text)?;
        self.0.keys.store(Arc::new(keys));
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<Key>> {
    let text = fs::read_to_string(path).with_context(|| format!("private file {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.map(Key::parse).collect::<Result<Vec<_>>>();
    let keys = keys.with_context(|| path.display().to_string())?;
    if keys.is_empty() {
        bail!("{} is empty: put a master key into it, or remove it and a new one is made", path.display());
    }
    Ok(keys)
}

impl Key {
    fn fresh() -> Result<Self> {
        Ok(Self(random()?))
    }

    fn parse(text: &str) -> Result<Self> {
        match hex::decode(text).map(<[u8; 32]>::try_from) {
            Ok(Ok(key)) => Ok(Self(key)),
            _ => bail!("a master key is 64 hex digits (32 bytes)"),
        }
    }

    fn text(&self) -> String {
        hex::encode(self.0)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_make(&folder.path().join("a")).unwrap();
        let again = MasterKey::load_or_make(&folder.path().join("a")).unwrap();
        let other = MasterKey::load_or_make(&folder.path().join("b")).unwrap();
        let sealed = key.seal(b"wh_x", "endpoint").unwrap();

        assert_eq!(again.open(&sealed, "endpoint").as_deref(), Some(&b"wh_x"[..]));
        assert_eq!(again.open(&sealed, "something else"), None);
        assert_eq!(other.open(&sealed, "endpoint"), None);
        assert_eq!(key.open(&sealed[..10], "endpoint"), None);
    }

    #[test]
    fn a_renewed_key_seals_and_the_one_before_still_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let (key, other) = (MasterKey::load_or_make(&path).unwrap(), MasterKey::load_or_make(&path).unwrap());
        let old = key.seal(b"old", "x").unwrap();
        key.renew().unwrap();
        let new = key.seal(b"new", "x").unwrap();
        assert_eq!(key.open(&old, "x").as_deref(), Some(&b"old"[..]));
        assert_eq!(other.open(&new, "x"), None);
        assert!(other.reread().unwrap() && !other.reread().unwrap());
        assert_eq!(other.open(&new, "x").as_deref(), Some(&b"new"[..]));
        for _ in 0..2 {
            key.renew().unwrap();
            key.retire().unwrap();
        }
        assert_eq!((key.open(&old, "x"), key.open(&new, "x")), (None, None));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), KEPT);
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_told() {
        let error = MasterKey::given(&SecretText::new("hunter2")).unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        let two = format!("{}, {}", "a".repeat(64), "b".repeat(64));
        assert!(MasterKey::given(&SecretText::new(two)).is_ok());
    }
}
