//! `/api/v1/events/stream`: events as they are stored (Server-Sent Events), to be taken up again where they were left.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{self, Sse},
};
use futures_util::{Stream, stream::unfold};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    Failures,
    events::{Event, document},
};
use crate::{
    host::Host,
    news::Waiting,
    store::{
        events::{self, Asked as Filter, Place},
        tokens,
    },
    web::{
        auth::{Caller, Read, Who},
        error::ApiError,
        extract::Asked,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Wanted {
    /// Of this trigger only.
    trigger: Option<String>,
    /// A JSON document that the payload contains, as Postgres' `@>` has it.
    contains: Option<String>,
    /// Go on after the event with this `id:`; the header `Last-Event-ID` says it later and wins. Without either, the
    /// stream begins with what is stored from now on.
    after: Option<String>,
}

/// How often a line goes out when there is nothing to tell, so that nobody between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a token is looked at again.
const TOKEN_INTERVAL: Duration = Duration::from_secs(5);
/// How soon the database is asked again after it was away.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// Events as they are stored, each once and none left out: `data:` is one event as in the list, `id:` is what to resume
/// after.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events",
    params(Wanted, ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` that came.")),
    responses((status = 200, content_type = "text/event-stream", body = String), Failures))]
pub(in crate::web) async fn stream(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
) -> Result<(NoBuffering, Sse<impl Stream<Item = Result<sse::Event, Infallible>>>), ApiError> {
    let last = headers.get("last-event-id").and_then(|line| line.to_str().ok());
    let after = last.or(wanted.after.as_deref()).filter(|text| !text.is_empty());
    let after = after.map(str::parse::<Id>).transpose()?;
    let filter = Filter {
        trigger_ref: wanted.trigger,
        contains: document(wanted.contains.as_deref())?,
        pack_refs: caller.who.pack_refs.clone(),
    };
    let waiting = host.news.wait().ok_or_else(|| {
        let most = host.config.event_streams_max;
        ApiError::Unavailable(format!(
            "{most} streams of events are open, and more are not allowed (event_streams_max)."
        ))
    })?;
    let place = events::place(&host.pool, after.map(|Id(place)| place)).await?;
    let now = Instant::now();
    let stream = Live {
        who: caller.who,
        filter,
        place,
        waiting,
        ready: VecDeque::new(),
        spoke_at: now,
        token_seen_at: now,
        host,
    };
    let events = unfold(stream, |mut stream| async {
        let event = stream.next().await?;
        Some((Ok(event), stream))
    });
    Ok(([("x-accel-buffering", "no")], Sse::new(events)))
}

/// Proxies pass every event on as it comes.
type NoBuffering = [(&'static str, &'static str); 1];

/// `<transaction>-<event>`
#[derive(Clone, Copy, Debug)]
struct Id(Place);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.written_in, self.0.id)
    }
}

impl FromStr for Id {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let place = text.split_once('-').and_then(|(written_in, id)| {
            Some(Place { written_in: written_in.parse().ok()?, id: Uuid::try_parse(id).ok()? })
        });
        let told = || format!("`{text}` is not the `id:` of an event of this stream.");
        place.map(Self).ok_or_else(|| ApiError::BadRequest(told()))
    }
}

/// One reader. It asks the database when there is room for what comes: a slow one holds one page, and no more.
struct Live {
    host: Arc<Host>,
    who: Who,
    filter: Filter,
    /// All before it was sent, or is ready.
    place: Place,
    waiting: Waiting,
    ready: VecDeque<sse::Event>,
    spoke_at: Instant,
    token_seen_at: Instant,
}

impl Live {
    /// `None` when the host stops, or the token is none any more.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if !self.waiting.look() || !self.may_go_on().await {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.spoke_at = Instant::now();
                return Some(event);
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) => {
                    timeout(self.pause(), self.waiting.hear()).await.ok();
                }
                Err(error) => {
                    tracing::debug!(%error, "a stream waits for the database");
                    timeout(AWAY_PAUSE, self.waiting.hear()).await.ok();
                }
            }
            if self.ready.is_empty() && self.spoke_at.elapsed() >= HEARTBEAT {
                self.spoke_at = Instant::now();
                // With the place that was reached: who looks for rare events does not begin from far behind.
                return Some(sse::Event::default().comment("").id(Id(self.place).to_string()));
            }
        }
    }

    /// Gets the next page ready; `false` when there is none yet.
    async fn read(&mut self) -> sqlx::Result<bool> {
        let page = {
            let Ok(_turn) = self.host.searches.acquire().await else { return Ok(false) };
            events::after(&self.host.pool, self.place, &self.filter).await?
        };
        let Some(last) = page.last() else { return Ok(false) };
        self.place = last.place;
        for row in page {
            let Some(event) = row.event else { continue };
            let Ok(text) = serde_json::to_string(&Event::from(event)) else { continue };
            // Between the tokens of a document, as it was sent, there may be any of these: one event is one line.
            let line = text.replace(['\r', '\n'], " ");
            self.ready.push_back(sse::Event::default().id(Id(row.place).to_string()).data(line));
        }
        Ok(true)
    }

    fn pause(&self) -> Duration {
        let heartbeat = HEARTBEAT.saturating_sub(self.spoke_at.elapsed());
        heartbeat.min(TOKEN_INTERVAL.saturating_sub(self.token_seen_at.elapsed()))
    }

    async fn may_go_on(&mut self) -> bool {
        if self.token_seen_at.elapsed() < TOKEN_INTERVAL {
            return true;
        }
        self.token_seen_at = Instant::now();
        let found = tokens::find(&self.host.pool, &self.who.token_hash, self.host.clock.now()).await;
        // While the database is away nothing is read either.
        found.map_or(true, |token| token.is_some())
    }
}
