//! Where secrets are found: stored by an operator, in the environment, in files, brought by a sender.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::Serialize;
use utoipa::ToSchema;

use super::{SecretValue, StoredSecrets};

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

    /// What is provided under a name: what an operator has stored; else the environment; else the folder. Beside it,
    /// what senders brought.
    pub fn find(&self, name: &str, stored: &StoredSecrets) -> Found {
        let brought = stored.of(name).filter(|secret| secret.origin == Origin::Handshake);
        let brought = brought.map(|secret| (secret.pack_ref.clone(), secret.value.clone())).collect();
        Found { provided: self.provided(name, stored), brought }
    }

    fn provided(&self, name: &str, stored: &StoredSecrets) -> Option<(Origin, Vec<SecretValue>)> {
        // What is stored and can't be opened is stored all the same: nobody falls back to something older.
        if stored.holds(name, Origin::Operator) {
            return Some((Origin::Operator, stored.values(name, Origin::Operator)));
        }
        if let Some(text) = self.environment.get(&name.replace('-', "_")) {
            return Some((Origin::Environment, values_of(text)));
        }
        let values = self.read_file(name);
        (!values.is_empty() || self.provides(name)).then_some((Origin::File, values))
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

/// Everything that there is under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By an operator; the newest value first. No values: what is there is empty or can't be read.
    provided: Option<(Origin, Vec<SecretValue>)>,
    /// By a sender, with the pack whose handshake took it; of older rows no pack is known. No value: it can't be opened.
    brought: Vec<(Option<String>, Option<SecretValue>)>,
}

impl Found {
    /// Where the values come from that count for a pack, and what they are, newest first. What a sender brought counts
    /// for the pack that it was brought to, and only where no operator provides anything: else a sender of one pack
    /// could bring the secret of another that is added later.
    pub fn of(&self, pack_ref: &str) -> (Option<Origin>, Vec<SecretValue>) {
        if let Some((origin, values)) = &self.provided {
            return (Some(*origin), values.clone());
        }
        let own = self.brought.iter().filter(|(to, _)| to.as_deref().is_none_or(|to| to == pack_ref));
        let own: Vec<_> = own.map(|(_, value)| value).collect();
        let origin = (!own.is_empty()).then_some(Origin::Handshake);
        (origin, own.into_iter().flatten().cloned().collect())
    }

    /// The same for a listing, whichever pack it is brought to.
    pub fn summary(&self) -> (Option<Origin>, usize) {
        if let Some((origin, values)) = &self.provided {
            return (Some(*origin), values.len());
        }
        let values = self.brought.iter().filter(|(_, value)| value.is_some()).count();
        ((!self.brought.is_empty()).then_some(Origin::Handshake), values)
    }
}

/// The text without the byte order mark that some editors put first.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// One value a line; an empty line is none. What stands between `-----BEGIN` and `-----END` is one value (PEM), and a
/// text that is one JSON document is one, too (a JWK set). A byte order mark in front is no part of it.
fn values_of(text: &str) -> Vec<SecretValue> {
    let text = without_mark(text);
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
        assert_eq!(values("\u{feff}new\r\nold"), ["new", "old"]);
        assert_eq!(values(&format!("\u{feff}{pem}")), [pem]);
        assert_eq!(values(&format!("{pem}old\n{pem}")), [pem, "old", pem]);
        assert_eq!(values("{\"keys\":\n []}\n"), ["{\"keys\":\n []}"]);
        assert_eq!(values("{not json\nnew"), ["{not json", "new"]);
    }
}
