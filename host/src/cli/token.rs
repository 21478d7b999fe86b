//! `hookpack token`: who may ask the management API.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Output, Setup,
    client::{Client, ClientArgs},
    list::{list, text},
    output,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a token, and show it once.
    Create(CreateArgs),
    /// List the tokens that are in force, without the tokens themselves.
    List(Args),
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
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// As `token list` shows it.
    id: Uuid,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    client: ClientArgs,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
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
        Command::List(args) => all(setup, args).await,
        Command::Revoke(RevokeArgs { id, client }) => {
            let client = Client::new(setup, client)?;
            client.call(Method::DELETE, &format!("/tokens/{id}"), &Value::Null).await?;
            output::line("revoked");
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn create(setup: &Setup, args: CreateArgs) -> Result<ExitCode> {
    let CreateArgs { label, scope, packs, expires_at, args: Args { client, output } } = args;
    let scope = match scope {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Admin => "admin",
    };
    let packs = (!packs.is_empty()).then_some(packs);
    let body = json!({"label": label, "scope": scope, "packs": packs, "expires_at": expires_at});
    let answer = Client::new(setup, client)?.call(Method::POST, "/tokens", &body).await?;
    match output {
        Output::Json => output::line(&answer.to_string()),
        // Alone on its line: for a script that takes it.
        Output::Text => output::line(&text(&answer["data"]["token"])),
    }
    Ok(ExitCode::SUCCESS)
}

async fn all(setup: &Setup, Args { client, output }: Args) -> Result<ExitCode> {
    let answer = Client::new(setup, client)?.get("/tokens", &[]).await?;
    if output == Output::Json {
        output::line(&answer.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let row = |token: &Value| {
        let packs = token["packs"].as_array().map(|packs| packs.iter().map(text).collect::<Vec<_>>());
        let packs = packs.map_or_else(|| "all".to_owned(), |packs| packs.join(", "));
        let [id, label, scope, used, expires] =
            ["id", "label", "scope", "last_used_at", "expires_at"].map(|name| text(&token[name]));
        vec![id, label, scope, packs, used, expires]
    };
    output::table(&["ID", "LABEL", "SCOPE", "PACKS", "LAST USED", "EXPIRES"], list(&answer).iter().map(row));
    Ok(ExitCode::SUCCESS)
}
