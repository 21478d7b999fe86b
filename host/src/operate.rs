//! What operators change on a host that runs. Each change is one transaction with its line in the trail, and is in
//! force on this host when it returns; the other hosts hear of it.

pub mod events;
pub mod master_key;
pub mod overrides;
pub mod quarantine;
pub mod secret_grants;
pub mod secrets;
pub mod tokens;
pub mod webhooks;

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction, types::Json};
use uuid::Uuid;

use crate::{
    host::Host,
    pack::diagnostics::Report,
    store::{
        audit::{self, AuditRow},
        changes,
    },
};

/// Who changes something, and from where.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The token's.
    pub label: String,
    pub token_id: Option<Uuid>,
    pub source_ip: Option<IpAddr>,
}

/// Why a change was not made.
#[derive(Debug)]
pub enum Denied {
    NotFound(String),
    BadRequest(String),
    Forbidden(String),
    /// It contradicts how things are.
    Conflict(String),
    /// A policy that can't be.
    Invalid(Report),
    /// A value that can't be used for what it is meant for.
    Unfit(String),
    /// It is done, and is not in force here yet: the database went away in between.
    NotInForce,
    /// It may be done a little later.
    Busy(String),
    Store(sqlx::Error),
    Internal(anyhow::Error),
}

impl From<sqlx::Error> for Denied {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

impl From<anyhow::Error> for Denied {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}

/// What was done, and to what; `detail` never holds a secret, a key or a token.
struct Trail<'a> {
    action: &'static str,
    subject: &'a str,
    detail: Value,
}

impl Trail<'_> {
    async fn write(self, db: &mut PgConnection, host: &Host, actor: &Actor) -> sqlx::Result<()> {
        let Self { action, subject, detail } = self;
        tracing::info!(actor = actor.label, action, subject, "changed by an operator");
        let row = AuditRow {
            id: Uuid::now_v7(),
            at: host.clock.now(),
            actor: actor.label.clone(),
            token_id: actor.token_id,
            source_ip: actor.source_ip.map(IpNet::from),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: Json(detail),
        };
        audit::insert(db, &row).await
    }
}

/// Commits a change that hosts keep at hand, and has it in force here.
async fn commit(
    host: &Arc<Host>,
    mut transaction: Transaction<'_, Postgres>,
    actor: &Actor,
    trail: Trail<'_>,
) -> Result<(), Denied> {
    trail.write(&mut transaction, host, actor).await?;
    changes::tell(&mut *transaction).await?;
    transaction.commit().await?;
    // It is done, whatever happens now: who is away from the database for a moment catches up later.
    host.catch_up().await.map_err(|error| {
        tracing::warn!(error = %format!("{error:#}"), "a change is not in force here yet");
        Denied::NotInForce
    })
}

/// Before something is sealed in a transaction: with the key that seals now, which stays it until the end of that.
async fn lock_sealing(host: &Host, db: &mut PgConnection) -> Result<(), Denied> {
    changes::lock_sealing(db).await?;
    // Another host may have rotated it just now; a file that can't be read was told of, and the key in use counts.
    host.reread_master_key().await.ok();
    Ok(())
}
