//! Keys of endpoints as the database has them: looked up, issued, opened.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use anyhow::Result;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Endpoint, Keyring, Target, TriggerLimit};
use crate::{
    pack::Loaded,
    secret::{self, MasterKey},
    store::endpoints::{self, KeyRow, NewKey},
};

/// The keys of these owners; whoever is enabled and never had one gets one.
pub(super) async fn keys(
    owners: &BTreeMap<&str, (Target, bool)>,
    keyring: Keyring<'_>,
) -> Result<Vec<KeyRow>> {
    if owners.is_empty() {
        return Ok(Vec::new());
    }
    let refs: Vec<&str> = owners.keys().copied().collect();
    let rows = endpoints::keys(keyring.pool, &refs).await?;
    let known: HashSet<&str> = rows.iter().map(|row| row.owner_ref.as_str()).collect();
    let without = owners.iter().filter(|(owner_ref, (_, enabled))| *enabled && !known.contains(*owner_ref));
    let fresh =
        without.map(|(owner_ref, (target, _))| fresh_key(owner_ref, target.kind(), keyring.master_key));
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
pub(super) fn idle(loaded: &Loaded) -> BTreeSet<String> {
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
pub(super) async fn owners(refs: &BTreeSet<String>, pool: &PgPool) -> Result<HashMap<[u8; 32], String>> {
    if refs.is_empty() {
        return Ok(HashMap::new());
    }
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
    let rows = endpoints::keys_of_packs(pool, &refs).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.key_hash.try_into().ok()?, row.owner_ref))).collect())
}

/// A key that nobody has yet.
pub fn fresh_key(owner_ref: &str, kind: &'static str, master_key: &MasterKey) -> Result<NewKey> {
    let key = secret::endpoint_key()?;
    Ok(NewKey {
        key_id: Uuid::now_v7(),
        owner_ref: owner_ref.to_owned(),
        kind,
        key_hash: secret::hash(&key).to_vec(),
        key_sealed: master_key.seal(key.as_bytes(), owner_ref)?,
    })
}

/// The endpoint that a row of the database says; `closed` when its policy can't be read.
pub(super) fn endpoint(
    row: KeyRow,
    target: Target,
    limit: Option<Arc<TriggerLimit>>,
    closed: bool,
    master_key: &MasterKey,
) -> Endpoint {
    let key =
        master_key.open(&row.key_sealed, &row.owner_ref).and_then(|bytes| String::from_utf8(bytes).ok());
    Endpoint {
        key_id: row.key_id,
        target,
        paused: row.paused,
        closed,
        key,
        label: row.label,
        expires_at: row.expires_at,
        is_main: row.is_main,
        created_at: row.created_at,
        limit,
    }
}
