//! What a packs folder comes to: which pack runs of each entry, what was refused, what went; and what changed.
//!
//! An entry that is broken keeps what last ran of it. A ref that two entries claim goes to neither: what ran, runs on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use time::OffsetDateTime;

use super::{
    Pack,
    diagnostics::Report,
    load::{Entry, Refused, Sound},
};

/// Everything that a packs folder holds, and held.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// In the order of names.
    pub standings: Vec<Standing>,
    /// Packs that ran and are not there any more, by ref.
    pub removed: BTreeMap<String, Removed>,
    /// What looks like a pack and isn't read.
    pub strays: Report,
}

/// An entry of the packs folder: what runs of it, and what is wrong with what it holds now.
#[derive(Clone, Debug)]
pub struct Standing {
    pub entry: Arc<Entry>,
    pub live: Option<Live>,
    pub refused: Option<Arc<Refused>>,
}

/// A pack that runs.
#[derive(Clone, Debug)]
pub struct Live {
    pub pack: Arc<Pack>,
    pub warnings: Arc<Report>,
    pub loaded_at: OffsetDateTime,
}

/// A pack that ran once.
#[derive(Clone, Debug)]
pub struct Removed {
    /// Unknown of a pack that went before this host started.
    pub version: Option<String>,
    pub removed_at: Option<OffsetDateTime>,
}

/// Every state that the API and the metrics speak of.
pub const STATES: [&str; 4] = ["live", "live_newer_refused", "refused", "removed"];

impl Standing {
    /// The ref of what runs, or of what was refused.
    pub fn reference(&self) -> Option<&str> {
        let refused = || self.refused.as_ref()?.reference.as_deref();
        self.live.as_ref().map(|live| live.pack.reference.as_str()).or_else(refused)
    }

    /// One of [`STATES`].
    pub fn state(&self) -> &'static str {
        match (&self.live, &self.refused) {
            (Some(_), None) => "live",
            (Some(_), Some(_)) => "live_newer_refused",
            (None, _) => "refused",
        }
    }
}

impl Loaded {
    /// Packs that ran and of which nothing is there, not even a broken version.
    pub fn gone(&self) -> impl Iterator<Item = (&String, &Removed)> {
        let is_here =
            |reference: &str| self.standings.iter().any(|standing| standing.reference() == Some(reference));
        self.removed.iter().filter(move |(reference, _)| !is_here(reference))
    }

    /// The refs of all packs that are there, also of those that are refused.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.standings.iter().filter_map(Standing::reference)
    }

    /// The packs that run.
    pub fn packs(&self) -> impl Iterator<Item = &Arc<Pack>> {
        self.live().map(|live| &live.pack)
    }

    pub fn live(&self) -> impl Iterator<Item = &Live> {
        self.standings.iter().filter_map(|standing| standing.live.as_ref())
    }

    /// The ref of what runs of an entry.
    pub fn reference_of(&self, entry: &str) -> Option<&str> {
        let standing = self.standings.iter().find(|standing| standing.entry.name == entry)?;
        standing.live.as_ref().map(|live| live.pack.reference.as_str())
    }

    pub fn pack(&self, reference: &str) -> Option<&Arc<Pack>> {
        self.packs().find(|pack| pack.reference == reference)
    }

    pub fn refused(&self) -> impl Iterator<Item = &Refused> {
        self.standings.iter().filter_map(|standing| standing.refused.as_deref())
    }

    /// Takes note of packs that went before this host started: of each, something is kept.
    pub fn remember(&mut self, references: Vec<String>) {
        for reference in references {
            let is_here = self.standings.iter().any(|standing| standing.reference() == Some(&reference));
            if !is_here {
                self.removed.entry(reference).or_insert(Removed { version: None, removed_at: None });
            }
        }
    }

    /// Every fault and warning, file by file.
    pub fn report(&self) -> Report {
        let mut report = self.strays.clone();
        for live in self.live() {
            report.absorb((*live.warnings).clone());
        }
        for refused in self.refused() {
            report.absorb(refused.report.clone());
        }
        report.sort();
        report
    }
}

/// Says of each entry what runs of it from `now` on, given what ran `before`.
pub fn settle(entries: &BTreeMap<String, Arc<Entry>>, before: &Loaded, now: OffsetDateTime) -> Loaded {
    let ran = ran(before);
    let claims = claims(entries, &ran);
    let mut standings: Vec<_> = entries.values().map(|entry| standing(entry, &claims, &ran, now)).collect();
    leave_running(&mut standings, &claims, &ran);
    let running: BTreeSet<&str> = standings
        .iter()
        .filter_map(|standing| Some(standing.live.as_ref()?.pack.reference.as_str()))
        .collect();
    let mut removed = before.removed.clone();
    for (reference, (_, live)) in &ran {
        let version = Some(live.pack.version.clone());
        removed.insert(reference.clone(), Removed { version, removed_at: Some(now) });
    }
    removed.retain(|reference, _| !running.contains(reference.as_str()));
    Loaded { standings, removed, strays: before.strays.clone() }
}

/// What runs, by ref, with the entry that it is of.
type Ran = BTreeMap<String, (String, Live)>;

fn ran(before: &Loaded) -> Ran {
    let one = |standing: &Standing| {
        let live = standing.live.clone()?;
        Some((live.pack.reference.clone(), (standing.entry.name.clone(), live)))
    };
    before.standings.iter().filter_map(one).collect()
}

/// Which entries want each ref: by what they hold, or, where that is broken, by what ran of them.
fn claims(entries: &BTreeMap<String, Arc<Entry>>, ran: &Ran) -> BTreeMap<String, Vec<String>> {
    let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, entry) in entries {
        match &entry.holds {
            Ok(sound) => claims.entry(sound.pack.reference.clone()).or_default().push(name.clone()),
            Err(_) => {
                for reference in ran_of(name, ran) {
                    claims.entry(reference.clone()).or_default().push(name.clone());
                }
            }
        }
    }
    claims
}

fn ran_of<'a>(entry: &'a str, ran: &'a Ran) -> impl Iterator<Item = &'a String> {
    ran.iter().filter(move |(_, (of, _))| of == entry).map(|(reference, _)| reference)
}

/// An entry by itself: a sound pack that nobody else claims runs; anything else is refused.
fn standing(
    entry: &Arc<Entry>,
    claims: &BTreeMap<String, Vec<String>>,
    ran: &Ran,
    now: OffsetDateTime,
) -> Standing {
    let refused =
        |refused: Arc<Refused>| Standing { entry: entry.clone(), live: None, refused: Some(refused) };
    let sound = match &entry.holds {
        Err(faults) => return refused(faults.clone()),
        Ok(sound) => sound,
    };
    let others = claims[&sound.pack.reference].iter().filter(|name| **name != entry.name);
    let others: Vec<_> = others.map(String::as_str).collect();
    if !others.is_empty() {
        return refused(Arc::new(twin(sound, &others)));
    }
    let same = ran.get(&sound.pack.reference).map(|(_, live)| live);
    let same = same.filter(|live| live.pack.content_hash == sound.pack.content_hash);
    let live = Live {
        pack: sound.pack.clone(),
        warnings: Arc::new(sound.warnings.clone()),
        loaded_at: same.map_or(now, |live| live.loaded_at),
    };
    Standing { entry: entry.clone(), live: Some(live), refused: None }
}

/// Of two packs with one ref neither silently wins.
fn twin(sound: &Sound, others: &[&str]) -> Refused {
    let pack = &sound.pack;
    let others: Vec<_> = others.iter().map(|other| format!("`{other}`")).collect();
    let mut report = Report::default();
    let message = format!("the ref `{}` is also that of {}", pack.reference, others.join(" and "));
    let help = "a ref is unique on a host: rename or remove one of them".to_owned();
    report.fault(&pack.ref_at, message, help);
    Refused {
        path: pack.path.clone(),
        reference: Some(pack.reference.clone()),
        version: Some(pack.version.clone()),
        is_nameless: false,
        report,
    }
}

/// What ran and is broken or contested now runs on: as that of the entry that it was of, or else of the first that
/// claims its ref.
fn leave_running(standings: &mut [Standing], claims: &BTreeMap<String, Vec<String>>, ran: &Ran) {
    // First everybody's own: an heir must not take the place of a pack that is still there.
    for (reference, (of, live)) in ran {
        if !runs(standings, reference) {
            give(standings, live, |standing| standing.entry.name == *of);
        }
    }
    for (reference, (_, live)) in ran {
        if runs(standings, reference) {
            continue;
        }
        give(standings, live, |standing| {
            let of_that_ref = |refused: &Arc<Refused>| refused.reference.as_ref() == Some(reference);
            claims.get(reference).is_some_and(|names| names.contains(&standing.entry.name))
                || standing.refused.as_ref().is_some_and(of_that_ref)
        });
    }
}

fn runs(standings: &[Standing], reference: &str) -> bool {
    standings
        .iter()
        .any(|standing| standing.live.as_ref().is_some_and(|live| live.pack.reference == reference))
}

/// To the first of these entries of which nothing runs.
fn give(standings: &mut [Standing], live: &Live, to: impl Fn(&Standing) -> bool) {
    if let Some(standing) = standings.iter_mut().find(|standing| standing.live.is_none() && to(standing)) {
        standing.live = Some(live.clone());
    }
}

/// Whether anything is to be seen of the difference, were it only in what the API shows.
pub fn differ(before: &Loaded, after: &Loaded) -> bool {
    let same = |(one, other): (&Standing, &Standing)| {
        let runs = |standing: &Standing| standing.live.as_ref().map(|live| Arc::as_ptr(&live.pack));
        let faults = |standing: &Standing| standing.refused.as_ref().map(|refused| refused.report.clone());
        one.entry.name == other.entry.name
            && one.entry.content_hash == other.entry.content_hash
            && runs(one) == runs(other)
            && faults(one) == faults(other)
    };
    before.standings.len() != after.standings.len()
        || !before.standings.iter().zip(&after.standings).all(same)
        || !before.removed.keys().eq(after.removed.keys())
}

/// One thing that is different from before, as the log tells it.
#[derive(Clone, Debug)]
pub enum Change {
    Loaded(Live),
    Changed {
        from: Arc<Pack>,
        to: Live,
    },
    /// The same pack under another name in the folder.
    Moved {
        from: Arc<Pack>,
        to: Live,
    },
    /// What an entry holds now does not run; `live` does.
    Refused {
        refused: Arc<Refused>,
        live: Option<Live>,
    },
    /// What was refused is gone again, and what ran runs on.
    Mended(Live),
    Removed {
        reference: String,
        version: Option<String>,
    },
}

impl Change {
    /// One word of the closed set that the log and the metrics speak.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loaded(_) => "loaded",
            Self::Changed { .. } => "changed",
            Self::Moved { .. } => "moved",
            Self::Refused { .. } => "refused",
            Self::Mended(_) => "mended",
            Self::Removed { .. } => "removed",
        }
    }
}

/// What is different: refusals first, so that a log that is read from its end shows what runs.
pub fn changes(before: &Loaded, after: &Loaded) -> Vec<Change> {
    let was = |name: &str| before.standings.iter().find(|standing| standing.entry.name == name);
    let mut changes = Vec::new();
    for standing in &after.standings {
        let Some(refused) = &standing.refused else { continue };
        let known = was(&standing.entry.name).and_then(|before| before.refused.as_ref());
        if known.is_none_or(|known| known.report != refused.report) {
            changes.push(Change::Refused { refused: refused.clone(), live: standing.live.clone() });
        }
    }
    for standing in &after.standings {
        let Some(live) = &standing.live else { continue };
        let mended = || {
            standing.refused.is_none()
                && was(&standing.entry.name).is_some_and(|before| before.refused.is_some())
        };
        match before.pack(&live.pack.reference) {
            None => changes.push(Change::Loaded(live.clone())),
            Some(from) if from.content_hash != live.pack.content_hash => {
                changes.push(Change::Changed { from: from.clone(), to: live.clone() });
            }
            Some(from) if from.path != live.pack.path => {
                changes.push(Change::Moved { from: from.clone(), to: live.clone() });
            }
            Some(_) if mended() => changes.push(Change::Mended(live.clone())),
            Some(_) => {}
        }
    }
    let is_here = |name: &str| after.standings.iter().any(|standing| standing.entry.name == name);
    let never_ran = before.standings.iter().filter(|standing| standing.live.is_none());
    let never_ran = never_ran.map(|standing| &standing.entry.name).filter(|name| !is_here(name));
    changes.extend(never_ran.map(|name| Change::Removed { reference: name.clone(), version: None }));
    let gone = after.removed.iter().filter(|(reference, _)| before.pack(reference).is_some());
    changes.extend(gone.map(|(reference, removed)| Change::Removed {
        reference: reference.clone(),
        version: removed.version.clone(),
    }));
    changes
}
