//! `/api/v1/packs`: what runs, what was refused and why, what went.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Data, Failures, data};
use crate::{
    host::{Host, Watching},
    pack::{Removed, Standing, diagnostics},
    web::{
        auth::{Caller, Read, Who, Write},
        error::ApiError,
        extract::Named,
    },
};

/// What runs of an entry of the packs folder, and, as `refused`, what it holds that does not.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::web) struct Pack {
    /// Null: so broken that nobody can tell.
    r#ref: Option<String>,
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    /// The entry's name in the packs folder.
    folder: Option<String>,
    /// `live`, `live_newer_refused`, `refused` or `removed`
    state: &'static str,
    #[serde(with = "time::serde::rfc3339::option")]
    loaded_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    removed_at: Option<OffsetDateTime>,
    /// SHA-256 over its files, in hex.
    content_hash: Option<String>,
    /// The refs of its triggers.
    triggers: Vec<String>,
    /// Its files are being changed or read.
    changing: bool,
    refused: Option<Newer>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

/// A version that was refused.
#[derive(Debug, Serialize, ToSchema)]
struct Newer {
    r#ref: Option<String>,
    version: Option<String>,
    content_hash: Option<String>,
}

/// What is wrong, where, and what would be right.
#[derive(Debug, Serialize, ToSchema)]
struct Fault {
    file: String,
    line: u32,
    column: u32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// The line that it points at.
    #[serde(skip_serializing_if = "String::is_empty")]
    source_line: String,
}

/// How the packs folder is kept an eye on.
#[derive(Debug, Serialize, ToSchema)]
struct Watch {
    /// `events` or `polling`
    mode: &'static str,
    /// Why changes are not told by the system, though they should be.
    fault: Option<String>,
    /// Why the folder itself can't be looked at.
    folder_fault: Option<String>,
    /// Entries that are being changed or read.
    changing: BTreeSet<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Packs {
    data: Vec<Pack>,
    watch: Watch,
}

/// Every pack: what runs, what was refused, what went.
#[utoipa::path(get, path = "/api/v1/packs", tag = "packs", responses((status = 200, body = Packs), Failures))]
pub(in crate::web) async fn list(caller: Caller<Read>, State(host): State<Arc<Host>>) -> Json<Packs> {
    Json(all(&host, &caller.who))
}

/// Looks at the whole packs folder, and answers like the list when what has changed there is in force.
#[utoipa::path(post, path = "/api/v1/packs/reload", tag = "packs",
    responses((status = 200, body = Packs), Failures))]
pub(in crate::web) async fn reload(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
) -> Result<Json<Packs>, ApiError> {
    caller.who.needs_all_packs()?;
    host.look_at_packs().await.map_err(|error| ApiError::Unavailable(format!("{error:#}.")))?;
    Ok(Json(all(&host, &caller.who)))
}

/// One pack.
#[utoipa::path(get, path = "/api/v1/packs/{ref}", tag = "packs", params(("ref" = String, Path)),
    responses((status = 200, body = Data<Pack>), Failures))]
pub(in crate::web) async fn get(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
) -> Result<Json<Data<Pack>>, ApiError> {
    let unknown = || ApiError::NotFound(format!("pack {reference}"));
    if !caller.who.reaches(&reference) {
        return Err(unknown());
    }
    let (registry, watching) = (host.registry.load(), host.watching.load());
    let standings = &registry.loaded.standings;
    let of_that_ref = || standings.iter().filter(|standing| standing.reference() == Some(&reference));
    let standing = of_that_ref().find(|standing| standing.live.is_some()).or_else(|| of_that_ref().next());
    if let Some(standing) = standing {
        return Ok(data(Pack::of(standing, &watching)));
    }
    let went = registry.loaded.removed.get(&reference);
    went.map(|went| data(Pack::removed(&reference, went))).ok_or_else(unknown)
}

fn all(host: &Host, who: &Who) -> Packs {
    let (registry, watching) = (host.registry.load(), host.watching.load());
    let reached = |standing: &&Standing| {
        // What is so broken that nobody knows whose it is concerns whoever keeps all packs.
        standing.reference().map_or(who.pack_refs.is_none(), |reference| who.reaches(reference))
    };
    let here = registry.loaded.standings.iter().filter(reached);
    let here = here.map(|standing| Pack::of(standing, &watching));
    let gone = registry.loaded.gone().filter(|(reference, _)| who.reaches(reference));
    let gone = gone.map(|(reference, went)| Pack::removed(reference, went));
    let Watching { mode, fault, folder_fault, changing } = (**watching).clone();
    let watch = Watch { mode, fault, folder_fault, changing };
    Packs { data: here.chain(gone).collect(), watch }
}

impl Pack {
    fn of(standing: &Standing, watching: &Watching) -> Self {
        let Standing { entry, live, refused } = standing;
        let pack = live.as_ref().map(|live| &live.pack);
        let triggers = pack.into_iter().flat_map(|pack| &pack.triggers);
        let refused_report = refused.as_ref().map(|refused| &refused.report);
        let faults = refused_report.into_iter().flat_map(|report| &report.faults);
        let warnings = live.iter().flat_map(|live| &live.warnings.warnings);
        let warnings = warnings.chain(refused_report.into_iter().flat_map(|report| &report.warnings));
        Self {
            r#ref: standing.reference().map(str::to_owned),
            name: pack.map(|pack| pack.name.clone()),
            version: pack.map(|pack| pack.version.clone()),
            description: pack.and_then(|pack| pack.description.clone()),
            folder: Some(entry.name.clone()),
            state: standing.state(),
            loaded_at: live.as_ref().map(|live| live.loaded_at),
            removed_at: None,
            content_hash: pack.map(|pack| hex::encode(pack.content_hash)),
            triggers: triggers.map(|trigger| trigger.reference.clone()).collect(),
            changing: watching.changing.contains(&entry.name),
            refused: refused.as_ref().map(|refused| Newer {
                r#ref: refused.reference.clone(),
                version: refused.version.clone(),
                content_hash: entry.content_hash.map(hex::encode),
            }),
            faults: faults.map(Fault::of).collect(),
            warnings: warnings.map(Fault::of).collect(),
        }
    }

    /// A pack that is not there any more; its events and keys are.
    fn removed(reference: &str, removed: &Removed) -> Self {
        Self {
            r#ref: Some(reference.to_owned()),
            version: removed.version.clone(),
            state: "removed",
            removed_at: removed.removed_at,
            ..Self::default()
        }
    }
}

impl Fault {
    fn of(fault: &diagnostics::Fault) -> Self {
        let diagnostics::Fault { file, line, column, message, help, source_line } = fault.clone();
        Self { file, line, column, message, help, source_line }
    }
}
