//! A secret with which a handshake makes MACs verifies deliveries of one pack only.
//!
//! Within a pack no trigger believes a message that a handshake could have been asked to sign
//! ([`crate::verify::handshake::is_challenge`]); other packs don't know of it. Values are compared, not names: the same
//! text under two names is the same key.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{PolicySecrets, ProblemKind, SecretProblem};
use crate::{
    policy::Policy,
    secret::{Ownership, SecretValue},
    verify::handshake::Handshake,
};

/// One policy's secrets, on their way.
pub(super) struct Use<'a> {
    pub(super) pack_ref: &'a str,
    pub(super) policy: &'a Arc<Policy>,
    pub(super) secrets: &'a mut PolicySecrets,
}

/// A key by its digest.
type Key = [u8; 32];

/// Who uses one key.
#[derive(Default)]
struct Users<'a> {
    all: BTreeSet<&'a str>,
    /// Those with a handshake that makes MACs.
    computing: BTreeSet<&'a str>,
    /// Those whose own the secret is by its name.
    owners: BTreeSet<&'a str>,
}

impl<'a> Users<'a> {
    /// The one pack that keeps the key, where one is to keep it at all: the owner whose handshake uses it, else the
    /// owner, when there is exactly one of them. A pack that was granted the secret never takes it from its owner.
    fn keeper(&self) -> Option<&'a str> {
        let only = |packs: &mut dyn Iterator<Item = &&'a str>| match (packs.next(), packs.next()) {
            (Some(pack_ref), None) => Some(*pack_ref),
            _ => None,
        };
        only(&mut self.all.iter())
            .or_else(|| only(&mut self.owners.intersection(&self.computing)))
            .or_else(|| only(&mut self.owners.iter()))
    }
}

/// Takes values away from all packs but one where a handshake makes MACs with them.
pub(super) fn separate(all: &mut [Use<'_>], ownership: &Ownership) {
    if !all.iter().any(|own| computes(own.policy)) {
        return;
    }
    let mut users: HashMap<Key, Users<'_>> = HashMap::new();
    for Use { pack_ref, policy, secrets } in all.iter() {
        for name in &policy.secrets {
            for key in secrets.usable.values(name).iter().flat_map(|value| keys(policy, value)) {
                let users = users.entry(key).or_default();
                users.all.insert(pack_ref);
                if computes(policy) {
                    users.computing.insert(pack_ref);
                }
                if ownership.owns(pack_ref, name) {
                    users.owners.insert(pack_ref);
                }
            }
        }
    }
    users.retain(|_, users| !users.computing.is_empty() && users.all.len() > 1);
    if users.is_empty() {
        return;
    }
    for Use { pack_ref, policy, secrets } in all {
        for name in &policy.secrets {
            let mut others = BTreeSet::new();
            let mut keeps = |value: &SecretValue| {
                let lost = keys(policy, value).filter_map(|key| users.get(&key));
                let lost: Vec<_> = lost.filter(|users| users.keeper() != Some(*pack_ref)).collect();
                others.extend(lost.iter().flat_map(|users| users.all.iter().copied()));
                lost.is_empty()
            };
            let kept: Vec<_> =
                secrets.usable.values(name).iter().filter(|value| keeps(value)).cloned().collect();
            secrets.usable.insert(name.clone(), kept);
            others.remove(pack_ref);
            if !others.is_empty() {
                let others = others.into_iter().map(str::to_owned).collect();
                let kind = ProblemKind::UsedByHandshake { pack_ref: (*pack_ref).to_owned(), others };
                secrets.problems.push(SecretProblem { name: name.clone(), kind });
            }
        }
    }
}

fn computes(policy: &Policy) -> bool {
    policy.handshakes.iter().any(Handshake::computes)
}

fn keys(policy: &Policy, value: &SecretValue) -> impl Iterator<Item = Key> {
    policy.verify.mac_keys(value).into_iter().map(|key| Sha256::digest(key).into())
}
