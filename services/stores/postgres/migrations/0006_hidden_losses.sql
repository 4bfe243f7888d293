-- What is gone behind a proof, and nobody can tell which: retention has dropped the others, or they have ids that their run
-- did not number. `telemetry audit --full` finds how many; with those that are accepted.
ALTER TABLE telemetry.proven_runs
    ADD COLUMN hidden     bigint NOT NULL DEFAULT 0,  -- of the proven numbers
    ADD COLUMN hidden_ids bigint NOT NULL DEFAULT 0;  -- of the proven events with other ids
