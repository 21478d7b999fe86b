//! Everything that a request needs at hand, in one place.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use serde::Serialize;
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    clock::Clock,
    config::Config,
    ingest::Ingest,
    limits::{HostLimits, Sampler},
    metrics::Metrics,
    registry::Registry,
    secret::{MasterKey, SecretSources, Secrets},
};

/// A database that takes longer to say a word can't be counted on.
const READY_WAIT: Duration = Duration::from_secs(2);

pub struct Host {
    pub config: Config,
    /// Without a trailing slash.
    pub public_url: String,
    pub clock: Clock,
    pub registry: ArcSwap<Registry>,
    pub secrets: ArcSwap<Secrets>,
    pub sources: SecretSources,
    pub master_key: MasterKey,
    pub limits: HostLimits,
    /// Which requests of strangers get a row in the request log.
    pub strangers: Sampler,
    pub ingest: Arc<Ingest>,
    pub pool: PgPool,
    pub metrics: Arc<Metrics>,
    /// How the packs folder is kept an eye on.
    pub watching: ArcSwap<Watching>,
    /// Asks for a full look at the packs folder, and hears when it is done.
    pub looks: mpsc::Sender<oneshot::Sender<()>>,
    /// Held while secrets are looked up and put in place: of two who do, the later one knows the newer packs.
    pub refreshing: Mutex<()>,
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

impl Host {
    /// Looks every secret up again that a policy names: a value that has come, gone or changed counts from now on.
    pub fn refresh_secrets(&self) {
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.sources.read(self.registry.load().secret_names());
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
            host.secrets.store(Arc::new(host.sources.read(names)));
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

    /// Whether the database answers, soon.
    pub async fn database_answers(&self) -> Result<()> {
        timeout(READY_WAIT, sqlx::query("select 1").execute(&self.pool)).await??;
        Ok(())
    }
}
