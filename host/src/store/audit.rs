//! `hookpack.audit`: who changed what, when, from where.

use ipnet::IpNet;
use serde_json::Value;
use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// One change.
#[derive(Clone, Debug)]
pub struct AuditRow {
    pub id: Uuid,
    pub at: OffsetDateTime,
    pub actor: String,
    pub token_id: Option<Uuid>,
    pub source_ip: Option<IpNet>,
    pub action: String,
    pub subject: String,
    pub detail: Json<Value>,
}

pub async fn insert(db: impl PgExecutor<'_>, row: &AuditRow) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.audit (id, at, actor, token_id, source_ip, action, subject, detail)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        row.id,
        row.at,
        row.actor,
        row.token_id,
        row.source_ip,
        row.action,
        row.subject,
        &row.detail as &Json<Value>,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What to list, the newest first; `before` is the last id of the page before.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub subject: Option<String>,
    pub action: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub before: Option<Uuid>,
    pub limit: i64,
}

pub async fn list(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<Vec<AuditRow>> {
    sqlx::query_as!(
        AuditRow,
        r#"select id, at, actor, token_id, source_ip as "source_ip: IpNet", action, subject,
                  detail as "detail: Json<Value>"
           from hookpack.audit
           where ($1::text is null or subject = $1)
             and ($2::text is null or action = $2)
             and ($3::timestamptz is null or at >= $3)
             and ($4::uuid is null or id < $4)
           order by id desc
           limit $5"#,
        filter.subject,
        filter.action,
        filter.since,
        filter.before,
        filter.limit,
    )
    .fetch_all(db)
    .await
}

/// Forgets changes from before, the oldest first and a bounded number at a time; how many.
pub async fn forget(db: impl PgExecutor<'_>, before: OffsetDateTime, most: i64) -> sqlx::Result<u64> {
    // Ids are in the order of time: if one of the oldest is to go it is among the first of them.
    let forgotten = sqlx::query!(
        "delete from hookpack.audit where id in
           (select id from (select id, at from hookpack.audit order by id limit $2) oldest where at < $1)",
        before,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
