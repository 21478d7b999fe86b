//! `hookpack token`: who may ask the management API.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Setup,
    client::AskArgs,
    list::{list, text},
    output,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a token, and show it once.
    Create(CreateArgs),
    /// List the tokens that are in force, without the tokens themselves.
    List(AskArgs),
    /// End a token.
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// What it is for.
    #[arg(long)]
    label: String,
    /// What it allows: each includes the ones before it.
    #[arg(long, value_enum, default_value_t = Scope::Read)]
    scope: Scope,
    /// Only for this pack; may be repeated. Default: every pack.
    #[arg(long = "pack", value_name = "REF")]
    packs: Vec<String>,
    /// When it ends, as RFC 3339. Default: never.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// As `token list` shows it.
    id: Uuid,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    /// To see everything but keys.
    Read,
    /// To see keys, and to change what runs.
    Write,
    /// To say who may do what.
    Admin,
}

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    match command {
        Command::Create(args) => create(setup, args).await,
        Command::List(ask) => ask.ask(setup, (Method::GET, "/tokens", Value::Null), tell_all).await,
        Command::Revoke(RevokeArgs { id, ask }) => {
            let call = (Method::DELETE, &*format!("/tokens/{id}"), Value::Null);
            ask.ask(setup, call, |_| output::line("revoked")).await
        }
    }
}

async fn create(setup: &Setup, args: CreateArgs) -> Result<ExitCode> {
    let CreateArgs { label, scope, packs, expires_at, ask } = args;
    let scope = match scope {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Admin => "admin",
    };
    let packs = (!packs.is_empty()).then_some(packs);
    let body = json!({"label": label, "scope": scope, "packs": packs, "expires_at": expires_at});
    // Alone on its line: for a script that takes it.
    ask.ask(setup, (Method::POST, "/tokens", body), |made| output::line(&text(&made["data"]["token"]))).await
}

fn tell_all(answer: &Value) {
    let row = |token: &Value| {
        let packs = token["packs"].as_array().map(|packs| packs.iter().map(text).collect::<Vec<_>>());
        let packs = packs.map_or_else(|| "all".to_owned(), |packs| packs.join(", "));
        let [id, label, scope, used, expires] =
            ["id", "label", "scope", "last_used_at", "expires_at"].map(|name| text(&token[name]));
        vec![id, label, scope, packs, used, expires]
    };
    output::table(&["ID", "LABEL", "SCOPE", "PACKS", "LAST USED", "EXPIRES"], list(answer).iter().map(row));
}
