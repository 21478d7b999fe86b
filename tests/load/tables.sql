-- What the baselines store into: the columns of Hookpack's two tables, with no index beyond the keys.
CREATE SCHEMA hookpack;

CREATE TABLE hookpack.event (
    id              uuid PRIMARY KEY,
    pack_ref        text NOT NULL,
    trigger_ref     text NOT NULL,
    payload         json NOT NULL,
    metadata        jsonb NOT NULL,
    idempotency_key text,
    received_at     timestamptz NOT NULL,
    UNIQUE (trigger_ref, idempotency_key)
);

CREATE TABLE hookpack.request_log (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at  timestamptz NOT NULL,
    trigger_ref  text NOT NULL,
    source_ip    inet NOT NULL,
    user_agent   text,
    method       text NOT NULL,
    body_bytes   integer NOT NULL,
    status       smallint NOT NULL,
    outcome      text NOT NULL,
    event_id     uuid,
    verified     boolean NOT NULL,
    duration_us  integer NOT NULL,
    pack_version text NOT NULL
);
