//! `hookpack pack new`: a pack that passes `check` and `test` at once.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::build;
use crate::{cli::output, config::Environment, pack, wasm::WIT};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The pack's folder; its last part is the pack's ref.
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// The language of its mapper.
    #[arg(long, value_enum, default_value_t)]
    mapper: Language,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Language {
    /// No mapper: JSONPath fields.
    #[default]
    None,
    Rust,
    Python,
    Js,
}

const FIELDS: &str = "mapping:\n  fields:\n    trigger: {const: NAME.received}\n    received: $\n";
const WASM: &str = "mapping:\n  wasm: mappers/received.wasm\n  settings: {}    # one document, given to the mapper with each delivery\n";
/// What a build leaves beside the sources.
const IGNORED: &str =
    "/mappers/*/.hookpack\n/mappers/*/.venv\n/mappers/*/node_modules\n/mappers/*/target\n__pycache__\n";

macro_rules! skeleton {
    ($file:literal) => {
        include_str!(concat!("skeleton/", $file))
    };
}

pub(super) fn run(environment: &Environment, args: &Args) -> Result<ExitCode> {
    let Args { folder, mapper } = args;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !pack::is_ref(name) {
        bail!(
            "`{name}` can't be a pack's ref: it begins with a letter and goes on with a-z, 0-9, _ and - (63 at most)"
        );
    }
    if folder.exists() {
        bail!("{} is there already: nothing was changed", folder.display());
    }
    write(folder, name, *mapper)?;
    output::line(&format!("made {}", folder.display()));
    let built = match mapper {
        Language::None => true,
        Language::Rust | Language::Python | Language::Js => {
            output::line("building its mapper …");
            built(environment, folder)
        }
    };
    let shown = folder.display();
    let first = if built {
        String::new()
    } else {
        format!("\n  hookpack pack build {shown}    # once its tools are there")
    };
    output::line(&format!("\nNext:{first}\n  hookpack pack check {shown}\n  hookpack pack test {shown}"));
    Ok(if built { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells what is missing when it can't be built here; the pack is made all the same.
fn built(environment: &Environment, folder: &Path) -> bool {
    match build::all(environment, folder) {
        Ok(built) => built,
        Err(error) => {
            output::error(&format!("{error:#}"));
            false
        }
    }
}

fn write(folder: &Path, name: &str, language: Language) -> Result<()> {
    let (mapping, with_mapper) = match language {
        Language::None => (FIELDS, false),
        Language::Rust | Language::Python | Language::Js => (WASM, true),
    };
    let also = |text: &'static str| if with_mapper { text } else { "" };
    let put = |file: &str, text: &str| put(&folder.join(file), &text.replace("NAME", name));
    put("pack.yaml", skeleton!("pack.yaml"))?;
    put("triggers/received.yaml", &[skeleton!("trigger.yaml"), mapping].concat())?;
    put("tests/received.yaml", &[skeleton!("tests.yaml"), also(skeleton!("tests-mapper.yaml"))].concat())?;
    put("README.md", &[skeleton!("README.md"), also(skeleton!("README-mapper.md"))].concat())?;
    if with_mapper {
        put(".gitignore", IGNORED)?;
    }
    match language {
        Language::None => {}
        Language::Rust => {
            put("mappers/received/Cargo.toml", skeleton!("rust/Cargo.toml"))?;
            put("mappers/received/src/lib.rs", skeleton!("rust/lib.rs"))?;
        }
        Language::Python => {
            put("mappers/received/mapper.py", skeleton!("python/mapper.py"))?;
            put_script(&folder.join("mappers/received/build"), skeleton!("python/build"))?;
        }
        Language::Js => {
            put("mappers/received/mapper.js", skeleton!("js/mapper.js"))?;
            put("mappers/received/package.json", skeleton!("js/package.json"))?;
            put_script(&folder.join("mappers/received/build"), skeleton!("js/build"))?;
        }
    }
    if matches!(language, Language::Python | Language::Js) {
        self::put(&folder.join("mappers/received/wit/mapper.wit"), WIT)?;
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<()> {
    let doing = || path.display().to_string();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(doing)?;
    }
    fs::write(path, text).with_context(doing)
}

fn put_script(path: &Path, text: &str) -> Result<()> {
    put(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| path.display().to_string())
}
