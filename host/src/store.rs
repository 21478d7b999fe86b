//! The store: Postgres, the machine's own or a private one. One function a statement, one file a table.

pub mod audit;
pub mod batch;
pub mod changes;
pub mod embedded;
pub mod endpoints;
pub mod event_keys;
pub mod events;
pub mod kept_requests;
pub mod overrides;
pub mod quarantine;
pub mod rate_limits;
pub mod requests;
pub mod secrets;
pub mod stats;
pub mod tidy;
pub mod tokens;

use std::{borrow::Cow, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use sqlx::{
    ConnectOptions, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use self::embedded::{EmbeddedPostgres, Options};
use crate::config::{Config, Environment};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// A database to work with, and the private Postgres behind it when there is one.
#[derive(Clone)]
pub struct Database {
    pub options: PgConnectOptions,
    embedded: Option<Arc<EmbeddedPostgres>>,
}

impl Database {
    /// The server of `database_url`, or the host's own Postgres, started and accepting connections.
    pub async fn open(config: &Config, environment: &Environment) -> Result<Self> {
        if let Some(url) = &config.database_url {
            // The error of the parser may quote the password.
            let options = PgConnectOptions::from_str(url).map_err(|_| {
                anyhow::anyhow!(
                    "`database_url` is not a Postgres URL: postgres://user:password@host:5432/database"
                )
            })?;
            return Ok(Self { options: prepared(options), embedded: None });
        }
        let options = Options {
            folder: config.data_dir.join("postgres"),
            binaries: config.postgres_binaries.clone(),
            path: environment.get("PATH").map(Into::into),
            start_wait: Duration::from_secs(config.postgres_start_seconds),
        };
        let embedded = tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&options)).await??;
        let options = PgConnectOptions::new_without_pgpass()
            .socket(embedded.socket_folder())
            .username(embedded.user())
            .database(embedded.database());
        Ok(Self { options: prepared(options), embedded: Some(Arc::new(embedded)) })
    }

    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// For reading and for the rare writes; ingest has connections of its own.
    pub async fn pool(&self) -> Result<PgPool> {
        // One connection first: its error says what is wrong, where a pool would only say that it waited.
        let mut first = self.options.connect().await.context("can't connect to the database")?;
        let version: String = sqlx::query_scalar("show server_version_num").fetch_one(&mut first).await?;
        first.close().await.ok();
        if version.parse::<u32>().is_ok_and(|version| version < 140_000) {
            let major = &version[..version.len().saturating_sub(4)];
            bail!("the database is PostgreSQL {major}; Hookpack needs 14 or newer");
        }
        let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_secs(5));
        let pool = pool
            .connect_with(
                self.options
                    .clone()
                    .options([("statement_timeout", "30s"), ("idle_in_transaction_session_timeout", "30s")]),
            )
            .await
            .context("can't connect to the database")?;
        Ok(pool)
    }

    /// Waits until the private Postgres, if there is one, has stopped.
    pub async fn close(self) {
        if let Some(embedded) = self.embedded.and_then(Arc::into_inner) {
            // Dropping it waits for its processes, which must not hold up the runtime.
            if tokio::task::spawn_blocking(move || drop(embedded)).await.is_err() {
                tracing::warn!("the private Postgres did not stop in order");
            }
        }
    }
}

fn prepared(options: PgConnectOptions) -> PgConnectOptions {
    // "already exists, skipping" is nobody's news.
    options
        .options([("client_min_messages", "warning")])
        .application_name("hookpack")
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(5))
}

/// Brings the schema up to date; of several hosts that start at once one works and the others wait.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    // The ledger of migrations lies in our own schema, beside nobody else's.
    let mut connection = pool.acquire().await?;
    // Asked first: an owner of the schema need not have the right to make one.
    let there: Option<bool> = sqlx::query_scalar("select true from pg_namespace where nspname = 'hookpack'")
        .fetch_optional(&mut *connection)
        .await?;
    if there.is_none() {
        // Of two hosts that find none, the slower one finds it now.
        sqlx::query("create schema if not exists hookpack").execute(&mut *connection).await.context(
            "making the schema `hookpack`; it needs CREATE on the database, or a schema made for it",
        )?;
    }
    // A large table, or another host that is at it, takes as long as it takes.
    for setting in ["set search_path to hookpack", "set statement_timeout = 0"] {
        sqlx::query(setting).execute(&mut *connection).await?;
    }
    let migrated = async {
        MIGRATIONS
            .run(&mut *connection)
            .await
            .context("the database's schema can't be brought up to date")?;
        adopt(&mut connection).await.context("taking over events of another server")
    }
    .await;
    // This connection's search path is changed: nobody else may get it.
    connection.close().await.ok();
    migrated
}

/// Takes events over that were copied from another server, once, before anything is stored beside them.
async fn adopt(connection: &mut sqlx::PgConnection) -> Result<()> {
    const ROWS: i64 = 10_000;
    if !events::are_foreign(&mut *connection).await? {
        return Ok(());
    }
    tracing::info!("events were copied from another server: they become older than all that is stored here");
    while events::adopt(&mut *connection, ROWS).await? > 0 {}
    Ok(())
}

/// Text as a text column can hold it: Postgres knows no NUL.
pub fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
