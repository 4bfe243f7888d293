"""The report: as Markdown for docs/benchmarks.md, and as lines for the terminal. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figure import Figure, table
from bench.plan import BATCH_SIZE, LARGEST_BATCH

_CASES: Final = f"""\
Every contestant is a process of its own, timed by one observer from the first entry delivered until
the last is acknowledged, on a fresh database; all of them take turns in each round, on one stream that
is loaded once. Six flat fields, UUIDv7 ids, all values valid, batches of {BATCH_SIZE}, SQLite in WAL, each
batch synced before it is acknowledged, the same table for all. After each round the rows are counted: a
contestant that lost or doubled one ends the run. A ratio is taken within its round, so what slows the
machine for a while slows both sides; the table has the median of the rounds and their extremes.

- **floor**: a plain loop of redis-py and hiredis: read, parse, `executemany`, commit, acknowledge. No
  validation, no recovery, no metrics, no logs.
- **faststream**: FastStream's batch subscriber doing the floor's job. *documented* is the handler that
  its documentation shows; *tuned* replaces its parser and decoder, so that its detour over JSON is left
  out. How each is configured: `tests/bench/faststream_peer.py`.
- **ours**: `python -m services.consumer` as it runs in production, with validation, metrics and logs.
- **replicas**: two and four of them on one database file.
- **packed**: the same events, a hundred in each entry: our consumer, one and two of them on one database
  file, and a plain loop that splits lines; against the floor and FastStream over entries of one event. All
  store batches of {LARGEST_BATCH} events, the most that BATCH_SIZE allows, and one consumer of {BATCH_SIZE}.
  There are five times as many packed events, so that all of it takes some seconds. Two consumers on a file
  each share no lock, so they show what the processors give to two at all. Processor time is what the kernel
  counts for the consumer, and for the server while it serves it.
- **producer**: our publisher against a plain redis-py pipeline, {BATCH_SIZE} events a round trip.
- **latency**: the real producer and the real consumer; from the making of an event's id (rounded down to
  the millisecond) until the commit of its row returned.
- **memory**: the consumer's resident memory while it works off a long backlog; of packed entries in batches
  of {LARGEST_BATCH}.
- **growth**: the sink alone, batch after batch into one table; the last batches take turns with the first
  ones of a fresh table. The first ratio is of median batches; the second is of all of them, with those
  that fold the WAL into the file.
- **audit**: an audit of what came since the last one, a hundredth of the larger table's rows, beside that
  table and beside one of a tenth of its rows.
- **observability**: the same consumer without metrics, logs and traces; with metrics and logs; and with 1 %
  of the batches traced as well. The three take turns in one process, batch by batch, each with its own group
  and database, and the processor time of each is added up, without the first fifth of the turns. The last
  one's includes what runs beside it for who watches: a scrape every five seconds, the observer of the group,
  the export of spans to a receiver that throws them away.
  Its stream carries the contexts of the sampled batches; the others' carries none. Where tracing is off,
  a batch still tells how far it is to somebody who does not listen: those calls are timed by themselves.
- **http**: the same requests to the door and to FastAPI with a plain redis-py pipeline
  (`tests/bench/fastapi_peer.py`), by batches of 100 events on 16 connections and by single events on 64;
  both begin anew each time. Events have a time and no id: the door derives ids, checks KPIs and ranges, and
  keeps the record of its run; the peer checks types and draws an id. Then line protocol by the thousand.
  *request to row* is from the making of a request of 10 events to the commit of its rows, and its ratio to
  what the case latency measures, in the same run.
- **mqtt**: the door for MQTT and a plain loop of paho with an XADD before each acknowledgement
  (`tests/bench/mqtt_peer.py`) take the same messages of one event, QoS 1, which a real Mosquitto has kept for
  them. Both keep the promise that what is acknowledged is in the stream. *message to row* is from the making
  of a message to the commit of its row.

On PostgreSQL it is a server of our own on the loopback, with `synchronous_commit=on` and the tables of
[postgres.md](postgres.md), a partition a day. Processor time is what the kernel counts for a process, its
own work for it included; it depends little on what else the machine does.

- **postgres-store**: what a row takes of the client, and of the backend that serves it. *the store* is our
  sink. *bare statement* is the same INSERT as psycopg sends it: nobody looks at what went in, nor cares
  whether what was there before is durable. *COPY* goes straight into the same partitioned table, and is
  neither idempotent nor checked: row by row as psycopg's documentation shows it, as text and in binary.
  Each has a database of its own, and all take turns batch by batch.
- **postgres-consumer**: `python -m services.consumer` on PostgreSQL and on SQLite, and FastStream's
  documented handler with psycopg's `executemany` (`tests/bench/postgres/faststream_peer.py`), raced as
  above. Processor time is the consumer's own, then with all processes of PostgreSQL's server. SQLite has no
  server: what one does is done in the consumer there.
- **postgres-growth**: as growth, with all rows in the partition of one day.
- **postgres-audit**: as audit, with the rows in partitions by day, vacuumed.
- **copy**: `telemetry copy` from SQLite to PostgreSQL and back, each into an empty store, with all of it
  compared there; against what the sink of the store that is written to takes of the same events.
- **retention**: the rows of one day, all of them proven, are dropped by an audit in a process of its own (in
  SQLite by small deletes, in PostgreSQL as a partition) while a sink writes a batch of 1000 every 20 ms.
"""


_APART: Final = """

Not all of it was measured in one run. Ratios can be compared with each other; rates and times of different
runs are of another machine or another load, which stand at the end."""


@dataclass(frozen=True, slots=True)
class Report:
    """All there is to say about a run, or what is left of it."""

    command: str
    taken_at: str
    """A date in UTC."""
    sizes: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    figures: Sequence[Figure]


def to_markdown(runs: Sequence[Report], picture: str | None) -> str:
    """Write the page of the runs that its figures are from. `picture`: its address, as seen from the page."""
    figures = [one for run in runs for one in run.figures]
    heading, *rows = table(figures)
    image = f"\n![Ratios with their goals]({picture})\n" if picture else ""
    return f"""\
# Benchmarks

Made by {", and by ".join(_made(run, is_alone=len(runs) == 1) for run in runs)}; don't edit it by hand.
{image}
{_markdown_row(heading)}
{_markdown_row(["---"] * len(heading))}
{_lines(map(_markdown_row, rows))}

{goals_line(figures)}{"" if len(runs) == 1 else _APART}

## What is compared

{_CASES}
{_lines(_where(run, is_alone=len(runs) == 1) for run in runs)}"""


def _made(run: Report, *, is_alone: bool) -> str:
    return f"`{run.command}` on {run.taken_at}" + ("" if is_alone else f" ({_cases(run)})")


def _where(run: Report, *, is_alone: bool) -> str:
    """Tell how much was measured in a run, and on what."""
    return f"""\
## {"Where" if is_alone else f"Where: {_cases(run)}"}

Sizes: {run.sizes}.

{_lines(f"- {name}: {value}" for name, value in run.machine.items())}

{_lines(f"- {name}: {value}" for name, value in run.versions.items())}
"""


def _cases(run: Report) -> str:
    return ", ".join(dict.fromkeys(one.case for one in run.figures))


def to_lines(figures: Sequence[Figure]) -> list[str]:
    """Write the table for a terminal, its columns aligned."""
    rows = table(figures)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def goals_line(figures: Sequence[Figure]) -> str:
    """Say how many goals are met, and which are not."""
    held = [one for one in figures if one.goal is not None]
    missed = [
        f"{one.what} ({one.median_text}, wanted {one.goal_text})" for one in held if one.verdict != "met"
    ]
    line = f"{len(held) - len(missed)} of {len(held)} goals met."
    return f"{line} Not met: {'; '.join(missed)}." if missed else line


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
