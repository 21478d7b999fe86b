//! Everything that a request needs at hand, in one place.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use arc_swap::ArcSwap;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::{
    clock::Clock,
    config::Config,
    ingest::Ingest,
    limits::{HostLimits, Sampler},
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
}

impl Host {
    /// Looks every secret up again that a policy names: a value that has come, gone or changed counts from now on.
    pub fn refresh_secrets(&self) {
        let fresh = self.sources.read(self.registry.load().secret_names());
        if **self.secrets.load() != fresh {
            self.secrets.store(Arc::new(fresh));
        }
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
