//! Tokens: made, shown once, ended. They are looked up in the database with each call, so nobody has to be told.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Actor, Denied, Trail};
use crate::{
    host::Host,
    model::Scope,
    pack,
    secret::{self, SecretValue},
    store::tokens::{self, NewToken},
};
use serde_json::json;

/// What a new token is to allow.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub label: String,
    pub scope: Scope,
    /// `None`: every pack.
    pub pack_refs: Option<Vec<String>>,
    pub expires_at: Option<OffsetDateTime>,
}

const LABEL_CHARACTERS_MAX: usize = 200;

/// A fresh token and its id; the token itself is known to its holder alone from here on.
pub async fn create(host: &Host, actor: &Actor, wanted: &Wanted) -> Result<(Uuid, SecretValue), Denied> {
    let Wanted { label, scope, pack_refs, expires_at } = wanted;
    is_label(label)?;
    let wrong = pack_refs.iter().flatten().find(|reference| !pack::is_ref(reference));
    if let Some(wrong) = wrong {
        return Err(Denied::BadRequest(format!("`{wrong}` can't be the ref of a pack.")));
    }
    if pack_refs.as_ref().is_some_and(Vec::is_empty) {
        return Err(Denied::BadRequest("`packs` is empty: name packs, or leave it out for all.".to_owned()));
    }
    if pack_refs.is_some() && *scope == Scope::Admin {
        return Err(Denied::BadRequest(
            "A token that is bound to packs can't have the scope `admin`.".to_owned(),
        ));
    }
    if expires_at.is_some_and(|at| at <= host.clock.now()) {
        return Err(Denied::BadRequest("`expires_at` is in the past.".to_owned()));
    }
    let (id, token) = (Uuid::now_v7(), secret::api_token()?);
    let row = NewToken {
        id,
        hash: &secret::hash(&token),
        label,
        scope: *scope,
        pack_refs: pack_refs.as_deref(),
        expires_at: *expires_at,
    };
    let mut transaction = host.pool.begin().await?;
    tokens::insert(&mut *transaction, row, host.clock.now()).await?;
    let detail = json!({"label": label, "scope": scope.word(), "packs": pack_refs});
    let subject = id.to_string();
    let trail = Trail { action: "token.create", subject: &subject, detail };
    trail.write(&mut transaction, host, actor).await?;
    transaction.commit().await?;
    Ok((id, SecretValue::new(token)))
}

/// Ends a token: from the next call on it is none.
pub async fn revoke(host: &Host, actor: &Actor, id: Uuid) -> Result<(), Denied> {
    let mut transaction = host.pool.begin().await?;
    let label = tokens::revoke(&mut *transaction, id, host.clock.now()).await?;
    let label = label.ok_or_else(|| Denied::NotFound(format!("token {id}")))?;
    let subject = id.to_string();
    let trail = Trail { action: "token.revoke", subject: &subject, detail: json!({"label": label}) };
    trail.write(&mut transaction, host, actor).await?;
    transaction.commit().await?;
    Ok(())
}

/// What a person calls a token or a key.
pub(super) fn is_label(label: &str) -> Result<(), Denied> {
    if label.trim().is_empty() || label.chars().count() > LABEL_CHARACTERS_MAX || label.contains('\0') {
        let told = format!("`label` says what it is for, in 1 to {LABEL_CHARACTERS_MAX} characters.");
        return Err(Denied::BadRequest(told));
    }
    Ok(())
}
