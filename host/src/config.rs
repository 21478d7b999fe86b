//! Every setting of the host: its default, its unit, and what happens when a limit is reached.
//!
//! Flags win over the environment, the environment over the file, the file over the defaults. A key
//! `data_dir` of the file is `HOOKPACK_DATA_DIR` in the environment, and so for every key; values there
//! are YAML too (`HOOKPACK_TRUSTED_PROXIES='[10.0.0.0/8]'`).

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::{
    secret::{Grants, SecretSources, SecretText},
    signing::PublicKey,
    spelling::nearest,
};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where senders and API clients connect.
    pub listen: SocketAddr,
    /// Where the management API and health pages move to, so that `listen` carries nothing but webhooks.
    pub admin_listen: Option<SocketAddr>,
    /// How the world reaches this host, without a trailing slash; `{url}` in signatures and every printed
    /// URL begin with it. Default: `http://<listen>`.
    pub public_url: Option<String>,
    /// The folder of packs.
    pub packs: PathBuf,
    /// How changes in the folder of packs are noticed: `auto` has the system tell and looks now and then all the same;
    /// on a network file system, or when the system can't tell, it only looks. `events` and `polling` choose one.
    pub watch: WatchMode,
    /// Milliseconds for which a pack must not have changed before it is loaded: what is being copied is not whole yet.
    pub watch_quiet_ms: u64,
    /// Milliseconds from one look to the next when the system doesn't tell.
    pub watch_poll_ms: u64,
    /// Ed25519 public keys, in base64. When there is one, only archives that one of them has signed are loaded.
    pub require_signed_packs: Vec<PublicKey>,
    /// What the host keeps: private Postgres, master key, admin token.
    pub data_dir: PathBuf,
    /// A Postgres (14 or newer) to use instead of the private one.
    pub database_url: Option<String>,
    /// The folder of `initdb` and `postgres`, when they are not where they usually are.
    pub postgres_binaries: Option<PathBuf>,
    /// A group of the system whose members may read events from the private Postgres, by a socket in `<data_dir>/readers`.
    pub postgres_socket_group: Option<String>,
    /// Seconds that the private Postgres may take to start, recovery after a crash included; then `serve` gives up.
    pub postgres_start_seconds: u64,
    /// One file a secret, one value a line (newest first).
    pub secrets_dir: Option<PathBuf>,
    /// Packs, by their refs, that may use a secret which does not belong to them by its name:
    /// `{shared_key: [shop, billing]}`. They add to what `hookpack secret grant` has stored.
    pub secret_grants: BTreeMap<String, Vec<String>>,
    /// Files that stand for URLs of certificates and key sets, on hosts without a way out.
    pub pinned_urls: BTreeMap<String, PathBuf>,
    /// The file of the key that seals endpoint keys in the database. Default: `<data_dir>/master-key`.
    /// Hosts that share a database must share it.
    pub master_key_file: Option<PathBuf>,
    /// The key itself (64 hex digits) instead of a file: from a vault, say. Several with commas between: the first one
    /// seals, all open.
    pub master_key: Option<SecretText>,
    /// The admin's token instead of the one that the host makes at first start; 20 characters at least.
    pub admin_token: Option<SecretText>,
    /// Peers whose `Forwarded` and `X-Forwarded-For` are believed; nobody else's are.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// `text` for people, `json` for machines.
    pub log_format: LogFormat,
    /// What is logged, in the syntax of tracing's `EnvFilter`.
    pub log: String,

    /// A collector of traces (OTLP over HTTP, such as `http://127.0.0.1:4318`). Without it nothing is traced.
    pub otlp_endpoint: Option<String>,
    /// Headers for it, to say who sends.
    pub otlp_headers: BTreeMap<String, SecretText>,
    /// Which part of the requests is traced, 0 to 1, of those whose sender does not trace them.
    pub otlp_sample_ratio: f64,
    /// Which part, 0 to 1, of those whose sender does.
    pub otlp_parent_sample_ratio: f64,
    /// Requests that are traced in a second, whatever senders ask for; the others are counted.
    pub otlp_traces_per_second: NonZeroU32,
    /// Traces waiting to be sent; a further one is dropped and counted.
    pub otlp_queue_traces_max: usize,

    /// Open connections; then the longest idle one is closed, and where none is idle the further one waits to be
    /// accepted.
    pub connections_max: usize,
    /// Seconds for a request's head to arrive, from its first byte or the connection's beginning; then the connection is
    /// closed.
    pub header_read_seconds: u64,
    /// Connections of one source address (IPv6: one /64), trusted proxies excepted; then its longest idle one is closed,
    /// and where all are at work the further one hears 503.
    pub source_connections_max: usize,
    /// Seconds for which a connection may be idle between two requests; then it is closed. Longer than balancers keep
    /// theirs, who would else send a request into a connection that is just being closed.
    pub idle_connection_seconds: u64,
    /// Bytes of a request's head; then 431.
    pub head_bytes_max: usize,
    /// Memory for the bodies of all requests in flight, in bytes; then 503 with `Retry-After`.
    pub bodies_bytes_max: usize,
    /// The same of one source address (IPv6: one /64).
    pub source_bodies_bytes_max: usize,
    /// The same of one webhook URL.
    pub endpoint_bodies_bytes_max: usize,
    /// Size of a body that is read to look for a handshake in it, before anything vouches for its sender; a larger body
    /// is no handshake.
    pub handshake_body_bytes_max: usize,
    /// Seconds for a request's body to arrive; then 408.
    pub body_read_seconds: u64,
    /// Seconds for which `serve` goes on when SIGTERM has come and `/readyz` says so: as long as whoever spreads requests
    /// over hosts needs to notice.
    pub drain_notice_seconds: u64,
    /// Seconds that `serve` waits for requests in flight when it stops.
    pub drain_seconds: u64,
    /// Requests of one source address, over all endpoints; then 429.
    pub source_rate_limit: Option<RateLimit>,
    /// Requests of all sources together; then 429.
    pub total_rate_limit: Option<RateLimit>,
    /// Wrong tokens that one source address may show to the management API; then it hears 429 for a while.
    pub wrong_token_rate_limit: Option<RateLimit>,
    /// Keys of one trigger's or pack's endpoint; then another one is refused with 409.
    pub endpoint_keys_max: usize,
    /// Versions of one secret that are in force at a time; then another one is refused with 409.
    pub secret_versions_max: usize,
    /// Streams of events that are open at a time; then another one is refused with 503.
    pub event_streams_max: usize,
    /// Source addresses remembered for these limits; past it, the ones that are idle are forgotten.
    pub sources_max: usize,

    /// Writers of the store, each with a connection of its own. Default: 1 on up to two cores, 2 beyond.
    pub writers: Option<usize>,
    /// Deliveries waiting for a writer; then 503 with `Retry-After`.
    pub queue_deliveries_max: usize,
    /// Bytes of payload waiting for a writer; then 503 with `Retry-After`.
    pub queue_bytes_max: usize,
    /// Deliveries of one webhook URL waiting for a writer; then 503 with `Retry-After`, and no other URL is affected.
    pub endpoint_queue_deliveries_max: usize,
    /// Bytes of payload of one webhook URL waiting for a writer; then 503 with `Retry-After`.
    pub endpoint_queue_bytes_max: usize,
    /// Size of a body, inflated, up to which it is checked on the thread that has read it; larger ones are checked on
    /// other threads. On both, webhook URLs take turns.
    pub inline_body_bytes_max: usize,
    /// Larger bodies that are checked at a time. Default: the cores.
    pub large_body_workers: Option<usize>,
    /// Rows in one transaction.
    pub batch_rows_max: usize,
    /// Bytes of payload in one transaction (a single larger event goes alone).
    pub batch_bytes_max: usize,
    /// Seconds that a delivery waits for a writer, and that its transaction may take then; after them 503.
    pub store_wait_seconds: u64,
    /// Whether the request log keeps the headers of requests that were not accepted, secrets taken out.
    pub log_headers: bool,
    /// Rows a second in the request log for requests that nobody vouches for (unknown keys, addresses
    /// over their rate); the rest is counted in the next such row.
    pub stranger_rows_per_second: NonZeroU32,
    /// Rows in the request log for refused requests of one webhook URL that nothing vouches for; the rest is counted in
    /// the next such row and in the statistics. The first 100 in an hour have their headers.
    pub endpoint_unverified_rows_rate_limit: Option<RateLimit>,
    /// The same of all webhook URLs together; the first 1,000 in an hour have their headers.
    pub unverified_rows_rate_limit: Option<RateLimit>,

    /// Days for which rows of the request log are kept; `null`: for ever. So for all of these.
    pub request_log_days: Option<NonZeroU32>,
    /// Days for which quarantined requests are kept, whether they were replayed or not.
    pub quarantine_days: Option<NonZeroU32>,
    /// Days for which events are kept. Default: for ever.
    pub event_days: Option<NonZeroU32>,
    /// Days for which requests are kept as they came, beside the events that they became, to be mapped again. Default:
    /// they are not.
    pub kept_request_days: Option<NonZeroU32>,
    /// Days for which the audit trail is kept.
    pub audit_days: Option<NonZeroU32>,
    /// Days for which statistics are kept.
    pub stats_days: Option<NonZeroU32>,

    /// Size of one file of a pack, in bytes; then the pack is refused.
    pub pack_file_bytes_max: u64,
    /// Size of all files of a pack, in bytes; then the pack is refused.
    pub pack_bytes_max: u64,
    /// Files in a pack; then the pack is refused.
    pub pack_files_max: usize,
    /// How many times its own size an archive may unpack to, beyond the first MiB; then it is refused.
    pub archive_ratio_max: u64,
    /// Nesting of a pack's YAML; then the file is refused.
    pub yaml_depth_max: usize,
    /// Nodes of one YAML file, aliases expanded; then the file is refused.
    pub yaml_nodes_max: usize,
    /// Size of one compiled regular expression, in bytes; then the pack is refused.
    pub regex_bytes_max: usize,
    /// Size of a pack's `pattern`s together, in states of their automata (about their characters, repetitions counted);
    /// then the pack is refused.
    pub pack_pattern_states_max: usize,
    /// Schemas that all schemas of a pack reach together, those behind references counted each time; then the pack is
    /// refused.
    pub pack_schema_nodes_max: usize,
    /// Fields of a form; then the sender gets 400.
    pub form_fields_max: usize,
    /// Events that one delivery may become; then its mapping fails. Also payloads of a batch; then the sender gets 413.
    /// Default: 5000, because `SendGrid` sends batches of 768 kB with events of 250 bytes.
    pub events_per_delivery_max: usize,
    /// Size of one mapped event, with the attributes of a CloudEvent, in bytes; then its mapping fails. Default: 32 MiB,
    /// because GitHub, GitLab and Jira send payloads of up to 25 MB, and GitHub does not send again.
    pub event_bytes_max: usize,
    /// Size of all events that one delivery becomes, in bytes; then its mapping fails.
    pub delivery_bytes_max: usize,
    /// Steps that one request may spend on evaluating paths, schemas and templates (about as many values visited);
    /// then its mapping fails, or 401 before its signature is verified.
    pub evaluation_steps_max: u64,
    /// Bytes that evaluation may make for one request, results and copies together; then as above.
    pub evaluation_bytes_max: u64,
    /// Milliseconds that evaluation may take for one request, waiting not counted; an authentic request has as many again
    /// for every MiB of its body. Then 503 with `Retry-After`, or 401 before its signature is verified.
    pub evaluation_ms: u64,
    /// Steps of one template, in minijinja's fuel; then the mapping fails.
    pub template_fuel: u64,

    /// Threads for mappers. Default: four times the cores, 8 at least.
    pub mapper_workers: Option<usize>,
    /// Calls of one trigger's mapper at a time; a further one waits. Default: a quarter of the workers.
    pub mapper_calls_per_trigger_max: Option<usize>,
    /// Seconds that a delivery waits for a worker; then 503 with `Retry-After`.
    pub mapper_wait_seconds: u64,
    /// Deliveries waiting for a worker; then 503 with `Retry-After`.
    pub mapper_queue_deliveries_max: usize,
    /// Bytes of payload waiting for a worker; then 503 with `Retry-After`.
    pub mapper_queue_bytes_max: usize,
    /// Seconds for all lines, events and members of one delivery to be mapped; then 503 with `Retry-After`.
    pub mapper_delivery_seconds: u64,
    /// Milliseconds of CPU for one call of a mapper, four times as many by the clock; then its mapping fails, or 503
    /// when the machine was too busy to give it half of them.
    pub mapper_deadline_ms: u64,
    /// Memory of one call, in bytes, over all memories of the component; a mapper that asks for more gets none.
    pub mapper_memory_bytes_max: usize,
    /// Elements of all tables of a component; a mapper that asks for more gets none.
    pub mapper_table_elements_max: usize,
    /// Stack of one call, in bytes; then its mapping fails.
    pub mapper_stack_bytes_max: usize,
    /// What one call may return, in bytes; then its mapping fails.
    pub mapper_output_bytes_max: usize,
    /// Size of a component, in bytes; then the pack is refused.
    pub mapper_bytes_max: u64,
    /// Seconds of CPU for compiling a component, twice as many by the clock; then the pack is refused.
    pub mapper_compile_seconds: u64,
    /// Memory for compiling a component, in bytes of address space; then the pack is refused.
    pub mapper_compile_memory_bytes_max: u64,
    /// Where compiled mappers are kept. Default: `<data_dir>/mappers`.
    pub mapper_cache_dir: Option<PathBuf>,
    /// Size of all compiled mappers that are kept, in bytes; then the oldest go.
    pub mapper_cache_bytes_max: u64,
    /// The program that compiles mappers. Default: this one.
    pub mapper_compiler: Option<PathBuf>,
}

impl Default for Config {
    #[expect(clippy::too_many_lines, reason = "a line for each setting")]
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            admin_listen: None,
            public_url: None,
            packs: PathBuf::from("packs"),
            watch: WatchMode::Auto,
            watch_quiet_ms: 1000,
            watch_poll_ms: 2000,
            require_signed_packs: Vec::new(),
            data_dir: PathBuf::from("hookpack-data"),
            database_url: None,
            postgres_binaries: None,
            postgres_socket_group: None,
            postgres_start_seconds: 120,
            secrets_dir: None,
            secret_grants: BTreeMap::new(),
            pinned_urls: BTreeMap::new(),
            master_key_file: None,
            master_key: None,
            admin_token: None,
            trusted_proxies: Vec::new(),
            log_format: LogFormat::Text,
            log: "info".to_owned(),
            otlp_endpoint: None,
            otlp_headers: BTreeMap::new(),
            otlp_sample_ratio: 0.01,
            otlp_parent_sample_ratio: 1.0,
            otlp_traces_per_second: NonZeroU32::MIN.saturating_add(99),
            otlp_queue_traces_max: 4096,

            connections_max: 10_000,
            source_connections_max: 1000,
            header_read_seconds: 10,
            idle_connection_seconds: 75,
            head_bytes_max: 64 << 10,
            bodies_bytes_max: 256 << 20,
            source_bodies_bytes_max: 64 << 20,
            endpoint_bodies_bytes_max: 128 << 20,
            handshake_body_bytes_max: 64 << 10,
            body_read_seconds: 30,
            drain_notice_seconds: 2,
            drain_seconds: 30,
            source_rate_limit: RateLimit::new(60_000, 60),
            total_rate_limit: None,
            wrong_token_rate_limit: RateLimit::new(20, 60),
            endpoint_keys_max: 100,
            secret_versions_max: 10,
            event_streams_max: 100,
            sources_max: 100_000,

            writers: None,
            queue_deliveries_max: 4096,
            queue_bytes_max: 64 << 20,
            endpoint_queue_deliveries_max: 2048,
            endpoint_queue_bytes_max: 32 << 20,
            inline_body_bytes_max: 16 << 10,
            large_body_workers: None,
            batch_rows_max: 512,
            batch_bytes_max: 8 << 20,
            store_wait_seconds: 5,
            log_headers: true,
            stranger_rows_per_second: NonZeroU32::MIN.saturating_add(9),
            endpoint_unverified_rows_rate_limit: RateLimit::new(600, 60),
            unverified_rows_rate_limit: RateLimit::new(3000, 60),

            request_log_days: NonZeroU32::new(30),
            quarantine_days: NonZeroU32::new(90),
            event_days: None,
            kept_request_days: None,
            audit_days: NonZeroU32::new(365),
            stats_days: NonZeroU32::new(400),

            pack_file_bytes_max: 1 << 20,
            pack_bytes_max: 64 << 20,
            pack_files_max: 1000,
            archive_ratio_max: 100,
            yaml_depth_max: 64,
            yaml_nodes_max: 50_000,
            regex_bytes_max: 1 << 20,
            pack_pattern_states_max: 200_000,
            pack_schema_nodes_max: 500_000,
            form_fields_max: 1000,
            events_per_delivery_max: 5000,
            event_bytes_max: 32 << 20,
            delivery_bytes_max: 32 << 20,
            evaluation_steps_max: 20_000_000,
            evaluation_bytes_max: 64 << 20,
            evaluation_ms: 2000,
            template_fuel: 200_000,

            mapper_workers: None,
            mapper_calls_per_trigger_max: None,
            mapper_wait_seconds: 5,
            mapper_queue_deliveries_max: 1000,
            mapper_queue_bytes_max: 32 << 20,
            mapper_delivery_seconds: 10,
            mapper_deadline_ms: 500,
            mapper_memory_bytes_max: 64 << 20,
            mapper_table_elements_max: 20_000,
            mapper_stack_bytes_max: 512 << 10,
            mapper_output_bytes_max: 4 << 20,
            mapper_bytes_max: 32 << 20,
            mapper_compile_seconds: 60,
            mapper_compile_memory_bytes_max: 2 << 30,
            mapper_cache_dir: None,
            mapper_cache_bytes_max: 1 << 30,
            mapper_compiler: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How the host learns that the packs folder has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchMode {
    #[default]
    Auto,
    Events,
    Polling,
}

/// So many requests in any window of so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub requests: NonZeroU32,
    pub window_seconds: NonZeroU32,
}

impl RateLimit {
    /// `None` when one of the two is 0.
    pub const fn new(requests: u32, window_seconds: u32) -> Option<Self> {
        match (NonZeroU32::new(requests), NonZeroU32::new(window_seconds)) {
            (Some(requests), Some(window_seconds)) => Some(Self { requests, window_seconds }),
            _ => None,
        }
    }

    /// The same as a quota of the rate limiter: bursts up to `requests`, refilled evenly over the window.
    pub fn quota(self) -> governor::Quota {
        let refill = Duration::from_secs(self.window_seconds.get().into()) / self.requests.get();
        governor::Quota::with_period(refill.max(Duration::from_nanos(1)))
            .unwrap_or_else(|| governor::Quota::per_second(self.requests))
            .allow_burst(self.requests)
    }
}

/// The process's environment, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "this is the one room that may")]
    pub fn read() -> Self {
        Self(std::env::vars().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The same with one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// `HOOKPACK_SECRET_GITHUB_WEBHOOK` as `github_webhook`, and so on.
    fn secrets(&self) -> BTreeMap<String, String> {
        // A setting such as `secret_grants` is no secret.
        let settings: Vec<_> =
            Config::keys().iter().map(|key| format!("HOOKPACK_{}", key.to_uppercase())).collect();
        let secret = |(name, value): (&String, &String)| {
            let secret = name.strip_prefix("HOOKPACK_SECRET_").filter(|_| !settings.contains(name))?;
            Some((secret.to_lowercase(), value.clone()))
        };
        self.0.iter().filter_map(secret).collect()
    }
}

impl Config {
    /// Puts the four sources together; an error names the source and what is wrong in it.
    pub fn load(file: Option<&Path>, environment: &Environment, flags: Map<String, Value>) -> Result<Self> {
        let mut merged = match file {
            Some(path) => read_file(path)?,
            None => Map::new(),
        };
        for key in Self::keys() {
            let name = format!("HOOKPACK_{}", key.to_uppercase());
            let alias = (key == "database_url").then(|| environment.get("DATABASE_URL")).flatten();
            if let Some(text) = environment.get(&name).or(alias) {
                merged.insert(key.clone(), value_of(&key, text).with_context(|| name)?);
            }
        }
        merged.extend(flags);
        serde_json::from_value(Value::Object(merged)).context("the configuration")
    }

    /// The name of every setting.
    pub fn keys() -> Vec<String> {
        match serde_json::to_value(Self::default()) {
            Ok(Value::Object(fields)) => fields.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
    }

    pub fn public_url(&self) -> String {
        let given = self.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
        given.unwrap_or_else(|| format!("http://{}", self.listen))
    }

    pub fn admin_token_file(&self) -> PathBuf {
        self.data_dir.join("admin-token")
    }

    pub fn master_key_file(&self) -> PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| self.data_dir.join("master-key"))
    }

    pub fn secret_sources(&self, environment: &Environment) -> SecretSources {
        SecretSources { environment: environment.secrets(), folder: self.secrets_dir.clone() }
    }

    /// What the configuration grants.
    pub fn secret_grants(&self) -> Grants {
        let mut grants = Grants::default();
        for (name, pack_refs) in &self.secret_grants {
            for pack_ref in pack_refs {
                grants.add(name, pack_ref);
            }
        }
        grants
    }

    pub fn writers(&self) -> usize {
        self.writers.unwrap_or(if cores() > 2 { 2 } else { 1 }).max(1)
    }

    pub fn mapper_workers(&self) -> usize {
        self.mapper_workers.unwrap_or_else(|| (4 * cores()).max(8)).clamp(1, 256)
    }

    pub fn large_body_workers(&self) -> usize {
        self.large_body_workers.unwrap_or_else(cores).max(1)
    }

    pub fn mapper_cache_dir(&self) -> PathBuf {
        self.mapper_cache_dir.clone().unwrap_or_else(|| self.data_dir.join("mappers"))
    }

    /// On Linux the very program that runs, also when its file was replaced meanwhile.
    pub fn mapper_compiler(&self) -> PathBuf {
        let own = || {
            if cfg!(target_os = "linux") {
                return PathBuf::from("/proc/self/exe");
            }
            std::env::current_exe().unwrap_or_else(|_| PathBuf::from("hookpack"))
        };
        self.mapper_compiler.clone().unwrap_or_else(own)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Networks, or single addresses.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let network = |text: &String| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let told = |_| de::Error::custom(format!("`{text}` is no address or network"));
        text.parse::<IpNet>().or_else(|_| address()).map_err(told)
    };
    texts.iter().map(network).collect()
}

fn read_file(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    if let Ok(Value::Object(fields)) = serde_saphyr::from_str(&text)
        && let Some(wrong) = fields.keys().find(|key| !Config::keys().contains(key))
    {
        let line = text
            .lines()
            .position(|line| line.trim_start().trim_start_matches(['"', '\'']).starts_with(wrong.as_str()));
        let line = line.map_or(String::new(), |line| format!("{}:", line + 1));
        let keys = Config::keys();
        let known: Vec<_> = keys.iter().map(String::as_str).collect();
        let help = nearest(wrong, &known)
            .map_or("the README lists them all".to_owned(), |key| format!("did you mean `{key}`?"));
        bail!("{}:{line} there is no setting `{wrong}`; {help}", path.display());
    }
    // Read as the settings first: this error knows line and column.
    if let Err(error) = serde_saphyr::from_str::<Config>(&text) {
        bail!("{}: {error}", path.display());
    }
    match serde_saphyr::from_str(&text).with_context(|| path.display().to_string())? {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Map::new()),
        _ => bail!("{}: the configuration is a mapping of settings to values", path.display()),
    }
}

/// One value of the environment: YAML, or the text itself where a setting is text that looks like a number.
fn value_of(key: &str, text: &str) -> Result<Value> {
    let alone = |value: Value| {
        serde_json::from_value::<Config>(Value::Object([(key.to_owned(), value)].into_iter().collect()))
    };
    let parsed = serde_saphyr::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    match alone(parsed.clone()) {
        Ok(_) => Ok(parsed),
        Err(error) => match alone(Value::String(text.to_owned())) {
            Ok(_) => Ok(Value::String(text.to_owned())),
            Err(_) => bail!("{error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookpack.yaml");
        fs::write(&file, "listen: 127.0.0.1:1\npacks: from-file\ndata_dir: from-file\n").unwrap();
        let environment = environment(&[
            ("HOOKPACK_PACKS", "from-environment"),
            ("HOOKPACK_DATA_DIR", "from-environment"),
            ("HOOKPACK_TRUSTED_PROXIES", "[10.0.0.0/8, 192.0.2.1]"),
            ("DATABASE_URL", "postgres://x"),
        ]);
        let flags = [("packs".to_owned(), Value::from("from-flag"))].into_iter().collect();
        let config = Config::load(Some(&file), &environment, flags).unwrap();

        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.packs, Path::new("from-flag"));
        assert_eq!(config.data_dir, Path::new("from-environment"));
        assert_eq!(config.trusted_proxies.len(), 2);
        assert_eq!(config.database_url.as_deref(), Some("postgres://x"));
    }

    #[test]
    fn a_wrong_value_names_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookpack.yaml");
        fs::write(&file, "packs: here\nlisten: nowhere\n").unwrap();
        let error = Config::load(Some(&file), &Environment::default(), Map::new()).unwrap_err().to_string();
        assert!(error.contains("hookpack.yaml") && error.contains("line 2"), "{error}");

        let error = format!(
            "{:#}",
            Config::load(None, &environment(&[("HOOKPACK_LISTEN", "x")]), Map::new()).unwrap_err()
        );
        assert!(error.starts_with("HOOKPACK_LISTEN"), "{error}");
    }
}
