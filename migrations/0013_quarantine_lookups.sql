-- Whether a request of a trigger waits, and what became of a request.

create index quarantine_open_trigger on hookpack.quarantine (trigger_ref) where replayed_at is null;
create index quarantine_request on hookpack.quarantine (request_id);
