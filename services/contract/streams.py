"""Every Redis key of the pipeline.

    telemetry_stream                  stream  the events; authoritative until they are acknowledged
      group telemetry_consumers               who has read what; authoritative for delivery
    telemetry_stream:dlq              stream  dead letters, where no volume is shared
    {telemetry_stream}:runs           set     the ids of all producer runs
    {telemetry_stream}:run:RUN        hash    what a run has published; authoritative for the audit
    {telemetry_stream}:run:RUN:ids    string  16 bytes for each published id that was not ours
    {telemetry_stream}:replay:SOURCE  string  the run that replays this file, for `--resume`
    {telemetry_stream}:limit          string  STREAM_MAX_LENGTH of the producer that started last; 0: none
    {telemetry_stream}:observer       string  which replica observes the group; expires
    {telemetry_stream}:audit          hash    what `telemetry audit --record` found last

The braces are a hash tag: in a cluster these keys live in the slot of the stream itself, so one
script may write an event and the record of it in one step.
"""

from dataclasses import dataclass

DEFAULT_STREAM = "telemetry_stream"
DEFAULT_GROUP = "telemetry_consumers"


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """The names that belong to one stream."""

    stream: str = DEFAULT_STREAM
    group: str = DEFAULT_GROUP

    @property
    def dead_letters(self) -> str:
        """Where dead letters go when they go to Redis."""
        return f"{self.stream}:dlq"

    @property
    def runs(self) -> str:
        """The set of all producer runs."""
        return f"{{{self.stream}}}:runs"

    def run(self, run: str) -> str:
        """Where `run` keeps what it has published."""
        return f"{{{self.stream}}}:run:{run}"

    def run_ids(self, run: str) -> str:
        """Where `run` keeps the ids it published that are not numbered by it."""
        return f"{self.run(run)}:ids"

    def replay(self, source: str) -> str:
        """Where a replayed `source` keeps the run that replays it."""
        return f"{{{self.stream}}}:replay:{source}"

    @property
    def limit(self) -> str:
        """Where producers say at how many entries they stop."""
        return f"{{{self.stream}}}:limit"

    @property
    def observer(self) -> str:
        """The lease on the figures of the whole group."""
        return f"{{{self.stream}}}:observer"

    @property
    def audit(self) -> str:
        """Where the last recorded audit is kept."""
        return f"{{{self.stream}}}:audit"
