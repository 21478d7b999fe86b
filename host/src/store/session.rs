//! What every session is told when it begins: limits of time, and that a commit is on disk before it is answered.

use sqlx::{PgConnection, PgExecutor};

/// What the server promises about commits, as its operator has set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    pub fsync: bool,
    pub full_page_writes: bool,
    /// Tables of ours that a crash empties.
    pub unlogged: Vec<String>,
}

/// How long the server lets a session take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub statement_seconds: u64,
    pub idle_in_transaction_seconds: u64,
}

/// Sets a new session up; returns the `synchronous_commit` that role and server have set.
///
/// By a statement and not by the connection's `options`: poolers refuse or drop those. `synchronous_commit` stays where
/// it is `on` or waits for more than that; `off` loses what was acknowledged, and `local` what a standby was to have.
pub async fn begin(session: &mut PgConnection, limits: Limits) -> sqlx::Result<String> {
    let found = sqlx::query_scalar!(
        r#"with found as materialized (select current_setting('synchronous_commit') as synchronous_commit)
           select synchronous_commit as "synchronous_commit!" from found
           where set_config('client_min_messages', 'warning', false) is not null
             and set_config('statement_timeout', $1, false) is not null
             and set_config('idle_in_transaction_session_timeout', $2, false) is not null
             and set_config('synchronous_commit',
               case when synchronous_commit in ('on', 'remote_write', 'remote_apply') then synchronous_commit else 'on' end,
               false) is not null"#,
        format!("{}s", limits.statement_seconds),
        format!("{}s", limits.idle_in_transaction_seconds),
    );
    found.fetch_one(session).await
}

/// Whether a session that was used before can still write. One from a time when the database was read-only keeps that,
/// and is replaced.
pub async fn is_writable(session: &mut PgConnection) -> sqlx::Result<bool> {
    let read_only =
        sqlx::query_scalar!(r#"select current_setting('transaction_read_only') = 'on' as "read_only!""#);
    Ok(!read_only.fetch_one(session).await?)
}

/// What the server promises now, for all tables but the one that is unlogged on purpose: its operator can change it at any time.
pub async fn durability(db: impl PgExecutor<'_>) -> sqlx::Result<Durability> {
    sqlx::query_as!(
        Durability,
        r#"select current_setting('fsync') = 'on' as "fsync!",
             current_setting('full_page_writes') = 'on' as "full_page_writes!",
             coalesce((select array_agg(relname::text order by relname) from pg_class
               where relnamespace = 'hookpack'::regnamespace and relkind in ('r', 'p')
                 and relpersistence <> 'p' and relname <> 'rate_limit'),
               '{}') as "unlogged!""#
    )
    .fetch_one(db)
    .await
}

impl Durability {
    /// Everything by which an event that was acknowledged can get lost.
    pub fn faults(&self) -> Vec<String> {
        let off = |setting: &str| {
            format!(
                "`{setting}` is off in the database: a crash of its machine can lose or damage what was acknowledged"
            )
        };
        let mut faults = Vec::new();
        if !self.fsync {
            faults.push(off("fsync"));
        }
        if !self.full_page_writes {
            faults.push(off("full_page_writes"));
        }
        let unlogged =
            |table| format!("the table hookpack.{table} is unlogged: a crash of the database empties it");
        faults.extend(self.unlogged.iter().map(unlogged));
        faults
    }
}
