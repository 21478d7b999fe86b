-- What is left of the limits of triggers, for all hosts together. Not worth a line in the write-ahead log: after a crash
-- every limit is whole again.

create unlogged table hookpack.rate_limit (
    owner_ref text primary key,
    requests bigint not null,                -- the limit that it was counted under
    window_seconds bigint not null,
    full_at timestamptz not null             -- when the whole limit is there again
);
