//! Secrets: values that never print, where they are found, and the master key that seals what we keep.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use sha2::{Digest, Sha256};

/// The bytes of one secret; its debug form says nothing about them.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Every secret that the host knows, by name; each name has one or more live values, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(HashMap<String, Vec<SecretValue>>);

impl Secrets {
    /// The live values of one name; empty when nobody has provided it yet.
    pub fn values(&self, name: &str) -> &[SecretValue] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The live values of all these names.
    pub fn of(&self, names: &[String]) -> Vec<SecretValue> {
        names.iter().flat_map(|name| self.values(name)).cloned().collect()
    }

    /// One more value of a name, older than those that are there.
    pub fn add(&mut self, name: impl Into<String>, value: SecretValue) {
        self.0.entry(name.into()).or_default().push(value);
    }

    pub fn insert(&mut self, name: impl Into<String>, values: Vec<SecretValue>) {
        self.0.insert(name.into(), values);
    }
}

/// Where secrets come from: the environment as it was at start, and a folder that is read again and again.
#[derive(Clone, Debug, Default)]
pub struct SecretSources {
    /// `HOOKPACK_SECRET_GITHUB_WEBHOOK` is here as `github_webhook`; one value a line.
    pub environment: BTreeMap<String, String>,
    /// One file a secret, one value a line.
    pub folder: Option<PathBuf>,
}

/// A secret file larger than this is not one: it is refused with a log line.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

impl SecretSources {
    /// Whether an operator provides this name, whatever can be read of it just now.
    pub fn provides(&self, name: &str) -> bool {
        let file = self.folder.as_ref().map(|folder| fs::symlink_metadata(folder.join(name)));
        let is_there =
            file.is_some_and(|file| !matches!(file, Err(error) if error.kind() == io::ErrorKind::NotFound));
        is_there || self.environment.contains_key(&name.replace('-', "_"))
    }

    /// Looks every one of `names` up: in the environment first, then in the folder; what a sender brought counts where
    /// no operator provides the name.
    pub fn read<'a>(&self, names: impl IntoIterator<Item = &'a str>, brought: &Secrets) -> Secrets {
        let mut secrets = Secrets::default();
        for name in names {
            let own = brought.values(name);
            if !own.is_empty() && !self.provides(name) {
                secrets.insert(name, own.to_vec());
                continue;
            }
            let values = match self.environment.get(&name.replace('-', "_")) {
                Some(text) => values_of(text),
                None => self.read_file(name),
            };
            if !values.is_empty() {
                secrets.insert(name, values);
            }
        }
        secrets
    }

    fn read_file(&self, name: &str) -> Vec<SecretValue> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let path = folder.join(name);
        let text = fs::metadata(&path).and_then(|about| {
            if about.len() > SECRET_FILE_BYTES_MAX {
                return Err(io::Error::other("larger than 64 KiB"));
            }
            fs::read_to_string(&path)
        });
        match text {
            Ok(text) => values_of(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a secret file can't be read");
                Vec::new()
            }
        }
    }
}

/// One value a line; an empty line is none. What stands between `-----BEGIN` and `-----END` is one value (PEM), and a
/// text that is one JSON document is one, too (a JWK set).
fn values_of(text: &str) -> Vec<SecretValue> {
    if text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return vec![SecretValue::new(text.trim())];
    }
    let mut values = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some(open) = &mut block {
            open.push_str(line);
            open.push('\n');
            if line.starts_with("-----END") {
                values.extend(block.take().map(SecretValue::new));
            }
        } else if line.starts_with("-----BEGIN") {
            block = Some(format!("{line}\n"));
        } else if !line.is_empty() {
            values.push(SecretValue::new(line));
        }
    }
    // Never closed: whoever reads it says that it is none.
    values.extend(block.map(SecretValue::new));
    values
}

/// The key that seals what the host must be able to read again (endpoint keys).
#[derive(Clone)]
pub struct MasterKey(Arc<XChaCha20Poly1305>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Reads the key file (32 bytes as 64 hex digits), or makes it at first start, readable by its owner only.
    pub fn load_or_make(path: &Path) -> Result<Self> {
        let text = read_or_make(path, || Ok(hex::encode(random::<32>()?)))?;
        let Ok(Ok(key)) = hex::decode(&text).map(<[u8; 32]>::try_from) else {
            bail!("{}: a master key is 64 hex digits (32 bytes)", path.display());
        };
        Ok(Self(Arc::new(XChaCha20Poly1305::new(&key.into()))))
    }

    /// Encrypts `plain`; `about` (what it belongs to) must be the same when it is opened.
    pub fn seal(&self, plain: &[u8], about: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let nonce = random::<24>()?;
        let payload = Payload { msg: plain, aad: about.as_ref() };
        let Ok(sealed) = self.0.encrypt(&XNonce::from(nonce), payload) else {
            bail!("can't encrypt with the master key");
        };
        Ok([&nonce[..], &sealed].concat())
    }

    /// The plain bytes again; `None` when another master key sealed them.
    pub fn open(&self, sealed: &[u8], about: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: about.as_ref() }).ok()
    }
}

/// What stands in the database for a key or a token.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A fresh endpoint key: `wh_` and 32 random alphanumerics (190 bits).
pub fn endpoint_key() -> Result<String> {
    Ok(format!("wh_{}", alphanumerics(32)?))
}

/// A fresh token of the management API: `hp_` and 40 random alphanumerics (238 bits).
pub fn api_token() -> Result<String> {
    Ok(format!("hp_{}", alphanumerics(40)?))
}

/// Reads the token file of the admin, or makes it at first start.
pub fn load_or_make_token(path: &Path) -> Result<String> {
    read_or_make(path, api_token)
}

/// The first line of a private file; made with 0600 when it isn't there.
fn read_or_make(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<String> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let doing = || format!("private file {}", path.display());
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            bail!("{} is empty: remove it, and a new one is made", path.display())
        }
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(doing),
    }
    let text = make()?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(doing)?;
    }
    // Written beside and renamed without replacing: of two hosts that start at once, both end with one key.
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(doing)?;
    writeln!(file, "{text}").and_then(|()| file.sync_all()).with_context(doing)?;
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh).with_context(doing)?;
    match linked {
        Ok(()) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(path).with_context(doing)?.trim().to_owned())
        }
        Err(error) => Err(error).with_context(doing),
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system's random source")?;
    Ok(bytes)
}

/// Random characters of `[A-Za-z0-9]`, each equally likely.
fn alphanumerics(count: usize) -> Result<String> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(count);
    while text.len() < count {
        // 248 is the largest multiple of 62 in a byte; what lies above would favour the first letters.
        let fair = random::<64>()?.into_iter().filter(|byte| *byte < 248);
        text.extend(fair.take(count - text.len()).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    Ok(text)
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
    fn an_endpoint_key_is_wh_and_32_alphanumerics() {
        let key = endpoint_key().unwrap();
        assert_eq!(key.len(), 35);
        assert!(key.strip_prefix("wh_").unwrap().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(key, endpoint_key().unwrap());
    }

    #[test]
    fn a_value_is_a_line_a_pem_block_or_a_json_document() {
        let values = |text: &str| {
            let values =
                values_of(text).into_iter().map(|value| String::from_utf8(value.bytes().to_vec()).unwrap());
            values.collect::<Vec<_>>()
        };
        let pem = "-----BEGIN PUBLIC KEY-----\nAAAA\nBBBB\n-----END PUBLIC KEY-----\n";
        assert_eq!(values("new\r\n\nold\n"), ["new", "old"]);
        assert_eq!(values(&format!("{pem}old\n{pem}")), [pem, "old", pem]);
        assert_eq!(values("{\"keys\":\n []}\n"), ["{\"keys\":\n []}"]);
        assert_eq!(values("{not json\nnew"), ["{not json", "new"]);
    }

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", SecretValue::new("hunter2")), "SecretValue(…)");
    }
}
