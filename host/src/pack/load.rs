//! Loading: from folders on disk to packs that are ready to work, each whole or not at all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use super::{
    Declared, Pack, Trigger, archive,
    diagnostics::{Place, Report, Source},
    files::{self, Files, NoFiles},
    loaded::{self, Loaded},
    read::{self, Table},
    read_policy,
    read_schema::Schemas,
    read_trigger,
    yaml::{self, Node, Yaml},
};
use crate::{config::Config, policy::Policy, verify::handshake::Handshake, wasm::Sandbox};

/// What packs are read with.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub limits: &'a Config,
    /// Where their mappers are made ready.
    pub sandbox: &'a Sandbox,
}

/// What one entry of a packs folder holds: a pack, or the reasons why not.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the packs folder.
    pub name: String,
    pub path: PathBuf,
    pub holds: Result<Sound, Arc<Refused>>,
    /// Of its files, when they could be read.
    pub content_hash: Option<[u8; 32]>,
    /// The system failed to read them: it may not the next time, without any of them having changed.
    pub is_unread: bool,
    /// How long it took to read and to make ready.
    pub took: Duration,
}

/// A pack that could run.
#[derive(Clone, Debug)]
pub struct Sound {
    pub pack: Arc<Pack>,
    pub warnings: Report,
}

/// A pack that does not run, and why.
#[derive(Clone, Debug)]
pub struct Refused {
    pub path: PathBuf,
    /// When its `pack.yaml` could be read so far.
    pub reference: Option<String>,
    pub version: Option<String>,
    /// Whether it may be a pack that has run before, though nobody can tell which: its `pack.yaml` can't be read.
    pub is_nameless: bool,
    pub report: Report,
}

/// The names in a packs folder that are packs.
#[derive(Debug, Default)]
pub struct Listing {
    pub names: Vec<String>,
    /// What looks like a pack and isn't read.
    pub strays: Report,
}

/// Loads every pack of a folder; `shown` stands before the packs' names in reports. An error is the folder's own;
/// faults in packs are in what is returned.
pub fn load_all(packs: &Path, shown: &str, reader: Reader<'_>) -> Result<Loaded, String> {
    let Listing { names, strays } = list(packs, shown)?;
    let entry = |name: String| {
        let entry = load_entry(packs, &name, shown, reader, None);
        (name, Arc::new(entry))
    };
    Ok(Loaded { strays, ..by_themselves(&names.into_iter().map(entry).collect()) })
}

/// Loads one pack, a folder or an archive, as if its packs folder had no other; `name` is what its files are called in
/// reports.
pub fn load_alone(path: &Path, name: &str, reader: Reader<'_>) -> Loaded {
    let began = Instant::now();
    let holds = load_one(path, name, reader);
    let holds = holds.map(|(pack, warnings)| Sound { pack: Arc::new(pack), warnings });
    let content_hash = holds.as_ref().ok().map(|sound| sound.pack.content_hash);
    let (name, path) = (name.to_owned(), path.to_owned());
    let took = began.elapsed();
    let entry = Entry { name: name.clone(), path, holds, content_hash, is_unread: false, took };
    by_themselves(&[(name, Arc::new(entry))].into())
}

/// Nothing ran before, and nobody asks since when it runs.
fn by_themselves(entries: &BTreeMap<String, Arc<Entry>>) -> Loaded {
    loaded::settle(entries, &Loaded::default(), OffsetDateTime::UNIX_EPOCH)
}

/// What lies in a packs folder, in the order of names.
pub fn list(packs: &Path, shown: &str) -> Result<Listing, String> {
    let told = |error: std::io::Error| format!("the packs folder {}: {error}", packs.display());
    let mut listing = Listing::default();
    for entry in fs::read_dir(packs).map_err(told)? {
        let name = entry.map_err(told)?.file_name();
        let Some(name) = name.to_str() else {
            let place = Source::new(joined(shown, &name.to_string_lossy()), "").start();
            let help = "rename it".to_owned();
            listing.strays.warning(&place, "this is not read: its name is not UTF-8", help);
            continue;
        };
        if is_entry(packs, name) {
            listing.names.push(name.to_owned());
        } else if looks_packed(name) && !files::is_hidden(name) {
            let place = Source::new(joined(shown, name), "").start();
            let help = "pack it as `.tar.gz`: `hookpack pack bundle` does".to_owned();
            listing.strays.warning(&place, "this archive is not read", help);
        }
    }
    listing.names.sort();
    Ok(listing)
}

/// Whether a name in a packs folder is that of a pack. A folder behind a link is a folder (Kubernetes mounts packs so),
/// and a link to nowhere is one that is gone; files beside the packs are not ours.
pub fn is_entry(packs: &Path, name: &str) -> bool {
    let is_file = || fs::metadata(packs.join(name)).is_ok_and(|about| !about.is_dir());
    !files::is_hidden(name) && (archive::is_archive(name) || !is_file())
}

/// The entry that a file in a packs folder belongs to: itself, or the archive that it lies beside.
pub fn entry_of(file: &str) -> Option<String> {
    let own = [archive::CHECKSUM, archive::SIGNATURE].iter().find_map(|ending| file.strip_suffix(ending));
    let name = own.filter(|name| archive::is_archive(name)).unwrap_or(file);
    (!files::is_hidden(name)).then(|| name.to_owned())
}

fn looks_packed(name: &str) -> bool {
    [".tgz", ".tar", ".zip", ".tar.xz", ".tar.zst", ".tar.bz2"].iter().any(|ending| name.ends_with(ending))
}

fn joined(shown: &str, name: &str) -> String {
    if shown.is_empty() { name.to_owned() } else { format!("{}/{name}", shown.trim_end_matches('/')) }
}

/// Loads one entry of a packs folder. When its files are those of `before`, so is what comes of them, and nothing is
/// made anew.
pub fn load_entry(
    packs: &Path,
    name: &str,
    shown: &str,
    reader: Reader<'_>,
    before: Option<&Entry>,
) -> Entry {
    let began = Instant::now();
    let path = packs.join(name);
    let mut report = Report::default();
    let keys = &reader.limits.require_signed_packs;
    let files = Files::signed(&path, &joined(shown, name), keys, reader.limits, &mut report);
    let is_unread = files.as_ref().err() == Some(&NoFiles::Unreadable);
    let files = files.ok();
    let content_hash = files.as_ref().map(Files::content_hash);
    let same = before.filter(|before| content_hash.is_some() && before.content_hash == content_hash);
    // What was refused is looked at again: a compiler that ran out of time may have it now.
    let holds = match same.map(|before| &before.holds) {
        Some(Ok(sound)) => Ok(sound.clone()),
        Some(Err(_)) | None => load_files(&path, files, content_hash, reader, report)
            .map(|(pack, warnings)| Sound { pack: Arc::new(pack), warnings }),
    };
    Entry { name: name.to_owned(), path, holds, content_hash, is_unread, took: began.elapsed() }
}

impl Entry {
    /// One that could not even be looked at, for a reason that is ours.
    pub fn failed(packs: &Path, name: &str, reason: &str) -> Self {
        let path = packs.join(name);
        let mut report = Report::default();
        report.fault(&Source::new(name, "").start(), format!("loading this pack failed: {reason}"), None);
        let refused =
            Refused { path: path.clone(), reference: None, version: None, is_nameless: true, report };
        Self {
            name: name.to_owned(),
            path,
            holds: Err(Arc::new(refused)),
            content_hash: None,
            is_unread: false,
            took: Duration::ZERO,
        }
    }
}

/// Loads one pack, a folder or an archive; `name` is what its files are called in the report.
pub fn load_one(path: &Path, name: &str, reader: Reader<'_>) -> Result<(Pack, Report), Arc<Refused>> {
    let mut report = Report::default();
    let files = Files::read(path, name, reader.limits, &mut report);
    let content_hash = files.as_ref().map(Files::content_hash);
    load_files(path, files, content_hash, reader, report)
}

fn load_files(
    path: &Path,
    files: Option<Files>,
    content_hash: Option<[u8; 32]>,
    reader: Reader<'_>,
    mut report: Report,
) -> Result<(Pack, Report), Arc<Refused>> {
    let content_hash = content_hash.unwrap_or_default();
    let has_manifest = files.as_ref().is_none_or(|files| files.all.contains_key("pack.yaml"));
    let mut manifest = Manifest { content_hash, ..Manifest::default() };
    let pack = files.and_then(|files| read_pack(&files, reader, &mut manifest, &mut report));
    report.sort();
    match pack {
        Some(pack) if report.faults.is_empty() => Ok((pack, report)),
        _ => {
            let Manifest { reference, version, .. } = manifest;
            let is_nameless = has_manifest && reference.is_none();
            Err(Refused { path: path.to_owned(), reference, version, is_nameless, report }.into())
        }
    }
}

/// `pack.yaml` as far as it could be read: triggers are checked even when it has faults.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) reference: Option<String>,
    /// Of the pack's files.
    pub(super) content_hash: [u8; 32],
    pub(super) version: Option<String>,
    pub(super) webhook: Option<Node>,
    ref_at: Option<Place>,
    name: Option<String>,
    description: Option<String>,
    endpoint_enabled: bool,
}

fn read_pack(
    files: &Files,
    reader: Reader<'_>,
    manifest: &mut Manifest,
    report: &mut Report,
) -> Option<Pack> {
    let limits = reader.limits;
    if !files.all.contains_key("pack.yaml") {
        let help = match ["pack.yml", "pack.json"].into_iter().find(|file| files.all.contains_key(*file)) {
            Some(file) => format!("rename `{file}` to `pack.yaml`"),
            None => "a pack is a folder with a `pack.yaml`; add one, or move this folder away".to_owned(),
        };
        report.fault(&files.place(""), "there is no `pack.yaml` here", help);
        return None;
    }
    let source = files.source("pack.yaml", report)?;
    if let Some(node) = yaml::parse(&source, limits, report) {
        read_manifest(manifest, &node, report);
    }
    let policy =
        read_policy::of_pack(manifest.webhook.as_ref(), manifest.endpoint_enabled, &source.start(), report);
    let schemas = Schemas::read(files, limits, report);
    let mut triggers: Vec<Trigger> = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for file in files.all.keys() {
        if !is_trigger_file(files, file, report) {
            continue;
        }
        let Some((trigger, at)) = read_trigger::trigger(manifest, files, file, &schemas, reader, report)
        else {
            continue;
        };
        if let Some(first) = seen.get(&trigger.reference) {
            let help = format!("`{}` has it already; give one of the two another name", files.display(first));
            report.fault(&at, format!("the ref `{}` is taken", trigger.reference), help);
        } else {
            seen.insert(trigger.reference.clone(), file.clone());
            triggers.push(trigger);
        }
    }
    if triggers.is_empty() && report.faults.is_empty() {
        let help = "add a file under `triggers/`".to_owned();
        report.fault(&source.start(), "this pack has no trigger", help);
    }
    let mut policy = policy?;
    refuse_challenges(&mut policy, triggers.iter_mut());
    Some(Pack {
        reference: manifest.reference.clone()?,
        ref_at: manifest.ref_at.clone()?,
        name: manifest.name.clone()?,
        version: manifest.version.clone()?,
        description: manifest.description.clone(),
        path: files.path.clone(),
        content_hash: manifest.content_hash,
        endpoint_enabled: manifest.endpoint_enabled,
        policy: Arc::new(policy),
        declared: Declared { webhook: manifest.webhook.clone().map(Arc::new), start: source.start() },
        triggers: triggers.into_iter().map(Arc::new).collect(),
    })
}

/// Where one trigger's handshake makes MACs, the others of its pack must not take such for signatures: they may share a
/// secret.
pub(super) fn refuse_challenges<'a>(policy: &mut Policy, triggers: impl Iterator<Item = &'a mut Trigger>) {
    let computes = |policy: &Policy| policy.handshakes.iter().any(Handshake::computes);
    let triggers: Vec<_> = triggers.collect();
    if computes(policy) || triggers.iter().any(|trigger| computes(&trigger.policy)) {
        policy.verify.refuse_challenges();
        for trigger in triggers {
            Arc::make_mut(&mut trigger.policy).verify.refuse_challenges();
        }
    }
}

/// A file that would be overlooked is a fault: nobody should wonder where a trigger went.
fn is_trigger_file(files: &Files, file: &str, report: &mut Report) -> bool {
    let Some(name) = file.strip_prefix("triggers/") else { return false };
    if name.contains('/') {
        let help = "move it up into `triggers/`".to_owned();
        report.fault(&files.place(file), "a trigger in a folder of its own is not looked for", help);
        return false;
    }
    match name.rsplit_once('.') {
        Some((_, "yaml")) => return true,
        Some((stem, "yml" | "json")) => {
            let help = format!("rename it to `{stem}.yaml`");
            report.fault(&files.place(file), "a trigger's file ends in `.yaml`", help);
        }
        _ => report.warning(
            &files.place(file),
            "this file is not read: a trigger's file ends in `.yaml`",
            None,
        ),
    }
    false
}

fn read_manifest(manifest: &mut Manifest, node: &Node, report: &mut Report) {
    let keys = ["ref", "name", "version", "description", "hookpack", "webhook", "endpoint"];
    let Some(table) = Table::read(node, "`pack.yaml`", &keys, report) else { return };
    let reference = table.require("ref", report);
    manifest.ref_at = reference.map(|node| node.at.clone());
    manifest.reference =
        reference.and_then(|node| read_policy::name(node, "`ref`", "the ref of a pack", report));
    manifest.name = table
        .require("name", report)
        .and_then(|node| read::string(node, "`name`", report))
        .map(str::to_owned);
    manifest.version = table.require("version", report).and_then(|node| version(node, report));
    if let Some(node) = table.get("description") {
        manifest.description = read::string(node, "`description`", report).map(str::to_owned);
    }
    if let Some(node) = table.get("hookpack") {
        host_versions(node, report);
    }
    if let Some(node) = table.get("endpoint") {
        manifest.endpoint_enabled = endpoint_enabled(node, report);
    }
    manifest.webhook = table.get("webhook").cloned();
}

fn version(node: &Node, report: &mut Report) -> Option<String> {
    let text = match &node.value {
        Yaml::String(text) => text.clone(),
        Yaml::Number(_) => node.text().unwrap_or_default().to_owned(),
        _ => read::string(node, "`version`", report)?.to_owned(),
    };
    if semver::Version::parse(&text).is_err() {
        let help = "write a semantic version, three numbers: 1.0.0".to_owned();
        report.fault(&node.at, format!("`version`: `{text}` is not a semantic version"), help);
        return None;
    }
    Some(text)
}

fn endpoint_enabled(node: &Node, report: &mut Report) -> bool {
    if let Yaml::Bool(enabled) = node.value {
        let help = format!("write `endpoint: {{enabled: {enabled}}}`");
        report.fault(&node.at, "`endpoint` must be a mapping, this is a boolean", help);
        return false;
    }
    let enabled =
        Table::read(node, "`endpoint`", &["enabled"], report).and_then(|table| table.get("enabled"));
    enabled.and_then(|node| read::boolean(node, "`enabled`", report)).unwrap_or_default()
}

fn host_versions(node: &Node, report: &mut Report) {
    let help = "write the host versions that the pack works with: \">=0.1\"";
    let Some(wanted) = read::parsed(node, "`hookpack`", help, report, |text| {
        semver::VersionReq::parse(text).map_err(|_| format!("`{text}` names no versions"))
    }) else {
        return;
    };
    let own = env!("CARGO_PKG_VERSION");
    if semver::Version::parse(own).is_ok_and(|own| !wanted.matches(&own)) {
        let help = format!("this host is {own}: upgrade it, or use a pack for it");
        report.fault(&node.at, format!("this pack wants Hookpack {wanted}"), help);
    }
}
