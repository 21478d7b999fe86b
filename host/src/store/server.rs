//! What a server must be before the host works with it: new enough, UTF-8, and a session must be a session.

use anyhow::{Context, Result, bail};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;
use uuid::Uuid;

use super::CONNECT_WAIT;

const VERSION_MIN: i32 = 140_000;

/// Why there is no connection, and the remedy where the error's own words don't lead to it.
pub(super) fn not_connected(error: sqlx::Error, options: &PgConnectOptions) -> anyhow::Error {
    let told = format!("{error:?}");
    let remedy = if told.contains("CaUsedAsEndEntity") {
        Some(
            "the server shows the certificate of an authority as its own, which is what `openssl req -x509` makes: make it \
             with `-addext basicConstraints=critical,CA:FALSE`, or have an authority sign it and name that one in \
             `sslrootcert`",
        )
    } else if told.contains("saslprep") {
        Some(
            "the password has characters that are newer than Unicode 3.2, an emoji perhaps, which can't be sent: choose \
             another",
        )
    } else {
        None
    };
    let error = anyhow::Error::new(error);
    let error = match remedy {
        Some(remedy) => error.context(remedy),
        None => error,
    };
    error.context(format!("can't connect to the database at {}", address(options)))
}

/// Where the database is looked for, without user and password.
fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Refuses a server that would fail later, or lose what it is told, with what the operator can do about it.
pub(super) async fn check(session: &mut PgConnection) -> Result<()> {
    let (version, encoding): (i32, String) = sqlx::query_as(
        "select current_setting('server_version_num')::int, pg_encoding_to_char(encoding)
         from pg_database where datname = current_database()",
    )
    .persistent(false)
    .fetch_one(session)
    .await?;
    if version < VERSION_MIN {
        bail!("the database is PostgreSQL {}; Hookpack needs 14 or newer", version / 10_000);
    }
    if encoding != "UTF8" {
        bail!(
            "the database's encoding is {encoding}; Hookpack needs UTF8, or payloads could not be stored: make another \
             one with `create database hookpack encoding 'UTF8' template template0 lc_collate 'C' lc_ctype 'C'`"
        );
    }
    Ok(())
}

/// Refuses a pooler that gives each transaction another session of the server: settings, prepared statements and
/// LISTEN are lost there, and the settings are what makes an acknowledged event durable.
pub(super) async fn check_sessions(first: &mut PgConnection, options: &PgConnectOptions) -> Result<()> {
    let mut second =
        timeout(CONNECT_WAIT, options.connect()).await.context("no second connection in time")??;
    let shared = sessions_are_shared(first, &mut second).await;
    second.close().await.ok();
    if shared? {
        bail!(
            "the database is behind a connection pooler in transaction mode (PgBouncer's `pool_mode = transaction`): \
             sessions lose their settings and LISTEN there. Give Hookpack a pool in session mode, or the server's own \
             address"
        );
    }
    Ok(())
}

/// Whether what one connection sets is lost to it, or seen by another. Whichever way a pooler hands out sessions, one of
/// both happens, unless a session belongs to its connection.
async fn sessions_are_shared(first: &mut PgConnection, second: &mut PgConnection) -> sqlx::Result<bool> {
    let mark = Uuid::now_v7();
    // Simple statements, without parameters: prepared ones may fail behind such a pooler.
    let set = format!("set hookpack.session = '{mark}'");
    let show = "select coalesce(current_setting('hookpack.session', true), '')";
    sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *first).await?;
    let mut seen = Vec::new();
    for connection in [second, &mut *first] {
        let row = sqlx::raw_sql(show).fetch_one(connection).await?;
        seen.push(sqlx::Row::try_get::<String, _>(&row, 0)?);
    }
    sqlx::raw_sql("reset hookpack.session").execute(first).await?;
    let mark = mark.to_string();
    Ok(seen != [String::new(), mark])
}
