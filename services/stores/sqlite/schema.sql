-- The tables of DATA_DIR/telemetry.db. Each migration is made once, in one transaction, and none is ever edited
-- after its release. schema_migrations holds the numbers of those that were made.
-- `PRAGMA user_version` holds the one that a program has to know at least: the others only add, and programs of
-- before go on with what they know.

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

-- migration 2: what audits have proven, beside the rows, so that a backup has both

-- One row for each pipeline, stream and group that was audited. What was proven was there then.
CREATE TABLE proofs (
    pipeline        TEXT    NOT NULL,
    stream          TEXT    NOT NULL,
    consumer_group  TEXT    NOT NULL,
    generation      INTEGER NOT NULL,  -- one more with each proof: who has read an older one writes nothing
    proven_at       REAL    NOT NULL,  -- Unix seconds: when the audit began
    unrecorded      INTEGER NOT NULL,  -- rows that no run has published, of those with ids before unrecorded_from
    unrecorded_from INTEGER NOT NULL,  -- Unix milliseconds, as ids begin with
    PRIMARY KEY (pipeline, stream, consumer_group)
) STRICT, WITHOUT ROWID;

CREATE TABLE proven_runs (
    pipeline       TEXT    NOT NULL,
    stream         TEXT    NOT NULL,
    consumer_group TEXT    NOT NULL,
    run            TEXT    NOT NULL,
    source         TEXT    NOT NULL,
    last           INTEGER NOT NULL,   -- the highest number that was met
    proven         INTEGER NOT NULL,   -- numbers 1 to this one are proven
    from_ms        INTEGER NOT NULL,   -- what is not proven has ids from this time on, Unix milliseconds
    unnumbered     INTEGER NOT NULL,   -- events without a readable id that were met
    chunk          INTEGER NOT NULL,   -- the first chunk of ids that is not wholly proven
    ids            INTEGER NOT NULL,   -- how many of the ids that it did not number are proven, in their order
    ids_seen       INTEGER NOT NULL,   -- how many of them were looked at
    id_events      INTEGER NOT NULL,   -- different events among the proven ones
    expired        INTEGER NOT NULL,   -- of the proven numbers, how many rows retention has dropped
    expired_last   INTEGER NOT NULL,   -- the highest of those numbers
    expired_ids    INTEGER NOT NULL,   -- of the events with other ids, how many rows retention has dropped
    accepted       INTEGER NOT NULL,   -- of the proven events, how many are accepted losses
    folded_at      REAL,               -- Unix seconds: since when the run is ended and all of it proven; else null
    PRIMARY KEY (pipeline, stream, consumer_group, run)
) STRICT, WITHOUT ROWID;

-- Proven events that had no row then, but a dead letter or the note of a purge: each audit looks again. Without
-- a run: proven ones that were published again by a run that is not proven so far, not to be counted twice.
CREATE TABLE proven_without_row (
    pipeline       TEXT NOT NULL,
    stream         TEXT NOT NULL,
    consumer_group TEXT NOT NULL,
    event_id       TEXT NOT NULL,
    run            TEXT NOT NULL,
    PRIMARY KEY (pipeline, stream, consumer_group, event_id)
) STRICT, WITHOUT ROWID;

-- Proven events with ids that their run did not number, by the day of the id: no row tells whose it is.
CREATE TABLE proven_id_days (
    pipeline       TEXT    NOT NULL,
    stream         TEXT    NOT NULL,
    consumer_group TEXT    NOT NULL,
    run            TEXT    NOT NULL,
    day            INTEGER NOT NULL,   -- days since 1970-01-01, UTC
    events         INTEGER NOT NULL,
    PRIMARY KEY (pipeline, stream, consumer_group, run, day)
) STRICT, WITHOUT ROWID;

-- Losses that a person has closed: who, when and why.
CREATE TABLE accepted_losses (
    pipeline       TEXT    NOT NULL,
    stream         TEXT    NOT NULL,
    consumer_group TEXT    NOT NULL,
    run            TEXT    NOT NULL,
    accepted_at    REAL    NOT NULL,   -- Unix seconds
    accepted_by    TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    events         INTEGER NOT NULL,
    what           TEXT    NOT NULL,   -- JSON: which events
    PRIMARY KEY (pipeline, stream, consumer_group, run, accepted_at)
) STRICT, WITHOUT ROWID;

-- One row: how far days were dropped, of the rows of all pipelines.
CREATE TABLE retention (
    id             INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    generation     INTEGER NOT NULL,   -- one more with each step that drops rows
    dropped_before INTEGER NOT NULL    -- Unix milliseconds: proven rows with ids before that are dropped
) STRICT;

-- migration 3: values below zero, and attributes

CREATE TABLE schema_migrations (
    version    INTEGER NOT NULL PRIMARY KEY,
    applied_at REAL    NOT NULL                -- Unix seconds, UTC
) STRICT;

-- What else a reading has: a JSON object of texts, its names in order; null where it has nothing else.
ALTER TABLE telemetry_events ADD COLUMN attributes TEXT;

-- And its value may be negative: schema.py puts another CHECK in place of the first one's.

-- migration 4: retention

-- What of the rows may not be dropped yet: one row for each pipeline, stream and group whose consumers write here. Its
-- consumers make it when they start, so that no other pipeline's retention takes rows of theirs that no audit has met.
CREATE TABLE retention_holds (
    pipeline       TEXT    NOT NULL,
    stream         TEXT    NOT NULL,
    consumer_group TEXT    NOT NULL,
    generation     INTEGER NOT NULL,   -- of the proof that says so; 0: nothing was ever proven
    missing_from   INTEGER,            -- what is missing has ids from then on, Unix milliseconds; null: nothing is
    others_from    REAL    NOT NULL,   -- rows of other ids, stored from then on, are not proven; Unix seconds
    auditing_at    REAL    NOT NULL DEFAULT 0,  -- when a consumer last began to audit it, Unix seconds
    PRIMARY KEY (pipeline, stream, consumer_group)
) STRICT, WITHOUT ROWID;

-- migration 5: losses that can't be named

-- What is gone behind a proof, and nobody can tell which: retention has dropped the others, or they have ids that their run
-- did not number. `telemetry audit --full` finds how many; with those that are accepted.
ALTER TABLE proven_runs ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;      -- of the proven numbers
ALTER TABLE proven_runs ADD COLUMN hidden_ids INTEGER NOT NULL DEFAULT 0;  -- of the proven events with other ids

-- migration 6: last readings

-- The last reading of each device, noted by consumers where SILENT_AFTER_S asks for it (stores/readings.py). It follows
-- from the rows, and is authoritative for nothing.
CREATE TABLE last_readings (
    pipeline  TEXT NOT NULL,
    stream    TEXT NOT NULL,
    device_id TEXT NOT NULL,
    zone      TEXT NOT NULL,
    kpi       TEXT NOT NULL,
    value     REAL NOT NULL,           -- in the KPI's unit
    ts        REAL NOT NULL,           -- event time, Unix seconds, UTC
    stored_at REAL NOT NULL,           -- Unix seconds, UTC
    event_id  TEXT NOT NULL,
    PRIMARY KEY (pipeline, stream, device_id)
) STRICT, WITHOUT ROWID;
