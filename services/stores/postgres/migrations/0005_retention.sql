-- What of the rows may not be dropped yet: one row for each pipeline, stream and group whose consumers write here. Its
-- consumers make it when they start, so that no other pipeline's retention takes rows of theirs that no audit has met.
CREATE TABLE telemetry.retention_holds (
    pipeline       text             NOT NULL,
    stream         text             NOT NULL,
    consumer_group text             NOT NULL,
    generation     bigint           NOT NULL,   -- of the proof that says so; 0: nothing was ever proven
    missing_from   bigint,                      -- what is missing has ids from then on, Unix milliseconds; null: nothing is
    others_from    double precision NOT NULL,   -- rows of other ids, stored from then on, are not proven; Unix seconds
    auditing_at    double precision NOT NULL DEFAULT 0,  -- when a consumer last began to audit it, Unix seconds
    PRIMARY KEY (pipeline, stream, consumer_group)
);
