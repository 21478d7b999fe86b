//! A client of a running host's API, for the commands that ask one.

use std::{process::ExitCode, sync::Once, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use http::{Method, StatusCode};
use serde_json::Value;

use super::{Output, Setup, output};

/// Which host to ask.
#[derive(Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// The host to ask.
    #[arg(long, env = "HOOKPACK_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// An API token. Default: the admin token in the data folder.
    #[arg(long, env = "HOOKPACK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

/// Which host to ask, and for whom the answer is.
#[derive(Debug, clap::Args)]
pub(super) struct AskArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl AskArgs {
    /// Asks, and prints the answer: as it is for a script, as `tell` says it for a person.
    pub(super) async fn ask(
        self,
        setup: &Setup,
        (method, path, body): (Method, &str, Value),
        tell: impl FnOnce(&Value),
    ) -> Result<ExitCode> {
        let answer = Client::new(setup, self.client)?.call(method, path, &body).await?;
        match self.output {
            Output::Json if answer.is_null() => {}
            Output::Json => output::line(&answer.to_string()),
            Output::Text => tell(&answer),
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// An HTTP client that trusts what the system trusts.
pub(super) fn http() -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It fails only when somebody installed one before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    reqwest::Client::builder()
        .timeout(Duration::from_mins(1))
        .no_proxy()
        .build()
        .context("making an HTTP client")
}

impl Client {
    pub(super) fn new(setup: &Setup, args: ClientArgs) -> Result<Self> {
        let token = if let Some(token) = args.token {
            token
        } else {
            let file = setup.config([])?.admin_token_file();
            let text = std::fs::read_to_string(&file).with_context(|| {
                let file = file.display();
                format!("no token: give --token or HOOKPACK_TOKEN, or run where the host keeps {file}")
            })?;
            text.trim().to_owned()
        };
        let url = args.url.trim_end_matches('/');
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        Ok(Self { http: http()?, url, token })
    }

    /// Where the host is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The whole answer to a GET of `/api/v1<path>`.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.ask(Method::GET, path, |request| request.query(query)).await
    }

    /// The whole answer to a call that changes something; null where there is none.
    pub(super) async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.ask(method, path, |request| if body.is_null() { request } else { request.json(body) }).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.url);
        let request = with(self.http.request(method, &url)).bearer_auth(&self.token);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let answer: Value = response
            .json()
            .await
            .with_context(|| format!("{url} did not answer with JSON: is that a Hookpack host?"))?;
        if !status.is_success() {
            bail!("{url} answered {}: {}", status.as_u16(), told(&answer));
        }
        Ok(answer)
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            Unreachable { url: self.url.clone() }.into()
        } else {
            anyhow!("asking {}: {error}", self.url)
        }
    }
}

/// Nobody listens there, for now at least.
#[derive(Debug, thiserror::Error)]
#[error("no host answers at {url}: start one with `hookpack serve`, or name another with --url")]
pub(super) struct Unreachable {
    url: String,
}

/// What a problem says, with every error that it lists.
fn told(problem: &Value) -> String {
    let mut told = problem["detail"].as_str().unwrap_or("no reason given").to_owned();
    for error in problem["errors"].as_array().into_iter().flatten() {
        told += &format!("\n  {}", error["message"].as_str().unwrap_or_default());
        if let Some(help) = error["help"].as_str() {
            told += &format!("\n    help: {help}");
        }
    }
    told
}
