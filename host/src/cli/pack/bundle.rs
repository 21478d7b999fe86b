//! `hookpack pack bundle`: a pack as one file, the same bytes for the same pack.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{load, shown_name};
use crate::{
    cli::output,
    pack::{Reader, bundle, cases},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A pack.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where to write it. Default: REF-VERSION.tar.gz here. Its SHA-256 is written beside it.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(reader: Reader<'_>, args: &Args) -> Result<ExitCode> {
    let loaded = load(&args.folder, reader)?;
    let mut report = loaded.report();
    for pack in &loaded.packs {
        cases::read(pack, &shown_name(&pack.folder), reader.limits, &mut report);
    }
    for fault in &report.faults {
        output::line(&fault.to_string());
    }
    let ([pack], true) = (loaded.packs.as_slice(), report.faults.is_empty()) else {
        output::error("nothing is bundled: this takes one pack without faults");
        return Ok(ExitCode::FAILURE);
    };
    let bytes = bundle::bundle(pack, reader.limits)?;
    let path =
        args.out.clone().unwrap_or_else(|| format!("{}-{}.tar.gz", pack.reference, pack.version).into());
    let doing = || path.display().to_string();
    let into = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let into = into.canonicalize().with_context(|| into.display().to_string())?;
    if into.starts_with(pack.folder.canonicalize().with_context(doing)?) {
        bail!("{} would be a file of the pack: name another place with --out", path.display());
    }
    fs::write(&path, &bytes).with_context(doing)?;
    let digest = hex::encode(Sha256::digest(&bytes));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut checksum = path.clone().into_os_string();
    checksum.push(".sha256");
    // As `sha256sum --check` reads it.
    fs::write(&checksum, format!("{digest}  {name}\n")).with_context(doing)?;
    output::line(&format!("{}: {} bytes, sha256 {digest}", path.display(), bytes.len()));
    Ok(ExitCode::SUCCESS)
}
