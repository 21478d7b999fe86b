//! What runs now: the loaded packs, and which endpoint a key opens.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use anyhow::Result;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock::Clock,
    limits::TriggerLimit,
    pack::{Loaded, Pack, Trigger},
    policy::Policy,
    secret::{self, MasterKey},
    store::endpoints::{self, KeyRow, NewKey},
};

/// Swapped whole; a request works with the one that it began with.
#[derive(Debug, Default)]
pub struct Registry {
    pub loaded: Loaded,
    by_key: HashMap<[u8; 32], Arc<Endpoint>>,
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
    /// Puts packs and keys together: issues a key to whoever is enabled and never had one, and opens an
    /// endpoint for every key whose owner is loaded. What has not changed since `before` is taken from there; of the
    /// rest, keys are looked up. With `afresh` they are looked up for everybody.
    pub async fn build(loaded: Loaded, before: &Self, afresh: bool, keyring: Keyring<'_>) -> Result<Self> {
        let mut by_key = HashMap::with_capacity(before.by_key.len());
        let mut known = Known::of(before);
        let mut unknown: BTreeMap<&str, (Target, bool)> = BTreeMap::new();
        for pack in loaded.packs() {
            let same = before.pack(&pack.reference).is_some_and(|known| Arc::ptr_eq(known, pack));
            for (target, enabled) in targets(pack) {
                let endpoints = known.endpoints(target.owner_ref());
                if afresh || (endpoints.is_empty() && (enabled || !same)) {
                    unknown.insert(owner_ref_of(pack, &target), (target, enabled));
                } else if same {
                    by_key.extend(endpoints.iter().map(|(hash, endpoint)| (*hash, endpoint.clone())));
                } else {
                    let limit = known.limit(&target, keyring.clock);
                    let moved = |(hash, endpoint): &Hashed| {
                        (*hash, Arc::new(endpoint.leading_to(target.clone(), limit.clone())))
                    };
                    by_key.extend(endpoints.iter().map(moved));
                }
            }
        }
        for row in keys(&unknown, keyring).await? {
            let Some((target, _)) = unknown.get(row.owner_ref.as_str()) else { continue };
            let Ok(hash) = <[u8; 32]>::try_from(row.key_hash.as_slice()) else { continue };
            let limit = known.limit(target, keyring.clock);
            by_key.insert(hash, Arc::new(endpoint(&row, target.clone(), limit, keyring.master_key)));
        }
        let idle = idle(&loaded);
        let refused = if idle == before.idle && !afresh {
            before.refused.clone()
        } else {
            owners(&idle, keyring.pool).await?
        };
        Ok(Self { loaded, by_key, idle, refused })
    }

    /// The owner of a key that would be open if its pack were sound.
    pub fn refused(&self, key: &str) -> Option<&str> {
        self.refused.get(&secret::hash(key)).map(String::as_str)
    }

    pub fn endpoint(&self, key: &str) -> Option<&Arc<Endpoint>> {
        self.by_key.get(&secret::hash(key))
    }

    /// The endpoints of one trigger or pack, the main key's first.
    pub fn endpoints_of(&self, owner_ref: &str) -> Vec<&Arc<Endpoint>> {
        let own = self.by_key.values().filter(|endpoint| endpoint.target.owner_ref() == owner_ref);
        let mut own: Vec<_> = own.collect();
        own.sort_by_key(|endpoint| (!endpoint.is_main, endpoint.key_id));
        own
    }

    pub fn packs(&self) -> impl Iterator<Item = &Arc<Pack>> {
        self.loaded.packs()
    }

    pub fn pack(&self, reference: &str) -> Option<&Arc<Pack>> {
        self.loaded.pack(reference)
    }

    pub fn triggers(&self) -> impl Iterator<Item = &Arc<Trigger>> {
        self.loaded.packs().flat_map(|pack| &pack.triggers)
    }

    pub fn trigger(&self, reference: &str) -> Option<&Arc<Trigger>> {
        self.triggers().find(|trigger| trigger.reference == reference)
    }

    /// Every secret that any policy names, each once.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let names: HashSet<&str> = self.packs().flat_map(|pack| pack.secret_names()).collect();
        names.into_iter()
    }
}

/// An endpoint under the hash of its key.
type Hashed = ([u8; 32], Arc<Endpoint>);

/// What was known of each owner, and what goes on where it was.
struct Known<'a> {
    endpoints: HashMap<&'a str, Vec<Hashed>>,
    limits: HashMap<String, Option<Arc<TriggerLimit>>>,
}

impl<'a> Known<'a> {
    fn of(before: &'a Registry) -> Self {
        let mut endpoints: HashMap<&str, Vec<_>> = HashMap::new();
        for (hash, endpoint) in &before.by_key {
            endpoints.entry(endpoint.target.owner_ref()).or_default().push((*hash, endpoint.clone()));
        }
        Self { endpoints, limits: HashMap::new() }
    }

    fn endpoints(&self, owner_ref: &str) -> Vec<Hashed> {
        self.endpoints.get(owner_ref).cloned().unwrap_or_default()
    }

    /// Every key of one owner spends from one limit; what was spent stays spent while the limit is the same.
    fn limit(&mut self, target: &Target, clock: &Clock) -> Option<Arc<TriggerLimit>> {
        let owner_ref = target.owner_ref();
        if let Some(limit) = self.limits.get(owner_ref) {
            return limit.clone();
        }
        let wanted = target.policy().rate_limit;
        let before = self.endpoints.get(owner_ref).and_then(|endpoints| endpoints.first());
        let before = before.filter(|(_, endpoint)| endpoint.target.policy().rate_limit == wanted);
        let limit = match before {
            Some((_, endpoint)) => endpoint.limit.clone(),
            None => wanted.map(|limit| Arc::new(TriggerLimit::new(limit, clock))),
        };
        self.limits.insert(owner_ref.to_owned(), limit.clone());
        limit
    }
}

impl Endpoint {
    fn leading_to(&self, target: Target, limit: Option<Arc<TriggerLimit>>) -> Self {
        Self { target, limit, ..self.clone() }
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

/// The keys of these owners; whoever is enabled and never had one gets one.
async fn keys(owners: &BTreeMap<&str, (Target, bool)>, keyring: Keyring<'_>) -> Result<Vec<KeyRow>> {
    if owners.is_empty() {
        return Ok(Vec::new());
    }
    let refs: Vec<&str> = owners.keys().copied().collect();
    let rows = endpoints::keys(keyring.pool, &refs).await?;
    let known: HashSet<&str> = rows.iter().map(|row| row.owner_ref.as_str()).collect();
    let without = owners.iter().filter(|(owner_ref, (_, enabled))| *enabled && !known.contains(*owner_ref));
    let fresh = without.map(|(owner_ref, (target, _))| fresh_key(owner_ref, target, keyring.master_key));
    let fresh = fresh.collect::<Result<Vec<_>>>()?;
    if fresh.is_empty() {
        return Ok(rows);
    }
    endpoints::issue(keyring.pool, &fresh, keyring.clock.now()).await?;
    // Where another host was faster, its key is the owner's: what counts is what stands there now.
    Ok(endpoints::keys(keyring.pool, &refs).await?)
}

/// The packs that are there and can't run. One that is so broken that nobody can tell which it is may be any that was
/// there before this host started, and isn't.
fn idle(loaded: &Loaded) -> BTreeSet<String> {
    let idle = || loaded.standings.iter().filter(|standing| standing.live.is_none());
    let mut refs: BTreeSet<_> =
        idle().filter_map(|standing| standing.reference().map(str::to_owned)).collect();
    if idle().any(|standing| standing.refused.as_ref().is_some_and(|refused| refused.is_nameless)) {
        let before = loaded.removed.iter().filter(|(_, removed)| removed.removed_at.is_none());
        refs.extend(before.map(|(reference, _)| reference.clone()));
    }
    refs.retain(|reference| loaded.pack(reference).is_none());
    refs
}

/// The owners of every key of these packs.
async fn owners(refs: &BTreeSet<String>, pool: &PgPool) -> Result<HashMap<[u8; 32], String>> {
    if refs.is_empty() {
        return Ok(HashMap::new());
    }
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
    let rows = endpoints::keys_of_packs(pool, &refs).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.key_hash.try_into().ok()?, row.owner_ref))).collect())
}

fn fresh_key(owner_ref: &str, target: &Target, master_key: &MasterKey) -> Result<NewKey> {
    let kind = match target {
        Target::Trigger(_) => "trigger",
        Target::Pack(_) => "pack",
    };
    let key = secret::endpoint_key()?;
    Ok(NewKey {
        key_id: Uuid::now_v7(),
        owner_ref: owner_ref.to_owned(),
        kind,
        key_hash: secret::hash(&key).to_vec(),
        key_sealed: master_key.seal(key.as_bytes(), owner_ref)?,
    })
}

fn endpoint(
    row: &KeyRow,
    target: Target,
    limit: Option<Arc<TriggerLimit>>,
    master_key: &MasterKey,
) -> Endpoint {
    let key =
        master_key.open(&row.key_sealed, &row.owner_ref).and_then(|bytes| String::from_utf8(bytes).ok());
    if key.is_none() {
        tracing::warn!(
            owner = %row.owner_ref,
            "an endpoint key was sealed with another master key: it works, but its URL can't be shown here"
        );
    }
    Endpoint {
        key_id: row.key_id,
        target,
        paused: row.paused,
        key,
        label: row.label.clone(),
        expires_at: row.expires_at,
        is_main: row.is_main,
        created_at: row.created_at,
        limit,
    }
}
