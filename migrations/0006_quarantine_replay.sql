-- What replays of a quarantined request came to.

alter table hookpack.quarantine
    add owner_ref text,                      -- whose deliveries the idempotency key tells apart; null in rows from before
    add attempts integer not null default 0, -- replays so far; cause, detail and pack version are those of the last one
    add attempted_at timestamptz,
    add replayed_at timestamptz,             -- null: it still waits
    add outcome text,                        -- then: accepted, or duplicate when the event was there already
    add event_id uuid;                       -- the first event that it became, or was already
create index quarantine_trigger on hookpack.quarantine (trigger_ref, id);
create index quarantine_open on hookpack.quarantine (id) where replayed_at is null;
-- While a request waits, the key that it came under is not forgotten.
create index quarantine_open_key on hookpack.quarantine (owner_ref, idempotency_key)
    where replayed_at is null and idempotency_key is not null;
