//! Why a policy can't use a secret that it names.

use std::fmt;

/// What is wrong with a name; its text says what to do about it, and nothing of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretProblem {
    pub name: String,
    pub kind: ProblemKind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// No operator and no sender has provided a value.
    Missing,
    /// The secret is not the pack's by its name, and is not granted to it.
    NotGranted { pack_ref: String },
    /// None of its values can be read and used as declared.
    Unusable,
    /// Some of its values can't be used as declared; the others count.
    PartlyUnusable,
    /// A handshake makes MACs with it: such a secret is one pack's alone, and that is another one.
    UsedByHandshake { pack_ref: String, others: Vec<String> },
}

impl ProblemKind {
    /// Of a name that is allowed; `all` values of it were found, and so many are usable.
    pub(super) fn of(is_there: bool, all: usize, usable: usize) -> Option<Self> {
        match (all, usable) {
            (0, _) if is_there => Some(Self::Unusable),
            (0, _) => Some(Self::Missing),
            (_, 0) => Some(Self::Unusable),
            (all, usable) if usable < all => Some(Self::PartlyUnusable),
            _ => None,
        }
    }
}

impl SecretProblem {
    /// Whether there is a value, and it can't be used as the policy declares.
    pub fn is_unusable(&self) -> bool {
        matches!(self.kind, ProblemKind::Unusable | ProblemKind::PartlyUnusable)
    }

    /// The text, and where it depends on them the triggers and packs that want the secret so.
    pub fn with_owners(&self, owners: &[String]) -> String {
        if self.is_unusable() { format!("{self} ({})", owners.join(", ")) } else { self.to_string() }
    }
}

impl fmt::Display for SecretProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.kind {
            ProblemKind::Missing => write!(f, "secret missing: {name}"),
            ProblemKind::NotGranted { pack_ref } => write!(
                f,
                "secret missing: {name} does not belong to pack {pack_ref}; to let it use that secret: \
                 hookpack secret grant {name} --pack {pack_ref}"
            ),
            ProblemKind::Unusable => write!(f, "secret unusable: {name}"),
            ProblemKind::PartlyUnusable => write!(f, "secret unusable: one of the values of {name}"),
            ProblemKind::UsedByHandshake { pack_ref, others } => write!(
                f,
                "secret missing: pack {pack_ref} can't use {name}: a handshake makes MACs with it, so it is for one \
                 pack only, and its value is used by {} as well",
                others.join(", ")
            ),
        }
    }
}
