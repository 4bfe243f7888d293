"""An audit of what the settings name, and what becomes of what it has proven.

First it is written in the store, durably; then the broker lets go of what it need not keep for it any more.
Killed in between, the next audit does the rest.
"""

import getpass
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final

from services.brokers.choice import letters_place, operator_side
from services.brokers.operating.side import OperatorSide
from services.contract.consuming.damage import Damages
from services.contract.consuming.letter import DeadLetter, Purged
from services.contract.consuming.proofs import Accepted, Proofs
from services.contract.errors import BrokerUnavailable, PipelineError, SinkAbsent
from services.ops.audit.proof import audit
from services.ops.audit.result import Audit
from services.ops.dlq.letters import are_at_broker, letters_of
from services.ops.failures import CommandFailed
from services.runtime.redact import head
from services.runtime.settings import ConsumerSettings
from services.stores.choice import open_rows, place_of_letters, store_of

_MOST_ACCEPTED: Final = 100_000_000
_TRIES: Final = 5
"""How often an audit looks again where another one, or retention, has changed the proofs meanwhile."""


def prove(
    settings: ConsumerSettings,
    show: int = 20,
    *,
    full: bool = False,
    keeps: bool = True,
    now: Callable[[], float] = time.time,
) -> Audit:
    """Audit the stream, the dead letters and the sink that the settings name.

    `full`: look at what is proven, too. `keeps`: write down what is proven, where we may.
    """
    with closing(operator_side(settings)) as broker, closing(store_of(settings).open_proofs()) as proofs:
        for _ in range(_TRIES):
            result = _look(settings, broker, proofs, show, now, full=full)
            if not _is_overtaken(result, proofs, full=full):
                break
        else:
            result.problems.append(
                "rows were dropped while it looked, again and again: audit once more later"
            )
        if result.total.missing:
            result.notes += _letters_elsewhere(settings, broker)
        if keeps and (result.known.generation or result.runs):
            _keep(result, broker, proofs)
        if not result.runs and not result.ended_runs and not result.problems:
            result.problems.append(
                f"nothing is proven: no producer run was ever recorded for the stream {settings.stream_name} "
                f"at {broker.place} (rows and dead letters: {settings.data_dir.absolute()}). "
                "Either no producer has started yet, or DATA_DIR, STREAM_NAME, BROKER_URL or REDIS_HOST is "
                "wrong"
            )
    return result


def accept_loss(
    settings: ConsumerSettings,
    run: str,
    why: str,
    who: str = "",
    *,
    full: bool = False,
    now: Callable[[], float] = time.time,
) -> None:
    """Close what is missing of a run, and that its record says less than is known. Raises CommandFailed."""
    for _ in range(_TRIES):
        result = prove(settings, full=full, now=now)
        loss = _loss(result, run, why, who, now(), full=full)
        with closing(store_of(settings).open_proofs()) as proofs:
            try:
                if proofs.accept(loss, result.known.generation + result.is_kept):
                    return
            except PipelineError as error:
                raise CommandFailed(f"not accepted: {error}") from error
    raise CommandFailed("not accepted: other audits were sooner, again and again; try again later")


def _loss(result: Audit, run: str, why: str, who: str, at: float, *, full: bool) -> Accepted:
    """Take what is lost of a run from an audit. Raises CommandFailed."""
    found = next((one for one in result.runs if one.run == run), None)
    if found is None:
        named = ", ".join(one.run for one in result.runs if one.tally.missing or one.understated)
        if named:
            others = f"; with a loss: {named}"
        elif result.total.missing and not full:
            others = "; what is missing of ended runs is closed with --full --accept"
        else:
            others = ": nothing is missing of any"
        raise CommandFailed(f"no run {run!r} is open here{others}")
    if not found.tally.missing and not found.understated:
        hint = "" if full else "; what --full has found behind the proof is closed with --full --accept"
        raise CommandFailed(f"nothing is missing of run {run}, and its record says what is known{hint}")
    if found.tally.missing > _MOST_ACCEPTED:
        raise CommandFailed(
            f"{found.tally.missing:,} events are more than can be lost: is the record of run {run} right?"
        )
    return Accepted(
        run,
        at,
        head(who or _user(), 128),
        head(why.strip(), 1000),
        found.tally.missing,
        found.lost.numbers,
        frozenset(found.lost.ids),
        found.lost.unreadable,
        found.lost.unnamed,
        found.lost.hidden,
        found.lost.proven_ids,
        found.told_last if found.understated else None,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run a user without a name
        return "unknown"


def _look(
    settings: ConsumerSettings,
    broker: OperatorSide,
    proofs: Proofs,
    show: int,
    now: Callable[[], float],
    *,
    full: bool,
) -> Audit:
    letters = letters_of(settings, broker)
    try:
        with open_rows(settings) as rows:
            return audit(broker, rows, letters, show, proofs, full=full, now=now)
    except SinkAbsent:
        nothing = _Nothing()
        kept = nothing if settings.letters_in == "database" else letters
        return audit(broker, nothing, kept, show, full=full, now=now)


def _is_overtaken(result: Audit, proofs: Proofs, *, full: bool) -> bool:
    """Tell whether what looks wrong may be so as somebody has written proofs, or dropped rows, meanwhile."""
    if not (full or result.problems or result.total.missing):
        return False
    generation, drops = proofs.generation()
    known = result.known
    return drops != known.drops or (
        generation != known.generation and bool(result.total.missing or result.problems)
    )


def _letters_elsewhere(settings: ConsumerSettings, broker: OperatorSide) -> Iterator[str]:
    """Name the places of dead letters that were not looked at, and have some."""
    places = ("file", "stream", "database") if settings.database_url else ("file", "stream")
    for place in places:
        there = replace(settings, dead_letters=place)
        if place == settings.letters_in:
            continue
        try:
            is_any = any(True for _ in letters_of(there, broker).read())
        except (PipelineError, OSError):  # nobody said that there are any
            continue
        if is_any:
            named = letters_place(there) if are_at_broker(there) else place_of_letters(there)
            yield (
                f"there are dead letters in {named}, where DEAD_LETTERS={settings.letters_in} does not look: "
                f"what is missing may be among them (DEAD_LETTERS={place})"
            )


def _keep(result: Audit, broker: OperatorSide, proofs: Proofs) -> None:
    """Write down what is proven, and have the broker let go of what it need not keep any more."""
    if result.problems:  # what can't be read may be anywhere
        result.proof.missing_from = 0
    why = proofs.write(result.proof, result.known.generation)
    if why:
        result.notes.append(f"what is proven is not kept: {why}")
        return
    result.is_kept = True
    try:
        others = [one.name for one in broker.groups(time.time()) if not one.is_ours]
        for record, chunk in result.let_go:
            least, _ = proofs.proven_by(others, record.run)
            why = why or broker.forget_ids(record, min(chunk, least))
        folded = [one for one in result.fold if proofs.proven_by(others, one.run)[1]]
        why = why or (broker.fold(folded) if folded else "")
    except BrokerUnavailable as error:  # the proof is kept, and the rest is for the next audit
        why = str(error)
    if why:
        result.notes.append(f"the broker keeps what is proven: {why}")


class _Nothing:
    """The rows of a database that no consumer has made yet, and its dead letters."""

    def __init__(self) -> None:
        self.damages = Damages()

    def read(self) -> Iterator[DeadLetter]:
        """Give none."""
        return iter(())

    def purged(self) -> Iterator[Purged]:
        """Give none."""
        return iter(())

    def event_ids(self, first_ms: int = 0, beyond_ms: int | None = None) -> Iterator[str]:
        """Give none."""
        del first_ms, beyond_ms
        return iter(())

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        """Give all of them."""
        return list(ids)

    def stored_at(self, ids: Sequence[str]) -> Mapping[str, float]:
        """Give none."""
        del ids
        return {}
