-- The last reading of each device, noted by consumers where SILENT_AFTER_S asks for it (stores/readings.py). It follows
-- from the rows, and is authoritative for nothing. Of each page some room is left: an update then stays on its page.
CREATE TABLE telemetry.last_readings (
    pipeline  text             NOT NULL,
    stream    text             NOT NULL,
    device_id text             NOT NULL,
    zone      text             NOT NULL,
    kpi       text             NOT NULL,
    value     double precision NOT NULL,        -- in the KPI's unit
    ts        double precision NOT NULL,        -- event time, Unix seconds
    stored_at double precision NOT NULL,        -- Unix seconds
    event_id  text             NOT NULL,
    PRIMARY KEY (pipeline, stream, device_id)
) WITH (fillfactor = 50);
