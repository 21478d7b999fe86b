//! Which packs a secret belongs to: by the beginning of its name, or by a grant.

use std::collections::{BTreeMap, BTreeSet};

/// The packs that an operator lets use a secret which is not theirs by its name, by that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<String, BTreeSet<String>>);

impl Grants {
    pub fn add(&mut self, name: impl Into<String>, pack_ref: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(pack_ref.into());
    }

    fn has(&self, name: &str, pack_ref: &str) -> bool {
        self.0.get(name).is_some_and(|refs| refs.contains(pack_ref))
    }
}

/// The packs of a host, and what is granted beyond their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// Of every pack in the folder, also of those that are refused: no other pack inherits while they are mended.
    refs: BTreeSet<String>,
    grants: Grants,
}

/// Whose a secret is by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    Pack(&'a str),
    /// No pack has a ref that fits.
    NoPack,
    /// Refs that differ in `-` and `_` alone: it is neither's.
    Several(Vec<&'a str>),
}

impl Ownership {
    pub fn new(refs: impl IntoIterator<Item = String>, grants: Grants) -> Self {
        Self { refs: refs.into_iter().collect(), grants }
    }

    /// The pack with the longest ref that is the name, or its beginning up to a `_`. `-` counts as `_` in both: in the
    /// environment `a-b` and `a_b` are one variable, so they are one name here, too.
    pub fn owner(&self, name: &str) -> Owner<'_> {
        let name = folded(name);
        let fits = |reference: &&String| {
            let rest = name.strip_prefix(&folded(reference));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        let longest = self.refs.iter().filter(fits).map(String::len).max();
        let own: Vec<_> =
            self.refs.iter().filter(fits).filter(|reference| Some(reference.len()) == longest).collect();
        match own[..] {
            [] => Owner::NoPack,
            [reference] => Owner::Pack(reference),
            _ => Owner::Several(own.into_iter().map(String::as_str).collect()),
        }
    }

    pub fn owns(&self, pack_ref: &str, name: &str) -> bool {
        self.owner(name) == Owner::Pack(pack_ref)
    }

    /// Whether a policy of the pack may use the secret: its own, or one that it was granted.
    pub fn may_use(&self, pack_ref: &str, name: &str) -> bool {
        self.owns(pack_ref, name) || self.grants.has(name, pack_ref)
    }
}

fn folded(text: &str) -> String {
    text.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ref_that_a_name_begins_with_owns_it() {
        let refs = ["shop", "shop_eu", "standard-webhooks", "a-b", "a_b"].map(str::to_owned);
        let mut grants = Grants::default();
        grants.add("shared", "shop");
        let ownership = Ownership::new(refs, grants);
        for (name, owner) in [
            ("shop", Owner::Pack("shop")),
            ("shop_key", Owner::Pack("shop")),
            ("shop-key", Owner::Pack("shop")),
            ("shop_eu", Owner::Pack("shop_eu")),
            ("shop_eu_key", Owner::Pack("shop_eu")),
            ("shop-eu-key", Owner::Pack("shop_eu")),
            ("shop_europe", Owner::Pack("shop")),
            ("standard_webhooks_webhook", Owner::Pack("standard-webhooks")),
            ("shopify_key", Owner::NoPack),
            ("sho", Owner::NoPack),
            ("shared", Owner::NoPack),
            ("a_b_key", Owner::Several(vec!["a-b", "a_b"])),
        ] {
            assert_eq!(ownership.owner(name), owner, "{name}");
        }
        assert!(ownership.may_use("shop", "shared") && !ownership.may_use("shop_eu", "shared"));
        assert!(!ownership.may_use("shop", "shop_eu_key") && !ownership.may_use("a_b", "a_b_key"));
    }
}
