//! `/api/v1/packs`: what runs, what was refused and why.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{Data, data, triggers};
use crate::{
    host::Host,
    pack::{Pack, Refused},
    registry::{Registry, Target},
    web::{auth::Authorized, error::ApiError},
};

pub(in crate::web) async fn list(_: Authorized, State(host): State<Arc<Host>>) -> Json<Data<Vec<Value>>> {
    let registry = host.registry.load();
    let live = registry.packs().iter().map(|pack| shown(pack, &registry));
    let refused = registry.loaded.refused.iter().map(refused);
    data(live.chain(refused).collect::<Vec<_>>())
}

pub(in crate::web) async fn get(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(reference): Path<String>,
) -> Result<Json<Data<Value>>, ApiError> {
    let registry = host.registry.load();
    if let Some(pack) = registry.pack(&reference) {
        return Ok(data(shown(pack, &registry)));
    }
    let refused_one = registry.loaded.refused.iter().find(|pack| pack.reference.as_ref() == Some(&reference));
    refused_one.map(|pack| data(refused(pack))).ok_or_else(|| ApiError::NotFound(format!("pack {reference}")))
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

fn shown(pack: &Pack, registry: &Registry) -> Value {
    let name = pack.folder.file_name().unwrap_or_default().to_string_lossy();
    let warnings: Vec<_> = registry
        .loaded
        .warnings
        .warnings
        .iter()
        .filter(|fault| fault.file.starts_with(&format!("{name}/")))
        .collect();
    json!({
        "ref": pack.reference,
        "name": pack.name,
        "version": pack.version,
        "description": pack.description,
        "folder": name,
        "state": "live",
        "content_hash": hex::encode(pack.content_hash),
        "triggers": pack.triggers.iter().map(|trigger| &trigger.reference).collect::<Vec<_>>(),
        "faults": [],
        "warnings": warnings,
    })
}

fn refused(pack: &Refused) -> Value {
    json!({
        "ref": pack.reference,
        "folder": pack.folder.file_name().unwrap_or_default().to_string_lossy(),
        "state": "refused",
        "faults": pack.report.faults,
        "warnings": pack.report.warnings,
    })
}
