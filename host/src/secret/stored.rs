//! Secrets that the database keeps under a seal, opened.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Origin, SecretValue};

/// One version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    pub id: Uuid,
    pub name: String,
    /// [`Origin::Operator`] or [`Origin::Handshake`]
    pub origin: Origin,
    pub version: i32,
    pub created_at: OffsetDateTime,
    /// The end of a replaced version's grace time.
    pub expires_at: Option<OffsetDateTime>,
    /// `None`: another master key sealed it.
    pub value: Option<SecretValue>,
}

/// Every version that is in force, those of one name newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSecrets(pub Vec<StoredSecret>);

impl StoredSecrets {
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a StoredSecret> {
        self.0.iter().filter(move |secret| secret.name == name)
    }

    pub fn version(&self, id: Uuid) -> Option<&StoredSecret> {
        self.0.iter().find(|secret| secret.id == id)
    }

    pub(super) fn holds(&self, name: &str, origin: Origin) -> bool {
        self.of(name).any(|secret| secret.origin == origin)
    }

    pub(super) fn values(&self, name: &str, origin: Origin) -> Vec<SecretValue> {
        let own = self.of(name).filter(|secret| secret.origin == origin);
        own.filter_map(|secret| secret.value.clone()).collect()
    }
}
