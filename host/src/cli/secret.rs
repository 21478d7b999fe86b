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

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Store a value: from --file, or from standard input, never from the command line, which others can see.
    Set(SetArgs),
    /// Have the host make a value up, in the form that its policies want, and show it once.
    Rotate(RotateArgs),
    /// Forget every stored version.
    Rm(RmArgs),
    /// List the secrets that policies name or the host keeps, without their values.
    List(AskArgs),
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
        Command::List(ask) => ask.ask(setup, (Method::GET, "/secrets", Value::Null), tell_all).await,
    }
}

async fn set(setup: &Setup, args: SetArgs) -> Result<ExitCode> {
    let SetArgs { name, file, grace, ask } = args;
    let text = match file {
        Some(file) => std::fs::read_to_string(&file).with_context(|| file.display().to_string())?,
        None => from_standard_input(&name)?,
    };
    // What editors and `echo` put at the end is no part of it.
    let value = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
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
        let versions = secret["versions"].as_array().into_iter().flatten().map(|version| {
            match version["expires_at"].as_str() {
                Some(until) => format!("{} until {until}", version["version"]),
                None => version["version"].to_string(),
            }
        });
        let origin = if secret["provided"] == true { text(&secret["origin"]) } else { "missing".to_owned() };
        let users = secret["used_by"].as_array().into_iter().flatten().map(text);
        let joined = |parts: Vec<String>| if parts.is_empty() { "-".to_owned() } else { parts.join(", ") };
        vec![text(&secret["name"]), origin, joined(versions.collect()), joined(users.collect())]
    };
    output::table(&["SECRET", "FROM", "VERSIONS", "USED BY"], list(answer).iter().map(row));
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
