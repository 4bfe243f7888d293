-- Dead letters. Two pipelines, or two streams, in one database don't meet: their names begin each key.

CREATE TABLE telemetry.dead_letters (
    pipeline  text             NOT NULL,
    stream    text             NOT NULL,
    entry_id  text             NOT NULL,
    position  bigint           NOT NULL GENERATED ALWAYS AS IDENTITY,  -- in the order of writing
    failed_at timestamptz      NOT NULL,
    stage     text             NOT NULL,
    reason    text             NOT NULL,
    event_id  text,                        -- as received; null where it is no text
    letter    text             NOT NULL,   -- one line of JSON, as in dlq.jsonl; authoritative
    -- An entry that is delivered again may leave a second letter.
    PRIMARY KEY (pipeline, stream, entry_id, position)
);
CREATE INDEX dead_letters_in_order ON telemetry.dead_letters (pipeline, stream, position);

CREATE TABLE telemetry.dead_letters_replayed (
    pipeline    text        NOT NULL,
    stream      text        NOT NULL,
    entry_id    text        NOT NULL,
    replayed_at timestamptz NOT NULL,
    replayed_as text        NOT NULL,      -- the new entry
    PRIMARY KEY (pipeline, stream, entry_id)
);

CREATE TABLE telemetry.dead_letters_purged (
    pipeline  text        NOT NULL,
    stream    text        NOT NULL,
    entry_id  text        NOT NULL,
    event_id  text,
    reason    text        NOT NULL,
    content   text,                        -- of a conflict: the name of its content
    purged_at timestamptz NOT NULL,
    PRIMARY KEY (pipeline, stream, entry_id)
);
