//! Everything that a request needs at hand, in one place.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    clock::Clock,
    config::Config,
    fetch::Fetcher,
    ingest::Ingest,
    limits::{HostLimits, Sampler},
    metrics::Metrics,
    news::News,
    registry::{Keyring, Registry},
    secret::{MasterKey, Origin, SecretSources, SecretValue, Secrets, StoredSecret, StoredSecrets},
    store::{
        changes,
        secrets::{self, SecretRow},
    },
    traces::Traces,
    wasm::Sandbox,
};

/// Searches at a time: half of the pool's connections.
pub const SEARCHES: usize = 5;
/// For what operators changed to be read.
const CATCH_UP_WAIT: Duration = Duration::from_secs(20);

pub struct Host {
    pub config: Config,
    /// Without a trailing slash.
    pub public_url: String,
    pub clock: Clock,
    pub registry: ArcSwap<Registry>,
    pub secrets: ArcSwap<Secrets>,
    pub sources: SecretSources,
    /// Secrets of the database, opened.
    pub stored: ArcSwap<StoredSecrets>,
    pub master_key: MasterKey,
    /// Why its file can't be read.
    pub master_key_fault: ArcSwapOption<String>,
    pub limits: HostLimits,
    /// Which requests of strangers get a row in the request log.
    pub strangers: Sampler,
    pub ingest: Arc<Ingest>,
    /// That events were stored, by whichever host.
    pub news: News,
    pub pool: PgPool,
    /// Certificates and key sets of senders.
    pub fetcher: Fetcher,
    /// Where mappers run.
    pub sandbox: Arc<Sandbox>,
    pub metrics: Arc<Metrics>,
    /// Where there is a collector for them.
    pub traces: Option<Traces>,
    /// It has been told to stop: nothing new should come here.
    pub stopping: AtomicBool,
    /// How the packs folder is kept an eye on.
    pub watching: ArcSwap<Watching>,
    /// Searches take turns at connections: tokens, rate limits and readiness need some, too.
    pub searches: Semaphore,
    /// Asks for a full look at the packs folder, and hears when it is done.
    pub looks: mpsc::Sender<oneshot::Sender<()>>,
    /// Held while secrets are looked up and put in place: of two who do, the later one knows the newer packs.
    pub refreshing: Mutex<()>,
    /// Held while secrets of the database are read and put in place.
    pub loading_secrets: tokio::sync::Mutex<()>,
    /// Held from looking at the registry to putting another in its place.
    pub rebuilding: tokio::sync::Mutex<()>,
    /// The change of an operator's that is in force here, with all before it.
    pub caught_up_with: AtomicI64,
}

/// How the packs folder is kept an eye on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Watching {
    /// `events` or `polling`
    pub mode: &'static str,
    /// Why changes are not told by the system, though they should be.
    pub fault: Option<String>,
    /// Why the folder itself can't be looked at.
    pub folder_fault: Option<String>,
    /// Entries that are being changed or read.
    pub changing: BTreeSet<String>,
}

/// What the seal of a secret is for.
pub fn secret_seal(name: &str) -> String {
    format!("secret {name}")
}

/// The secrets of the database. One that another master key sealed is as it was `before`, where it could be opened
/// then; else it has no value, with a line in the log.
pub async fn stored_secrets(
    pool: &PgPool,
    master_key: &MasterKey,
    now: OffsetDateTime,
    before: &StoredSecrets,
) -> Result<StoredSecrets> {
    let opened = |row: SecretRow| {
        let known = before.version(row.id);
        let value = master_key.open(&row.value_sealed, secret_seal(&row.name)).map(SecretValue::new);
        let value = value.or_else(|| known?.value.clone());
        if value.is_none() && known.is_none() {
            tracing::warn!(
                name = row.name,
                version = row.version,
                "a secret was sealed with another master key"
            );
        }
        let origin = if row.source == "handshake" { Origin::Handshake } else { Origin::Operator };
        let SecretRow { id, name, version, created_at, expires_at, .. } = row;
        StoredSecret { id, name, origin, version, created_at, expires_at, value }
    };
    Ok(StoredSecrets(secrets::all(pool, now).await?.into_iter().map(opened).collect()))
}

impl Host {
    /// Looks every secret up again that a policy names: a value that has come, gone or changed counts from now on.
    pub fn refresh_secrets(&self) {
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.sources.read(self.registry.load().secret_names(), &self.stored.load());
        if **self.secrets.load() != fresh {
            self.secrets.store(Arc::new(fresh));
        }
    }

    /// Puts packs to work, in one step: requests that have begun end with the ones that they began with. Their secrets
    /// are there before them.
    pub async fn install(self: &Arc<Self>, registry: Registry) -> Result<()> {
        let host = self.clone();
        // Files are read: that may wait for a disk.
        let installing = spawn_blocking(move || {
            let _refreshing = host.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            // Those of the old packs, too: requests that have begun may still want them.
            let before = host.registry.load();
            let names = before.secret_names().chain(registry.secret_names());
            host.secrets.store(Arc::new(host.sources.read(names, &host.stored.load())));
            host.registry.store(Arc::new(registry));
        });
        installing.await.context("looking secrets up")
    }

    /// Looks at the whole packs folder, now; returns when what has changed there is in force, or after some seconds
    /// when something goes on changing.
    pub async fn look_at_packs(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.looks.send(answer).await.context("this host is stopping")?;
        answered.await.context("this host is stopping")
    }

    /// Has everything in force that operators changed, wherever they did.
    pub async fn catch_up(self: &Arc<Self>) -> Result<()> {
        timeout(CATCH_UP_WAIT, self.caught_up()).await.context("the database does not answer")?
    }

    async fn caught_up(self: &Arc<Self>) -> Result<()> {
        let _turn = self.rebuilding.lock().await;
        // Read first: what is read after it is as new as that, or newer.
        let version = changes::version(&self.pool).await?;
        if self.caught_up_with.load(Ordering::Acquire) == version {
            return Ok(());
        }
        // A file that can't be read was told of: the key in use counts.
        self.reread_master_key().await.ok();
        self.load_stored_secrets().await?;
        let before = self.registry.load_full();
        let registry = Registry::build(before.loaded.clone(), &before, true, self.keyring()).await?;
        self.install(registry).await?;
        self.caught_up_with.store(version, Ordering::Release);
        Ok(())
    }

    pub fn keyring(&self) -> Keyring<'_> {
        Keyring { pool: &self.pool, master_key: &self.master_key, clock: &self.clock }
    }

    /// Reads the secrets of the database again.
    pub async fn load_stored_secrets(&self) -> Result<()> {
        // Who reads later puts into place later.
        let _turn = self.loading_secrets.lock().await;
        let before = self.stored.load_full();
        let stored = stored_secrets(&self.pool, &self.master_key, self.clock.now(), &before).await?;
        if *before != stored {
            self.stored.store(Arc::new(stored));
        }
        Ok(())
    }

    /// Takes the master keys that stand in their file now.
    pub async fn reread_master_key(&self) -> Result<()> {
        let master_key = self.master_key.clone();
        // A file is read: that may wait for a disk.
        let read = spawn_blocking(move || master_key.reread()).await.context("reading the master key")?;
        let fault = read.as_ref().err().map(|error| Arc::new(format!("{error:#}")));
        // Said once: it may stay so for long.
        if let Some(fault) =
            fault.as_ref().filter(|fault| self.master_key_fault.load().as_ref() != Some(fault))
        {
            tracing::warn!(%fault, "the file of the master key can't be read; the one before counts");
        }
        self.master_key_fault.store(fault);
        if read? {
            tracing::info!("the file of the master key has changed");
        }
        Ok(())
    }

    /// Keeps a secret that a handshake brought, sealed, and has it in force; `false` when there is one already.
    pub async fn keep_secret(&self, name: &str, value: &SecretValue) -> Result<bool> {
        if self.has_secret(name) {
            return Ok(false);
        }
        let mut transaction = self.pool.begin().await?;
        changes::lock_sealing(&mut *transaction).await?;
        let sealed = self.master_key.seal(value.bytes(), secret_seal(name))?;
        let first = secrets::keep_brought(&mut *transaction, name, &sealed, self.clock.now()).await?;
        // The first signed delivery may go to another host.
        changes::tell(&mut *transaction).await?;
        transaction.commit().await?;
        self.load_stored_secrets().await?;
        self.refresh_secrets();
        tracing::info!(name, first, "a handshake brought a secret");
        Ok(first)
    }

    /// Whether anybody has provided a value of it.
    pub fn has_secret(&self, name: &str) -> bool {
        self.sources.find(name, &self.stored.load()).0.is_some()
    }

    /// The secrets that policies name and nobody has provided.
    pub fn missing_secrets(&self) -> Vec<String> {
        let (registry, secrets) = (self.registry.load(), self.secrets.load());
        let mut missing: Vec<_> = registry
            .secret_names()
            .filter(|name| secrets.values(name).is_empty())
            .map(str::to_owned)
            .collect();
        missing.sort();
        missing
    }

    /// The URL that opens with a key.
    pub fn webhook_url(&self, key: &str) -> String {
        format!("{}/api/v1/webhooks/{key}", self.public_url)
    }
}
