//! `hookpack secret`: values go in, and never come out.

use std::{
    io::{self, IsTerminal, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::{
    Setup,
    client::AskArgs,
    list::{list, text},
    output,
};
use crate::secret::without_mark;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Store a value: from --file, or from standard input, never from the command line, which others can see.
    Set(SetArgs),
    /// Have the host make a value up, in the form that its policies want, and show it once.
    Rotate(RotateArgs),
    /// Forget every stored version.
    Rm(RmArgs),
    /// Let a pack use a secret that is not its own by its name.
    Grant(GrantArgs),
    /// Take a grant back: for that pack the secret is missing from then on.
    Revoke(GrantArgs),
    /// List the secrets that policies name or the host keeps, without their values.
    List(AskArgs),
    /// Show one secret without its value: versions, who may use it, what keeps policies from it.
    Show(RmArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    /// As a policy names it under `secrets`.
    name: String,
    /// The ref of the pack; it need not be there yet.
    #[arg(long = "pack", value_name = "REF")]
    pack_ref: String,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// As a policy names it under `secrets`.
    name: String,
    /// The file that holds the value. Default: standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// For how long the versions before it still count, such as 90s, 30m, 24h, 7d.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = seconds)]
    grace: u32,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// As a policy names it under `secrets`.
    name: String,
    /// For how long the versions before it still count, such as 90s, 30m, 24h, 7d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = seconds)]
    grace: u32,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    name: String,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    match command {
        Command::Set(args) => set(setup, args).await,
        Command::Rotate(RotateArgs { name, grace, ask }) => {
            let call = (Method::POST, &*format!("/secrets/{name}/rotate"), json!({"grace_seconds": grace}));
            ask.ask(setup, call, tell_rotated).await
        }
        Command::Rm(RmArgs { name, ask }) => {
            let call = (Method::DELETE, &*format!("/secrets/{name}"), Value::Null);
            ask.ask(setup, call, |_| output::line(&format!("{name}: forgotten"))).await
        }
        Command::Grant(GrantArgs { name, pack_ref, ask }) => {
            let call = (Method::POST, &*format!("/secrets/{name}/grants"), json!({"pack": pack_ref}));
            ask.ask(setup, call, |_| output::line(&format!("{name}: pack {pack_ref} may use it"))).await
        }
        Command::Revoke(GrantArgs { name, pack_ref, ask }) => {
            let call = (Method::DELETE, &*format!("/secrets/{name}/grants/{pack_ref}"), Value::Null);
            ask.ask(setup, call, |_| output::line(&format!("{name}: pack {pack_ref} may not use it"))).await
        }
        Command::Show(RmArgs { name, ask }) => {
            let call = (Method::GET, &*format!("/secrets/{name}"), Value::Null);
            ask.ask(setup, call, |answer| show(&answer["data"])).await
        }
        Command::List(ask) => ask.ask(setup, (Method::GET, "/secrets", Value::Null), tell_all).await,
    }
}

async fn set(setup: &Setup, args: SetArgs) -> Result<ExitCode> {
    let SetArgs { name, file, grace, ask } = args;
    let text = match file {
        Some(file) => std::fs::read_to_string(&file).with_context(|| file.display().to_string())?,
        None => from_standard_input(&name)?,
    };
    // What editors put in front, and they and `echo` at the end, is no part of it.
    let text = without_mark(&text);
    let value = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if value.is_empty() {
        bail!("there is no value: give --file FILE, or send it to standard input");
    }
    let body = json!({"value": value, "grace_seconds": grace});
    let call = (Method::PUT, &*format!("/secrets/{name}"), body);
    ask.ask(setup, call, |answer| output::line(&told(&answer["data"]))).await
}

/// The value alone goes to standard output: a script may take it from there.
fn tell_rotated(answer: &Value) {
    output::note(&told(&answer["data"]));
    output::line(&text(&answer["data"]["value"]));
}

fn told(set: &Value) -> String {
    let (name, version) = (text(&set["name"]), &set["version"]);
    if set["used_by"].as_array().is_some_and(Vec::is_empty) {
        output::note(&format!("no policy names `{name}`: `hookpack secret list` has those that do"));
    }
    match set["old_until"].as_str() {
        Some(until) => format!("{name}: version {version} counts, the ones before it until {until}"),
        None => format!("{name}: version {version} counts"),
    }
}

fn tell_all(answer: &Value) {
    let row = |secret: &Value| {
        let origin = if secret["provided"] == true { text(&secret["origin"]) } else { "missing".to_owned() };
        vec![text(&secret["name"]), origin, versions(secret), joined(&secret["used_by"]), packs(secret)]
    };
    output::table(&["SECRET", "FROM", "VERSIONS", "USED BY", "PACKS"], list(answer).iter().map(row));
    for problem in list(answer).iter().flat_map(|secret| secret["problems"].as_array().into_iter().flatten())
    {
        output::line(&text(problem));
    }
}

fn show(secret: &Value) {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let grants = secret["grants"].as_array().into_iter().flatten();
    let grants = grants.map(|grant| {
        let since = grant["created_at"].as_str().map_or_else(String::new, |at| format!(", {at}"));
        row("granted to", format!("{} ({}{since})", text(&grant["pack"]), text(&grant["source"])))
    });
    let problems =
        secret["problems"].as_array().into_iter().flatten().map(|problem| row("problem", text(problem)));
    let rows = [
        row("secret", text(&secret["name"])),
        row("from", secret["origin"].as_str().unwrap_or("-").to_owned()),
        row("versions", versions(secret)),
        row("used by", joined(&secret["used_by"])),
        row("belongs to", secret["owner"].as_str().unwrap_or("-").to_owned()),
    ];
    output::table(&["", ""], rows.into_iter().chain(grants).chain(problems));
}

fn versions(secret: &Value) -> String {
    let version = |version: &Value| match version["expires_at"].as_str() {
        Some(until) => format!("{} until {until}", version["version"]),
        None => version["version"].to_string(),
    };
    or_dash(secret["versions"].as_array().into_iter().flatten().map(version))
}

/// The packs that may use it: its owner, then those that it is granted to.
fn packs(secret: &Value) -> String {
    let grants = secret["grants"].as_array().into_iter().flatten().map(|grant| text(&grant["pack"]));
    or_dash(secret["owner"].as_str().map(str::to_owned).into_iter().chain(grants))
}

fn joined(texts: &Value) -> String {
    or_dash(texts.as_array().into_iter().flatten().map(text))
}

fn or_dash(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// What is sent there; from a person one line, which is not shown.
fn from_standard_input(name: &str) -> Result<String> {
    let mut text = String::new();
    if !io::stdin().is_terminal() {
        io::stdin().read_to_string(&mut text).context("reading standard input")?;
        return Ok(text);
    }
    output::prompt(&format!("value of {name} (not shown): "));
    hidden(|| io::stdin().read_line(&mut text))?.context("reading standard input")?;
    drop(writeln!(io::stderr()));
    Ok(text)
}

/// Does something while the terminal shows nothing of what is typed.
fn hidden<T>(read: impl FnOnce() -> T) -> Result<T> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let shown = tcgetattr(io::stdin()).context("asking the terminal")?;
    let mut quiet = shown.clone();
    quiet.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(io::stdin(), SetArg::TCSANOW, &quiet).context("telling the terminal")?;
    let read = read();
    tcsetattr(io::stdin(), SetArg::TCSANOW, &shown).context("telling the terminal")?;
    Ok(read)
}

/// `90s`, `30m`, `24h`, `7d`, or seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let each = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("write a number with s, m, h or d, such as 24h".to_owned()),
    };
    let number =
        number.parse::<u32>().map_err(|_| "write a number with s, m, h or d, such as 24h".to_owned())?;
    number.checked_mul(each).ok_or_else(|| "that is too long".to_owned())
}
