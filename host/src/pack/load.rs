//! Loading: from folders on disk to packs that are ready to work, each whole or not at all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Pack, Trigger,
    diagnostics::{Place, Report, Source},
    folder::Folder,
    read::{self, Table},
    read_policy,
    read_schema::Schemas,
    read_trigger,
    yaml::{self, Node, Yaml},
};
use crate::{config::Config, wasm::Sandbox};

/// What packs are read with.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub limits: &'a Config,
    /// Where their mappers are made ready.
    pub sandbox: &'a Sandbox,
}

/// Everything that a packs folder holds.
#[derive(Debug, Default)]
pub struct Loaded {
    pub packs: Vec<Arc<Pack>>,
    pub refused: Vec<Refused>,
    /// Of the packs that loaded.
    pub warnings: Report,
}

/// A pack that does not run, and why.
#[derive(Debug)]
pub struct Refused {
    pub folder: PathBuf,
    /// When its `pack.yaml` could be read so far.
    pub reference: Option<String>,
    pub report: Report,
}

impl Loaded {
    /// Every fault and warning, file by file.
    pub fn report(&self) -> Report {
        let mut report = self.warnings.clone();
        for refused in &self.refused {
            report.absorb(refused.report.clone());
        }
        report.sort();
        report
    }
}

/// Loads every pack of a folder; `shown` stands before the packs' names in reports. An error is the folder's own;
/// faults in packs are in what is returned.
pub fn load_all(packs: &Path, shown: &str, reader: Reader<'_>) -> Result<Loaded, String> {
    let told = |error: std::io::Error| format!("the packs folder {}: {error}", packs.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(packs).map_err(told)? {
        entries.push(entry.map_err(told)?);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut loaded = Loaded::default();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        // A folder behind a link is a folder (Kubernetes mounts packs so); files beside the packs are not ours.
        let is_folder = fs::metadata(entry.path()).is_ok_and(|about| about.is_dir());
        if !is_folder && is_archive(&name) {
            let place = Source::new(joined(shown, &name), "").start();
            let help = "unpack it into a folder beside it".to_owned();
            loaded.warnings.warning(
                &place,
                "this archive is not read: this version loads folders only",
                help,
            );
        }
        if name.starts_with('.') || !is_folder {
            continue;
        }
        match load_one(&entry.path(), &joined(shown, &name), reader) {
            Ok((pack, report)) => {
                loaded.packs.push(Arc::new(pack));
                loaded.warnings.absorb(report);
            }
            Err(refused) => loaded.refused.push(refused),
        }
    }
    refuse_twins(&mut loaded, shown, reader.limits);
    Ok(loaded)
}

fn is_archive(name: &str) -> bool {
    [".tar.gz", ".tgz", ".tar", ".zip"].iter().any(|ending| name.ends_with(ending))
}

fn joined(shown: &str, name: &str) -> String {
    if shown.is_empty() { name.to_owned() } else { format!("{}/{name}", shown.trim_end_matches('/')) }
}

/// Loads one pack; `name` is what its files are called in the report.
pub fn load_one(folder: &Path, name: &str, reader: Reader<'_>) -> Result<(Pack, Report), Refused> {
    let mut report = Report::default();
    let mut manifest = Manifest::default();
    let pack = Folder::read(folder, name, reader.limits, &mut report)
        .and_then(|folder| read_pack(&folder, reader, &mut manifest, &mut report));
    report.sort();
    match pack {
        Some(pack) if report.faults.is_empty() => Ok((pack, report)),
        _ => Err(Refused { folder: folder.to_owned(), reference: manifest.reference, report }),
    }
}

/// `pack.yaml` as far as it could be read: triggers are checked even when it has faults.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) reference: Option<String>,
    pub(super) version: Option<String>,
    pub(super) webhook: Option<Node>,
    name: Option<String>,
    description: Option<String>,
    endpoint_enabled: bool,
}

fn read_pack(
    folder: &Folder,
    reader: Reader<'_>,
    manifest: &mut Manifest,
    report: &mut Report,
) -> Option<Pack> {
    let limits = reader.limits;
    if !folder.files.contains_key("pack.yaml") {
        let help = match ["pack.yml", "pack.json"].into_iter().find(|file| folder.files.contains_key(*file)) {
            Some(file) => format!("rename `{file}` to `pack.yaml`"),
            None => "a pack is a folder with a `pack.yaml`; add one, or move this folder away".to_owned(),
        };
        report.fault(&folder.place(""), "there is no `pack.yaml` here", help);
        return None;
    }
    let source = folder.source("pack.yaml", report)?;
    if let Some(node) = yaml::parse(&source, limits, report) {
        read_manifest(manifest, &node, report);
    }
    let policy =
        read_policy::of_pack(manifest.webhook.as_ref(), manifest.endpoint_enabled, &source.start(), report);
    let schemas = Schemas::read(folder, limits, report);
    let mut triggers: Vec<Trigger> = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for file in folder.files.keys() {
        if !is_trigger_file(folder, file, report) {
            continue;
        }
        let Some((trigger, at)) = read_trigger::trigger(manifest, folder, file, &schemas, reader, report)
        else {
            continue;
        };
        if let Some(first) = seen.get(&trigger.reference) {
            let help =
                format!("`{}` has it already; give one of the two another name", folder.display(first));
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
    Some(Pack {
        reference: manifest.reference.clone()?,
        name: manifest.name.clone()?,
        version: manifest.version.clone()?,
        description: manifest.description.clone(),
        folder: folder.path.clone(),
        content_hash: folder.content_hash(),
        endpoint_enabled: manifest.endpoint_enabled,
        policy: Arc::new(policy?),
        triggers: triggers.into_iter().map(Arc::new).collect(),
    })
}

/// A file that would be overlooked is a fault: nobody should wonder where a trigger went.
fn is_trigger_file(folder: &Folder, file: &str, report: &mut Report) -> bool {
    let Some(name) = file.strip_prefix("triggers/") else { return false };
    if name.contains('/') {
        let help = "move it up into `triggers/`".to_owned();
        report.fault(&folder.place(file), "a trigger in a folder of its own is not looked for", help);
        return false;
    }
    match name.rsplit_once('.') {
        Some((_, "yaml")) => return true,
        Some((stem, "yml" | "json")) => {
            let help = format!("rename it to `{stem}.yaml`");
            report.fault(&folder.place(file), "a trigger's file ends in `.yaml`", help);
        }
        _ => report.warning(
            &folder.place(file),
            "this file is not read: a trigger's file ends in `.yaml`",
            None,
        ),
    }
    false
}

fn read_manifest(manifest: &mut Manifest, node: &Node, report: &mut Report) {
    let keys = ["ref", "name", "version", "description", "hookpack", "webhook", "endpoint"];
    let Some(table) = Table::read(node, "`pack.yaml`", &keys, report) else { return };
    manifest.reference = table
        .require("ref", report)
        .and_then(|node| read_policy::name(node, "`ref`", "the ref of a pack", report));
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
        Yaml::Number(number) => number.to_string(),
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

/// Of two packs with one ref neither silently wins.
fn refuse_twins(loaded: &mut Loaded, shown: &str, limits: &Config) {
    let mut folders: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for pack in &loaded.packs {
        folders.entry(pack.reference.clone()).or_default().push(pack.folder.clone());
    }
    let (twins, single) = std::mem::take(&mut loaded.packs)
        .into_iter()
        .partition(|pack: &Arc<Pack>| folders.get(&pack.reference).is_some_and(|folders| folders.len() > 1));
    loaded.packs = single;
    for pack in twins {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let others = folders[&pack.reference].iter().filter(|folder| **folder != pack.folder);
        let others: Vec<_> = others.map(|folder| format!("`{}`", name(folder))).collect();
        let mut report = Report::default();
        let shown = joined(shown, &name(&pack.folder));
        let help = "a ref is unique on a host: rename or remove one of them".to_owned();
        report.fault(
            &place_of_ref(&pack, &shown, limits),
            format!("the ref `{}` is also that of {}", pack.reference, others.join(" and ")),
            help,
        );
        loaded.refused.push(Refused {
            folder: pack.folder.clone(),
            reference: Some(pack.reference.clone()),
            report,
        });
    }
}

fn place_of_ref(pack: &Pack, shown: &str, limits: &Config) -> Place {
    let text = fs::read_to_string(pack.folder.join("pack.yaml")).unwrap_or_default();
    let source = Source::new(format!("{shown}/pack.yaml"), text);
    let node = yaml::parse(&source, limits, &mut Report::default());
    let at = node.as_ref().and_then(|node| node.get("ref")).map(|node| node.at.clone());
    at.unwrap_or_else(|| source.start())
}
