-- The events. Everything of ours is in the schema `telemetry`, and schema_migrations says which steps were run.

-- An owner may have made it for us; to ask for it again takes rights on the whole database.
DO $$ BEGIN
    IF to_regnamespace('telemetry') IS NULL THEN
        CREATE SCHEMA telemetry;
    END IF;
END $$;

CREATE TABLE telemetry.schema_migrations (
    version    integer     NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE telemetry.schema_migrations IS 'telemetry-pipeline';

-- Partitioned by id, since only then is the id alone the key: an id has one row, whatever its time. Ids of
-- version 7, and ours of version 8, begin with their milliseconds, so a range of ids is a day.
CREATE TABLE telemetry.events (
    event_id    uuid             NOT NULL PRIMARY KEY,
    ts          timestamptz      NOT NULL,  -- event time
    stored_at   timestamptz      NOT NULL,
    value       double precision NOT NULL,  -- in the KPI's unit
    is_degraded boolean          NOT NULL,
    device_id   text             NOT NULL,
    zone        text             NOT NULL,
    kpi         text             NOT NULL,
    attributes  jsonb,                      -- what else a reading has
    CONSTRAINT events_ts_is_finite CHECK (isfinite(ts)),
    -- NaN is greater than every other number here, infinity included.
    CONSTRAINT events_value_is_finite CHECK (value > '-infinity' AND value < 'infinity')
) PARTITION BY RANGE (event_id);

-- Nearly free: a few bytes for every 32 pages. A time filter reads no pages of other times, whatever the ids are.
CREATE INDEX events_ts ON telemetry.events USING brin (ts) WITH (pages_per_range = 32, autosummarize = on);

-- Ids without a time are spread over all of the range, and 99 of 100 are outside of the years 2020 to 2099.
-- They lie apart, for good: what is in the DEFAULT partition is looked at whenever a day is made.
CREATE TABLE telemetry.events_before PARTITION OF telemetry.events
    FOR VALUES FROM (MINVALUE) TO ('016f5e66-e800-0000-0000-000000000000');
CREATE TABLE telemetry.events_beyond PARTITION OF telemetry.events
    FOR VALUES FROM ('03bb2cc3-d800-0000-0000-000000000000') TO (MAXVALUE);
CREATE TABLE telemetry.events_default PARTITION OF telemetry.events DEFAULT;

-- One row, written over and over, by which a consumer asks whether the database takes writes again.
CREATE TABLE telemetry.sink_probe (
    id        integer     NOT NULL PRIMARY KEY CHECK (id = 1),
    probed_at timestamptz NOT NULL
);
