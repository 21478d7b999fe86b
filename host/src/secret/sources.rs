//! Where secrets are found: stored by an operator, in the environment, in files, brought by a sender.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::Serialize;
use utoipa::ToSchema;

use super::{SecretValue, Secrets, StoredSecrets};

/// Who provides a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Stored by the API or the command line.
    Operator,
    Environment,
    File,
    /// Brought by the sender itself.
    Handshake,
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
    /// Whether the environment or the folder provides this name, whatever can be read of it just now.
    pub fn provides(&self, name: &str) -> bool {
        let file = self.folder.as_ref().map(|folder| fs::symlink_metadata(folder.join(name)));
        let is_there =
            file.is_some_and(|file| !matches!(file, Err(error) if error.kind() == io::ErrorKind::NotFound));
        is_there || self.environment.contains_key(&name.replace('-', "_"))
    }

    /// Looks every one of `names` up.
    pub fn read<'a>(&self, names: impl IntoIterator<Item = &'a str>, stored: &StoredSecrets) -> Secrets {
        let mut secrets = Secrets::default();
        for name in names {
            let (_, values) = self.find(name, stored);
            if !values.is_empty() {
                secrets.insert(name, values);
            }
        }
        secrets
    }

    /// Where a name's values come from, and what they are, newest first: what an operator has stored; else the
    /// environment; else the folder; else what a sender brought.
    pub fn find(&self, name: &str, stored: &StoredSecrets) -> (Option<Origin>, Vec<SecretValue>) {
        // What is stored and can't be opened is stored all the same: nobody falls back to something older.
        if stored.holds(name, Origin::Operator) {
            return (Some(Origin::Operator), stored.values(name, Origin::Operator));
        }
        if let Some(text) = self.environment.get(&name.replace('-', "_")) {
            return (Some(Origin::Environment), values_of(text));
        }
        let values = self.read_file(name);
        if !values.is_empty() || self.provides(name) {
            return (Some(Origin::File), values);
        }
        let brought = stored.holds(name, Origin::Handshake).then_some(Origin::Handshake);
        (brought, stored.values(name, Origin::Handshake))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
