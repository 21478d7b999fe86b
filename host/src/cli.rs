//! The command line: one file a command. Exit codes: 0 fine, 1 the thing asked for failed, 2 usage.

mod audit;
mod client;
mod compare;
mod curl;
mod delete_events;
mod demo;
mod list;
mod master_key;
mod migrate;
mod output;
mod pack;
mod presets;
mod quarantine;
mod secret;
mod send;
mod serve;
mod signals;
mod stats;
mod token;
mod trigger;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};

use crate::{
    config::{Config, Environment},
    secret::MasterKey,
    wasm::{Cache, Purpose, Sandbox, compile},
};

/// A self-hosted gateway for inbound webhooks.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Settings, as YAML.
    #[arg(long, global = true, env = "HOOKPACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the host.
    Serve(ServeArgs),
    /// See it work: a fresh host, every pack's test cases sent as signed requests, and what was stored.
    Demo(demo::Args),
    /// Work on packs, without a host.
    #[command(subcommand)]
    Pack(pack::Command),
    /// Send a request to a running host, signed as its sender would.
    Send(send::Args),
    /// List the packs of a running host, their states, and what is wrong with the refused ones.
    Packs(list::PacksArgs),
    /// List the triggers of a running host, with their URLs.
    Triggers(list::TriggersArgs),
    /// Enable, pause, override one trigger's webhook (or a pack's own), and manage its keys.
    #[command(subcommand)]
    Trigger(trigger::Command),
    /// Secrets of a running host: values go in, and never come out.
    #[command(subcommand)]
    Secret(secret::Command),
    /// Authentic requests that their pack could make nothing of, and their second chance.
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// How many requests came to each trigger, how they ended, how long they took.
    Stats(stats::Args),
    /// Tokens of the management API.
    #[command(subcommand)]
    Token(token::Command),
    /// List what operators changed, the newest first.
    Audit(audit::Args),
    /// The key that seals endpoint keys and secrets in the database.
    #[command(subcommand)]
    MasterKey(master_key::Command),
    /// List the senders that are built in, or show how one signs.
    Presets(presets::Args),
    /// List stored events, the newest first, show one, or delete some.
    Events(Box<list::EventsArgs>),
    /// List received requests and what came of them, the newest first, or show one.
    Requests(list::RequestsArgs),
    /// Bring the database's schema up to date.
    Migrate(StoreArgs),
    /// What a host starts to compile a mapper: see `wasm/compile.rs`.
    #[command(name = compile::COMMAND, hide = true)]
    CompileMapper { order: String },
}

/// Where the data lies.
#[derive(Debug, Default, clap::Args)]
struct StoreArgs {
    /// A Postgres (14 or newer) to use instead of the private one.
    #[arg(long, value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// What the host keeps: private Postgres, master key, admin token. Default: hookpack-data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

#[derive(Debug, Default, clap::Args)]
struct ServeArgs {
    /// The folder of packs. Default: packs
    #[arg(long, value_name = "DIR")]
    packs: Option<String>,
    /// Where to listen. Default: 127.0.0.1:8080
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the management API listens, when it is not to share `--listen`.
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// What every command starts from.
struct Setup {
    config: Option<PathBuf>,
    environment: Environment,
}

impl Setup {
    /// The settings, with these flags on top.
    fn config(&self, flags: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Result<Config> {
        let given =
            flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))));
        Config::load(self.config.as_deref(), &self.environment, given.collect::<Map<_, _>>())
    }
}

impl Setup {
    /// Where mappers run without a host. What was compiled is kept among the user's own caches.
    fn sandbox(&self, config: &Config, purpose: Purpose) -> Arc<Sandbox> {
        let cache = self.cache_dir().and_then(|folder| {
            let key = MasterKey::load_or_make(&folder.join("key"));
            let cache =
                key.and_then(|key| Cache::open(&folder.join("mappers"), key, config.mapper_cache_bytes_max));
            cache
                .inspect_err(|error| output::error(&format!("compiled mappers can't be kept: {error:#}")))
                .ok()
        });
        Sandbox::telling(config, purpose, cache, output::compiling)
    }

    /// What may go at any time; `None` where there is no home.
    fn cache_dir(&self) -> Option<PathBuf> {
        let base =
            self.environment.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || self.environment.get("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(base.or_else(home)?.join("hookpack"))
    }
}

impl ServeArgs {
    fn flags(self) -> impl Iterator<Item = (&'static str, Option<String>)> {
        let own = [("packs", self.packs), ("listen", self.listen), ("admin_listen", self.admin_listen)];
        own.into_iter().chain(self.store.flags())
    }
}

impl StoreArgs {
    fn flags(self) -> [(&'static str, Option<String>); 2] {
        [("database_url", self.database_url), ("data_dir", self.data_dir)]
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let Cli { command, config } = Cli::parse();
    // Before there is a runtime, whose threads would count against the limits that it sets itself.
    if let Command::CompileMapper { order } = &command {
        return compile::child(order);
    }
    let setup = Setup { config, environment: Environment::read() };
    let done = tokio::runtime::Runtime::new().context("starting the runtime").and_then(|runtime| {
        let done = runtime.block_on(run(&setup, command));
        // What is blocked in a system call must not keep the process.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(setup, args).await,
        Command::Demo(args) => demo::run(setup, args).await,
        Command::Pack(command) => pack::run(setup, command).await,
        Command::Send(args) => send::run(setup, args).await,
        Command::Packs(args) => list::packs(setup, args).await,
        Command::Triggers(args) => list::triggers(setup, args).await,
        Command::Trigger(command) => trigger::run(setup, command).await,
        Command::Secret(command) => secret::run(setup, command).await,
        Command::Quarantine(command) => quarantine::run(setup, command).await,
        Command::Stats(args) => stats::run(setup, args).await,
        Command::Token(command) => token::run(setup, command).await,
        Command::Audit(args) => audit::run(setup, args).await,
        Command::MasterKey(command) => master_key::run(setup, command).await,
        Command::Presets(args) => presets::run(&args),
        Command::Events(args) => list::events(setup, *args).await,
        Command::Requests(args) => list::requests(setup, args).await,
        Command::Migrate(args) => migrate::run(setup, args).await,
        Command::CompileMapper { order } => Ok(compile::child(&order)),
    }
}
