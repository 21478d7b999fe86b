//! `/api/v1/packs`: what runs, what was refused and why, what went.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{Data, data, triggers};
use crate::{
    host::{Host, Watching},
    pack::{
        Removed, Standing,
        diagnostics::{Fault, Report},
    },
    registry::Target,
    request::rfc3339,
    web::{auth::Authorized, error::ApiError},
};

pub(in crate::web) async fn list(_: Authorized, State(host): State<Arc<Host>>) -> Json<Value> {
    Json(all(&host))
}

/// Looks at the whole packs folder, and answers like `list` when what has changed there is in force.
pub(in crate::web) async fn reload(
    _: Authorized,
    State(host): State<Arc<Host>>,
) -> Result<Json<Value>, ApiError> {
    host.look_at_packs().await.map_err(|_| ApiError::Stopping)?;
    Ok(Json(all(&host)))
}

pub(in crate::web) async fn get(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(reference): Path<String>,
) -> Result<Json<Data<Value>>, ApiError> {
    let (registry, watching) = (host.registry.load(), host.watching.load());
    let standings = &registry.loaded.standings;
    let of_that_ref = || standings.iter().filter(|standing| standing.reference() == Some(&reference));
    let standing = of_that_ref().find(|standing| standing.live.is_some()).or_else(|| of_that_ref().next());
    if let Some(standing) = standing {
        return Ok(data(shown(standing, &watching)));
    }
    let went = registry.loaded.removed.get(&reference);
    went.map(|went| data(removed(&reference, went)))
        .ok_or_else(|| ApiError::NotFound(format!("pack {reference}")))
}

pub(in crate::web) async fn webhooks(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(reference): Path<String>,
) -> Result<Json<Data<Value>>, ApiError> {
    let registry = host.registry.load();
    let pack = registry.pack(&reference).ok_or_else(|| ApiError::NotFound(format!("pack {reference}")))?;
    Ok(data(triggers::endpoints(&host, &registry, &Target::Pack(pack.clone()))))
}

/// `{"data": [a pack, …], "watch": {"mode", "fault", "folder_fault", "changing"}}`
fn all(host: &Host) -> Value {
    let (registry, watching) = (host.registry.load(), host.watching.load());
    let here = registry.loaded.standings.iter().map(|standing| shown(standing, &watching));
    let gone = registry.loaded.gone().map(|(reference, went)| removed(reference, went));
    json!({"data": here.chain(gone).collect::<Vec<_>>(), "watch": **watching})
}

/// What runs of an entry of the packs folder, and, as `refused`, what it holds that does not.
fn shown(standing: &Standing, watching: &Watching) -> Value {
    let Standing { entry, live, refused } = standing;
    let pack = live.as_ref().map(|live| &live.pack);
    let triggers =
        || pack?.triggers.iter().map(|trigger| Some(&trigger.reference)).collect::<Option<Vec<_>>>();
    let newer = refused.as_ref().map(|refused| {
        json!({
            "ref": refused.reference,
            "version": refused.version,
            "content_hash": entry.content_hash.map(hex::encode),
        })
    });
    let of_refused =
        |of: fn(&Report) -> &Vec<Fault>| refused.iter().flat_map(move |refused| of(&refused.report));
    let warnings = live.iter().flat_map(|live| &live.warnings.warnings);
    json!({
        "ref": standing.reference(),
        "name": pack.map(|pack| &pack.name),
        "version": pack.map(|pack| &pack.version),
        "description": pack.map(|pack| &pack.description),
        "folder": entry.name,
        "state": standing.state(),
        "loaded_at": live.as_ref().map(|live| rfc3339(live.loaded_at)),
        "content_hash": pack.map(|pack| hex::encode(pack.content_hash)),
        "triggers": triggers().unwrap_or_default(),
        "changing": watching.changing.contains(&entry.name),
        "refused": newer,
        "faults": of_refused(|report| &report.faults).collect::<Vec<_>>(),
        "warnings": warnings.chain(of_refused(|report| &report.warnings)).collect::<Vec<_>>(),
    })
}

/// A pack that is not there any more; its events and keys are.
fn removed(reference: &str, removed: &Removed) -> Value {
    json!({
        "ref": reference,
        "version": removed.version,
        "state": "removed",
        "removed_at": removed.removed_at.map(rfc3339),
        "triggers": [],
        "faults": [],
        "warnings": [],
    })
}
