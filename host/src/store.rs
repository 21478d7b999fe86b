//! The store: Postgres, the machine's own or a private one. One function a statement, one file a table.

pub mod audit;
pub mod batch;
pub mod changes;
pub mod embedded;
pub mod endpoints;
pub mod event_keys;
pub mod events;
mod fault;
pub mod kept_requests;
pub mod overrides;
pub mod quarantine;
pub mod rate_limits;
pub mod requests;
pub mod secret_grants;
pub mod secrets;
mod server;
pub mod session;
pub mod stats;
pub mod tidy;
pub mod tokens;
pub mod write_probe;

use std::{
    borrow::Cow,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::sleep;

use self::{
    embedded::{EmbeddedPostgres, Options},
    session::Limits,
};
use crate::config::{Config, Environment};
pub use crate::fault::Fault;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// For reading and for the rare writes.
const POOL_LIMITS: Limits = Limits { statement_seconds: 30, idle_in_transaction_seconds: 30 };
/// How long a server may take to let another connection in.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long a database that starts up is waited for, and the pause between two tries.
const FIRST_CONNECTION_WAIT: Duration = Duration::from_secs(30);
const FIRST_CONNECTION_PAUSE: Duration = Duration::from_millis(100);
/// The SQLSTATE of a server that starts up, recovers or shuts down.
const CANNOT_CONNECT_NOW: &str = "57P03";

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
            check_url(url)?;
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
            readers: config.postgres_socket_group.clone(),
            path: environment.get("PATH").map(Into::into),
            start_wait: Duration::from_secs(config.postgres_start_seconds),
        };
        let embedded = tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&options)).await??;
        let options = PgConnectOptions::new_without_pgpass()
            .socket(embedded.socket_folder())
            .username(embedded.user())
            .database(embedded.database());
        let options = match embedded.password() {
            Some(password) => options.password(password),
            None => options,
        };
        Ok(Self { options: prepared(options), embedded: Some(Arc::new(embedded)) })
    }

    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// For reading and for the rare writes; ingest has connections of its own.
    pub async fn pool(&self) -> Result<PgPool> {
        // One connection first: its error says what is wrong, where a pool would only say that it waited.
        let first = self.first_connection().await;
        let mut first = first.map_err(|error| server::not_connected(error, &self.options))?;
        if !self.is_embedded() {
            server::check_sessions(&mut first, &self.options).await?;
        }
        server::check(&mut first).await?;
        let found = session::begin(&mut first, POOL_LIMITS).await?;
        if !["on", "remote_write", "remote_apply"].contains(&found.as_str()) {
            tracing::warn!(
                synchronous_commit = found,
                "the database would acknowledge commits that are not on disk everywhere: this host's sessions set `on`"
            );
        }
        first.close().await.ok();
        let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_secs(5));
        // What is asked before a session is used again is in place of a ping.
        let pool = pool.test_before_acquire(false);
        let pool = pool
            .after_connect(|session, _| {
                Box::pin(async move { session::begin(session, POOL_LIMITS).await.map(drop) })
            })
            .before_acquire(|session, _| Box::pin(session::is_writable(session)))
            .connect_with(self.options.clone())
            .await
            .context("can't connect to the database")?;
        Ok(pool)
    }

    /// Has readers of the private Postgres read what is open to others: after migrations, which make the tables.
    pub async fn admit_readers(&self, pool: &PgPool) -> Result<()> {
        if !self.is_embedded() {
            return Ok(());
        }
        let granted = sqlx::raw_sql(
            "grant usage on schema hookpack to hookpack_reader;
             grant select on hookpack.event, hookpack.request_log, hookpack.quarantine to hookpack_reader",
        );
        granted.execute(pool).await.context("letting readers of the private Postgres read")?;
        Ok(())
    }

    /// Tries again while the server starts up: it may have ended just now, and be starting again.
    async fn first_connection(&self) -> sqlx::Result<PgConnection> {
        let deadline = Instant::now() + FIRST_CONNECTION_WAIT;
        loop {
            match self.options.connect().await {
                Err(error) if self.is_starting(&error) && Instant::now() < deadline => {
                    tracing::debug!(%error, "the database is starting");
                    sleep(FIRST_CONNECTION_PAUSE).await;
                }
                connected => return connected,
            }
        }
    }

    /// Whether a connection failed because the server is not ready yet. A server that is not ours and refuses may be
    /// one that does not exist: that is an error at once.
    fn is_starting(&self, error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(error) => error.code().is_some_and(|code| code == CANNOT_CONNECT_NOW),
            sqlx::Error::Io(_) => self.is_embedded(),
            _ => false,
        }
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

/// Bytes that are left on the disk of the private database; `None` where there is none, or the system can't say.
pub fn disk_free(config: &Config) -> Option<u64> {
    if config.database_url.is_some() {
        return None;
    }
    let disk = nix::sys::statvfs::statvfs(&config.data_dir).ok()?;
    #[allow(clippy::useless_conversion, reason = "other systems have narrower numbers")]
    Some(u64::from(disk.blocks_available()) * u64::from(disk.fragment_size()))
}

/// What the driver knows; it would log the values of others, and a misspelt `password` is one.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// Fails where a password that is not percent-encoded would be taken for other parts of the URL, which errors and log
/// lines do name: it ends at the first `/`, `?` or `#`, and its rest brings the `@` along.
fn check_url(url: &str) -> Result<()> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (_, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    anyhow::ensure!(
        !rest.contains(['@', '#']),
        "`database_url`: percent-encode `/`, `?`, `#` and `@` in user and password (`@` is %40), and `@` and `#` behind \
         the host"
    );
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in crate::form::text_pairs(query) {
        if !PARAMETERS.contains(&name.as_str()) && !name.starts_with("options") {
            tracing::warn!(name, "`database_url` has a parameter that is not known; it is ignored");
        }
    }
    Ok(())
}

fn prepared(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("hookpack")
        // Poolers refuse what they don't know; `session::begin` says the rest.
        .extra_float_digits(None)
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(5))
}

/// Brings the schema up to date; of several hosts that start at once one works and the others wait.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    let mut connection = pool.acquire().await?.detach();
    let migrated = migrate_on(&mut connection).await;
    // Its settings are changed, and with it goes the lock.
    connection.close().await.ok();
    migrated
}

async fn migrate_on(connection: &mut PgConnection) -> Result<()> {
    // A large table, or another host that is at it, takes as long as it takes.
    sqlx::query("set statement_timeout = 0").execute(&mut *connection).await?;
    // Before anything is looked at: two hosts on an empty database would both find no schema.
    sqlx::query("select pg_advisory_lock(hashtextextended('hookpack.migrate', 0))")
        .execute(&mut *connection)
        .await?;
    // A role that may use the schema need not have the right to change it.
    if !is_migrated(connection).await? {
        apply_migrations(connection).await?;
    }
    adopt(connection).await.context("taking over events of another server")
}

async fn apply_migrations(connection: &mut PgConnection) -> Result<()> {
    // An owner of the schema need not have the right to make one.
    let there: Option<bool> = sqlx::query_scalar("select true from pg_namespace where nspname = 'hookpack'")
        .fetch_optional(&mut *connection)
        .await?;
    if there.is_none() {
        sqlx::query("create schema hookpack").execute(&mut *connection).await.context(
            "making the schema `hookpack`; it needs CREATE on the database, or `hookpack migrate` by a role that has it",
        )?;
    }
    // The ledger of migrations is in our own schema, beside no other program's.
    sqlx::query("set search_path to hookpack").execute(&mut *connection).await?;
    MIGRATIONS.run(&mut *connection).await.context(
        "the database's schema can't be brought up to date; it takes its owner: `hookpack migrate` with that role, then \
         `serve` with any that has the rights it needs",
    )
}

/// Whether every migration of this program was applied as it is, and none of another version.
async fn is_migrated(connection: &mut PgConnection) -> Result<bool> {
    let ledger: Option<bool> = sqlx::query_scalar(
        "select true from pg_class where relname = '_sqlx_migrations' and relnamespace = to_regnamespace('hookpack')",
    )
    .fetch_optional(&mut *connection)
    .await?;
    if ledger.is_none() {
        return Ok(false);
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "select version, checksum from hookpack._sqlx_migrations where success order by version",
    )
    .fetch_all(connection)
    .await
    .context("reading `hookpack._sqlx_migrations`")?;
    let wanted = MIGRATIONS.iter().map(|migration| (migration.version, migration.checksum.to_vec()));
    Ok(wanted.eq(applied))
}

/// Takes events over that were copied from another server, once, before anything is stored beside them.
async fn adopt(connection: &mut PgConnection) -> Result<()> {
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
