//! Certificates and key sets that senders publish: fetched from public addresses only, within limits, and kept.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

/// A certificate or a key set is a few kB.
const BYTES_MAX: usize = 256 << 10;
const WAIT: Duration = Duration::from_secs(5);
/// For how long what was fetched is good.
const FRESH: Duration = Duration::from_hours(1);
/// For how long it is used while nothing newer can be had.
const STALE: Duration = Duration::from_hours(24);
/// For how long a failure is not tried again.
const FAILED: Duration = Duration::from_secs(30);
/// URLs that are remembered; past it, the oldest go. Requests can name some within what a declaration allows.
const URLS_MAX: usize = 256;
const FETCHES_MAX: usize = 8;
const FRESH_URLS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);

/// What senders publish, by its URL.
pub struct Fetcher {
    http: reqwest::Client,
    pinned: BTreeMap<String, PathBuf>,
    kept: Mutex<HashMap<String, Arc<Kept>>>,
    /// Fetches at a time.
    turns: Semaphore,
    /// URLs that were never fetched before: requests can name some, and nobody vouches for those.
    fresh: Direct,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("pinned", &self.pinned).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Kept {
    known: Mutex<Known>,
    /// Of callers at once, one fetches.
    fetching: AsyncMutex<()>,
}

#[derive(Clone, Default)]
struct Known {
    /// With the time when it was fetched.
    text: Option<(Arc<str>, Instant)>,
    failed: Option<Instant>,
}

impl Kept {
    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Known {
    /// What may be used at once: what is fresh enough, or, a moment after a failure, what is not too old.
    fn usable(&self, good_for: Duration) -> Option<Arc<str>> {
        let (text, fetched) = self.text.as_ref()?;
        let failed = self.failed.is_some_and(|failed| failed.elapsed() < FAILED);
        let most = if failed { STALE } else { good_for };
        (fetched.elapsed() < most).then(|| text.clone())
    }
}

type Direct = governor::RateLimiter<
    governor::state::NotKeyed,
    governor::state::InMemoryState,
    governor::clock::DefaultClock,
>;

impl Fetcher {
    /// `pinned`: files that stand for URLs, on hosts without a way out.
    pub fn new(pinned: BTreeMap<String, PathBuf>) -> Result<Self> {
        // It fails only when somebody installed one before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(PublicOnly))
            .timeout(WAIT)
            .build()
            .context("making an HTTP client")?;
        let fresh = governor::RateLimiter::direct(governor::Quota::per_minute(FRESH_URLS_PER_MINUTE));
        Ok(Self { http, pinned, kept: Mutex::default(), turns: Semaphore::new(FETCHES_MAX), fresh })
    }

    /// What lies at `url`, fetched at most so long ago. Nobody waits for a fetch who can have what is there.
    pub async fn get(&self, url: &str, newer_than: Option<Duration>) -> Result<Arc<str>> {
        let good_for = newer_than.unwrap_or(FRESH);
        let kept = self.kept(url);
        if let Some(text) = kept.known().usable(good_for) {
            return Ok(text);
        }
        let _fetching = kept.fetching.lock().await;
        // Somebody may have been faster.
        let known = kept.known();
        if let Some(text) = known.usable(good_for) {
            return Ok(text);
        }
        if known.failed.is_some_and(|failed| failed.elapsed() < FAILED) {
            bail!("{url} could not be fetched a moment ago");
        }
        if known.text.is_none() && !self.pinned.contains_key(url) && self.fresh.check().is_err() {
            bail!("{url} is one of too many that were never asked for before");
        }
        let fetched = {
            let _turn = self.turns.acquire().await?;
            self.fetch(url).await
        };
        let mut now = kept.known.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(text) => {
                *now = Known { text: Some((text.clone(), Instant::now())), failed: None };
                Ok(text)
            }
            Err(error) => {
                now.failed = Some(Instant::now());
                tracing::warn!(url, error = %format!("{error:#}"), "what a sender publishes can't be fetched");
                // The old one is better than none, for a while.
                now.usable(good_for).ok_or(error)
            }
        }
    }

    fn kept(&self, url: &str) -> Arc<Kept> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(url) && all.len() >= URLS_MAX {
            // One that nobody waits for; rather one that never was of use.
            let idle = || all.iter().filter(|(_, kept)| Arc::strong_count(kept) == 1);
            let useless = idle().find(|(_, kept)| kept.known().text.is_none()).or_else(|| idle().next());
            let useless = useless.map(|(url, _)| url.clone());
            useless.map(|url| all.remove(&url));
        }
        all.entry(url.to_owned()).or_default().clone()
    }

    async fn fetch(&self, url: &str) -> Result<Arc<str>> {
        if let Some(file) = self.pinned.get(url) {
            let text = tokio::fs::read_to_string(file).await;
            return Ok(text.with_context(|| format!("`pinned_urls`: {}", file.display()))?.into());
        }
        let parsed = reqwest::Url::parse(url).context("the URL")?;
        // An address in the URL is not looked up, so it is looked at here.
        let address =
            parsed.host_str().map(|host| host.trim_matches(['[', ']'])).and_then(|host| host.parse().ok());
        if address.is_some_and(|address| !is_public(address)) {
            bail!("{url} is not at a public address");
        }
        let mut response = self.http.get(parsed).send().await?.error_for_status()?;
        if response.status() != reqwest::StatusCode::OK {
            bail!("{url} answers {}", response.status());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > BYTES_MAX {
                bail!("{url} has more than {BYTES_MAX} bytes");
            }
        }
        Ok(String::from_utf8(body).context("what lies there is not text")?.into())
    }
}

/// Finds public addresses only. The client connects to what it is given here, so a name that means another address a
/// moment later means nothing.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                let message = format!("{} has no public address", name.as_str());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the internet's: IANA's special-purpose registries name the others.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

/// Only `2000::/3` is given out; in it, tunnels lead to addresses of version 4, and some is for documents.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for address in
            ["8.8.8.8", "1.1.1.1", "52.94.5.1", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "203.0.113.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn nothing_is_fetched_from_a_private_address_whatever_it_is_called() {
        let fetcher = Fetcher::new(BTreeMap::new()).unwrap();
        for url in
            ["https://127.0.0.1/x.pem", "https://[::1]/x", "https://localhost/x", "https://169.254.169.254/x"]
        {
            let error = format!("{:#}", fetcher.get(url, None).await.unwrap_err());
            assert!(error.contains("public address"), "{url}: {error}");
        }
        let error = format!("{:#}", fetcher.get("http://example.com/", None).await.unwrap_err());
        assert!(!error.is_empty());
    }

    #[tokio::test]
    async fn a_pinned_file_stands_for_its_url() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, "one").unwrap();
        let url = "https://sender.example/key.pem";
        let fetcher = Fetcher::new([(url.to_owned(), file.clone())].into()).unwrap();
        assert_eq!(&*fetcher.get(url, None).await.unwrap(), "one");
        std::fs::write(&file, "two").unwrap();
        assert_eq!(&*fetcher.get(url, None).await.unwrap(), "one");
        assert_eq!(&*fetcher.get(url, Some(Duration::ZERO)).await.unwrap(), "two");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(&*fetcher.get(url, Some(Duration::ZERO)).await.unwrap(), "two", "better than none");
    }
}
