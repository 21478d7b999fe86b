//! `hookpack trigger`: one trigger's webhook, or a pack's own.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Setup, client::AskArgs, list::text, output};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show its URLs and keys, and the policy in force with where each value comes from.
    Show(Args),
    /// Let it receive, under the key that it has or a fresh one.
    Enable(Args),
    /// End every key of it: its URLs answer 404.
    Disable(DisableArgs),
    /// Replace its main key.
    Regenerate(Args),
    /// Turn requests away (403) until it is resumed; its keys stay.
    Pause(Args),
    /// Let it receive again.
    Resume(Args),
    /// Override keys of its `webhook`, as `KEY=YAML`: `rate_limit='{requests: 10, window_seconds: 1}'`
    Set(SetArgs),
    /// Go back to what the pack says of these keys.
    Unset(UnsetArgs),
    /// Make a further key.
    AddKey(AddKeyArgs),
    /// Revoke a further key.
    RevokeKey(RevokeKeyArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The trigger, or the pack for its own endpoint.
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    args: Args,
    /// A key of `webhook` and its value, as YAML.
    #[arg(value_name = "KEY=YAML", required = true)]
    values: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnsetArgs {
    #[command(flatten)]
    args: Args,
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DisableArgs {
    #[command(flatten)]
    args: Args,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct AddKeyArgs {
    #[command(flatten)]
    args: Args,
    /// What it is for.
    #[arg(long)]
    label: String,
    /// When it ends, as RFC 3339. Default: never.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RevokeKeyArgs {
    #[command(flatten)]
    args: Args,
    /// As `show` has it.
    id: Uuid,
}

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    let shown = async |Args { reference, ask }: Args, method: Method, rest: &str, body: Value| {
        ask.ask(setup, (method, &format!("{}{rest}", path(&reference)), body), show).await
    };
    let act = async |args: Args, action: &str| shown(args, Method::POST, action, Value::Null).await;
    match command {
        Command::Show(args) => shown(args, Method::GET, "", Value::Null).await,
        Command::Enable(args) => act(args, "/enable").await,
        Command::Disable(DisableArgs { args, yes }) => {
            if !yes && !is_meant(&args.reference) {
                return Ok(ExitCode::FAILURE);
            }
            act(args, "/disable").await
        }
        Command::Regenerate(args) => act(args, "/regenerate").await,
        Command::Pause(args) => act(args, "/pause").await,
        Command::Resume(args) => act(args, "/resume").await,
        Command::Set(SetArgs { args, values }) => {
            let wanted = values.iter().map(|text| value_of(text)).collect::<Result<Map<_, _>>>()?;
            shown(args, Method::PATCH, "", Value::Object(wanted)).await
        }
        Command::Unset(UnsetArgs { args, keys }) => {
            let wanted = keys.into_iter().map(|key| (key, Value::Null)).collect();
            shown(args, Method::PATCH, "", Value::Object(wanted)).await
        }
        Command::AddKey(AddKeyArgs { args: Args { reference, ask }, label, expires_at }) => {
            let body = json!({"label": label, "expires_at": expires_at});
            let call = (Method::POST, &*format!("{}/keys", path(&reference)), body);
            ask.ask(setup, call, |made| output::line(&text(&made["data"]["webhook_url"]))).await
        }
        Command::RevokeKey(RevokeKeyArgs { args: Args { reference, ask }, id }) => {
            let call = (Method::DELETE, &*format!("{}/keys/{id}", path(&reference)), Value::Null);
            ask.ask(setup, call, |_| output::line("revoked")).await
        }
    }
}

/// Asks a person at a terminal; a script is taken at its word.
fn is_meant(reference: &str) -> bool {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return true;
    }
    output::prompt(&format!(
        "The URLs of {reference} end for good: enabling it again makes another. `pause` keeps them. Disable it? [y/N] "
    ));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// A trigger's ref has a dot, a pack's has none.
fn path(reference: &str) -> String {
    let kind = if reference.contains('.') { "triggers" } else { "packs" };
    format!("/{kind}/{reference}/webhooks")
}

fn value_of(text: &str) -> Result<(String, Value)> {
    let (key, value) = text.split_once('=').with_context(|| format!("`{text}`: write KEY=VALUE"))?;
    let value = serde_saphyr::from_str(value).with_context(|| format!("the value of `{key}`"))?;
    Ok((key.trim().to_owned(), value))
}

fn show(answer: &Value) {
    // Nothing: it is disabled, and its pack does not run.
    if answer.is_null() {
        return output::line("disabled");
    }
    let webhook = &answer["data"];
    let state = match (webhook["webhook_enabled"] == true, webhook["webhook_paused"] == true) {
        (false, _) => "disabled",
        (true, true) => "paused",
        (true, false) => "enabled",
    };
    output::line(&format!("{} is {state}", text(&webhook["ref"])));
    if let Some(url) = webhook["webhook_url"].as_str() {
        output::line(url);
    }
    for fault in webhook["override_faults"].as_array().into_iter().flatten() {
        output::line(&format!("an override does not fit the pack: {}", text(&fault["message"])));
    }
    let keys = webhook["keys"].as_array().map_or(&[][..], Vec::as_slice);
    if !keys.is_empty() {
        output::line("");
        let row = |key: &Value| {
            let label = if key["main"] == true { "(main)".to_owned() } else { text(&key["label"]) };
            let [id, expires, requests, used, url] =
                ["id", "expires_at", "requests", "last_used_at", "webhook_url"].map(|name| text(&key[name]));
            vec![id, label, expires, requests, used, url]
        };
        output::table(&["KEY", "LABEL", "EXPIRES", "REQUESTS", "LAST USED", "URL"], keys.iter().map(row));
    }
    let sources = webhook["policy_sources"].as_object();
    let overrides = webhook["overrides"].as_array().map_or(&[][..], Vec::as_slice);
    output::line("");
    let row = |(key, source): (&String, &Value)| {
        let value = &webhook["policy"][key];
        let own = overrides.iter().find(|own| own["key"] == **key);
        let pack = own.map_or(String::new(), |own| {
            let changed = if own["pack_changed"] == true { ", changed since" } else { "" };
            format!("{}{changed}", own["pack_value"])
        });
        let value = own.map_or(value, |own| if value.is_null() { &own["value"] } else { value });
        vec![key.clone(), text(value), text(source), pack]
    };
    output::table(&["POLICY", "VALUE", "FROM", "THE PACK SAYS"], sources.into_iter().flatten().map(row));
}
