//! Quarantine: kept requests go through their pack as it is now, and become events exactly once.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Actor, Denied, Trail};
use crate::{
    host::Host,
    ingest::{self, settle_kept},
    model::{Delivery, Outcome},
    receive::again::{Again, again, target_of},
    request::rfc3339,
    store::quarantine::{self, Failed, Filter, OverRow},
};

/// What a replay came to.
#[derive(Clone, Debug)]
pub struct Replay {
    /// `accepted`, `duplicate`, or what it fails on.
    pub outcome: String,
    /// Why it still waits.
    pub detail: Option<String>,
    /// `None`: it still waits.
    pub replayed_at: Option<OffsetDateTime>,
    pub event_id: Option<Uuid>,
}

/// How far a replay of many has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub replayed: u64,
    pub duplicates: u64,
    pub still_failing: u64,
    /// How many wait that were not tried.
    pub left: i64,
    /// The last that was tried, while any are left.
    pub next: Option<Uuid>,
}

/// A call that takes longer leaves the rest to the next one.
const CHUNK_TIME: Duration = Duration::from_secs(10);
/// Replays of one call that run at a time: each waits for the database most of its time. Less than half of the pool's
/// connections, so that everything else still finds one.
const REPLAYS_AT_A_TIME: usize = 4;

/// Replays one request. A second call for the same request, also at the same time, returns what the first one came to.
pub async fn replay(host: &Host, actor: &Actor, id: Uuid) -> Result<Replay, Denied> {
    replay_one(host, Some(actor), id).await
}

/// With an actor, the audit trail gets a line for this very request.
async fn replay_one(host: &Host, actor: Option<&Actor>, id: Uuid) -> Result<Replay, Denied> {
    let gone = || Denied::NotFound(format!("quarantined request {id}"));
    let row = quarantine::get(&host.pool, id).await?.ok_or_else(gone)?;
    if row.replayed_at.is_some() {
        let (replayed_at, outcome, event_id) = (row.replayed_at, row.outcome, row.event_id);
        return Ok(Replay::of(OverRow { replayed_at, outcome, event_id }));
    }
    let request = quarantine::request(&host.pool, id).await?.ok_or_else(gone)?;
    let Some((trigger, target)) = target_of(&host.registry.load(), &row.trigger_ref, &request) else {
        let told = format!("{} is not there: it can't be replayed.", row.trigger_ref);
        return Err(Denied::Conflict(told));
    };
    let (pack_version, now) = (trigger.pack_version.as_str(), host.clock.now());
    // It costs what mapping costs: before anything is locked.
    let again = again(host, &trigger, &target, &row, request).await;

    let mut transaction = host.pool.begin().await?;
    let before = quarantine::lock(&mut *transaction, id).await?.ok_or_else(gone)?;
    if before.replayed_at.is_some() {
        return Ok(Replay::of(before));
    }
    let replay = match again {
        Again::Busy(reason) => {
            return Err(Denied::Busy(format!("Too much is waiting to be mapped: {reason}.")));
        }
        Again::Fails { cause, detail } => {
            let failed = Failed { at: now, pack_version, cause: cause.word(), detail: &detail };
            quarantine::fail(&mut *transaction, id, failed).await?;
            let outcome = cause.word().to_owned();
            Replay { outcome, detail: Some(detail), replayed_at: None, event_id: None }
        }
        Again::Delivers(delivery) => match store(&mut transaction, *delivery, id, pack_version, now).await {
            Err(Denied::Store(error)) if ingest::is_refusal(&error) => {
                // Nothing of it is kept but that it was tried.
                transaction.rollback().await?;
                transaction = host.pool.begin().await?;
                let (cause, detail) = (Outcome::StoreRefused.word(), error.to_string());
                let failed = Failed { at: now, pack_version, cause, detail: &detail };
                quarantine::fail(&mut *transaction, id, failed).await?;
                Replay { outcome: cause.to_owned(), detail: Some(detail), replayed_at: None, event_id: None }
            }
            stored => stored?,
        },
    };
    if let Some(actor) = actor {
        let Replay { outcome, event_id, .. } = &replay;
        let detail = json!({"trigger_ref": row.trigger_ref, "outcome": outcome, "event_id": event_id});
        let subject = id.to_string();
        let trail = Trail { action: "quarantine.replay", subject: &subject, detail };
        trail.write(&mut transaction, host, actor).await?;
    }
    transaction.commit().await?;
    Ok(replay)
}

/// Its events, and that it waits no more.
async fn store(
    db: &mut sqlx::PgConnection,
    delivery: Delivery,
    id: Uuid,
    pack_version: &str,
    now: OffsetDateTime,
) -> Result<Replay, Denied> {
    let (outcome, event_id) = match settle_kept(db, delivery, now).await? {
        ingest::Again::Stored(event_id) => (Outcome::Accepted, event_id),
        ingest::Again::Repeated(event_id) => (Outcome::Duplicate, event_id),
        ingest::Again::Undecided => {
            return Err(Denied::Busy("Its idempotency key has just been freed: ask again.".to_owned()));
        }
    };
    let over = quarantine::Over { at: now, pack_version, outcome: outcome.word(), event_id };
    quarantine::end(db, id, over).await?;
    Ok(Replay { outcome: outcome.word().to_owned(), detail: None, replayed_at: Some(now), event_id })
}

/// Replays open requests, the oldest first, at most `limit` of them and for no longer than ten seconds; the next call
/// continues after `next`. The audit trail gets one line a call, written before the first replay.
pub async fn replay_many(
    host: &Host,
    actor: &Actor,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Progress, Denied> {
    let began = Instant::now();
    let mut progress = Progress::default();
    let mut last = after;
    let ids = quarantine::waiting(&host.pool, filter, after, limit).await?;
    if !ids.is_empty() {
        record_replays(host, actor, filter, &ids).await?;
    }
    let in_time = ids.into_iter().take_while(|_| began.elapsed() <= CHUNK_TIME);
    let replay = async |id| (id, replay_one(host, None, id).await);
    // In their order: `last` must have none before it that was not tried.
    let mut replays = stream::iter(in_time).map(replay).buffered(REPLAYS_AT_A_TIME);
    while let Some((id, replayed)) = replays.next().await {
        match replayed {
            Ok(replay) if replay.replayed_at.is_none() => progress.still_failing += 1,
            Ok(replay) if replay.outcome == Outcome::Duplicate.word() => progress.duplicates += 1,
            Ok(_) => progress.replayed += 1,
            // Its trigger is away, or it waits too long for its mapper: those behind it need not.
            Err(Denied::Conflict(_) | Denied::Busy(_)) => progress.still_failing += 1,
            // It was deleted meanwhile.
            Err(Denied::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        last = Some(id);
    }
    progress.left = quarantine::count_waiting(&host.pool, filter, last).await?;
    progress.next = last.filter(|_| progress.left > 0);
    Ok(progress)
}

/// Writes who replays how many requests, by which filter.
async fn record_replays(host: &Host, actor: &Actor, filter: &Filter, ids: &[Uuid]) -> Result<(), Denied> {
    let Filter { trigger_ref, cause, .. } = filter;
    let [since, until] = [filter.since, filter.until].map(|at| at.map(rfc3339));
    let detail = json!({
        "trigger_ref": trigger_ref, "cause": cause, "since": since, "until": until,
        "requests": ids.len(), "first": ids.first(), "last": ids.last(),
    });
    let subject = trigger_ref.as_deref().unwrap_or("all");
    let mut transaction = host.pool.begin().await?;
    let trail = Trail { action: "quarantine.replay_many", subject, detail };
    trail.write(&mut transaction, host, actor).await?;
    transaction.commit().await?;
    Ok(())
}

/// Deletes one, whether it is open or was replayed.
pub async fn delete(host: &Host, actor: &Actor, id: Uuid) -> Result<(), Denied> {
    let mut transaction = host.pool.begin().await?;
    let trigger_ref = quarantine::delete(&mut *transaction, id).await?;
    let trigger_ref = trigger_ref.ok_or_else(|| Denied::NotFound(format!("quarantined request {id}")))?;
    let (subject, detail) = (id.to_string(), json!({"trigger_ref": trigger_ref}));
    let trail = Trail { action: "quarantine.delete", subject: &subject, detail };
    trail.write(&mut transaction, host, actor).await?;
    transaction.commit().await?;
    Ok(())
}

impl Replay {
    fn of(row: OverRow) -> Self {
        let outcome = row.outcome.unwrap_or_default();
        Self { outcome, detail: None, replayed_at: row.replayed_at, event_id: row.event_id }
    }
}
