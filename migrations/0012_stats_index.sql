-- The statistics of one trigger, without looking through those of all the others.

create index request_count_trigger on hookpack.request_count (trigger_ref, day);
