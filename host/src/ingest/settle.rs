//! One batch in one transaction: which of its deliveries and events are the first, and what their senders hear.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    model::{Answer, Delivery, Outcome},
    store::{
        batch::{self, AnswerRow},
        event_keys::{self, Correction, Keyed},
        events, kept_requests,
    },
};

/// What the database did with one delivery of a batch.
pub(super) enum Settled {
    /// Stored as it came.
    First,
    /// Stored, but for so many of its events that were stored before; its row of the log says so already.
    Overlapping { told: Told, before: usize },
    /// Another delivery was the first of its key.
    Repeated(Told),
    /// Another was the first, and its answer was forgotten in this moment: its window has just ended.
    Again,
}

/// What a delivery's sender hears, and the first event of it.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) event_id: Option<Uuid>,
    /// Of the body of the first delivery, where it is known.
    pub(super) body_checksum: Option<i64>,
}

impl Told {
    /// What the log says of a delivery that repeats this one, where that is odd.
    pub(super) fn note_for(&self, repetition: &Delivery) -> Option<&'static str> {
        let own = repetition.key.as_ref().map(|key| key.body_checksum);
        (self.body_checksum.is_some() && self.body_checksum != own)
            .then_some("the body differs from that of the first delivery of this key")
    }
}

/// Stores a batch of deliveries of which no two have one key: what became of each, in their order.
pub(super) async fn settle(db: &mut PgConnection, deliveries: &[&Delivery]) -> sqlx::Result<Vec<Settled>> {
    let has_more = |delivery: &&Delivery| {
        delivery.raw.is_some() || delivery.events.iter().any(|event| event.key.is_some())
    };
    if !deliveries.iter().any(has_more) {
        // The statement is a transaction by itself: without event keys nothing else goes over the wire.
        return settle_deliveries(db, deliveries, true).await;
    }
    let mut transaction = db.begin().await?;
    match settle_all(&mut transaction, deliveries, true).await {
        Ok(settled) => {
            transaction.commit().await?;
            Ok(settled)
        }
        Err(error) => {
            // Now rather than with the next batch: other writers may wait for the keys.
            transaction.rollback().await.ok();
            Err(error)
        }
    }
}

/// What the database did with a request that was kept before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Stored, by this first event.
    Stored(Option<Uuid>),
    /// The sender's own retry, or another kept request of the same delivery, was quicker: with this first event.
    Repeated(Option<Uuid>),
    /// The key was just forgotten: the same may be tried again.
    Undecided,
}

/// Stores what a kept request has become, within the caller's transaction. From `now` on its keys are remembered as long
/// as those of a delivery that has just come: further kept requests of the same delivery may still be replayed.
pub async fn settle_kept(
    db: &mut PgConnection,
    mut delivery: Delivery,
    now: OffsetDateTime,
) -> sqlx::Result<Again> {
    let (id, received_at) = (delivery.log.id, delivery.log.received_at);
    let age = (now - received_at).max(time::Duration::ZERO).unsigned_abs();
    if let Some(key) = &mut delivery.key {
        let holder = batch::holder(db, &key.owner_ref, &key.key).await?;
        let is_own = holder.as_ref().is_some_and(|holder| holder.request_id == id);
        // That of a delivery long after it, which only has the same name.
        let is_later = holder.is_some_and(|holder| holder.received_at >= received_at + key.window);
        if let Some(event) = delivery.events.first().filter(|_| is_later && !is_own) {
            // It says nothing of this one, which may have been stored before: by a retry, or from another copy of it.
            let (from, until) = (received_at - key.window, received_at + key.window);
            if let Some(first) =
                events::under_key(&mut *db, &event.trigger_ref, &key.key, from, until).await?
            {
                return Ok(Again::Repeated(Some(first)));
            }
        }
        // Its own: it holds the key for the other triggers of its pack.
        key.is_held = is_own || is_later;
        key.window += age;
    }
    for event in &mut delivery.events {
        event.key_window += age;
    }
    let settled = settle_all(db, &[&delivery], false).await?.pop();
    Ok(match settled {
        Some(Settled::First) => Again::Stored(batch::event_id(&delivery)),
        Some(Settled::Overlapping { told, before }) if before == delivery.events.len() => {
            Again::Repeated(told.event_id)
        }
        Some(Settled::Overlapping { told, .. }) => Again::Stored(told.event_id),
        Some(Settled::Repeated(told)) => Again::Repeated(told.event_id),
        Some(Settled::Again) | None => Again::Undecided,
    })
}

async fn settle_all(
    db: &mut PgConnection,
    deliveries: &[&Delivery],
    logged: bool,
) -> sqlx::Result<Vec<Settled>> {
    let mut settled = settle_deliveries(db, deliveries, logged).await?;
    settle_events(db, deliveries, &mut settled, logged).await?;
    let stored = |settled: &Settled| matches!(settled, Settled::First | Settled::Overlapping { .. });
    let stored = deliveries.iter().zip(&settled).filter(|(_, settled)| stored(settled));
    kept_requests::insert(db, &stored.map(|(delivery, _)| *delivery).collect::<Vec<_>>()).await?;
    Ok(settled)
}

/// Claims the keys of deliveries and stores what belongs to those that are the first.
async fn settle_deliveries(
    db: &mut PgConnection,
    deliveries: &[&Delivery],
    logged: bool,
) -> sqlx::Result<Vec<Settled>> {
    let first: HashSet<Uuid> = batch::store(db, deliveries, logged).await?.into_iter().collect();
    let is_first = |delivery: &Delivery| delivery.claim().is_none() || first.contains(&delivery.log.id);
    let others: Vec<&Delivery> = deliveries.iter().copied().filter(|delivery| !is_first(delivery)).collect();
    let answers = if others.is_empty() { Vec::new() } else { batch::answers(db, &others).await? };
    let answers: HashMap<(&str, &str), &AnswerRow> =
        answers.iter().map(|row| ((row.owner_ref.as_str(), row.key.as_str()), row)).collect();
    let settled = deliveries.iter().map(|delivery| match &delivery.key {
        Some(key) if !is_first(delivery) => match answers.get(&(key.owner_ref.as_str(), key.key.as_str())) {
            // Its own row: this batch was committed by an earlier try whose answer was lost.
            Some(row) if row.request_id == delivery.log.id => Settled::First,
            Some(row) => Settled::Repeated(Told {
                answer: row.answer(),
                event_id: row.event_id,
                body_checksum: row.body_checksum,
            }),
            None => Settled::Again,
        },
        _ => Settled::First,
    });
    Ok(settled.collect())
}

/// Claims the keys that the events of first deliveries bring along, stores those events, and corrects what is
/// said of deliveries with events that were stored before.
///
/// When an earlier try committed this batch and its answer was lost, its events hold their keys already, and
/// everything comes out as it did then.
async fn settle_events(
    db: &mut PgConnection,
    deliveries: &[&Delivery],
    settled: &mut [Settled],
    logged: bool,
) -> sqlx::Result<()> {
    let is_first = |settled: &Settled| matches!(settled, Settled::First);
    let firsts = deliveries.iter().zip(settled.iter()).filter(|(_, settled)| is_first(settled));
    let holders = claim_all(db, firsts.flat_map(|(delivery, _)| keyed(delivery))).await?;
    for (delivery, settled) in
        deliveries.iter().zip(settled.iter_mut()).filter(|(_, settled)| is_first(settled))
    {
        let before = stored_before(delivery, &holders);
        if !before.is_empty() {
            let told = Told {
                answer: delivery.answer.renamed(&before),
                event_id: batch::event_id(delivery).map(|id| before.get(&id).copied().unwrap_or(id)),
                body_checksum: delivery.key.as_ref().map(|key| key.body_checksum),
            };
            *settled = Settled::Overlapping { told, before: before.len() };
        }
    }
    let settled = deliveries.iter().zip(settled.iter());
    let corrections: Vec<_> =
        settled.filter_map(|(delivery, settled)| correction(delivery, settled)).collect();
    if corrections.is_empty() { Ok(()) } else { event_keys::correct(db, &corrections, logged).await }
}

/// What tells events apart: trigger and key.
type EventKey<'a> = (&'a str, &'a str);

/// For every key of these events, the event that is stored under it: the first of them, or one from before.
async fn claim_all<'a>(
    db: &mut PgConnection,
    events: impl Iterator<Item = Keyed<'a>>,
) -> sqlx::Result<HashMap<EventKey<'a>, Uuid>> {
    let mut holders = HashMap::new();
    // Of twins the first is asked for: one statement can't claim a key twice.
    let firsts: Vec<Keyed<'_>> = events
        .filter(|keyed| match holders.entry((keyed.event.trigger_ref.as_str(), keyed.key)) {
            Entry::Vacant(vacant) => {
                vacant.insert(keyed.event.id);
                true
            }
            Entry::Occupied(_) => false,
        })
        .collect();
    let claimed: HashSet<Uuid> = event_keys::claim(db, &firsts).await?.into_iter().collect();
    let others: Vec<Keyed<'_>> =
        firsts.into_iter().filter(|keyed| !claimed.contains(&keyed.event.id)).collect();
    if others.is_empty() {
        return Ok(holders);
    }
    let before = event_keys::holders(db, &others).await?;
    let before: HashMap<Uuid, Uuid> = before.into_iter().map(|row| (row.asked, row.first)).collect();
    for id in holders.values_mut().filter(|id| !claimed.contains(*id)) {
        // It is there, for its row is locked; were it not, nothing may be acknowledged.
        *id = *before.get(id).ok_or(sqlx::Error::RowNotFound)?;
    }
    Ok(holders)
}

fn keyed(delivery: &Delivery) -> impl Iterator<Item = Keyed<'_>> {
    delivery.events.iter().filter_map(|event| {
        Some(Keyed { event, key: event.key.as_deref()?, received_at: delivery.log.received_at })
    })
}

/// The events of a delivery that were stored before, each with the id that it has there.
fn stored_before(delivery: &Delivery, holders: &HashMap<EventKey<'_>, Uuid>) -> HashMap<Uuid, Uuid> {
    let before = keyed(delivery).filter_map(|keyed| {
        let first = *holders.get(&(keyed.event.trigger_ref.as_str(), keyed.key))?;
        (first != keyed.event.id).then_some((keyed.event.id, first))
    });
    before.collect()
}

/// What the rows of a delivery are to say after all.
fn correction<'a>(delivery: &'a Delivery, settled: &'a Settled) -> Option<Correction<'a>> {
    let Settled::Overlapping { told, before } = settled else { return None };
    let all = delivery.events.len();
    let counted = format!("{before} of {all} events were stored before");
    Some(Correction {
        delivery,
        answer: &told.answer,
        event_id: told.event_id,
        outcome: if *before == all { Outcome::Duplicate } else { delivery.log.outcome },
        detail: delivery
            .log
            .detail
            .as_ref()
            .map_or_else(|| counted.clone(), |told| format!("{told}; {counted}")),
    })
}
