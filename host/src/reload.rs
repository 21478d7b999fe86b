//! Keeping what runs in step with the packs folder.
//!
//! What has changed is looked for by what the file system says of it, loaded once it has been quiet for a while, and
//! swapped in whole, together with all that changed at the same time. What is broken changes nothing but what is told.

mod burst;
mod ears;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::{JoinError, JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until, timeout},
};

use self::{
    burst::Burst,
    ears::{Ears, Where},
    report::report,
};
use crate::{
    clock::Clock,
    config::Config,
    host::{Host, Watching},
    metrics::Metrics,
    pack::{self, Entry, Fingerprint, Loaded, Reader, diagnostics::Report},
    registry::Registry,
    wasm::Sandbox,
};

/// Packs that are loaded at the same time are swapped in together; one that takes longer is not waited for.
const TOGETHER: Duration = Duration::from_millis(250);
/// What is gone may come back under another name: its end waits for what is new, but no longer.
const FAREWELL: Duration = Duration::from_secs(10);
/// A first look waits no longer for packs that go on changing.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// Somebody is told of a pack that has been changing for so long.
const LONG: Duration = Duration::from_mins(1);
/// Packs that are loaded at a time. One whose mapper has to be compiled waits for its turn there, and nobody for it.
const LOADS_MAX: usize = 32;
/// Changes come in crowds: after the first, it is listened a little longer before anybody looks.
const CROWD: Duration = Duration::from_millis(20);
/// How long the database may take to look keys up.
const KEYS_WAIT: Duration = Duration::from_secs(10);
/// How long until the database is asked again for keys.
const RETRY: Duration = Duration::from_secs(1);

/// Watches the packs folder, loads what changes, and puts it to work.
pub struct Keeper {
    config: Arc<Config>,
    sandbox: Arc<Sandbox>,
    metrics: Arc<Metrics>,
    ears: Ears,
    spots: BTreeMap<String, Spot>,
    loads: JoinSet<Loading>,
    turns: Arc<Semaphore>,
    /// Whether everything is listened to as it was last seen.
    all_heard: bool,
    /// The file system that the folder was on.
    root: Option<u64>,
    strays: Report,
    /// Why the folder itself can't be looked at.
    folder_fault: Option<String>,
    next_look: Instant,
    ears_again: Instant,
    /// Since when something waits to be swapped in.
    arrived: Option<Instant>,
    /// The database was away: not before.
    not_before: Option<Instant>,
    /// Somebody wants keys to be looked up again, and to be told when all is done.
    afresh: bool,
    asks: Vec<Ask>,
    /// Until the first look is over, what the file system says of a change has to do: nobody has seen it.
    starting: bool,
}

struct Ask {
    since: Instant,
    answer: oneshot::Sender<()>,
}

/// One name in the packs folder.
#[derive(Default)]
struct Spot {
    /// What it held when it was last loaded.
    entry: Option<Arc<Entry>>,
    /// How its files were then, or are for the load that is under way.
    fingerprint: Option<Fingerprint>,
    burst: Option<Burst>,
    loading: bool,
    /// To be read again though it has not changed.
    again: bool,
    /// Since when it is gone for good.
    gone: Option<Instant>,
}

/// How the folder is at one moment.
struct Looked {
    root: Option<u64>,
    seen: BTreeMap<String, Option<Fingerprint>>,
    strays: Report,
}

/// A load that has ended.
struct Loading {
    name: String,
    entry: Entry,
    /// How the files are now: whether somebody wrote while we read.
    after: Option<Fingerprint>,
}

impl Keeper {
    pub fn new(config: &Config, sandbox: Arc<Sandbox>, metrics: Arc<Metrics>) -> Self {
        let now = Instant::now();
        let mut config = config.clone();
        // What the system tells is told in absolute paths.
        config.packs = std::path::absolute(&config.packs).unwrap_or(config.packs);
        Self {
            ears: Ears::new(&config),
            config: Arc::new(config),
            sandbox,
            metrics,
            spots: BTreeMap::new(),
            loads: JoinSet::new(),
            turns: Arc::new(Semaphore::new(LOADS_MAX)),
            all_heard: false,
            root: None,
            strays: Report::default(),
            folder_fault: None,
            next_look: now,
            ears_again: now + ears::RETRY,
            arrived: None,
            not_before: None,
            afresh: false,
            asks: Vec::new(),
            starting: true,
        }
    }

    /// Everything that is there at start, once it is whole. An error is the folder's own.
    pub async fn first(&mut self, clock: &Clock) -> Result<Loaded> {
        let until = Instant::now() + FIRST_LOOK;
        self.look(&Where { everywhere: true, ..Where::default() }).await;
        if let Some(fault) = &self.folder_fault {
            anyhow::bail!("{fault}");
        }
        // What goes on changing is waited for so long, what loads until it has: that has limits of its own.
        while !self.loads.is_empty() || (self.is_busy(Instant::now()) && Instant::now() < until) {
            let due = self.next_burst().unwrap_or(self.next_look);
            tokio::select! {
                Some(loading) = self.loads.join_next() => self.arrive(loading),
                () = sleep_until(due) => self.look(&Where::default()).await,
            }
        }
        (self.arrived, self.starting) = (None, false);
        let mut loaded = pack::settle(&self.entries(), &Loaded::default(), clock.now());
        loaded.strays = self.strays.clone();
        report(&pack::changes(&Loaded::default(), &loaded), self, &self.metrics);
        Ok(loaded)
    }

    /// Goes on for as long as the host does.
    pub async fn run(mut self, host: Arc<Host>, mut asks: mpsc::Receiver<oneshot::Sender<()>>) {
        self.tell(&host);
        loop {
            let due = self.next_due();
            let found = tokio::select! {
                found = self.ears.listen() => {
                    sleep(CROWD).await;
                    found
                }
                Some(loading) = self.loads.join_next() => {
                    self.arrive(loading);
                    Where::default()
                }
                Some(answer) = asks.recv() => {
                    self.asked(answer);
                    Where { everywhere: true, ..Where::default() }
                }
                () = sleep_until(due) => Where::default(),
            };
            self.look(&found).await;
            if let Err(error) = self.swap(&host).await {
                tracing::warn!(error = %format!("{error:#}"), "packs have changed, and their keys can't be looked up: tried again");
                self.not_before = Some(Instant::now() + RETRY);
            }
            self.tell(&host);
            self.answer();
        }
    }

    /// When there is something to do even if nothing is heard.
    fn next_due(&self) -> Instant {
        let farewells = self.spots.values().filter_map(|spot| Some(spot.gone? + FAREWELL));
        let swaps = farewells.chain(self.arrived.map(|arrived| arrived + TOGETHER));
        // While the database is away there is nothing to swap.
        let swap = swaps.min().map(|swap| self.not_before.map_or(swap, |time| swap.max(time)));
        let asks = self.asks.iter().map(|ask| ask.since + FIRST_LOOK);
        self.next_burst().into_iter().chain(swap).chain(asks).fold(self.next_look, Instant::min)
    }

    /// When the next burst is over. One that nobody can look at, or that waits for a load to end, is not waited for.
    fn next_burst(&self) -> Option<Instant> {
        let waiting = |spot: &&Spot| self.folder_fault.is_none() && !spot.loading;
        let bursts = self.spots.values().filter(waiting).filter_map(|spot| spot.burst.as_ref());
        bursts.map(|burst| burst.due(self.quiet())).min()
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(self.config.watch_quiet_ms)
    }

    /// A full look, whatever the file system says: everything is read.
    fn asked(&mut self, answer: oneshot::Sender<()>) {
        self.sandbox.forget_refusals();
        self.afresh = true;
        self.asks.push(Ask { since: Instant::now(), answer });
        for spot in self.spots.values_mut() {
            spot.again = spot.entry.is_some();
        }
    }

    /// Looks where something was heard, where it was time to, and, now and then, everywhere; loads what has settled.
    async fn look(&mut self, found: &Where) {
        let now = Instant::now();
        let regular = now >= self.next_look;
        let everywhere = found.everywhere || regular;
        let mut names = found.names.clone();
        // Due within a moment of each other is due together: a pack that was renamed goes and comes at once.
        let horizon = now + self.quiet() / 10;
        let due = |spot: &Spot| {
            !spot.loading && spot.burst.as_ref().is_some_and(|burst| burst.due(self.quiet()) <= horizon)
        };
        names.extend(self.spots.iter().filter(|(_, spot)| due(spot)).map(|(name, _)| name.clone()));
        if !everywhere && names.is_empty() {
            return;
        }
        if regular {
            self.next_look = now + self.ears.interval();
            self.retry_ears(now);
        }
        let unread = regular || !self.asks.is_empty();
        let Some(seen) = self.take_fingerprints(names, everywhere).await else { return };
        let now = Instant::now();
        for (name, fingerprint) in seen {
            self.saw(&name, fingerprint, now, unread);
        }
        self.settle(now);
        self.listen_on().await;
    }

    fn retry_ears(&mut self, now: Instant) {
        if self.ears.fault.is_some() && now >= self.ears_again {
            self.ears_again = now + ears::RETRY;
            self.ears.start();
        }
    }

    /// How these entries are now; `None` when the folder can't be looked at: then all stays as it is.
    async fn take_fingerprints(
        &mut self,
        mut names: BTreeSet<String>,
        everywhere: bool,
    ) -> Option<BTreeMap<String, Option<Fingerprint>>> {
        if everywhere {
            names.extend(self.spots.keys().cloned());
        }
        let config = self.config.clone();
        // Somebody who asks for a look knows what is there.
        let root = self.root.filter(|_| self.asks.is_empty());
        let looked = spawn_blocking(move || {
            let listing = pack::list(&config.packs, "")?;
            let own = std::fs::metadata(&config.packs).map(|about| about.dev()).ok();
            if listing.names.is_empty() && root.is_some() && own != root {
                let packs = config.packs.display();
                return Err(format!(
                    "the packs folder {packs} is empty and on another file system than before: has it been unmounted?"
                ));
            }
            if everywhere {
                names.extend(listing.names.iter().cloned());
            }
            let take = |name: String| {
                let is_entry = pack::is_entry(&config.packs, &name);
                let path = config.packs.join(&name);
                let fingerprint = is_entry.then(|| Fingerprint::of(&path, config.pack_files_max)).flatten();
                (name, fingerprint)
            };
            Ok(Looked { root: own, seen: names.into_iter().map(take).collect(), strays: listing.strays })
        });
        let looked =
            looked.await.unwrap_or_else(|error| Err(format!("looking at the packs folder failed: {error}")));
        match looked {
            Ok(Looked { root, seen, strays }) => {
                if self.folder_fault.take().is_some() {
                    tracing::info!("the packs folder can be read again");
                }
                for stray in strays.warnings.iter().filter(|stray| !self.strays.warnings.contains(stray)) {
                    tracing::warn!("{}: {}", stray.file, stray.message);
                }
                (self.root, self.strays) = (root, strays);
                Some(seen)
            }
            Err(fault) => {
                if self.folder_fault.as_ref() != Some(&fault) {
                    tracing::warn!(fault, "what runs keeps running");
                }
                self.folder_fault = Some(fault);
                // Soon again: it may come back at any time.
                let poll = Duration::from_millis(self.config.watch_poll_ms.max(1));
                self.next_look = self.next_look.min(Instant::now() + poll);
                None
            }
        }
    }

    /// Takes note of how an entry is; what could not be read the last time is tried again where `unread`.
    fn saw(&mut self, name: &str, fingerprint: Option<Fingerprint>, now: Instant, unread: bool) {
        if fingerprint.is_none() && !self.spots.contains_key(name) {
            return;
        }
        let quiet = self.quiet();
        let spot = self.spots.entry(name.to_owned()).or_default();
        if let Some(burst) = &mut spot.burst {
            let changed = burst.look(fingerprint, now);
            self.all_heard &= !changed;
            if changed && !burst.told && now.duration_since(burst.began) > LONG {
                burst.told = true;
                tracing::warn!(
                    entry = name,
                    "this pack has been changing for a minute and more: it is loaded when it stops"
                );
            }
            return;
        }
        let again = std::mem::take(&mut spot.again)
            || (unread && spot.entry.as_ref().is_some_and(|entry| entry.is_unread));
        let age = match (spot.fingerprint == fingerprint, self.starting) {
            (true, _) if !again || spot.loading || spot.gone.is_some() => return,
            (true, _) => quiet,
            (false, true) => age(fingerprint.as_ref()),
            (false, false) => Duration::ZERO,
        };
        spot.gone = None;
        spot.burst = Some(Burst::new(fingerprint, now, age));
        self.all_heard = false;
    }

    /// Loads what has been quiet for long enough.
    fn settle(&mut self, now: Instant) {
        let quiet = self.quiet();
        let horizon = now + quiet / 10;
        for (name, spot) in &mut self.spots {
            let due = spot.burst.as_ref().is_some_and(|burst| burst.due(quiet) <= horizon);
            if !due || spot.loading {
                continue;
            }
            let Some(burst) = spot.burst.take() else { continue };
            spot.fingerprint = burst.seen;
            if spot.fingerprint.is_none() {
                spot.gone = Some(now);
                continue;
            }
            spot.loading = true;
            let load = load(
                name.clone(),
                spot.entry.clone(),
                self.config.clone(),
                self.sandbox.clone(),
                self.turns.clone(),
            );
            self.loads.spawn(load);
        }
    }

    /// Listens to what is there now; what nobody listened to so far is looked at once more.
    async fn listen_on(&mut self) {
        if self.all_heard {
            return;
        }
        self.all_heard = true;
        let seen = self.spots.iter().filter_map(|(name, spot)| {
            let seen = spot.burst.as_ref().map_or(spot.fingerprint.as_ref(), |burst| burst.seen.as_ref());
            Some((name.clone(), seen?.clone()))
        });
        let Where { mut names, everywhere } = self.ears.turn_to(seen.collect()).await;
        // It may have gone deaf just now.
        self.next_look = self.next_look.min(Instant::now() + self.ears.interval());
        // What is changing is looked at again in any case.
        names.retain(|name| self.spots.get(name).is_some_and(|spot| spot.burst.is_none()));
        if names.is_empty() && !everywhere {
            return;
        }
        let Some(seen) = self.take_fingerprints(names, everywhere).await else { return };
        let now = Instant::now();
        for (name, fingerprint) in seen {
            self.saw(&name, fingerprint, now, false);
        }
    }

    fn arrive(&mut self, loading: Result<Loading, JoinError>) {
        let Loading { name, entry, after } = match loading {
            Ok(loading) => loading,
            // Only when the host stops.
            Err(error) => return tracing::debug!(%error, "a load was given up"),
        };
        let now = Instant::now();
        let Some(spot) = self.spots.get_mut(&name) else { return };
        spot.loading = false;
        self.metrics.pack_load(entry.took);
        if after != spot.fingerprint {
            // Read while somebody wrote: what came of it counts for nothing.
            spot.fingerprint = None;
            spot.burst.get_or_insert_with(|| Burst::new(after, now, Duration::ZERO));
            return;
        }
        spot.entry = Some(Arc::new(entry));
        self.arrived.get_or_insert(now);
    }

    fn is_busy(&self, now: Instant) -> bool {
        let changing =
            |spot: &Spot| spot.burst.as_ref().is_some_and(|burst| now.duration_since(burst.began) < FAREWELL);
        !self.loads.is_empty() || self.spots.values().any(changing)
    }

    /// What each entry holds that is there.
    fn entries(&self) -> BTreeMap<String, Arc<Entry>> {
        let entry = |(name, spot): (&String, &Spot)| Some((name.clone(), spot.entry.clone()?));
        self.spots.iter().filter_map(entry).collect()
    }

    /// Swaps in what has arrived, if it is time.
    async fn swap(&mut self, host: &Arc<Host>) -> Result<()> {
        let now = Instant::now();
        let busy = self.is_busy(now);
        // Not put off for ever by packs that go on changing.
        let impatient = self.asks.first().is_some_and(|ask| now >= ask.since + FIRST_LOOK);
        let afresh = self.afresh && (!busy || impatient);
        let arrived = self.arrived.is_some_and(|arrived| self.loads.is_empty() || now >= arrived + TOGETHER);
        // What an operator changes meanwhile comes before or after.
        let _turn = host.rebuilding.lock().await;
        let before = host.registry.load_full();
        let heirs = self.heirs();
        let leaves = |name: &str, spot: &Spot| {
            spot.gone.is_some_and(|gone| {
                let has_heir = || before.loaded.reference_of(name).is_some_and(|own| heirs.contains(own));
                !busy || now >= gone + FAREWELL || has_heir()
            })
        };
        let wanted = arrived || afresh || self.spots.iter().any(|(name, spot)| leaves(name, spot));
        if !wanted || self.not_before.is_some_and(|time| now < time) {
            return Ok(());
        }
        // Until it is done: the database may be away.
        self.arrived.get_or_insert(now);
        self.spots.retain(|name, spot| !leaves(name, spot));
        let began = Instant::now();
        let after = pack::settle(&self.entries(), &before.loaded, host.clock.now());
        let changes = pack::changes(&before.loaded, &after);
        if afresh || pack::differ(&before.loaded, &after) {
            let building = Registry::build(after, &before, afresh, host.keyring());
            let registry = timeout(KEYS_WAIT, building).await.context("the database does not answer")??;
            host.install(registry).await.context("putting packs to work")?;
            report(&changes, self, &self.metrics);
            self.metrics.pack_swap(began.elapsed());
        }
        self.afresh &= !afresh;
        (self.arrived, self.not_before) = (None, None);
        Ok(())
    }

    /// The refs of packs that are there and sound.
    fn heirs(&self) -> BTreeSet<String> {
        let sound = |spot: &Spot| Some(spot.entry.as_ref()?.holds.as_ref().ok()?.pack.reference.clone());
        self.spots.values().filter(|spot| spot.gone.is_none()).filter_map(sound).collect()
    }

    /// Leaves word of how watching goes where the API finds it.
    fn tell(&self, host: &Host) {
        let changing = self.spots.iter().filter(|(_, spot)| spot.burst.is_some() || spot.loading);
        let watching = Watching {
            mode: if self.ears.hear() { "events" } else { "polling" },
            fault: self.ears.fault.clone(),
            folder_fault: self.folder_fault.clone(),
            changing: changing.map(|(name, _)| name.clone()).collect(),
        };
        if **host.watching.load() != watching {
            host.watching.store(Arc::new(watching));
        }
    }

    /// Answers who asked for a look, once everything that was there is loaded.
    fn answer(&mut self) {
        let now = Instant::now();
        let settled = !self.is_busy(now) && !self.afresh && self.arrived.is_none();
        let patient = |ask: &Ask| now < ask.since + FIRST_LOOK;
        let (waiting, done) = self.asks.drain(..).partition::<Vec<_>, _>(|ask| !settled && patient(ask));
        self.asks = waiting;
        for ask in done {
            // Whoever asked may have gone meanwhile.
            ask.answer.send(()).ok();
        }
    }

    /// How long an entry took to load.
    fn took(&self, path: &std::path::Path) -> Duration {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.spots.get(name).and_then(|spot| spot.entry.as_ref()).map_or(Duration::ZERO, |entry| entry.took)
    }
}

/// How long ago an entry changed, by the file system; none, where its clock is ahead of ours.
fn age(fingerprint: Option<&Fingerprint>) -> Duration {
    // The system's own time: files know no other.
    let changed_at = fingerprint.and_then(|fingerprint| fingerprint.changed_at);
    let age = changed_at.and_then(|at| Duration::try_from(Clock::System.now() - at).ok());
    age.unwrap_or_default().min(LONG)
}

async fn load(
    name: String,
    before: Option<Arc<Entry>>,
    config: Arc<Config>,
    sandbox: Arc<Sandbox>,
    turns: Arc<Semaphore>,
) -> Loading {
    let _turn = turns.acquire_owned().await;
    let (own, shared) = (name.clone(), config.clone());
    let loading = spawn_blocking(move || {
        let reader = Reader { limits: &shared, sandbox: &sandbox };
        let entry = pack::load_entry(&shared.packs, &own, "", reader, before.as_deref());
        let after = Fingerprint::of(&shared.packs.join(&own), shared.pack_files_max);
        (entry, after)
    });
    let (entry, after) = loading.await.unwrap_or_else(|error| {
        // A fault of ours: the pack is refused like any other, and read again when it changes.
        tracing::error!(entry = name, %error, "loading a pack failed");
        let after = Fingerprint::of(&config.packs.join(&name), config.pack_files_max);
        (Entry::failed(&config.packs, &name, &error.to_string()), after)
    });
    Loading { name, entry, after }
}
