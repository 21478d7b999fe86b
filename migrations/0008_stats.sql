-- What statistics are made of: the rows of the request log, counted when they are written. A batch adds rows to the
-- deltas and touches nothing that others write; now and then they are folded into the sums.

create table hookpack.request_count (
    day date not null,                       -- UTC
    trigger_ref text not null,               -- as in the log; '': nobody's
    outcome text not null,
    latency smallint not null,               -- of hookpack.latency_of
    requests bigint not null,
    body_bytes bigint not null,
    last_at timestamptz,
    primary key (day, trigger_ref, outcome, latency)
);

create table hookpack.endpoint_key_count (
    endpoint_key_id uuid primary key,
    requests bigint not null,
    last_at timestamptz
);

create table hookpack.request_count_delta (
    day date not null,
    trigger_ref text not null,
    endpoint_key_id uuid,
    outcome text not null,
    latency smallint not null,
    requests bigint not null,
    body_bytes bigint not null,
    last_at timestamptz
);

-- Which class of durations: each begins 19 % above the one before, the first at 1 µs.
create function hookpack.latency_of(duration_us bigint) returns smallint
language sql immutable parallel safe
return floor(4 * ln(greatest(duration_us, 1)::float8) / ln(2::float8))::smallint;

-- What the log has already.
insert into hookpack.request_count_delta
select (received_at at time zone 'UTC')::date, coalesce(trigger_ref, ''), endpoint_key_id, outcome,
       hookpack.latency_of(duration_us), count(*), sum(body_bytes), max(received_at)
from hookpack.request_log group by 1, 2, 3, 4, 5;
