//! Hookpack's own two: mappers in their sandbox, and the field mapping.

use std::{fs, net::IpAddr, path::Path, sync::Arc, time::Duration, time::Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use hookpack::{
    config::Config,
    json,
    mapping::{Mapping, fields::Tree},
    pack::{self, Reader},
    request::Inbound,
    secret::MasterKey,
    wasm::{Anatomy, Cache, Called, Delivery, Mapper, Program, Purpose, Sandbox, Transformed},
};
use http::{HeaderMap, Method};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::datetime};
use tokio::runtime::Runtime;
use uuid::Uuid;

const NOW: OffsetDateTime = datetime!(2026-11-22 10:00:00.123456 UTC);
/// What a mapper gets to see of the headers that GitHub sends.
const HEADERS: [(&str, &str); 9] = [
    ("host", "hooks.example.com"),
    ("user-agent", "GitHub-Hookshot/044aadd"),
    ("content-type", "application/json"),
    ("accept", "*/*"),
    ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
    ("x-github-event", "push"),
    ("x-github-hook-id", "292430182"),
    ("x-github-hook-installation-target-id", "79929171"),
    ("x-github-hook-installation-target-type", "repository"),
];

pub struct Hookpack {
    pub typed: Mapper,
    pub value: Mapper,
    pub empty: Mapper,
    pub fields: Tree,
    pub request: Inbound,
    runtime: Runtime,
    cache: TempDir,
    key: MasterKey,
    components: [Vec<u8>; 2],
}

/// How long it took to make mappers ready whose artefacts lay in the cache.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// The first of a host: engine, memory and workers are made as well.
    pub first: Duration,
    /// Each after it.
    pub next: Duration,
    /// Of this: looking at the component.
    pub anatomy: Duration,
    /// Of this: reading the file and checking its seal.
    pub unsealed: Duration,
}

impl Hookpack {
    pub fn make() -> Result<Self> {
        let cache = tempfile::tempdir()?;
        let key = MasterKey::load_or_make(&cache.path().join("key"))?;
        let sandbox = sandbox(&cache, &key)?;
        let (empty, typed, value) = (component("empty")?, component("typed")?, component("value")?);
        let mapper = |component: &[u8]| {
            let program = load(&sandbox, component)?;
            anyhow::Ok(sandbox.mapper(program, "engines.mapper", "mapper".to_owned(), "{}".to_owned()))
        };
        Ok(Self {
            typed: mapper(&typed)?,
            value: mapper(&value)?,
            empty: mapper(&empty)?,
            fields: fields(&sandbox)?,
            request: request(),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?,
            cache,
            key,
            components: [empty, typed],
        })
    }

    /// By way of a worker, as a request has it.
    pub fn handed_over(&self, mapper: &Mapper, delivery: &Delivery) -> Called {
        self.runtime.block_on(mapper.transform(delivery.clone(), NOW))
    }

    /// A host starts and finds two mappers in its cache.
    pub fn load_cached(&self) -> Result<Loaded> {
        let sandbox = sandbox(&self.cache, &self.key)?;
        let [first, next] = &self.components;
        let timed = |component: &[u8]| {
            let began = Instant::now();
            let program = load(&sandbox, component)?;
            let took = began.elapsed();
            if program.about.compiled.is_some() {
                bail!("a mapper was compiled that should have been in the cache");
            }
            // Kept until the other is loaded, else the engine goes with it.
            anyhow::Ok((took, program))
        };
        let (first, _program) = timed(first)?;
        let (took, _program) = timed(next)?;
        let began = Instant::now();
        drop(Anatomy::read(next));
        let anatomy = began.elapsed();
        Ok(Loaded { first, next: took, anatomy, unsealed: self.unseal()? })
    }

    /// Opens the largest file of the cache, as `wasm/cache.rs` does.
    fn unseal(&self) -> Result<Duration> {
        let files = fs::read_dir(self.cache.path())?.flatten().map(|entry| entry.path());
        let artefacts = files.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"));
        let largest = artefacts.max_by_key(|path| fs::metadata(path).map_or(0, |about| about.len()));
        let began = Instant::now();
        let bytes = fs::read(largest.context("the cache is empty")?)?;
        let (seal, artefact) = bytes.split_at(24 + 32 + 16);
        self.key.open(seal, artefact).context("the cache has the wrong seal")?;
        Ok(began.elapsed())
    }

    /// The job as a field mapping: parsed as the host does, written as the writer does.
    pub fn map_fields(&self, payload: &[u8]) -> String {
        let payload = json::parse(payload).expect("the payload is JSON");
        let mapped = self.fields.map(&self.request, &payload).expect("the payload can be mapped");
        serde_json::to_string(&mapped).expect("what is mapped can be written")
    }
}

/// A delivery as the host makes it of a request.
pub fn delivery(payload: &Bytes, headers: bool) -> Delivery {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let attributes = [("method", "POST"), ("request-id", "01a2017a-086f-710f-a471-f6d655640d4a")];
    Delivery {
        trigger: "github.push".to_owned(),
        received_at: "2026-11-22T10:00:00.123456Z".to_owned(),
        headers: HEADERS.into_iter().filter(|_| headers).map(own).collect(),
        query: Vec::new(),
        attributes: attributes.into_iter().filter(|_| headers).map(own).collect(),
        content_type: "application/json".to_owned(),
        payload: payload.clone(),
    }
}

/// The one event's payload; nothing where there was none.
pub fn event(called: Called) -> String {
    match called.result {
        Ok(Transformed::Events(events)) => {
            events.into_iter().next().map(|event| event.payload).unwrap_or_default()
        }
        other => panic!("the mapper answered {other:?}"),
    }
}

fn sandbox(cache: &TempDir, key: &MasterKey) -> Result<Arc<Sandbox>> {
    let cache = Cache::open(cache.path(), key.clone(), u64::MAX)?;
    Ok(Sandbox::new(&Config::default(), Purpose::Serve, Some(cache)))
}

fn load(sandbox: &Sandbox, component: &[u8]) -> Result<Arc<Program>> {
    sandbox.load(component).map_err(|refused| anyhow!("{}", refused.message))
}

fn component(name: &str) -> Result<Vec<u8>> {
    let path = Path::new("pack/mappers").join(name).with_extension("wasm");
    fs::read(&path).with_context(|| format!("{}: `run` builds it", path.display()))
}

fn fields(sandbox: &Arc<Sandbox>) -> Result<Tree> {
    let limits = Config::default();
    let loaded = pack::load_one(Path::new("pack"), "", Reader { limits: &limits, sandbox });
    let (pack, _) = loaded.map_err(|refused| anyhow!("{:?}", refused.report))?;
    match &pack.triggers[0].mapping {
        Mapping::Fields(tree) => Ok(tree.clone()),
        other => bail!("pack/triggers/fields.yaml has another mapping: {other:?}"),
    }
}

fn request() -> Inbound {
    Inbound {
        id: Uuid::now_v7(),
        received_at: NOW,
        source_ip: IpAddr::from([140, 82, 115, 7]),
        method: Method::POST,
        path: "/api/v1/webhooks/wh_4kYb0cXyqZ8nT2vRm7LdPf1sHw6JuGea".to_owned(),
        query: None,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}
