//! A pack as one archive: exactly the files that the loader reads, in one order, without times or owners.

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};

use super::{Pack, diagnostics::Report, files::Files};
use crate::config::Config;

/// The bytes of `<ref>.tar.gz`: one folder, named like the pack's ref. Sources of mappers are not in it.
pub fn bundle(pack: &Pack, limits: &Config) -> Result<Vec<u8>> {
    let Some(files) = Files::read(&pack.path, "", limits, &mut Report::default()) else {
        bail!("{}: the pack can't be read any more", pack.path.display());
    };
    let mut archive = tar::Builder::new(GzBuilder::new().mtime(0).write(Vec::new(), Compression::best()));
    archive.mode(tar::HeaderMode::Deterministic);
    for (file, bytes) in &files.all {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let path = format!("{}/{file}", pack.reference);
        archive.append_data(&mut header, &path, bytes.as_slice()).with_context(|| path.clone())?;
    }
    Ok(archive.into_inner()?.finish()?)
}
