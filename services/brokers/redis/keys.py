"""Every Redis key of the pipeline.

    telemetry_stream                  stream  the events; authoritative until they are acknowledged
      group telemetry_consumers               who has read what; authoritative for delivery
    {telemetry_stream}:dlq            stream  dead letters, where no volume is shared
    {telemetry_stream}:dlq:replayed   hash    which of them were replayed, and when
    {telemetry_stream}:dlq:purged     hash    which of them were purged
    {telemetry_stream}:runs           set     the ids of all producer runs
    {telemetry_stream}:run:RUN        hash    what a run has published; authoritative for the audit
    {telemetry_stream}:run:RUN:ids:N  string  16 bytes for each published id that was not ours, in chunks
    {telemetry_stream}:folded         hash    of each run that is ended and proven: its last number
    {telemetry_stream}:replay:SOURCE  string  the run that replays this file, for `--resume`
    {telemetry_stream}:large          stream  what was too large to be read, in pieces; bounded, the oldest go
    {telemetry_stream}:events         stream  how many events so many entries have, while some have many
    {telemetry_stream}:forms          hash    which forms of an entry each consumer says that it reads
    {telemetry_stream}:limit          string  STREAM_MAX_LENGTH of the producer that started last; 0: none
    {telemetry_stream}:observer       string  which replica observes the group; expires
    {telemetry_stream}:trimmed        string  how many entries our own scripts have removed from the stream
    {telemetry_stream}:audit          hash    what `telemetry audit --record` found last

The braces are a hash tag: in a cluster all of these keys live in the slot of the stream itself, so one
server has them all, and one script may write an event and the record of it in one step. A stream whose
name has braces of its own keeps its slot: see `prefix_of`.

Names of earlier versions are still read, and nothing is written there any more (docs/decisions/0022):

    telemetry_stream:dlq              the dead letters, with :replayed and :purged
    {telemetry_stream}:run:RUN:ids    all ids of a run that were not ours
    {NAME}:runs, {NAME}:run:RUN ...   where a stream's NAME has a brace, and so another slot
"""

from binascii import crc_hqx
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Protocol

from services.contract.event import DEFAULT_GROUP, DEFAULT_STREAM

SLOTS: Final = 16384


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """The names that belong to one stream. `prefix`: what they begin with, but for the stream's own."""

    stream: str = DEFAULT_STREAM
    group: str = DEFAULT_GROUP
    prefix: str = ""
    """Empty: the one that keeps them in the slot of the stream."""

    def __post_init__(self) -> None:
        if not self.prefix:
            object.__setattr__(self, "prefix", prefix_of(self.stream))

    @property
    def former(self) -> "StreamKeys | None":
        """The keys as earlier versions named them, dead letters aside; None where they are the same."""
        wrapped = f"{{{self.stream}}}"
        return None if self.prefix == wrapped else replace(self, prefix=wrapped)

    @property
    def dead_letters(self) -> str:
        """Where dead letters go when they go to Redis."""
        return f"{self.prefix}:dlq"

    @property
    def former_dead_letters(self) -> str | None:
        """Where earlier versions wrote them; None where that is the same."""
        former = f"{self.stream}:dlq"
        return None if former == self.dead_letters else former

    @property
    def runs(self) -> str:
        """The set of all producer runs."""
        return f"{self.prefix}:runs"

    def run(self, run: str) -> str:
        """Where `run` keeps what it has published."""
        return f"{self.prefix}:run:{run}"

    def run_ids(self, run: str) -> str:
        """Where `run` keeps the ids it published that are not numbered by it: the chunks' names begin so."""
        return f"{self.run(run)}:ids"

    def replay(self, source: str) -> str:
        """Where a replayed `source` keeps the run that replays it."""
        return f"{self.prefix}:replay:{source}"

    @property
    def large(self) -> str:
        """Where the server keeps entries that are too large to be read."""
        return f"{self.prefix}:large"

    @property
    def limit(self) -> str:
        """Where producers say at how many events they stop."""
        return f"{self.prefix}:limit"

    @property
    def events(self) -> str:
        """Where producers count the events of entries, while some have many."""
        return f"{self.prefix}:events"

    @property
    def forms(self) -> str:
        """Where consumers say which forms of an entry they read."""
        return f"{self.prefix}:forms"

    @property
    def observer(self) -> str:
        """The lease on the figures of the whole group."""
        return f"{self.prefix}:observer"

    @property
    def trimmed(self) -> str:
        """How many entries were removed from the stream by us; what else is gone, others have removed."""
        return f"{self.prefix}:trimmed"

    @property
    def folded(self) -> str:
        """What is kept of runs that are ended and proven."""
        return f"{self.prefix}:folded"

    @property
    def audit(self) -> str:
        """Where the last recorded audit is kept."""
        return f"{self.prefix}:audit"


class Names(Protocol):
    """What names a stream and its group: the settings do."""

    @property
    def stream_name(self) -> str:
        """Name of the stream."""
        ...

    @property
    def group_name(self) -> str:
        """Name of the group on it."""
        ...


def keys_of(names: Names) -> StreamKeys:
    """Give the Redis keys that the settings name."""
    return StreamKeys(names.stream_name, names.group_name)


def chunk_key(ids: str, chunk: int) -> str:
    """Name a chunk of the ids of a run; 0: all of them, as earlier versions kept them."""
    return f"{ids}:{chunk}" if chunk else ids


def slot_of(key: str) -> int:
    """Tell in which slot of a cluster a key lives, as CLUSTER KEYSLOT does.

    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    """
    return crc_hqx((_tag(key) or key).encode(), 0) % SLOTS


@lru_cache(maxsize=64)
def prefix_of(stream: str) -> str:
    """Give what a key has to begin with to live in the slot of this stream."""
    if _tag(stream):
        return stream  # the first tag of a key counts, and that is the stream's own
    if "}" not in stream:
        return f"{{{stream}}}"
    # The whole name decides on the slot, and a tag can't hold its brace: another one with this slot can.
    wanted = slot_of(stream)
    number = next(one for one in range(100 * SLOTS) if slot_of(str(one)) == wanted)
    return f"{{{number}}}:{stream}"


def _tag(key: str) -> str:
    """Give what stands between the first `{` and the next `}`; empty where that is no tag."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed else ""
