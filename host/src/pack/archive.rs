//! A pack in a `.tar.gz`, unpacked in memory within limits: what is not plainly a file of the pack is refused.

use std::{
    collections::{BTreeSet, HashSet},
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use flate2::bufread::GzDecoder;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{
    diagnostics::Report,
    files::{self, Budget, Files},
};
use crate::{
    config::Config,
    signing::{self, PublicKey},
};

/// What the name of an archive ends in.
pub(super) const ENDING: &str = ".tar.gz";
/// A checksum file of an archive is called like it, and this.
pub const CHECKSUM: &str = ".sha256";
/// The signature of an archive lies beside it, in a file called like it, and this: 64 bytes as base64.
pub const SIGNATURE: &str = ".sig";
/// Headers and padding of the files that a pack may have, in bytes each.
const OVERHEAD: u64 = 4096;
/// So much may come of an archive however small it is: its ratio is looked at beyond.
const RATIO_FLOOR: u64 = 1 << 20;
/// What lies beside an archive is a line or a few.
const BESIDE_BYTES_MAX: u64 = 64 << 10;

/// Whether a file of the packs folder is a pack.
pub fn is_archive(name: &str) -> bool {
    name.ends_with(ENDING)
}

/// The file beside an archive that is called like it, and `ending`.
pub fn beside(archive: &Path, ending: &str) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Why an archive is refused, in the reader's words.
struct Unfit {
    /// The file inside; none, when it is the archive itself.
    file: String,
    message: String,
    help: Option<&'static str>,
    /// The system failed to read it, and may not the next time.
    is_unreadable: bool,
}

impl Unfit {
    fn whole(message: impl Into<String>) -> Self {
        Self { file: String::new(), message: message.into(), help: None, is_unreadable: false }
    }

    fn unreadable(what: &str, error: &io::Error) -> Self {
        Self { is_unreadable: true, ..Self::whole(format!("{what} can't be read: {error}")) }
    }

    fn of(file: &str, message: impl Into<String>) -> Self {
        let file = file.chars().filter(|character| !character.is_control()).take(200).collect();
        Self { file, message: message.into(), help: None, is_unreadable: false }
    }

    fn help(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::whole("this archive is cut off").help("copy it again, or wait until it is there whole")
            }
            _ => Self::whole(format!("this archive can't be unpacked: {error}")),
        }
    }
}

/// Reads everything that a pack in a folder would have; what mustn't be there is a fault. With `keys`, one of them must
/// have signed the archive. Whether the system could read all of it.
pub(super) fn read(into: &mut Files, keys: &[PublicKey], limits: &Config, report: &mut Report) -> bool {
    let read = packed(&into.path, limits).and_then(|bytes| {
        checksum(&into.path, &bytes)?;
        signature(&into.path, &bytes, keys)?;
        unpack(&bytes, limits)
    });
    match read {
        Ok(files) => {
            into.all = without_top(files).into_iter().filter(|(file, _)| counts(file)).collect();
            true
        }
        Err(Unfit { file, message, help, is_unreadable }) => {
            report.fault(&into.place(&file), message, help.map(str::to_owned));
            !is_unreadable
        }
    }
}

fn packed(path: &Path, limits: &Config) -> Result<Vec<u8>, Unfit> {
    let most = limits.pack_bytes_max;
    let mut bytes = Vec::new();
    let unreadable = |error: io::Error| Unfit::unreadable("this archive", &error);
    let opened = files::open(path, OFlag::empty()).map_err(unreadable)?;
    opened.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(Unfit::whole(format!("this archive is larger than {most} bytes (pack_bytes_max)")));
    }
    Ok(bytes)
}

/// A short text beside an archive, with its name; `None` when there is none.
fn text_beside(path: &Path, ending: &str) -> Result<Option<(String, String)>, Unfit> {
    let beside = beside(path, ending);
    let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let opened = match files::open(&beside, OFlag::empty()) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unfit::unreadable(&format!("`{name}`"), &error)),
    };
    let mut text = String::new();
    match opened.take(BESIDE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(Some((name, text))),
        Err(error) => Err(Unfit::unreadable(&format!("`{name}`"), &error)),
    }
}

/// Holds the archive against the checksum beside it, when there is one: a line as `sha256sum` writes it.
fn checksum(path: &Path, bytes: &[u8]) -> Result<(), Unfit> {
    let Some((name, text)) = text_beside(path, CHECKSUM)? else { return Ok(()) };
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // A file of many sums names the archive; the sum in a file of one counts whatever the archive was called.
    let is_own = |line: &&&str| {
        line.split_once(' ').is_some_and(|(_, name)| name.trim_start_matches([' ', '*']) == own)
    };
    let line = match lines.as_slice() {
        [only] => Some(*only),
        many => many.iter().find(is_own).copied(),
    };
    let told = line.and_then(|line| hex::decode(line.split(' ').next().unwrap_or_default()).ok());
    let Some(told) = told.filter(|told| told.len() == 32) else {
        return Err(Unfit::whole(format!("`{name}` has no SHA-256 of this archive"))
            .help("write it with `sha256sum`, or remove the file"));
    };
    let found = Sha256::digest(bytes);
    if told != found.as_slice() {
        let (told, found) = (hex::encode(told), hex::encode(found));
        return Err(Unfit::whole(format!("its SHA-256 is {found}, and `{name}` says {told}"))
            .help("one of the two is not the one that was sent, or not whole: copy both again"));
    }
    Ok(())
}

/// Holds the archive against the signature beside it, when the host wants one.
fn signature(path: &Path, bytes: &[u8], keys: &[PublicKey]) -> Result<(), Unfit> {
    if keys.is_empty() {
        return Ok(());
    }
    let help = "sign it with `hookpack pack bundle --sign`, and put the `.sig` file beside it";
    let Some((name, text)) = text_beside(path, SIGNATURE)? else {
        return Err(Unfit::whole(
            "this archive is not signed, and this host wants it (require_signed_packs)",
        )
        .help(help));
    };
    signing::check(bytes, &text, keys).map_err(|what| Unfit::whole(format!("`{name}` {what}")).help(help))
}

type Unpacked = Vec<(String, Vec<u8>)>;

fn unpack(packed: &[u8], limits: &Config) -> Result<Unpacked, Unfit> {
    let overhead = OVERHEAD.saturating_mul(limits.pack_files_max as u64);
    let by_size = limits.pack_bytes_max.saturating_add(overhead);
    let by_ratio = (packed.len() as u64).saturating_mul(limits.archive_ratio_max).max(RATIO_FLOOR);
    let mut reader = Bounded { inner: GzDecoder::new(packed), left: by_size.min(by_ratio), reached: false };
    // To the very end: the compressed stream's own checksum stands there.
    let unpacked = entries(&mut reader, limits).and_then(|unpacked| {
        io::copy(&mut reader, &mut io::sink())?;
        Ok(unpacked)
    });
    if reader.reached {
        let message = if by_ratio < by_size {
            let most = limits.archive_ratio_max;
            format!("this archive grows to more than {most} times its size (archive_ratio_max)")
        } else {
            format!("this archive unpacks to more than {} bytes (pack_bytes_max)", limits.pack_bytes_max)
        };
        return Err(Unfit::whole(message));
    }
    let unpacked = unpacked?;
    if !reader.inner.into_inner().is_empty() {
        return Err(Unfit::whole("something follows the end of this archive").help("pack it again"));
    }
    Ok(unpacked)
}

fn entries(reader: &mut impl Read, limits: &Config) -> Result<Unpacked, Unfit> {
    let mut budget = Budget::new(limits);
    let mut unpacked: Unpacked = Vec::new();
    let mut seen = HashSet::new();
    let mut left = limits.pack_files_max;
    for entry in tar::Archive::new(reader).entries()? {
        let mut entry = entry?;
        left = left.saturating_sub(1);
        if left == 0 {
            return Err(Unfit::whole(files::too_many_files(limits.pack_files_max)));
        }
        let raw = entry.path_bytes().into_owned();
        let Ok(told) = std::str::from_utf8(&raw) else {
            let told = String::from_utf8_lossy(&raw).into_owned();
            return Err(Unfit::of(&told, "the name of this file is not UTF-8"));
        };
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory | EntryType::XGlobalHeader => {
                inside(told)?;
                continue;
            }
            EntryType::Regular => {}
            kind => return Err(refused_kind(told, kind)),
        }
        let file = inside(told)?;
        if !seen.insert(file.clone()) {
            return Err(Unfit::of(&file, "this file is in the archive twice").help("pack it again"));
        }
        let mut bytes = Vec::new();
        (&mut entry).take(budget.most(&file_within(&file)) + 1).read_to_end(&mut bytes)?;
        let spent = budget.spend(&file_within(&file), bytes.len() as u64);
        spent.map_err(|message| Unfit::of(&file, message))?;
        if let Some(message) = budget.exhausted() {
            return Err(Unfit::whole(message));
        }
        unpacked.push((file, bytes));
    }
    Ok(unpacked)
}

/// Where a file will lie once the folder around the pack is taken off, as far as that can be told by its name alone.
fn file_within(file: &str) -> String {
    match file.split_once('/') {
        Some((_, rest)) if files::is_mapper(rest) => rest.to_owned(),
        _ => file.to_owned(),
    }
}

fn refused_kind(told: &str, kind: EntryType) -> Unfit {
    let what = match kind {
        EntryType::Symlink | EntryType::Link => "a link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        _ => "something else than a file or a folder",
    };
    Unfit::of(told, format!("this is {what}: an archive of a pack has files and folders only"))
        .help("put the file itself in its place")
}

/// A path that stays inside, its parts joined by `/`.
fn inside(told: &str) -> Result<String, Unfit> {
    let mut parts = Vec::new();
    for part in Path::new(told).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::RootDir | Component::Prefix(_) => {
                return Err(
                    Unfit::of(told, "this path is absolute").help("pack it from the folder around the pack")
                );
            }
            Component::ParentDir => {
                return Err(Unfit::of(told, "this path leads out of the archive with `..`")
                    .help("pack it from the folder around the pack"));
            }
        }
    }
    if told.contains(['\\', '\0']) {
        return Err(Unfit::of(told, "this path has a character that a pack's files don't"));
    }
    Ok(parts.join("/"))
}

/// `pack.yaml` at the top, or everything in one folder.
fn without_top(unpacked: Unpacked) -> Unpacked {
    let own = |file: &str| !files::is_hidden(file);
    if unpacked.iter().any(|(file, _)| file == "pack.yaml") {
        return unpacked;
    }
    let top = |file: &str| file.split_once('/').map(|(top, _)| top.to_owned());
    let tops = unpacked.iter().map(|(file, _)| top(file));
    let tops: BTreeSet<_> = tops.filter(|top| top.as_deref().is_none_or(own)).collect();
    let tops: Vec<_> = tops.into_iter().collect();
    let [Some(top)] = tops.as_slice() else { return unpacked };
    let inside = format!("{top}/");
    unpacked
        .into_iter()
        .filter_map(|(file, bytes)| Some((file.strip_prefix(&inside)?.to_owned(), bytes)))
        .collect()
}

/// Whether the loader would look at this file if it lay in a folder.
fn counts(file: &str) -> bool {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    !file.split('/').any(files::is_hidden) && !files::is_source_folder(folder)
}

/// Ends with an error where too much has come.
struct Bounded<R> {
    inner: R,
    left: u64,
    reached: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.left = self.left.saturating_sub(read as u64);
        if self.left == 0 && read > 0 {
            self.reached = true;
            return Err(io::Error::other("too much comes of it"));
        }
        Ok(read)
    }
}
