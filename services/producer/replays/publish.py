"""Publish files, one after the other, each from where its last replay stopped."""

import functools
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from services.contract.errors import Stopping
from services.contract.producing.outgoing import Position
from services.producer.files import progress
from services.producer.files.account import Account
from services.producer.files.decode import SourceUnusable
from services.producer.files.ending import Ending, Result, as_one_record, exit_code
from services.producer.files.inputs import fingerprint, source_key
from services.producer.files.read import MOST_OF_A_RECORD
from services.producer.files.reading import Reading
from services.producer.files.rejected import Rejected
from services.producer.files.replay import Opener
from services.producer.loop import Totals
from services.producer.replays.recognise import look_at, take_over
from services.producer.spellings import Spellings
from services.producer.wiring import Parts, finish, publish_feed

_MOST_TOLD: Final = 10


class Publishing:
    """What is published of all files, and what came of each."""

    def __init__(self, parts: Parts, readings: Sequence[Reading]) -> None:
        self.parts = parts
        self.totals = Totals()
        self.results: list[Result] = []
        self._readings = readings
        self._last_run = ""
        self._ends = parts.clock.monotonic() + parts.told.duration_s

    def run(self) -> int:
        """Publish all of them; gives the exit code. Raises SourceUnusable before anything is published."""
        if len(self._readings) > 1:
            self._look_at_all()
        for at, reading in enumerate(self._readings):
            if at and self._is_over():
                return self._finish(self._readings[at:])
            self._publish_or_tell(reading)
        return self._finish()

    def _is_over(self) -> bool:
        return self.parts.clock.is_stopping() or (
            bool(self.parts.told.duration_s) and self.parts.clock.monotonic() >= self._ends
        )

    def _look_at_all(self) -> None:
        """See that each can be read, and may be published, before anything is. Raises SourceUnusable."""
        wrong = []
        for reading in self._readings:
            try:
                with ExitStack() as stack:
                    file = file_of(reading)
                    if file is None and reading.path is not None and reading.path.exists():
                        continue  # a pipe gives its bytes once
                    opener = opener_of(self.parts, reading, stack)
                    opener.open()
                    if file is not None:
                        look_at(self.parts, reading, file, is_exact=opener.is_exact)
            except SourceUnusable as error:
                wrong.append(str(error))
            if self.parts.clock.is_stopping():
                raise Stopping("asked to stop while the files were looked at")
        if wrong:
            more = [f"and {len(wrong) - _MOST_TOLD} more"] if len(wrong) > _MOST_TOLD else []
            raise SourceUnusable("; ".join([*wrong[:_MOST_TOLD], *more]))

    def _publish_or_tell(self, reading: Reading) -> None:
        try:
            with ExitStack() as stack:
                result = self._publish(reading, stack)
        except SourceUnusable as error:
            if len(self._readings) == 1:
                raise
            # It could be read a moment ago; the others still can.
            self.parts.logger.error("source_broken", extra={"error": str(error)})
            result = Result(reading.source, Account(), stopped=str(error))
        self.results.append(result)
        if len(self._readings) > 1:
            self.parts.logger.info("file_finished", extra=result.as_record())

    def _publish(self, reading: Reading, stack: ExitStack) -> Result:
        """Publish a file, or what is left of it."""
        parts = self.parts
        opener = opener_of(parts, reading, stack)
        reader = opener.open()
        behind: Position | None = None
        file = file_of(reading)
        key = None if file is None else source_key(file, reading.mapped)
        begins = "" if file is None else fingerprint(file)
        replayed = take_over(parts, reading, file, is_exact=opener.is_exact) if file else None
        if replayed is not None:
            told = {"file": str(file), "run": replayed.run.name}
            if file and replayed.is_done and opener.is_exact and replayed.offset == file.stat().st_size:
                parts.logger.info("already_published", extra=told)
                self._last_run = replayed.run.name
                return Result(
                    opener.name, Account(), is_known=True, after_line=replayed.line, already_published=1
                )
            reader = opener.open((replayed.offset, replayed.line))
            behind = reader.pass_over(replayed.ahead, parts.clock.is_stopping)
            line = behind.line if behind else replayed.line
            parts.logger.info("resumed", extra={**told, "after_line": line})
        ending = Ending(reader, reading, is_resumed=replayed is not None)
        open_new = functools.partial(parts.side.open_run, opener.name, key, begins)
        run = open_new() if replayed is None else replayed.run
        ending.rejected = reader.refusals = stack.enter_context(
            closing(
                Rejected(
                    parts.told.settings.data_dir,
                    opener.name,
                    key or run.name,
                    parts.logger,
                    after_line=0 if replayed is None else replayed.line,
                )
            )
        )
        show = stack.enter_context(progress.shown(file))

        def on_batch() -> None:
            reader.confirm()
            show(opener.bytes_read)

        self._last_run = publish_feed(
            parts,
            reader,
            run,
            open_new,
            duration_s=self._time_left_s(),
            totals=self.totals,
            behind=behind,
            on_batch=on_batch,
            most_of_a_record=MOST_OF_A_RECORD,
        )
        return ending.result()

    def _time_left_s(self) -> float:
        """Give what is left of the duration; 0: there is no end."""
        left = self._ends - self.parts.clock.monotonic()
        return max(left, 0.001) if self.parts.told.duration_s else 0.0

    def _finish(self, not_begun: Sequence[Reading] = ()) -> int:
        most = self._readings[0].max_rejected
        names = [reading.source for reading in not_begun]
        finish(self.parts, self._last_run, self.totals, as_one_record(self.results, most, names))
        return exit_code(self.results, most, names)


def opener_of(parts: Parts, reading: Reading, stack: ExitStack) -> Opener:
    """Make what opens a file."""

    def is_stopping() -> bool:
        parts.health.turn()  # whoever waits for the first line of a pipe is alive
        return parts.clock.is_stopping()

    settings = parts.told.settings
    return Opener(
        reading,
        Spellings(settings.kpis),
        is_stopping,
        parts.logger,
        parts.metrics,
        stack,
        settings.max_entry_bytes,
        # A batch that is larger than the stream would wait for room for ever.
        min(MOST_OF_A_RECORD, settings.stream_max_length or MOST_OF_A_RECORD),
    )


def file_of(reading: Reading) -> Path | None:
    """Give the file; None for what gives its bytes once: none for a fingerprint. Raises SourceUnusable."""
    path = reading.path
    if path is None or path.is_file():
        return path
    if reading.resume:
        raise SourceUnusable(f"{path}: not a regular file, so it can't be read again by --resume")
    return None
