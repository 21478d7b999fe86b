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
    pack::{CHECKSUM, Reader, SIGNATURE, beside, bundle, cases},
    signing,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A pack.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where to write it. Default: REF-VERSION.tar.gz here. Its SHA-256 is written beside it.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign it with this ed25519 key, as `openssl genpkey -algorithm ed25519` makes one; the signature is written
    /// beside it.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
}

pub(super) fn run(reader: Reader<'_>, args: &Args) -> Result<ExitCode> {
    let loaded = load(&args.folder, reader)?;
    let mut report = loaded.report();
    for pack in loaded.packs() {
        cases::read(pack, &shown_name(&pack.path), reader.limits, &mut report);
    }
    for fault in &report.faults {
        output::line(&fault.to_string());
    }
    let packs: Vec<_> = loaded.packs().collect();
    let ([pack], true) = (packs.as_slice(), report.faults.is_empty()) else {
        output::error("nothing is bundled: this takes one pack without faults");
        return Ok(ExitCode::FAILURE);
    };
    let bytes = bundle::bundle(pack, reader.limits)?;
    let path =
        args.out.clone().unwrap_or_else(|| format!("{}-{}.tar.gz", pack.reference, pack.version).into());
    let doing = || path.display().to_string();
    let into = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let into = into.canonicalize().with_context(|| into.display().to_string())?;
    if !pack.path.is_file() && into.starts_with(pack.path.canonicalize().with_context(doing)?) {
        bail!("{} would be a file of the pack: name another place with --out", path.display());
    }
    // Before anything is written: without its signature the archive may be of no use.
    let signed = args.sign.as_deref().map(|key| signing::sign(&bytes, key)).transpose()?;
    fs::write(&path, &bytes).with_context(doing)?;
    let digest = hex::encode(Sha256::digest(&bytes));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // As `sha256sum --check` reads it.
    fs::write(beside(&path, CHECKSUM), format!("{digest}  {name}\n")).with_context(doing)?;
    output::line(&format!("{}: {} bytes, sha256 {digest}", path.display(), bytes.len()));
    if let Some((signature, key)) = signed {
        fs::write(beside(&path, SIGNATURE), signature).with_context(doing)?;
        output::line(&format!("signed; a host checks it by `require_signed_packs: [{key}]`"));
    }
    Ok(ExitCode::SUCCESS)
}
