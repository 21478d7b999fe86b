//! What runs now: the loaded packs, and which endpoint a key opens.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use anyhow::Result;
use sqlx::{Connection, PgPool};
use uuid::Uuid;

use crate::{
    clock::Clock,
    limits::TriggerLimit,
    pack::{Loaded, Pack, Trigger},
    policy::Policy,
    secret::{self, MasterKey},
    store::endpoints::{self, KeyRow},
};

/// Swapped whole; a request works with the one that it began with.
#[derive(Debug, Default)]
pub struct Registry {
    pub loaded: Loaded,
    by_key: HashMap<[u8; 32], Arc<Endpoint>>,
}

/// A public URL and what it leads to.
#[derive(Debug)]
pub struct Endpoint {
    pub key_id: Uuid,
    pub target: Target,
    pub paused: bool,
    /// The key itself; `None` when another host's master key sealed it.
    pub key: Option<String>,
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

impl Registry {
    /// Puts packs and keys together: issues a key to whoever is enabled and never had one, and opens an
    /// endpoint for every key whose owner is loaded.
    pub async fn build(loaded: Loaded, pool: &PgPool, master_key: &MasterKey, clock: &Clock) -> Result<Self> {
        let targets = targets(&loaded);
        let rows = endpoints::keys(pool).await?;
        let known: HashSet<&str> = rows.iter().map(|row| row.owner_ref.as_str()).collect();
        let mut issued = false;
        for (owner_ref, (target, enabled)) in &targets {
            if *enabled && !known.contains(owner_ref.as_str()) {
                issued |= issue_key(pool, owner_ref, target, master_key, clock).await?;
            }
        }
        let rows = if issued { endpoints::keys(pool).await? } else { rows };
        let mut by_key = HashMap::with_capacity(rows.len());
        let mut limits: HashMap<String, Option<Arc<TriggerLimit>>> = HashMap::new();
        for row in rows {
            let Some((target, _)) = targets.get(&row.owner_ref) else { continue };
            let Ok(hash) = <[u8; 32]>::try_from(row.key_hash.as_slice()) else { continue };
            // Every key of one owner spends from one limit.
            let limit = limits.entry(row.owner_ref.clone()).or_insert_with(|| {
                target.policy().rate_limit.map(|limit| Arc::new(TriggerLimit::new(limit, clock)))
            });
            by_key.insert(hash, Arc::new(endpoint(&row, target.clone(), limit.clone(), master_key)));
        }
        Ok(Self { loaded, by_key })
    }

    pub fn endpoint(&self, key: &str) -> Option<&Arc<Endpoint>> {
        self.by_key.get(&secret::hash(key))
    }

    /// The endpoints of one trigger or pack, the oldest key first.
    pub fn endpoints_of(&self, owner_ref: &str) -> Vec<&Arc<Endpoint>> {
        let own = self.by_key.values().filter(|endpoint| endpoint.target.owner_ref() == owner_ref);
        let mut own: Vec<_> = own.collect();
        own.sort_by_key(|endpoint| endpoint.key_id);
        own
    }

    pub fn packs(&self) -> &[Arc<Pack>] {
        &self.loaded.packs
    }

    pub fn pack(&self, reference: &str) -> Option<&Arc<Pack>> {
        self.loaded.packs.iter().find(|pack| pack.reference == reference)
    }

    pub fn triggers(&self) -> impl Iterator<Item = &Arc<Trigger>> {
        self.loaded.packs.iter().flat_map(|pack| &pack.triggers)
    }

    pub fn trigger(&self, reference: &str) -> Option<&Arc<Trigger>> {
        self.triggers().find(|trigger| trigger.reference == reference)
    }

    /// Every secret that any policy names, each once.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let names: HashSet<&str> = self.packs().iter().flat_map(|pack| pack.secret_names()).collect();
        names.into_iter()
    }
}

/// Everything that can have a key, by its ref, and whether it gets one by itself.
fn targets(loaded: &Loaded) -> BTreeMap<String, (Target, bool)> {
    let mut targets = BTreeMap::new();
    for pack in &loaded.packs {
        targets.insert(pack.reference.clone(), (Target::Pack(pack.clone()), pack.endpoint_enabled));
        for trigger in &pack.triggers {
            let enabled = trigger.policy.enabled;
            targets.insert(trigger.reference.clone(), (Target::Trigger(trigger.clone()), enabled));
        }
    }
    targets
}

/// Gives an owner its first key; `false` when another host was faster.
async fn issue_key(
    pool: &PgPool,
    owner_ref: &str,
    target: &Target,
    master_key: &MasterKey,
    clock: &Clock,
) -> Result<bool> {
    let kind = match target {
        Target::Trigger(_) => "trigger",
        Target::Pack(_) => "pack",
    };
    let now = clock.now();
    let key = secret::endpoint_key()?;
    let sealed = master_key.seal(key.as_bytes(), owner_ref)?;
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    if endpoints::open(&mut transaction, owner_ref, kind, now).await? {
        endpoints::insert_key(&mut transaction, Uuid::now_v7(), owner_ref, &secret::hash(&key), &sealed, now)
            .await?;
    }
    transaction.commit().await?;
    Ok(true)
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
    Endpoint { key_id: row.key_id, target, paused: row.paused, key, limit }
}
