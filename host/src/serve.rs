//! Starting and stopping a host: database, packs, doors; then the same backwards.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use arc_swap::{ArcSwap, ArcSwapOption};
use sqlx::PgPool;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{interval, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    clock::Clock,
    config::{Config, Environment},
    fetch::Fetcher,
    host::{self, Host, Watching},
    ingest::{Ingest, Writers},
    limits::{HostLimits, Sampler},
    metrics::Metrics,
    model::Scope,
    news::News,
    operate::secret_grants,
    registry::{Keyring, Registry},
    reload::Keeper,
    secret::{self, MasterKey, SecretText, StoredSecrets},
    store::{
        self, Database, changes, endpoints, events,
        tokens::{self, NewToken},
    },
    tidy,
    traces::Traces,
    wasm::{Cache, Purpose, Sandbox},
    web::{self, server},
};

/// A host at work.
pub struct Running {
    pub host: Arc<Host>,
    /// Where it listens: the port that it was given when 0 was asked for.
    pub address: SocketAddr,
    pub admin_address: Option<SocketAddr>,
    /// The admin's token, where it was made now: to be shown this once.
    pub fresh_admin_token: Option<SecretText>,
    database: Database,
    writers: Writers,
    /// Sends what is left of the traces.
    tracing: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How long queries under way may take when the host stops.
const POOL_WAIT: Duration = Duration::from_secs(5);
/// How long the last batch may take when the host stops.
const WRITERS_WAIT: Duration = Duration::from_secs(15);
/// How long the last traces may take when the host stops.
const TRACES_WAIT: Duration = Duration::from_secs(3);
/// Looks at the packs folder that may be asked for at a time; a further one waits.
const LOOKS_MAX: usize = 16;
/// How often a host asks whether operators have changed anything.
const CHANGES_INTERVAL: Duration = Duration::from_secs(1);
/// Characters of an admin token that somebody made up.
const ADMIN_TOKEN_MIN: usize = 20;
/// How often secret files are looked at again.
const SECRETS_INTERVAL: Duration = Duration::from_secs(2);

impl Running {
    /// Returns when the host accepts requests.
    pub async fn start(mut config: Config, environment: &Environment, clock: Clock) -> Result<Self> {
        if !config.packs.is_dir() {
            let packs = config.packs.display();
            bail!("there is no packs folder {packs}: make it, or name another with --packs");
        }
        // Bound before anything else: a port that is taken is the quickest thing to find out.
        let listener = bind(config.listen, "listen").await?;
        let address = listener.local_addr()?;
        config.listen = address;
        let admin_listener = match config.admin_listen {
            Some(admin) => Some(bind(admin, "admin_listen").await?),
            None => None,
        };
        let master_key = match &config.master_key {
            Some(text) => MasterKey::given(text)?,
            None => MasterKey::load_or_make(&config.master_key_file())?,
        };
        let (admin_token, is_fresh) = admin_token(&config)?;

        let database = Database::open(&config, environment).await?;
        let pool = database.pool().await?;
        store::migrate(&pool).await?;
        database.admit_readers(&pool).await?;
        admit(&pool, admin_token.get(), &config, &clock).await?;

        let cache =
            Cache::open(&config.mapper_cache_dir(), master_key.clone(), config.mapper_cache_bytes_max)?;
        let metrics = Arc::new(Metrics::default());
        let sandbox = Sandbox::new(&config, Purpose::Serve, Some(cache));
        let mut keeper = Keeper::new(&config, sandbox.clone(), metrics.clone());
        let mut loaded = keeper.first(&clock).await?;
        loaded.remember(endpoints::packs(&pool).await?);
        let keyring = Keyring { pool: &pool, master_key: &master_key, clock: &clock };
        let nothing = Registry::default();
        // Before anything that it speaks of is read.
        let version = changes::version(&pool).await?;
        let registry = Registry::build(loaded, &nothing, true, keyring);
        let registry = registry.await.context("issuing endpoint keys")?;
        secret_grants::grant_what_is_in_use(&pool, &registry, &config, &clock).await?;
        let sources = config.secret_sources(environment);
        let stored = host::stored_secrets(&pool, &master_key, clock.now(), &StoredSecrets::default()).await?;
        let (ingest, writers) = Ingest::start(&config, &database, &clock, &metrics);
        let (traces, tracing) = Traces::start(&config, &clock, &metrics)?.unzip();
        let (looks, asks) = mpsc::channel(LOOKS_MAX);
        let host = Arc::new(Host {
            // What it is made of is moved below.
            secrets: ArcSwap::from_pointee(host::first_secrets(&registry, &config, &sources, &stored)),
            public_url: config.public_url(),
            limits: HostLimits::new(&config, &clock),
            strangers: Sampler::new(config.stranger_rows_per_second, &clock),
            registry: ArcSwap::from_pointee(registry),
            sources,
            stored: ArcSwap::from_pointee(stored),
            master_key,
            master_key_fault: ArcSwapOption::empty(),
            ingest,
            news: News::new(config.event_streams_max),
            pool,
            fetcher: Fetcher::new(config.pinned_urls.clone())?,
            sandbox,
            metrics,
            traces,
            stopping: AtomicBool::new(false),
            watching: ArcSwap::default(),
            looks,
            searches: Semaphore::new(host::SEARCHES),
            refreshing: Mutex::default(),
            loading_secrets: tokio::sync::Mutex::default(),
            rebuilding: tokio::sync::Mutex::default(),
            caught_up_with: AtomicI64::new(version),
            clock,
            config,
        });

        let (stop, stopped) = watch::channel(false);
        let mut servers = Vec::new();
        let mut admin_address = None;
        let mut door = |listener, router| {
            servers.push(tokio::spawn(server::serve(listener, router, host.clone(), stopped.clone())));
        };
        match admin_listener {
            Some(admin) => {
                admin_address = Some(admin.local_addr()?);
                door(admin, web::admin(&host));
                door(listener, web::public(&host));
            }
            None => door(listener, web::both(&host)),
        }
        let refresher = tokio::spawn(refresh_secrets(host.clone()));
        let keeper = tokio::spawn(keep(keeper, host.clone(), asks));
        let follower = tokio::spawn(follow_changes(host.clone()));
        let reporter = tokio::spawn(tell_news(host.clone()));
        let tidier = tokio::spawn(tidy::run(host.clone()));
        Ok(Self {
            host,
            address,
            admin_address,
            fresh_admin_token: is_fresh.then_some(admin_token),
            database,
            writers,
            tracing,
            stop,
            servers,
            tasks: vec![refresher, keeper, follower, reporter, tidier],
        })
    }

    /// Says that it is about to stop, and returns when everybody has had the time to hear it. Meanwhile it serves on, and
    /// closes each connection after its next answer.
    pub async fn notice(&self) {
        self.host.stopping.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(self.host.config.drain_notice_seconds)).await;
    }

    /// Stops accepting, lets what is in flight finish, writes what waits, and stops the database last.
    pub async fn stop(self) {
        self.host.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        self.host.news.end();
        for server in self.servers {
            server.await.ok();
        }
        for task in self.tasks {
            task.abort();
            task.await.ok();
        }
        if timeout(POOL_WAIT, self.host.pool.close()).await.is_err() {
            tracing::warn!("a query that does not end was left behind");
        }
        // The last handle of the queue: the writers see its end and finish what waits.
        drop(self.host);
        if timeout(WRITERS_WAIT, self.writers.finish()).await.is_err() {
            tracing::warn!("a connection that does not end kept the writers from finishing");
        }
        if let Some(tracing) = self.tracing
            && timeout(TRACES_WAIT, tracing).await.is_err()
        {
            tracing::warn!("the last traces were not sent: their collector does not answer");
        }
        self.database.close().await;
    }
}

/// The admin's token, and whether it was made now.
fn admin_token(config: &Config) -> Result<(SecretText, bool)> {
    match &config.admin_token {
        Some(token) if token.get().len() < ADMIN_TOKEN_MIN => {
            bail!("`admin_token` is shorter than {ADMIN_TOKEN_MIN} characters: anybody could guess it")
        }
        Some(token) => Ok((token.clone(), false)),
        None => secret::load_or_make_token(&config.admin_token_file()),
    }
}

/// Makes sure that the token of the data folder is known, unless somebody has revoked it.
async fn admit(pool: &PgPool, token: &str, config: &Config, clock: &Clock) -> Result<()> {
    let hash = secret::hash(token);
    let new = NewToken {
        id: Uuid::now_v7(),
        hash: &hash,
        label: "admin token of the data folder",
        scope: Scope::Admin,
        pack_refs: None,
        expires_at: None,
    };
    tokens::insert(pool, new, clock.now()).await?;
    if tokens::is_revoked(pool, &hash).await? {
        let file = config.admin_token_file();
        tracing::warn!(file = %file.display(), "this token is revoked: remove the file, and a new one is made");
    }
    Ok(())
}

/// Should keeping up with the packs folder ever end, somebody is told: what runs goes on.
async fn keep(keeper: Keeper, host: Arc<Host>, asks: mpsc::Receiver<oneshot::Sender<()>>) {
    let mut keeping = JoinSet::new();
    keeping.spawn(keeper.run(host.clone(), asks));
    if let Some(Err(error)) = keeping.join_next().await {
        tracing::error!(%error, "changes in the packs folder are not noticed any more: restart this host");
        let folder_fault =
            Some("changes in the packs folder are not noticed any more: restart this host".to_owned());
        host.watching.store(Arc::new(Watching { folder_fault, ..Watching::default() }));
    }
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("`{setting}`: can't listen on {address}"))
}

async fn refresh_secrets(host: Arc<Host>) {
    let mut ticks = interval(SECRETS_INTERVAL);
    loop {
        ticks.tick().await;
        // What is wrong with it was told.
        host.reread_master_key().await.ok();
        // The database may be away: what is known stays known.
        if let Err(error) = host.load_stored_secrets().await {
            tracing::debug!(error = %format!("{error:#}"), "secrets of the database can't be read");
        }
        let host = host.clone();
        // Files are read: that may wait for a disk.
        if tokio::task::spawn_blocking(move || host.refresh_secrets()).await.is_err() {
            tracing::error!("looking for secrets failed");
        }
    }
}

/// What an operator tells any host is in force here within a moment: hosts are told, and ask every second in case they
/// were not.
async fn follow_changes(host: Arc<Host>) {
    let mut told = false;
    loop {
        let followed = async {
            let mut listener = changes::listen(&host.pool).await?;
            loop {
                host.catch_up().await?;
                told = false;
                // Nothing within a second is as good a reason to look.
                if let Ok(heard) = timeout(CHANGES_INTERVAL, listener.recv()).await {
                    heard?;
                }
            }
        };
        let Err::<Infallible, anyhow::Error>(error) = followed.await;
        // Said once: a database may be away for long.
        if !told {
            tracing::warn!(error = %format!("{error:#}"), "what operators change elsewhere can't be seen for now");
        }
        told = true;
        sleep(CHANGES_INTERVAL).await;
    }
}

/// How soon a stream looks for what it was not told of.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// Has every stream of events hear what the database tells, over one connection; and nobody listens for nobody.
async fn tell_news(host: Arc<Host>) {
    loop {
        host.news.somebody_waits().await;
        let told = async {
            let mut listener = events::listen(&host.pool).await?;
            while host.news.is_wanted() {
                host.news.tell();
                // Nothing within a second is as good a reason to look.
                if let Ok(heard) = timeout(NEWS_INTERVAL, listener.recv()).await {
                    heard?;
                }
            }
            Ok::<_, sqlx::Error>(())
        };
        if let Err(error) = told.await {
            tracing::debug!(%error, "news of events can't be heard: the database is away");
            sleep(NEWS_INTERVAL).await;
        }
    }
}
