-- What audits have proven, beside the rows, so that a backup has both. The same columns as in SQLite.

-- One row for each pipeline, stream and group that was audited. What was proven was there then.
CREATE TABLE telemetry.proofs (
    pipeline        text             NOT NULL,
    stream          text             NOT NULL,
    consumer_group  text             NOT NULL,
    generation      bigint           NOT NULL,  -- one more with each proof: who has read an older one writes nothing
    proven_at       double precision NOT NULL,  -- Unix seconds: when the audit began
    unrecorded      bigint           NOT NULL,  -- rows that no run has published, with ids before unrecorded_from
    unrecorded_from bigint           NOT NULL,  -- Unix milliseconds, as ids begin with
    PRIMARY KEY (pipeline, stream, consumer_group)
);

CREATE TABLE telemetry.proven_runs (
    pipeline       text             NOT NULL,
    stream         text             NOT NULL,
    consumer_group text             NOT NULL,
    run            text             NOT NULL,
    source         text             NOT NULL,
    last           bigint           NOT NULL,   -- the highest number that was met
    proven         bigint           NOT NULL,   -- numbers 1 to this one are proven
    from_ms        bigint           NOT NULL,   -- what is not proven has ids from this time on, Unix milliseconds
    unnumbered     bigint           NOT NULL,   -- events without a readable id that were met
    chunk          bigint           NOT NULL,   -- the first chunk of ids that is not wholly proven
    ids            bigint           NOT NULL,   -- how many of the ids that it did not number are proven, in order
    ids_seen       bigint           NOT NULL,   -- how many of them were looked at
    id_events      bigint           NOT NULL,   -- different events among the proven ones
    expired        bigint           NOT NULL,   -- of the proven numbers, how many rows retention has dropped
    expired_last   bigint           NOT NULL,   -- the highest of those numbers
    expired_ids    bigint           NOT NULL,   -- of the events with other ids, how many rows retention has dropped
    accepted       bigint           NOT NULL,   -- of the proven events, how many are accepted losses
    folded_at      double precision,            -- Unix seconds: since when it is ended and proven; else null
    PRIMARY KEY (pipeline, stream, consumer_group, run)
);

-- Proven events that had no row then, but a dead letter or the note of a purge: each audit looks again. Without
-- a run: proven ones that were published again by a run that is not proven so far, not to be counted twice.
CREATE TABLE telemetry.proven_without_row (
    pipeline       text NOT NULL,
    stream         text NOT NULL,
    consumer_group text NOT NULL,
    event_id       uuid NOT NULL,
    run            text NOT NULL,
    PRIMARY KEY (pipeline, stream, consumer_group, event_id)
);

-- Proven events with ids that their run did not number, by the day of the id: no row tells whose it is.
CREATE TABLE telemetry.proven_id_days (
    pipeline       text   NOT NULL,
    stream         text   NOT NULL,
    consumer_group text   NOT NULL,
    run            text   NOT NULL,
    day            bigint NOT NULL,             -- days since 1970-01-01, UTC
    events         bigint NOT NULL,
    PRIMARY KEY (pipeline, stream, consumer_group, run, day)
);

-- Losses that a person has closed: who, when and why.
CREATE TABLE telemetry.accepted_losses (
    pipeline       text             NOT NULL,
    stream         text             NOT NULL,
    consumer_group text             NOT NULL,
    run            text             NOT NULL,
    accepted_at    double precision NOT NULL,   -- Unix seconds
    accepted_by    text             NOT NULL,
    reason         text             NOT NULL,
    events         bigint           NOT NULL,
    what           text             NOT NULL,   -- JSON: which events
    PRIMARY KEY (pipeline, stream, consumer_group, run, accepted_at)
);

-- One row: how far days were dropped, of the rows of all pipelines.
CREATE TABLE telemetry.retention (
    id             integer NOT NULL PRIMARY KEY CHECK (id = 1),
    generation     bigint  NOT NULL,            -- one more with each step that drops rows
    dropped_before bigint  NOT NULL             -- Unix milliseconds: proven rows with ids before that are dropped
);
