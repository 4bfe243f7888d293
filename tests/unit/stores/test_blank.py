"""A store with nothing in it is refused where the group has acknowledged entries, and nowhere else."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from samples import dead

from services.contract.errors import SinkWrong
from services.runtime.settings import ConsumerSettings
from services.stores.blank import refuse_blank
from services.stores.doors import Store
from services.stores.files.dead_letters import DeadLetterFile
from services.stores.sqlite.store import SQLiteStore


class Looked:
    """A store, and a broker beside it, that note in which order they are asked."""

    place = "PostgreSQL at db:5432/telemetry"

    def __init__(self, *, blank: Sequence[bool], settled: int) -> None:
        self.asked: list[str] = []
        self._blank = list(blank)
        self._settled = settled

    def is_blank(self) -> bool:
        self.asked.append("store")
        return self._blank.pop(0)

    def settled(self) -> int:
        self.asked.append("broker")
        return self._settled

    def refuse(self, settings: ConsumerSettings) -> None:
        refuse_blank(settings, cast("Store", self), self.settled)


@pytest.fixture
def settings(tmp_path: Path) -> ConsumerSettings:
    """Give the settings of a consumer on PostgreSQL."""
    return ConsumerSettings(data_dir=tmp_path, database_url="postgresql://db/telemetry")


def test_it_is_refused_where_the_group_has_acknowledged_entries(settings: ConsumerSettings) -> None:
    """One line, which names both ways on and all that has to be looked at."""
    with pytest.raises(SinkWrong) as caught:
        Looked(blank=[True, True], settled=1).refuse(settings)
    assert str(caught.value) == (
        "PostgreSQL at db:5432/telemetry has nothing of this pipeline, and the group telemetry_consumers has "
        "acknowledged entries of telemetry_stream before: bring what is stored with `telemetry copy --to` "
        "from the store that has it, or set FRESH=true where data may begin anew"
    )


def test_a_store_that_has_something_asks_the_broker_nothing(settings: ConsumerSettings) -> None:
    """Nearly every start."""
    looked = Looked(blank=[False], settled=1)
    looked.refuse(settings)
    assert looked.asked == ["store"]


def test_the_first_start_of_all_is_none_to_refuse(settings: ConsumerSettings) -> None:
    """Nothing is acknowledged, or nobody knows."""
    Looked(blank=[True], settled=0).refuse(settings)


def test_what_another_replica_has_stored_meanwhile_is_seen(settings: ConsumerSettings) -> None:
    """It stores before it acknowledges, so the store is asked behind the broker."""
    looked = Looked(blank=[True, False], settled=10)
    looked.refuse(settings)
    assert looked.asked == ["store", "broker", "store"]


def test_it_begins_anew_where_somebody_says_so(settings: ConsumerSettings) -> None:
    """FRESH=true."""
    looked = Looked(blank=[True, True], settled=10)
    looked.refuse(replace(settings, fresh=True))
    assert looked.asked == []


@pytest.mark.parametrize("purge", [False, True])
def test_events_that_all_became_dead_letters_in_a_file_are_not_looked_for(
    settings: ConsumerSettings, *, purge: bool
) -> None:
    """DEAD_LETTERS=file beside PostgreSQL, purged or not: with one event more it is refused."""
    settings = replace(settings, dead_letters="file")
    file = DeadLetterFile(settings.dead_letter_file, time.time)
    letters = [dead(number) for number in range(1, 4)]
    file.put(letters)
    if purge:
        file.purge([one.entry.entry_id.decode() for one in letters])
    Looked(blank=[True, True], settled=3).refuse(settings)
    with pytest.raises(SinkWrong):
        Looked(blank=[True, True], settled=4).refuse(settings)


def test_an_entry_counts_once_whatever_letters_it_has_left(settings: ConsumerSettings) -> None:
    """One for each of its events, and again when it was delivered again: the others are stored elsewhere."""
    settings = replace(settings, dead_letters="file")
    file = DeadLetterFile(settings.dead_letter_file, time.time)
    entry = dead(1).entry
    events = [
        dead(1)._replace(entry=entry._replace(entry_id=b"%s/%d" % (entry.entry_id, n))) for n in (1, 2, 3)
    ]
    file.put([*events, dead(2)])
    file.purge([events[0].entry.entry_id.decode()])
    file.put([*events, dead(2)])
    Looked(blank=[True, True], settled=2).refuse(settings)
    with pytest.raises(SinkWrong):
        Looked(blank=[True, True], settled=3).refuse(settings)


def test_letters_in_a_file_say_nothing_where_they_go_into_the_database(settings: ConsumerSettings) -> None:
    """They are of the time before, as the rows that lie elsewhere."""
    DeadLetterFile(settings.dead_letter_file, time.time).put([dead(1)])
    with pytest.raises(SinkWrong):
        Looked(blank=[True, True], settled=1).refuse(settings)


@pytest.mark.parametrize(
    "spoil", [Path.mkdir, lambda path: path.write_text("spoilt\nspoilt\n", encoding="utf-8")]
)
def test_letters_that_cant_be_read_are_taken_for_all_of_it(
    settings: ConsumerSettings, spoil: Callable[[Path], Any]
) -> None:
    """Nobody knows how many there were."""
    settings = replace(settings, dead_letters="file")
    spoil(settings.dead_letter_file)
    Looked(blank=[True, True], settled=2).refuse(settings)


def test_a_file_is_no_database_that_waits_for_a_copy(tmp_path: Path) -> None:
    """A lost volume shows in the audit, as ever."""
    settings = ConsumerSettings(data_dir=tmp_path)
    refuse_blank(settings, SQLiteStore(settings), lambda: 10)
