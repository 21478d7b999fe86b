-- With this one statement, and so in one transaction, a baseline stores a delivery: the event and its log row.
-- Gives back the event's id, or no row when the delivery is known: then repeated.sql is due.
-- $1 idempotency key · $2 received at · $3 source address · $4 user agent · $5 body bytes
-- $6 microseconds since the request came · $7 event id · $8 payload · $9 metadata
WITH stored AS (
    INSERT INTO hookpack.event (id, pack_ref, trigger_ref, payload, metadata, idempotency_key, received_at)
    VALUES ($7, 'github', 'github.push', $8::text::json, $9::text::jsonb, $1, $2)
    ON CONFLICT DO NOTHING
    RETURNING id
)
INSERT INTO hookpack.request_log (received_at, trigger_ref, source_ip, user_agent, method, body_bytes, status,
                                  outcome, event_id, verified, duration_us, pack_version)
SELECT $2, 'github.push', $3::text::inet, $4, 'POST', $5, 200, 'accepted', id, true, $6, '1.0.0'
FROM stored
RETURNING event_id
