"""A producer run, as Redis knows it.

    {stream}:run:RUN        hash    writer       who may write: a random token, so two never share a run
                                    batches      how many were applied, also before a server was emptied
                                    last         the last sequence number published
                                    part         events of the last batch that are there, where it was cut;
                                                 else 0
                                    published    distinct numbered events
                                    duplicates   events published again on purpose
                                    unnumbered   events whose event_id can't be read
                                    foreign      ids that it did not number, and `chunk`, where the newest are
                                    ended_at     Unix seconds: nothing more will come
                                    started_at, updated_at    Unix seconds
                                    host, pid, source, stream
                                    offset, line, done, fingerprint    of a replayed file
    {stream}:runs           set     all runs
    {stream}:replay:SOURCE  string  the run that replays this file

Redis is authoritative: what a run has published is what its hash says.
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

import redis

from services.brokers.producing.patience import Patience
from services.brokers.redis.keys import StreamKeys
from services.brokers.redis.server.answers import malformed
from services.brokers.redis.server.scripts import read_script
from services.contract.ids import ID_BYTES, draw_name
from services.contract.producing.outgoing import Position
from services.contract.producing.publishing import Replayed, Run

_OPEN: Final = read_script("producing/open.lua")


def open_run(
    client: redis.Redis,
    keys: StreamKeys,
    patience: Patience,
    source: str,
    replay: str | None = None,
    fingerprint: str = "",
    position: Position | None = None,
    draw: Callable[[], str] = draw_name,
) -> Run:
    """Open a run under a name that nobody has. Raises Stopping and BrokerRefuses."""
    while True:
        run = Run(draw(), secrets.token_hex(8), source, replay, fingerprint)
        if write_run(client, keys, patience, run, position):
            patience.tools.logger.info("run_opened", extra={"run": run.name, "source": source})
            return run
        patience.tools.logger.warning("run_name_taken", extra={"run": run.name})


def write_run(
    client: redis.Redis, keys: StreamKeys, patience: Patience, run: Run, position: Position | None = None
) -> bool:
    """Write the record of a run; False when another process has one of that name.

    `position` is how far its file is published already: after a loss nothing is published twice.
    """
    names = [keys.run(run.name), keys.runs, *([keys.replay(run.replay)] if run.replay else [])]
    now = f"{patience.tools.clock.now():.3f}"
    record: dict[str, str | int] = {
        "writer": run.writer, "batches": run.batches, "last": run.last, "part": 0,
        "published": 0, "duplicates": 0, "unnumbered": run.unnumbered,
        "started_at": now, "updated_at": now,
        "host": socket.gethostname(), "pid": os.getpid(), "source": run.source, "stream": keys.stream,
    }  # fmt: skip
    if run.foreign:
        record["foreign"] = run.foreign
    if run.replay:
        offset, line = (0, 0) if position is None else (position.offset, position.line)
        record |= {"offset": offset, "line": line, "done": 0, "fingerprint": run.fingerprint}
    arguments = [run.name, *(part for pair in record.items() for part in pair)]

    def write() -> bool:
        answer = cast("Any", client).eval(_OPEN, len(names), *names, *arguments)
        if answer not in (0, 1):
            raise malformed(answer)
        return bool(answer)

    return patience.ask(write)


def take_over(
    client: redis.Redis,
    keys: StreamKeys,
    patience: Patience,
    replay: str,
    check: Callable[[Replayed], None],
) -> Replayed | None:
    """Go on with the run that replayed a file, from now on as its only writer; None without one.

    `check` may raise before anything is written. A run among the keys of an earlier version is gone on with
    in a new one, from where it stopped; so is one that audits have let go of, silent for days.
    """
    found = _fence(client, keys, patience, replay, check)
    if found is None and keys.former is not None:
        found = _fence(client, keys.former, patience, replay, check, is_former=True)
        is_over = True
    else:
        is_over = found is not None and found.is_folded
    if found is None or found.is_done or not is_over:
        return found
    run, position = found.run, Position(found.offset, found.line)
    opened = open_run(client, keys, patience, run.source, replay, run.fingerprint, position)
    return replace(found, run=opened)


def _fence(
    client: redis.Redis,
    keys: StreamKeys,
    patience: Patience,
    replay: str,
    check: Callable[[Replayed], None],
    *,
    is_former: bool = False,
) -> Replayed | None:
    """Take a run from whoever writes it; None where no run replayed the file under these names."""

    def find() -> bytes | None:
        try:
            return cast("bytes | None", client.get(keys.replay(replay)))
        except redis.exceptions.AskError:
            # Where another node of a cluster has the former names, no earlier version could write them.
            if is_former:
                return None
            raise

    name = patience.ask(find)
    if name is None:
        return None
    key, writer = keys.run(name.decode()), secrets.token_hex(8)
    known = patience.ask(lambda: cast("dict[bytes, bytes]", client.hgetall(key)))
    if not known:
        return None
    check(_replayed(name.decode(), "", replay, known))

    def fence() -> dict[bytes, bytes]:
        # In one transaction: a writer that still runs is kept out before we learn how far it came.
        pipeline = client.pipeline(transaction=True)
        pipeline.hset(key, "writer", writer)
        pipeline.hgetall(key)
        pipeline.strlen(keys.run_ids(name.decode()))
        _, record, size = pipeline.execute()
        # Those of an earlier version, which counted none, count as well.
        return {b"foreign": str(size // ID_BYTES).encode(), **cast("dict[bytes, bytes]", record)}

    def is_folded() -> bool:
        with contextlib.suppress(redis.exceptions.NoPermissionError):
            return bool(client.hexists(keys.folded, name))
        return False

    found = _replayed(name.decode(), writer, replay, patience.ask(fence))
    return replace(found, is_folded=patience.ask(is_folded))


def _replayed(name: str, writer: str, replay: str, record: Mapping[bytes, bytes]) -> Replayed:
    found = {field.decode(): value.decode(errors="replace") for field, value in record.items()}
    run = Run(
        name, writer, found.get("source", ""), replay, found.get("fingerprint", ""),
        int(found.get("batches", 0)), int(found.get("last", 0)), int(found.get("foreign", 0)),
        int(found.get("unnumbered", 0)),
    )  # fmt: skip
    return Replayed(
        run, int(found.get("offset", 0)), int(found.get("line", 0)), found.get("done") == "1",
        int(found.get("part", 0)),
    )  # fmt: skip
