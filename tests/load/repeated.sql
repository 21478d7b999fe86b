-- The log row of a delivery that is stored already; gives back the id of the event stored first.
-- $1 to $6 as in store.sql.
INSERT INTO hookpack.request_log (received_at, trigger_ref, source_ip, user_agent, method, body_bytes, status,
                                  outcome, event_id, verified, duration_us, pack_version)
SELECT $2, 'github.push', $3::text::inet, $4, 'POST', $5, 200, 'duplicate', id, true, $6, '1.0.0'
FROM hookpack.event
WHERE trigger_ref = 'github.push' AND idempotency_key = $1
RETURNING event_id
