//! Which secrets each policy may use, and what is wrong with the others.
//!
//! Everything that looks a secret up by its name goes through here, with the pack that asks: a name that does not
//! belong to it counts as missing. Values that don't fit what the policy declares are sorted out here as well, when
//! secrets are loaded, so that a request meets only such as can be used.

mod problem;
mod shared;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

pub use self::problem::{ProblemKind, SecretProblem};
use crate::{
    policy::Policy,
    secret::{Found, Ownership, SecretValue, Secrets},
};

/// A policy that runs, with whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Governed<'a> {
    /// Of a trigger or a pack.
    pub owner_ref: &'a str,
    pub pack_ref: &'a str,
    pub policy: &'a Arc<Policy>,
}

/// The secrets of one policy.
#[derive(Clone, Debug, Default)]
pub struct PolicySecrets {
    /// By the names that the policy has for them.
    pub usable: Secrets,
    pub problems: Vec<SecretProblem>,
}

/// The secrets of every policy that runs.
#[derive(Clone, Debug, Default)]
pub struct HostSecrets {
    pub ownership: Ownership,
    /// By name: what the rest was made of.
    found: HashMap<String, Found>,
    by_owner: HashMap<String, Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    pack_ref: String,
    policy: Arc<Policy>,
    secrets: Arc<PolicySecrets>,
}

impl HostSecrets {
    /// Decides of every name of every policy what it may use; `found` has what there is under each name.
    pub fn resolve(governed: &[Governed<'_>], ownership: Ownership, found: HashMap<String, Found>) -> Self {
        let of = |own: &Governed<'_>| PolicySecrets::of(own.pack_ref, own.policy, &ownership, &found);
        let mut resolved: Vec<_> = governed.iter().map(of).collect();
        let uses = governed.iter().zip(&mut resolved);
        let uses =
            uses.map(|(own, secrets)| shared::Use { pack_ref: own.pack_ref, policy: own.policy, secrets });
        shared::separate(&mut uses.collect::<Vec<_>>(), &ownership);
        let mut by_owner: HashMap<String, Vec<Entry>> = HashMap::with_capacity(resolved.len());
        for (Governed { owner_ref, pack_ref, policy }, secrets) in governed.iter().zip(resolved) {
            let (pack_ref, policy) = ((*pack_ref).to_owned(), (*policy).clone());
            let entry = Entry { pack_ref, policy, secrets: Arc::new(secrets) };
            by_owner.entry((*owner_ref).to_owned()).or_default().push(entry);
        }
        Self { ownership, found, by_owner }
    }

    /// Whether resolving these again would come to something else.
    pub fn is_of(
        &self,
        governed: &[Governed<'_>],
        ownership: &Ownership,
        found: &HashMap<String, Found>,
    ) -> bool {
        let is_known = |governed: &Governed<'_>| self.entry(governed.owner_ref, governed.policy).is_some();
        self.ownership == *ownership
            && self.found == *found
            && self.by_owner.values().map(Vec::len).sum::<usize>() == governed.len()
            && governed.iter().all(is_known)
    }

    /// The secrets of one policy. Of one that nothing is known of, none: its webhook answers 503 for the moment.
    pub fn of(&self, owner_ref: &str, policy: &Arc<Policy>) -> Arc<PolicySecrets> {
        self.entry(owner_ref, policy).map(|entry| entry.secrets.clone()).unwrap_or_default()
    }

    fn entry(&self, owner_ref: &str, policy: &Arc<Policy>) -> Option<&Entry> {
        self.by_owner.get(owner_ref)?.iter().find(|entry| Arc::ptr_eq(&entry.policy, policy))
    }

    /// Every problem once, with the triggers and packs that have it.
    pub fn problems(&self) -> BTreeMap<SecretProblem, Vec<&str>> {
        let mut problems: BTreeMap<SecretProblem, Vec<&str>> = BTreeMap::new();
        for (owner_ref, entries) in &self.by_owner {
            for problem in entries.iter().flat_map(|entry| &entry.secrets.problems) {
                let owners = problems.entry(problem.clone()).or_default();
                if !owners.contains(&owner_ref.as_str()) {
                    owners.push(owner_ref);
                }
            }
        }
        for owners in problems.values_mut() {
            owners.sort_unstable();
        }
        problems
    }

    /// The packs whose policies name a secret that they may not use.
    pub fn refused_packs(&self, name: &str) -> Vec<String> {
        let entries = self.by_owner.values().flatten();
        let naming = entries.filter(|entry| entry.policy.secret_names().any(|own| own == name));
        let refused = naming.filter(|entry| !self.ownership.may_use(&entry.pack_ref, name));
        let mut refused: Vec<_> = refused.map(|entry| entry.pack_ref.clone()).collect();
        refused.sort();
        refused.dedup();
        refused
    }
}

impl PolicySecrets {
    fn of(pack_ref: &str, policy: &Policy, ownership: &Ownership, found: &HashMap<String, Found>) -> Self {
        let mut own = Self::default();
        let names: HashSet<&str> = policy.secret_names().collect();
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        for name in names {
            if !ownership.may_use(pack_ref, name) {
                let kind = ProblemKind::NotGranted { pack_ref: pack_ref.to_owned() };
                own.problems.push(SecretProblem { name: name.to_owned(), kind });
                continue;
            }
            let (origin, values) = found.get(name).map(|found| found.of(pack_ref)).unwrap_or_default();
            let all = values.len();
            // A name that is a handshake's alone is shown as it is.
            let is_own = policy.secrets.iter().any(|own| own == name);
            let fits = |value: &SecretValue| {
                if is_own { policy.verify.fits(value).is_ok() } else { !value.is_blank() }
            };
            let usable: Vec<_> = values.into_iter().filter(fits).collect();
            if let Some(kind) = ProblemKind::of(origin.is_some(), all, usable.len()) {
                own.problems.push(SecretProblem { name: name.to_owned(), kind });
            }
            own.usable.insert(name, usable);
        }
        own
    }
}
