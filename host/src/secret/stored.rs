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
    /// Of one that a sender brought: the pack whose handshake took it, where that is known.
    pub pack_ref: Option<String>,
    pub version: i32,
    pub created_at: OffsetDateTime,
    /// The end of a replaced version's grace time.
    pub expires_at: Option<OffsetDateTime>,
    /// `None`: another master key sealed it.
    pub value: Option<SecretValue>,
}

/// A pack that an operator lets use a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGrant {
    pub name: String,
    pub pack_ref: String,
    pub created_at: OffsetDateTime,
}

/// Every version that is in force, those of one name newest first; and who may use what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSecrets {
    pub versions: Vec<StoredSecret>,
    pub grants: Vec<StoredGrant>,
}

impl StoredSecrets {
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a StoredSecret> {
        self.versions.iter().filter(move |secret| secret.name == name)
    }

    pub fn version(&self, id: Uuid) -> Option<&StoredSecret> {
        self.versions.iter().find(|secret| secret.id == id)
    }

    pub(super) fn holds(&self, name: &str, origin: Origin) -> bool {
        self.of(name).any(|secret| secret.origin == origin)
    }

    pub(super) fn values(&self, name: &str, origin: Origin) -> Vec<SecretValue> {
        let own = self.of(name).filter(|secret| secret.origin == origin);
        own.filter_map(|secret| secret.value.clone()).collect()
    }
}
