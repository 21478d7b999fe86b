//! `hookpack pack`: work on packs, without a host; one file a command.

mod check;
mod test;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::Subcommand;

use super::{Output, Setup};
use crate::{
    pack::{self, Loaded, Reader},
    wasm::Purpose,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find every fault of a pack, or of every pack in a folder.
    Check(Args),
    /// Run a pack's test cases through the real pipeline, without a server or database.
    Test(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A pack, or a folder of packs.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    let config = setup.config([])?;
    match command {
        Command::Check(args) => {
            let sandbox = setup.sandbox(&config, Purpose::Serve);
            check::run(Reader { limits: &config, sandbox: &sandbox }, &args)
        }
        Command::Test(args) => {
            let sandbox = setup.sandbox(&config, Purpose::Measure);
            test::run(Reader { limits: &config, sandbox: &sandbox }, &args).await
        }
    }
}

/// One pack, or every pack of a folder, named as on the command line.
fn load(folder: &Path, reader: Reader<'_>) -> Result<Loaded> {
    let shown = folder.to_string_lossy();
    let shown = shown.trim_end_matches('/');
    let of_packs = || {
        std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.path().join("pack.yaml").exists()))
        })
    };
    if !folder.is_dir() {
        bail!("{shown}: there is no such folder");
    }
    if !folder.join("pack.yaml").exists() && of_packs() {
        return pack::load_all(folder, shown, reader).map_err(anyhow::Error::msg);
    }
    Ok(match pack::load_one(folder, shown, reader) {
        Ok((pack, warnings)) => Loaded { packs: vec![Arc::new(pack)], warnings, ..Loaded::default() },
        Err(refused) => Loaded { refused: vec![refused], ..Loaded::default() },
    })
}

/// What a pack's files are called in reports: as on the command line.
fn shown_name(folder: &Path) -> String {
    folder.to_string_lossy().trim_end_matches('/').to_owned()
}
