//! What runs now: the loaded packs, and which endpoint a key opens.

mod effective;
mod keys;
mod limit;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use anyhow::Result;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use self::effective::Effective;
pub use self::{
    effective::Overrides,
    keys::fresh_key,
    limit::{NotAdmitted, TriggerLimit},
};
use crate::{
    clock::Clock,
    pack::{Loaded, Pack, Trigger, diagnostics::Report},
    policy::Policy,
    policy_secrets::Governed,
    secret::{self, MasterKey},
    store::overrides,
};

/// Swapped whole; a request works with the one that it began with.
#[derive(Debug, Default)]
pub struct Registry {
    /// What the files say.
    pub loaded: Loaded,
    /// What operators want otherwise.
    pub overrides: Arc<Overrides>,
    effective: HashMap<String, Effective>,
    triggers: HashMap<String, Arc<Trigger>>,
    by_key: HashMap<[u8; 32], Arc<Endpoint>>,
    /// By their owners' refs; the main key's first.
    endpoints: HashMap<String, Vec<Hashed>>,
    /// Packs that are there, were refused, and have no version that runs; and their owners of keys, by their hash.
    idle: BTreeSet<String>,
    refused: HashMap<[u8; 32], String>,
}

/// A public URL and what it leads to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub key_id: Uuid,
    pub target: Target,
    pub paused: bool,
    /// An operator's override does not fit what the pack says: nobody knows what to demand of a sender.
    pub closed: bool,
    /// The key itself; `None` when another host's master key sealed it.
    pub key: Option<String>,
    pub label: Option<String>,
    pub expires_at: Option<OffsetDateTime>,
    /// The key that `regenerate` replaces.
    pub is_main: bool,
    pub created_at: OffsetDateTime,
    pub limit: Option<Arc<TriggerLimit>>,
}

#[derive(Clone, Debug)]
pub enum Target {
    Trigger(Arc<Trigger>),
    /// Each trigger whose `match` holds yields its event.
    Pack(Arc<Pack>),
}

impl Target {
    pub fn policy(&self) -> &Arc<Policy> {
        match self {
            Self::Trigger(trigger) => &trigger.policy,
            Self::Pack(pack) => &pack.policy,
        }
    }

    /// `trigger` or `pack`
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trigger(_) => "trigger",
            Self::Pack(_) => "pack",
        }
    }

    pub fn pack_ref(&self) -> &str {
        match self {
            Self::Trigger(trigger) => &trigger.pack_ref,
            Self::Pack(pack) => &pack.reference,
        }
    }

    /// The ref of the trigger or pack: what deliveries, keys and limits belong to.
    pub fn owner_ref(&self) -> &str {
        match self {
            Self::Trigger(trigger) => &trigger.reference,
            Self::Pack(pack) => &pack.reference,
        }
    }

    pub fn triggers(&self) -> &[Arc<Trigger>] {
        match self {
            Self::Trigger(trigger) => std::slice::from_ref(trigger),
            Self::Pack(pack) => &pack.triggers,
        }
    }

    pub fn pack_version(&self) -> &str {
        match self {
            Self::Trigger(trigger) => &trigger.pack_version,
            Self::Pack(pack) => &pack.version,
        }
    }
}

/// What keys are made and opened with.
#[derive(Clone, Copy, Debug)]
pub struct Keyring<'a> {
    pub pool: &'a PgPool,
    pub master_key: &'a MasterKey,
    pub clock: &'a Clock,
}

impl Registry {
    /// Puts packs, overrides and keys together: issues a key to whoever is enabled and never had one, and opens an
    /// endpoint for every key whose owner is loaded. What has not changed since `before` is taken from there; of the
    /// rest, keys are looked up. With `afresh` everything of the database is looked up again.
    pub async fn build(loaded: Loaded, before: &Self, afresh: bool, keyring: Keyring<'_>) -> Result<Self> {
        let overrides =
            if afresh { stored_overrides(keyring.pool, before).await? } else { before.overrides.clone() };
        let effective = Effective::all(&loaded, &overrides, &before.effective, &before.overrides);
        let closed: HashSet<&str> =
            effective.values().flat_map(|own| &own.faults).map(|(owner_ref, _)| owner_ref.as_str()).collect();
        let mut endpoints: HashMap<String, Vec<Hashed>> = HashMap::with_capacity(before.endpoints.len());
        let mut limits = Limits::of(before);
        let mut unknown: BTreeMap<&str, (Target, bool)> = BTreeMap::new();
        for own in effective.values() {
            let pack = &own.pack;
            let same = before.pack(&pack.reference).is_some_and(|known| Arc::ptr_eq(known, pack));
            for (target, enabled) in targets(pack) {
                let owner_ref = owner_ref_of(pack, &target);
                let known = before.endpoints.get(owner_ref).map_or(&[][..], Vec::as_slice);
                if afresh || (known.is_empty() && (enabled || !same)) {
                    unknown.insert(owner_ref, (target, enabled));
                } else if same && !known.is_empty() {
                    endpoints.insert(owner_ref.to_owned(), known.to_vec());
                } else if !known.is_empty() {
                    let limit = limits.limit(&target, keyring);
                    let closed = closed.contains(owner_ref);
                    let moved = |(hash, endpoint): &Hashed| {
                        (*hash, Arc::new(endpoint.leading_to(target.clone(), limit.clone(), closed)))
                    };
                    endpoints.insert(owner_ref.to_owned(), known.iter().map(moved).collect());
                }
            }
        }
        for row in keys::keys(&unknown, keyring).await? {
            let Some((target, _)) = unknown.get(row.owner_ref.as_str()) else { continue };
            let Ok(hash) = <[u8; 32]>::try_from(row.key_hash.as_slice()) else { continue };
            let limit = limits.limit(target, keyring);
            let closed = closed.contains(row.owner_ref.as_str());
            let own = endpoints.entry(row.owner_ref.clone()).or_default();
            own.push((
                hash,
                Arc::new(keys::endpoint(row, target.clone(), limit, closed, keyring.master_key)),
            ));
        }
        let (unreadable, unreadable_before) = (unreadable(&endpoints), unreadable(&before.endpoints));
        if unreadable > unreadable_before {
            tracing::warn!(
                keys = unreadable,
                "endpoint keys were sealed with another master key: they work, but their URLs can't be shown here"
            );
        }
        let idle = keys::idle(&loaded);
        let refused = if idle == before.idle && !afresh {
            before.refused.clone()
        } else {
            keys::owners(&idle, keyring.pool).await?
        };
        let by_key = endpoints.values().flatten().map(|(hash, endpoint)| (*hash, endpoint.clone())).collect();
        let triggers = effective.values().flat_map(|own| &own.pack.triggers);
        let triggers = triggers.map(|trigger| (trigger.reference.clone(), trigger.clone())).collect();
        Ok(Self { loaded, overrides, effective, triggers, by_key, endpoints, idle, refused })
    }

    /// The owner of a key that would be open if its pack were sound.
    pub fn refused(&self, key: &str) -> Option<&str> {
        self.refused.get(&secret::hash(key)).map(String::as_str)
    }

    /// Whether something of that ref runs, or would if its pack were sound.
    pub fn knows(&self, owner_ref: &str) -> bool {
        self.triggers.contains_key(owner_ref)
            || self.effective.contains_key(owner_ref)
            || self.refused.values().any(|refused| refused == owner_ref)
    }

    pub fn endpoint(&self, key: &str) -> Option<&Arc<Endpoint>> {
        self.by_key.get(&secret::hash(key))
    }

    /// The endpoints of one trigger or pack, the main key's first.
    pub fn endpoints_of(&self, owner_ref: &str) -> Vec<&Arc<Endpoint>> {
        self.endpoints.get(owner_ref).into_iter().flatten().map(|(_, endpoint)| endpoint).collect()
    }

    /// How many keys open something.
    pub fn endpoint_count(&self) -> usize {
        self.by_key.len()
    }

    /// The packs that run, as they run.
    pub fn packs(&self) -> impl Iterator<Item = &Arc<Pack>> {
        self.loaded.packs().filter_map(|pack| self.pack(&pack.reference))
    }

    pub fn pack(&self, reference: &str) -> Option<&Arc<Pack>> {
        self.effective.get(reference).map(|own| &own.pack)
    }

    pub fn triggers(&self) -> impl Iterator<Item = &Arc<Trigger>> {
        self.packs().flat_map(|pack| &pack.triggers)
    }

    pub fn trigger(&self, reference: &str) -> Option<&Arc<Trigger>> {
        self.triggers.get(reference)
    }

    /// What the override of a trigger or pack is wrong with, if it is.
    pub fn override_fault(&self, owner_ref: &str) -> Option<&Report> {
        self.override_faults().find(|(owner, _)| *owner == owner_ref).map(|(_, report)| report)
    }

    /// Every override that does not fit what its pack says now.
    pub fn override_faults(&self) -> impl Iterator<Item = (&str, &Report)> {
        let faults = self.effective.values().flat_map(|own| &own.faults);
        faults.map(|(owner_ref, report)| (owner_ref.as_str(), &**report))
    }

    /// The policy of every trigger and of every pack's own endpoint, with whose it is.
    pub fn governed(&self) -> impl Iterator<Item = Governed<'_>> {
        self.packs().flat_map(|pack| {
            let pack_ref = pack.reference.as_str();
            let own = Governed { owner_ref: pack_ref, pack_ref, policy: &pack.policy };
            let triggers = pack.triggers.iter().map(|trigger| Governed {
                owner_ref: &trigger.reference,
                pack_ref,
                policy: &trigger.policy,
            });
            std::iter::once(own).chain(triggers)
        })
    }

    /// Whose policies name which secret.
    pub fn secret_users(&self) -> HashMap<String, Vec<String>> {
        let mut users: HashMap<String, Vec<String>> = HashMap::new();
        for Governed { owner_ref, policy, .. } in self.governed() {
            for name in policy.secret_names() {
                users.entry(name.to_owned()).or_default().push(owner_ref.to_owned());
            }
        }
        users
    }
}

/// The overrides as they stand now; the same ones as before are the same.
async fn stored_overrides(pool: &PgPool, before: &Registry) -> Result<Arc<Overrides>> {
    let rows = overrides::all(pool).await?;
    let stored: Overrides = rows.into_iter().map(|row| (row.owner_ref.clone(), row)).collect();
    Ok(if stored == *before.overrides { before.overrides.clone() } else { Arc::new(stored) })
}

/// How many keys another master key has sealed.
fn unreadable(endpoints: &HashMap<String, Vec<Hashed>>) -> usize {
    endpoints.values().flatten().filter(|(_, endpoint)| endpoint.key.is_none()).count()
}

/// An endpoint under the hash of its key.
type Hashed = ([u8; 32], Arc<Endpoint>);

/// Every key of one owner spends from one limit; what was spent stays spent while the limit is the same.
struct Limits<'a> {
    before: &'a Registry,
    limits: HashMap<String, Option<Arc<TriggerLimit>>>,
}

impl<'a> Limits<'a> {
    fn of(before: &'a Registry) -> Self {
        Self { before, limits: HashMap::new() }
    }

    fn limit(&mut self, target: &Target, keyring: Keyring<'_>) -> Option<Arc<TriggerLimit>> {
        let owner_ref = target.owner_ref();
        if let Some(limit) = self.limits.get(owner_ref) {
            return limit.clone();
        }
        let wanted = target.policy().rate_limit;
        let before = self.before.endpoints.get(owner_ref).and_then(|endpoints| endpoints.first());
        let before = before.filter(|(_, endpoint)| endpoint.target.policy().rate_limit == wanted);
        let limit = match before {
            Some((_, endpoint)) => endpoint.limit.clone(),
            None => {
                wanted.map(|limit| Arc::new(TriggerLimit::new(owner_ref, limit, keyring.pool, keyring.clock)))
            }
        };
        self.limits.insert(owner_ref.to_owned(), limit.clone());
        limit
    }
}

impl Endpoint {
    fn leading_to(&self, target: Target, limit: Option<Arc<TriggerLimit>>, closed: bool) -> Self {
        Self { target, closed, limit, ..self.clone() }
    }
}

/// Everything of a pack that can have a key, and whether it gets one by itself.
fn targets(pack: &Arc<Pack>) -> impl Iterator<Item = (Target, bool)> {
    let own = (Target::Pack(pack.clone()), pack.endpoint_enabled);
    let triggers =
        pack.triggers.iter().map(|trigger| (Target::Trigger(trigger.clone()), trigger.policy.enabled));
    std::iter::once(own).chain(triggers)
}

fn owner_ref_of<'a>(pack: &'a Pack, target: &Target) -> &'a str {
    let of_trigger = |reference| pack.trigger(reference).map(|trigger| trigger.reference.as_str());
    of_trigger(target.owner_ref()).unwrap_or(&pack.reference)
}
