//! `hookpack pack build`: from the sources under `mappers/NAME/` to `mappers/NAME.wasm`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::sdk;
use crate::{
    cli::output,
    config::Environment,
    wasm::{Anatomy, componentize, componentize_plain},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A pack.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Where a Rust mapper finds the SDK: beside its own sources, so that paths are the same on every machine.
const SDK_FOLDER: &str = ".hookpack/sdk";
const CARGO_CONFIG: &str = "# The SDK that `hookpack pack build` puts here, of the very host that will run the mapper.\n[patch.crates-io]\nhookpack-sdk = { path = \".hookpack/sdk\" }\n";
const TARGET: &str = "wasm32-unknown-unknown";

/// Runs what the pack's author has written: cargo (build scripts and macros included), or the `build` script.
pub(super) fn run(environment: &Environment, args: &Args) -> Result<ExitCode> {
    Ok(if all(environment, &args.folder)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds every mapper of a pack and tells what came of each; whether all could be built.
pub(super) fn all(environment: &Environment, pack: &Path) -> Result<bool> {
    let sources = sources(pack)?;
    if sources.is_empty() {
        bail!("{}: there is nothing to build: a mapper's sources lie in `mappers/NAME/`", pack.display());
    }
    let mut well = true;
    for source in &sources {
        let built =
            if source.join("Cargo.toml").is_file() { rust(environment, source) } else { script(source) };
        if let Err(error) = built {
            output::error(&format!("{}: {error:#}", source.display()));
            well = false;
        }
    }
    Ok(well)
}

/// Every folder under `mappers/`.
fn sources(pack: &Path) -> Result<Vec<PathBuf>> {
    ensure!(pack.join("pack.yaml").is_file(), "{}: there is no pack.yaml here", pack.display());
    let Ok(entries) = fs::read_dir(pack.join("mappers")) else { return Ok(Vec::new()) };
    // Not what editors keep there, and nothing behind a link: that is not of this pack.
    let own = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && !entry.file_name().to_string_lossy().starts_with('.')
    };
    let mut folders: Vec<_> = entries.flatten().filter(own).map(|entry| entry.path()).collect();
    folders.sort();
    Ok(folders)
}

/// The Rust mappers that these files are sources of.
pub(super) fn rust_sources(changed: &[PathBuf]) -> BTreeSet<PathBuf> {
    let crate_of = |path: &PathBuf| {
        let source = path.ancestors().find(|folder| folder.join("Cargo.toml").is_file())?;
        (source.parent()?.file_name()? == "mappers").then(|| source.to_owned())
    };
    changed.iter().filter_map(crate_of).collect()
}

/// Builds a crate and makes a component of it.
pub(super) fn rust(environment: &Environment, source: &Path) -> Result<()> {
    let source = &fs::canonicalize(source).with_context(|| source.display().to_string())?;
    ensure_target(source)?;
    sdk::unpack(&source.join(SDK_FOLDER))?;
    if !source.join(".cargo/config.toml").exists() {
        sdk::write_if_other(&source.join(".cargo/config.toml"), CARGO_CONFIG)?;
    }
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "build",
            "--release",
            "--lib",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
            // Also where the author's own configuration takes the place of ours.
            "--config",
            "patch.crates-io.hookpack-sdk.path='.hookpack/sdk'",
        ])
        .current_dir(source)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(environment, source).join("\u{1f}"))
        // What a calling cargo has set for itself is not for this one.
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = cargo.output().context("cargo can't be started: install Rust (https://rustup.rs)")?;
    ensure!(output.status.success(), "cargo failed");
    let module = module_of(&output.stdout)
        .context("cargo built no .wasm: `[lib]` needs `crate-type = [\"cdylib\", \"rlib\"]`")?;
    let module = fs::read(&module).with_context(|| module.display().to_string())?;
    let compiler = told_by_rustc(source, &["--version"], "rustc ").unwrap_or_default();
    keep(source, &componentize(&module, &compiler)?)
}

/// What makes the component small and fast, and the same bytes wherever it is built.
fn flags(environment: &Environment, source: &Path) -> Vec<String> {
    let mut flags = vec![
        // A page of memory that is never touched costs nothing; growing while a delivery waits does.
        "-Clink-arg=--initial-heap=917504".to_owned(),
        "-Clink-arg=-zstack-size=65536".to_owned(),
        format!("--remap-path-prefix={}=/mapper", source.display()),
    ];
    let home = environment.get("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    if let Some(cargo) = environment.get("CARGO_HOME").map(PathBuf::from).or(home) {
        flags.push(format!("--remap-path-prefix={}=/cargo", cargo.display()));
        // A mirror of the registry has another name; the last flag that fits counts.
        for registry in fs::read_dir(cargo.join("registry/src")).into_iter().flatten().flatten() {
            flags.push(format!("--remap-path-prefix={}=/registry", registry.path().display()));
        }
    }
    // With the component `rust-src`, panics of the standard library name its local path.
    if let (Some(sysroot), Some(commit)) =
        (told_by_rustc(source, &["--print", "sysroot"], ""), told_by_rustc(source, &["-vV"], "commit-hash: "))
    {
        flags.push(format!("--remap-path-prefix={sysroot}/lib/rustlib/src/rust=/rustc/{commit}"));
    }
    flags
}

/// The line of rustc's answer that begins so, without its beginning; of the rustc that cargo will use there.
fn told_by_rustc(source: &Path, arguments: &[&str], begins: &str) -> Option<String> {
    let output = Command::new("rustc").args(arguments).current_dir(source).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix(begins)).map(str::to_owned)
}

/// The path of the module among what cargo tells of the build.
fn module_of(messages: &[u8]) -> Option<PathBuf> {
    let messages =
        messages.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let cdylibs = messages.filter(|message| {
        message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
    });
    let files = cdylibs.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    let mut paths = files.filter_map(|file| file.as_str().map(PathBuf::from));
    paths.rfind(|path| path.extension().is_some_and(|extension| extension == "wasm"))
}

fn ensure_target(source: &Path) -> Result<()> {
    let folder = told_by_rustc(source, &["--print", "target-libdir", "--target", TARGET], "");
    let folder = PathBuf::from(folder.context("rustc can't be started: install Rust (https://rustup.rs)")?);
    ensure!(folder.is_dir(), "Rust can't build for WebAssembly yet: run `rustup target add {TARGET}`");
    Ok(())
}

/// Other languages bring a script of their own.
fn script(source: &Path) -> Result<()> {
    let source = &fs::canonicalize(source).with_context(|| source.display().to_string())?;
    let script = source.join("build");
    if !script.is_file() {
        bail!("no `Cargo.toml` and no `build` script: {}", remedy(source));
    }
    let component = component_path(source)?;
    let written = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    let before = written(&component);
    output::line(&format!("running {}", script.display()));
    let status = Command::new(&script)
        .current_dir(source)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{} can't be started (is it executable?)", script.display()))?;
    ensure!(status.success(), "its `build` script failed");
    ensure!(written(&component) != before, "its `build` script wrote no {}", component.display());
    let bytes = fs::read(&component)
        .with_context(|| format!("its `build` script wrote no {}", component.display()))?;
    if Anatomy::is_core_module(&bytes) {
        // A compiler that knows nothing of components has done its part.
        return keep(source, &componentize_plain(&bytes)?);
    }
    told(&component, &bytes)
}

/// What to install, as far as the files show the language.
fn remedy(source: &Path) -> String {
    let has = |ending: &str| {
        let files = fs::read_dir(source).into_iter().flatten().flatten();
        files
            .map(|entry| entry.path())
            .any(|path| path.extension().is_some_and(|extension| extension == ending))
    };
    if has("py") {
        "Python needs `python3 -m venv .venv && .venv/bin/pip install componentize-py`, then `componentize-py -d wit -w pack componentize --stub-wasi MODULE -o ../NAME.wasm`".to_owned()
    } else if has("js") || has("ts") || source.join("package.json").is_file() {
        "JavaScript needs `npm install componentize-qjs`, then `componentize-qjs --sync --stub-wasi --wit wit --js FILE.js -o ../NAME.wasm`".to_owned()
    } else if has("c") {
        "C needs `apt-get install clang lld`: examples/c-mapper shows the steps".to_owned()
    } else {
        "add a script `build` that writes `../NAME.wasm`, a component of the world `pack`".to_owned()
    }
}

/// `mappers/NAME.wasm` beside `mappers/NAME/`.
fn component_path(source: &Path) -> Result<PathBuf> {
    let name = source.file_name().context("a mapper's folder has a name")?;
    let mut file = name.to_owned();
    file.push(".wasm");
    Ok(source.with_file_name(file))
}

fn keep(source: &Path, component: &[u8]) -> Result<()> {
    let path = component_path(source)?;
    let doing = || path.display().to_string();
    // Written under a name that no loader reads, and renamed: a host sees the whole file or the one before.
    let name = path.file_name().context("a component has a name")?.to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.new"));
    fs::write(&fresh, component).and_then(|()| fs::rename(&fresh, &path)).with_context(doing)?;
    told(&path, component)
}

fn told(path: &Path, component: &[u8]) -> Result<()> {
    let anatomy = Anatomy::read(component).map_err(|refused| {
        anyhow::anyhow!(
            "{}: {}{}",
            path.display(),
            refused.message,
            refused.help.map(|help| format!("\n  help: {help}")).unwrap_or_default()
        )
    })?;
    let interface = anatomy.interface.unwrap_or_default();
    output::line(&format!("{}: {} bytes, hookpack:mapper {interface}", path.display(), component.len()));
    Ok(())
}
