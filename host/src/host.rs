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
    policy_secrets::{HostSecrets, PolicySecrets, ProblemKind, SecretProblem},
    registry::{Keyring, Registry, Target},
    secret::{MasterKey, Origin, Ownership, SecretSources, SecretValue, StoredSecret, StoredSecrets},
    store::{
        changes, secret_grants,
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
    pub secrets: ArcSwap<HostSecrets>,
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
        let SecretRow { id, name, pack_ref, version, created_at, expires_at, .. } = row;
        StoredSecret { id, name, origin, pack_ref, version, created_at, expires_at, value }
    };
    let versions = secrets::all(pool, now).await?.into_iter().map(opened).collect();
    Ok(StoredSecrets { versions, grants: secret_grants::all(pool).await? })
}

/// What every policy of these registries may use, of what there is now: of the last one, who owns what. Unchanged since
/// `before`: nothing.
fn policy_secrets(
    registries: &[&Registry],
    config: &Config,
    sources: &SecretSources,
    stored: &StoredSecrets,
    before: &HostSecrets,
) -> Option<HostSecrets> {
    let mut governed: Vec<_> = registries.iter().flat_map(|registry| registry.governed()).collect();
    governed.sort_by_key(|governed| (governed.owner_ref, Arc::as_ptr(governed.policy)));
    governed.dedup_by_key(|governed| (governed.owner_ref, Arc::as_ptr(governed.policy)));
    let mut grants = config.secret_grants();
    for grant in &stored.grants {
        grants.add(&grant.name, &grant.pack_ref);
    }
    let refs = registries.last().into_iter().flat_map(|registry| registry.loaded.references());
    let ownership = Ownership::new(refs.map(str::to_owned), grants);
    let names: BTreeSet<&str> = governed.iter().flat_map(|governed| governed.policy.secret_names()).collect();
    let found = names.into_iter().map(|name| (name.to_owned(), sources.find(name, stored))).collect();
    let is_same = before.is_of(&governed, &ownership, &found);
    (!is_same).then(|| HostSecrets::resolve(&governed, ownership, found))
}

/// The same at start, with a line in the log for whatever can't be used.
pub fn first_secrets(
    registry: &Registry,
    config: &Config,
    sources: &SecretSources,
    stored: &StoredSecrets,
) -> HostSecrets {
    let nothing = HostSecrets::default();
    let secrets = policy_secrets(&[registry], config, sources, stored, &nothing).unwrap_or_default();
    warn_of_new(&nothing, &secrets);
    secrets
}

/// Logs what became wrong since: a secret that can't be used is seen nowhere else until a sender complains. One that
/// is merely missing is named at start and by `/readyz`.
fn warn_of_new(before: &HostSecrets, now: &HostSecrets) {
    let known = before.problems();
    for (problem, owners) in now.problems() {
        if problem.kind != ProblemKind::Missing && known.get(&problem) != Some(&owners) {
            tracing::warn!(secret = problem.name, owners = owners.join(", "), "{problem}");
        }
    }
}

impl Host {
    /// Looks every secret up again that a policy names: a value that has come, gone or changed counts from now on.
    pub fn refresh_secrets(&self) {
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.put_secrets(&[&self.registry.load()]);
    }

    /// While `refreshing` is held.
    fn put_secrets(&self, registries: &[&Registry]) {
        let (stored, before) = (self.stored.load(), self.secrets.load());
        let Some(fresh) = policy_secrets(registries, &self.config, &self.sources, &stored, &before) else {
            return;
        };
        warn_of_new(&before, &fresh);
        self.secrets.store(Arc::new(fresh));
    }

    /// Puts packs to work, in one step: requests that have begun end with the ones that they began with. Their secrets
    /// are there before them.
    pub async fn install(self: &Arc<Self>, registry: Registry) -> Result<()> {
        let host = self.clone();
        // Files are read: that may wait for a disk.
        let installing = spawn_blocking(move || {
            let _refreshing = host.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            // Those of the old packs, too: requests that have begun may still want them.
            host.put_secrets(&[&host.registry.load(), &registry]);
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

    /// The secrets of a trigger or pack.
    pub fn secrets_of(&self, target: &Target) -> Arc<PolicySecrets> {
        self.secrets.load().of(target.owner_ref(), target.policy())
    }

    /// Keeps a secret that a handshake brought to a pack, sealed, and has it in force; `false` when the pack does not
    /// await one of that name.
    pub async fn keep_secret(&self, pack_ref: &str, name: &str, value: &SecretValue) -> Result<bool> {
        if !self.awaits_secret(pack_ref, name) {
            return Ok(false);
        }
        let mut transaction = self.pool.begin().await?;
        changes::lock_sealing(&mut *transaction).await?;
        let sealed = self.master_key.seal(value.bytes(), secret_seal(name))?;
        let first =
            secrets::keep_brought(&mut *transaction, name, pack_ref, &sealed, self.clock.now()).await?;
        // The first signed delivery may go to another host.
        changes::tell(&mut *transaction).await?;
        transaction.commit().await?;
        self.load_stored_secrets().await?;
        self.refresh_secrets();
        tracing::info!(name, pack_ref, first, "a handshake brought a secret");
        Ok(first)
    }

    /// Whether a sender may bring a pack the secret of that name: it is the pack's by its name, not by a grant, and no
    /// value of it is there, whatever its worth.
    pub fn awaits_secret(&self, pack_ref: &str, name: &str) -> bool {
        self.secrets.load().ownership.owns(pack_ref, name)
            && self.sources.find(name, &self.stored.load()).of(pack_ref).0.is_none()
    }

    /// What is wrong with secrets that policies name, with the triggers and packs that it keeps from working.
    pub fn secret_problems(&self) -> Vec<(SecretProblem, Vec<String>)> {
        let secrets = self.secrets.load();
        let problems = secrets.problems().into_iter();
        problems.map(|(problem, owners)| (problem, owners.into_iter().map(str::to_owned).collect())).collect()
    }

    /// The URL that opens with a key.
    pub fn webhook_url(&self, key: &str) -> String {
        format!("{}/api/v1/webhooks/{key}", self.public_url)
    }
}
