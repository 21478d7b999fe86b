//! A client of a running host's API, for the commands that ask one.

use std::{sync::Once, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::Setup;

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
        Ok(Self { http: http()?, url: args.url.trim_end_matches('/').to_owned(), token })
    }

    /// The whole answer to a GET of `/api/v1<path>`.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.url);
        let request = self.http.get(&url).query(query).bearer_auth(&self.token);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let answer: Value = response
            .json()
            .await
            .with_context(|| format!("{url} did not answer with JSON: is that a Hookpack host?"))?;
        if !status.is_success() {
            let detail = answer["detail"].as_str().unwrap_or("no reason given");
            bail!("{url} answered {}: {detail}", status.as_u16());
        }
        Ok(answer)
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            anyhow!(
                "no host answers at {}: start one with `hookpack serve`, or name another with --url",
                self.url
            )
        } else {
            anyhow!("asking {}: {error}", self.url)
        }
    }
}
