-- Who looks after the days: of many consumers one a minute. The others read here what it has found.
CREATE TABLE telemetry.upkeep (
    id       integer     NOT NULL PRIMARY KEY CHECK (id = 1),
    begun_at timestamptz NOT NULL,
    ended_at timestamptz,                        -- null while one is at it
    figures  jsonb       NOT NULL DEFAULT '{}'   -- by the names of the metrics
);
