//! What an operator wants otherwise than the pack, key by key; kept through new versions of the pack.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Actor, Denied, Trail, commit};
use crate::{
    host::Host,
    pack::{
        Pack, Trigger,
        overrides::{check, declared, is_key},
    },
    registry::Target,
    store::overrides::{self, OverrideRow},
};

/// Puts these keys of `webhook` on top of the pack's; `null` goes back to what the pack says. `is_bound`: the token reaches
/// some packs alone.
pub async fn patch(
    host: &Arc<Host>,
    actor: &Actor,
    target: &Target,
    patch: Map<String, Value>,
    is_bound: bool,
) -> Result<(), Denied> {
    let patch = renamed(patch)?;
    if is_bound {
        not_of_others(&patch)?;
    }
    if patch.is_empty() {
        return Ok(());
    }
    let owner_ref = target.owner_ref();
    let (pack, trigger) = said(host, target)?;
    let mut transaction = host.pool.begin().await?;
    let row = overrides::lock(&mut transaction, owner_ref).await?;
    let before = row.as_ref().map(|row| object(&row.policy)).unwrap_or_default();
    let mut policy = before.clone();
    for (key, value) in &patch {
        if value.is_null() {
            policy.shift_remove(key);
        } else {
            policy.insert(key.clone(), value.clone());
        }
    }
    if policy.is_empty() {
        overrides::delete(&mut *transaction, owner_ref).await?;
    } else {
        let text = Value::Object(policy.clone()).to_string();
        check(&text, trigger.as_deref(), &pack).map_err(Denied::Invalid)?;
        // Of a key that was overridden before, what the pack said then.
        let mut said = declared(&policy, trigger.as_deref(), &pack);
        let then = row.map(|row| object(&row.declared)).unwrap_or_default();
        said.extend(then.into_iter().filter(|(key, _)| policy.contains_key(key) && !patch.contains_key(key)));
        let row = OverrideRow {
            owner_ref: owner_ref.to_owned(),
            policy: text,
            declared: Value::Object(said).to_string(),
        };
        overrides::upsert(&mut *transaction, &row, target.kind(), host.clock.now()).await?;
    }
    let detail = json!({"set": patch, "before": before});
    commit(host, transaction, actor, Trail { action: "webhook.override", subject: owner_ref, detail }).await
}

/// What decides whom to believe, and with which secret.
const TRUST: [&str; 5] = ["preset", "verify", "secrets", "handshake", "params"];

/// A token that is bound to packs doesn't change whom they believe, nor back to what the pack says: an operator of the
/// whole host may have overridden that for a reason. It could also find a secret out by trying how it is decoded.
fn not_of_others(patch: &Map<String, Value>) -> Result<(), Denied> {
    match patch.keys().find(|key| TRUST.contains(&key.as_str())) {
        Some(key) => Err(Denied::Forbidden(format!(
            "`{key}` decides whom this webhook believes: this needs a token that is not bound to packs."
        ))),
        None => Ok(()),
    }
}

/// The keys by their names in a pack.
fn renamed(patch: Map<String, Value>) -> Result<Map<String, Value>, Denied> {
    let mut renamed = Map::new();
    for (key, value) in patch {
        let key = if key == "signature" { "verify".to_owned() } else { key };
        if !is_key(&key) {
            let told = format!("`{key}` can't be overridden; a trigger's `webhook` has no such key.");
            return Err(Denied::BadRequest(told));
        }
        if renamed.insert(key, value).is_some() {
            return Err(Denied::BadRequest("`signature` and `verify` are one key.".to_owned()));
        }
    }
    Ok(renamed)
}

/// The pack as it is now: it may have gone since the call began.
fn said(host: &Host, target: &Target) -> Result<(Arc<Pack>, Option<Arc<Trigger>>), Denied> {
    let registry = host.registry.load();
    let gone = || Denied::NotFound(format!("{} {}", target.kind(), target.owner_ref()));
    match target {
        Target::Pack(pack) => Ok((registry.pack(&pack.reference).ok_or_else(gone)?.clone(), None)),
        Target::Trigger(trigger) => {
            let pack = registry.pack(&trigger.pack_ref).ok_or_else(gone)?.clone();
            let trigger = registry.trigger(&trigger.reference).ok_or_else(gone)?.clone();
            Ok((pack, Some(trigger)))
        }
    }
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}
