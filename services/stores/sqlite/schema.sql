-- The tables of DATA_DIR/telemetry.db. `PRAGMA user_version` holds the number of the last migration
-- that was made; each is made once, in one transaction, and none is ever edited after its release.

-- migration 1: the events

CREATE TABLE telemetry_events (
    event_id    TEXT    NOT NULL PRIMARY KEY,  -- UUID; ours are version 7 and grow with time
    device_id   TEXT    NOT NULL,
    zone        TEXT    NOT NULL,
    ts          REAL    NOT NULL,              -- event time, Unix seconds, UTC
    kpi         TEXT    NOT NULL,
    value       REAL    NOT NULL CHECK (value >= 0 AND value < 9e999),  -- in the KPI's unit; 9e999 is infinity
    is_degraded INTEGER NOT NULL CHECK (is_degraded IN (0, 1)),
    stored_at   REAL    NOT NULL               -- Unix seconds, UTC
) STRICT, WITHOUT ROWID;  -- ids grow with time, so the key's own tree is the cheapest table

-- One row, written over and over, by which a consumer asks whether the disk takes writes again.
CREATE TABLE sink_probe (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    probed_at REAL    NOT NULL
) STRICT;
