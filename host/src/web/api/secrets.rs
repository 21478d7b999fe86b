//! `/api/v1/secrets`: values go in, and never come out.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Data, Failures, data};
use crate::{
    host::Host,
    operate::{
        secret_grants,
        secrets::{self, Known, Set},
    },
    secret::{Origin, SecretText, SecretValue, StoredSecret, without_mark},
    web::{
        auth::{Admin, Caller, Read, Write},
        error::ApiError,
        extract::{Named, Sent},
    },
};

/// A secret that a policy names or the host keeps, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Secret {
    name: String,
    /// Whether there is a value for it.
    provided: bool,
    /// Who provides it; null: nobody.
    origin: Option<Origin>,
    /// The stored versions, the newest first.
    versions: Vec<Version>,
    /// Triggers and packs whose policies name it.
    used_by: Vec<String>,
    /// The pack that it belongs to by its name.
    owner: Option<String>,
    /// Other packs that may use it.
    grants: Vec<Grant>,
    /// Packs that name it and may not use it: for them it is missing.
    refused_packs: Vec<String>,
    /// What keeps policies from using it, and what to do about it.
    problems: Vec<String>,
}

/// A pack that may use a secret which is not its own by its name.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Grant {
    pack: String,
    /// `operator`, or `configuration`: then it is taken back there
    source: &'static str,
    #[serde(with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewGrant {
    /// The ref of the pack; it need not be loaded yet.
    pack: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct Version {
    id: Uuid,
    version: i32,
    origin: Origin,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The end of a replaced version's grace time.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// False: another master key sealed it.
    readable: bool,
}

/// A value that is to count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewValue {
    /// As the sender has it; a public key as PEM, several keys as a JWK set.
    #[schema(value_type = String)]
    value: SecretText,
    /// For how long the versions before it still count.
    #[serde(default)]
    grace_seconds: u32,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Rotation {
    /// For how long the versions before it still count. Default: a day.
    #[serde(default = "a_day")]
    grace_seconds: u32,
}

/// A version that has been made.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct SetSecret {
    name: String,
    version: i32,
    /// Until when the versions before it count; null: they don't.
    #[serde(with = "time::serde::rfc3339::option")]
    old_until: Option<OffsetDateTime>,
    /// Triggers and packs whose policies name it; none: is that its name?
    used_by: Vec<String>,
}

/// A value that has been made up.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct RotatedSecret {
    name: String,
    version: i32,
    /// Shown this once: for the sender.
    value: String,
    #[serde(with = "time::serde::rfc3339::option")]
    old_until: Option<OffsetDateTime>,
    /// Triggers and packs whose policies name it; none: is that its name?
    used_by: Vec<String>,
}

const fn a_day() -> u32 {
    86_400
}

/// Every secret that a policy names or the host keeps.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets",
    responses((status = 200, body = Data<Vec<Secret>>), Failures))]
pub(in crate::web) async fn list(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
) -> Result<Json<Data<Vec<Secret>>>, ApiError> {
    caller.who.needs_all_packs()?;
    let known = secrets::known(&host).await?;
    Ok(data(known.into_iter().map(|known| Secret::of(&host, known)).collect::<Vec<_>>()))
}

/// One secret that a policy names or the host keeps.
#[utoipa::path(get, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = String, Path)),
    responses((status = 200, body = Data<Secret>), Failures))]
pub(in crate::web) async fn get(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(name): Named<String>,
) -> Result<Json<Data<Secret>>, ApiError> {
    caller.who.needs_all_packs()?;
    let known = secrets::known(&host).await?.into_iter().find(|known| known.name == name);
    let known = known.ok_or_else(|| ApiError::NotFound(format!("secret {name}")))?;
    Ok(data(Secret::of(&host, known)))
}

/// The packs that a secret is granted to.
#[utoipa::path(get, path = "/api/v1/secrets/{name}/grants", tag = "secrets", params(("name" = String, Path)),
    responses((status = 200, body = Data<Vec<Grant>>), Failures))]
pub(in crate::web) async fn grants(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(name): Named<String>,
) -> Result<Json<Data<Vec<Grant>>>, ApiError> {
    caller.who.needs_all_packs()?;
    Ok(granted(&host, &name))
}

/// Lets a pack use a secret that is not its own by its name.
#[utoipa::path(post, path = "/api/v1/secrets/{name}/grants", tag = "secrets", params(("name" = String, Path)),
    request_body = NewGrant, responses((status = 200, body = Data<Vec<Grant>>), Failures))]
pub(in crate::web) async fn grant(
    caller: Caller<Admin>,
    State(host): State<Arc<Host>>,
    Named(name): Named<String>,
    Sent(NewGrant { pack }): Sent<NewGrant>,
) -> Result<Json<Data<Vec<Grant>>>, ApiError> {
    caller.who.needs_all_packs()?;
    secret_grants::grant(&host, &caller.who.actor(), &name, &pack).await?;
    Ok(granted(&host, &name))
}

/// Takes a grant back: for that pack the secret is missing from now on.
#[utoipa::path(delete, path = "/api/v1/secrets/{name}/grants/{pack}", tag = "secrets",
    params(("name" = String, Path), ("pack" = String, Path)), responses((status = 204), Failures))]
pub(in crate::web) async fn revoke(
    caller: Caller<Admin>,
    State(host): State<Arc<Host>>,
    Named((name, pack)): Named<(String, String)>,
) -> Result<StatusCode, ApiError> {
    caller.who.needs_all_packs()?;
    secret_grants::revoke(&host, &caller.who.actor(), &name, &pack).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn granted(host: &Host, name: &str) -> Json<Data<Vec<Grant>>> {
    data(secrets::grants(host, name).into_iter().map(Grant::of).collect())
}

/// Makes a value the newest version of a secret.
#[utoipa::path(put, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = String, Path)),
    request_body = NewValue, responses((status = 200, body = Data<SetSecret>), Failures))]
pub(in crate::web) async fn put(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(name): Named<String>,
    Sent(NewValue { value, grace_seconds }): Sent<NewValue>,
) -> Result<Json<Data<SetSecret>>, ApiError> {
    caller.who.needs_all_packs()?;
    let (value, grace) =
        (SecretValue::new(without_mark(value.get())), Duration::seconds(grace_seconds.into()));
    let Set { version, old_until } = secrets::set(&host, &caller.who.actor(), &name, &value, grace).await?;
    let used_by = used_by(&host, &name);
    Ok(data(SetSecret { name, version, old_until, used_by }))
}

/// Makes a value up, in the form that its policies want, and shows it, once.
#[utoipa::path(post, path = "/api/v1/secrets/{name}/rotate", tag = "secrets", params(("name" = String, Path)),
    request_body = Rotation, responses((status = 200, body = Data<RotatedSecret>), Failures))]
pub(in crate::web) async fn rotate(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(name): Named<String>,
    Sent(Rotation { grace_seconds }): Sent<Rotation>,
) -> Result<Json<Data<RotatedSecret>>, ApiError> {
    caller.who.needs_all_packs()?;
    let grace = Duration::seconds(grace_seconds.into());
    let (value, Set { version, old_until }) =
        secrets::rotate(&host, &caller.who.actor(), &name, grace).await?;
    let value = String::from_utf8_lossy(value.bytes()).into_owned();
    let used_by = used_by(&host, &name);
    Ok(data(RotatedSecret { name, version, value, old_until, used_by }))
}

/// Forgets every stored version of a secret.
#[utoipa::path(delete, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = String, Path)),
    responses((status = 204), Failures))]
pub(in crate::web) async fn remove(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(name): Named<String>,
) -> Result<StatusCode, ApiError> {
    caller.who.needs_all_packs()?;
    secrets::remove(&host, &caller.who.actor(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn used_by(host: &Host, name: &str) -> Vec<String> {
    host.registry.load().secret_users().remove(name).unwrap_or_default()
}

impl Secret {
    fn of(host: &Host, known: Known) -> Self {
        let Known { name, origin, values, used_by, owner, grants, refused_packs, problems } = known;
        Self {
            provided: values > 0,
            origin,
            versions: host.stored.load().of(&name).map(Version::of).collect(),
            used_by,
            owner,
            grants: grants.into_iter().map(Grant::of).collect(),
            refused_packs,
            problems,
            name,
        }
    }
}

impl Grant {
    fn of(secrets::Grant { pack_ref, created_at }: secrets::Grant) -> Self {
        let source = if created_at.is_some() { "operator" } else { "configuration" };
        Self { pack: pack_ref, source, created_at }
    }
}

impl Version {
    fn of(secret: &StoredSecret) -> Self {
        Self {
            id: secret.id,
            version: secret.version,
            origin: secret.origin,
            created_at: secret.created_at,
            expires_at: secret.expires_at,
            readable: secret.value.is_some(),
        }
    }
}
