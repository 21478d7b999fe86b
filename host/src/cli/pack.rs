//! `hookpack pack`: work on packs, without a host; one file a command.

mod bless;
mod build;
mod bundle;
mod check;
mod explain;
mod new;
mod sdk;
mod test;

use std::{path::Path, process::ExitCode};

use anyhow::{Result, bail};
use clap::Subcommand;

use super::{Setup, output};
use crate::{
    pack::{self, Loaded, Reader},
    wasm::{Purpose, Sandbox},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a pack to begin with.
    New(new::Args),
    /// Find every fault of a pack, or of every pack in a folder.
    Check(check::Args),
    /// Run a pack's test cases through the real pipeline, without a server or database.
    Test(test::Args),
    /// Build the mappers of a pack from their sources.
    Build(build::Args),
    /// Put a pack into one file.
    Bundle(bundle::Args),
}

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    let config = setup.config([])?;
    let environment = &setup.environment;
    match command {
        Command::New(args) => new::run(environment, &args),
        Command::Check(args) => {
            // Without a cache: how long each mapper takes to compile is one of the things to be told.
            let sandbox = Sandbox::telling(&config, Purpose::Serve, None, output::compiling);
            check::run(Reader { limits: &config, sandbox: &sandbox }, &args)
        }
        Command::Test(args) => {
            let sandbox = setup.sandbox(&config, Purpose::Measure);
            test::run(environment, Reader { limits: &config, sandbox: &sandbox }, &args).await
        }
        Command::Build(args) => build::run(environment, &args),
        Command::Bundle(args) => {
            let sandbox = setup.sandbox(&config, Purpose::Serve);
            bundle::run(Reader { limits: &config, sandbox: &sandbox }, &args)
        }
    }
}

/// One pack, a folder or an archive, or every pack of a folder, named as on the command line.
fn load(folder: &Path, reader: Reader<'_>) -> Result<Loaded> {
    let shown = folder.to_string_lossy();
    let shown = shown.trim_end_matches('/');
    let of_packs = || {
        let is_pack =
            |path: &Path| path.join("pack.yaml").exists() || pack::is_archive(&path.to_string_lossy());
        std::fs::read_dir(folder)
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_pack(&entry.path()))))
    };
    if !folder.exists() {
        bail!("{shown}: there is no such folder or archive");
    }
    if folder.is_dir() && !folder.join("pack.yaml").exists() && of_packs() {
        return pack::load_all(folder, shown, reader).map_err(anyhow::Error::msg);
    }
    Ok(pack::load_alone(folder, shown, reader))
}

/// What a pack's files are called in reports: as on the command line.
fn shown_name(folder: &Path) -> String {
    folder.to_string_lossy().trim_end_matches('/').to_owned()
}
