//! Who may ask the management API: whoever holds a token, within its scope and its packs.

use std::{marker::PhantomData, net::IpAddr, net::SocketAddr, sync::Arc};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{header, request::Parts};
use time::Duration;
use uuid::Uuid;

use super::error::ApiError;
use crate::{host::Host, model::Scope, operate::Actor, receive::source_of, secret, store::tokens};

/// Proof that a request came with a token of at least this scope; a handler that takes one is closed to everybody else.
pub(super) struct Caller<S> {
    pub(super) who: Who,
    needs: PhantomData<S>,
}

/// The holder of a token.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) token_id: Uuid,
    /// By which it is looked up again while a call goes on.
    pub(super) token_hash: [u8; 32],
    pub(super) label: String,
    pub(super) scope: Scope,
    /// `None`: every pack.
    pub(super) pack_refs: Option<Vec<String>>,
    pub(super) source_ip: IpAddr,
}

/// What a handler needs.
pub(super) trait Needs {
    const SCOPE: Scope;
}

pub(super) struct Read;
pub(super) struct Write;
pub(super) struct Admin;

impl Needs for Read {
    const SCOPE: Scope = Scope::Read;
}

impl Needs for Write {
    const SCOPE: Scope = Scope::Write;
}

impl Needs for Admin {
    const SCOPE: Scope = Scope::Admin;
}

/// A token's last use is known to the minute: it is no reason for a write a call.
const USE_NOTED_EVERY: Duration = Duration::MINUTE;

impl<S: Needs> FromRequestParts<Arc<Host>> for Caller<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, host: &Arc<Host>) -> Result<Self, ApiError> {
        let who = Who::of(parts, host).await?;
        if who.scope < S::SCOPE {
            return Err(ApiError::Forbidden(format!(
                "This needs a token with the scope `{}`.",
                S::SCOPE.word()
            )));
        }
        Ok(Self { who, needs: PhantomData })
    }
}

impl Who {
    pub(super) async fn of(parts: &Parts, host: &Host) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| peer.ip());
        let source_ip = source_of(peer, &parts.headers, &host.config.trusted_proxies);
        host.limits.may_try_token(source_ip).map_err(ApiError::TooMany)?;
        let line = parts.headers.get(header::AUTHORIZATION).and_then(|line| line.to_str().ok());
        let token = line
            .and_then(|line| line.split_once(' '))
            .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else { return Err(ApiError::Unauthorized) };
        // Looked up by its hash: how long it takes tells nothing about the tokens that are there.
        let (token_hash, now) = (secret::hash(token.trim()), host.clock.now());
        let Some(row) = tokens::find(&host.pool, &token_hash, now).await? else {
            host.limits.token_failed(source_ip);
            return Err(ApiError::UnknownToken);
        };
        if row.last_used_at.is_none_or(|at| now - at >= USE_NOTED_EVERY) {
            // Reading goes on while nothing can be written.
            if let Err(error) = tokens::used(&host.pool, row.id, now).await {
                tracing::debug!(%error, "the last use of a token can't be noted");
            }
        }
        // The table knows no other words.
        let scope = Scope::from_word(&row.scope).unwrap_or(Scope::Read);
        Ok(Self {
            token_id: row.id,
            token_hash,
            label: row.label,
            scope,
            pack_refs: row.pack_refs,
            source_ip,
        })
    }

    /// Whether the token reaches what belongs to a pack: the pack's ref, or that of one of its triggers.
    pub(super) fn reaches(&self, owner_ref: &str) -> bool {
        let pack_ref = owner_ref.split_once('.').map_or(owner_ref, |(pack_ref, _)| pack_ref);
        self.pack_refs.as_ref().is_none_or(|refs| refs.iter().any(|own| own == pack_ref))
    }

    /// Whoever may send to a webhook could be anybody who knows its URL.
    pub(super) fn sees_keys(&self) -> bool {
        self.scope >= Scope::Write
    }

    /// What belongs to no pack, or to all of them, is for tokens of all packs.
    pub(super) fn needs_all_packs(&self) -> Result<(), ApiError> {
        if self.pack_refs.is_none() {
            return Ok(());
        }
        Err(ApiError::Forbidden("This token is bound to packs; this concerns all of them.".to_owned()))
    }

    pub(super) fn actor(&self) -> Actor {
        Actor { label: self.label.clone(), token_id: Some(self.token_id), source_ip: Some(self.source_ip) }
    }
}
