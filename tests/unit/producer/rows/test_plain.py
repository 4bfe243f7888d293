"""Rows that are plainly right, taken by many: the same events as with care, whatever stands between them."""

import logging
import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from services.contract.producing.outgoing import Numbering, Outgoing, Position
from services.producer.files import opening
from services.producer.files.read import Reader
from services.producer.files.replay import Opener
from services.producer.options import read_options
from services.producer.rows.plain import PlainRows
from services.producer.spellings import Spellings
from services.runtime.telemetry.metrics import Metrics

CELLS: Final = {
    "device_id": ["d-1", " d-2", "é 3", "", '"d,4"', "d\t5", "d 6 ", "x" * 128, "x" * 129, "\u00a0d"],
    "zone": ["z", "z", "z", "#z", '"z', 'z"q', "\u2028", "z\u0085"],
    "ts": [
        "1710028800",
        "1710028801.5",
        "1710028802.50",
        "0",
        "99",
        "2024-03-10T00:00:00Z",
        "1.7e9",
        "7258118400",
    ],
    "kpi": ["humidity", "Humidity", "temp", "unheard of", "", "pressure "],
    "value": ["1", "20.5", "007", "-3", "+4", "1e3", "", "nan", "5,5", " 6", "1" * 16, "1." + "2" * 20],
    "note": ["", "fine", " ", "a b", "#no", "\x07", "n" * 200, '"a ""b"""'],
    "more": ["", "ok", "warm", " warm", "m" * 127, "m" * 128, "m" * 129],
    "v0": ["1", "2.5", "", "-", "x"],
    "v1": ["3", "4.5", "", "n/a", "-1"],
    "": ["", "5", " ", "x"],
}
TABLES: Final[dict[str, tuple[list[str], list[str]]]] = {
    "usual": (["device_id", "zone", "ts", "kpi", "value"], []),
    "in another order, and more": (["note", "value", "kpi", "more", "ts", "zone", "device_id"], []),
    "constants": (["ts", "value"], ["--const=device_id=d", "--const=zone= z ", "--const=kpi=humidity"]),
    "kept": (["device_id", "zone", "ts", "kpi", "value", "note", "more"], ["--keep=more,note"]),
    "one kept": (["device_id", "zone", "ts", "kpi", "value", "more"], ["--keep=more"]),
    "wide": (
        ["ts", "v0", "note", "v1", "zone"],
        ["--value=v0=humidity,device_id=p", "--value=v1=temp,device_id=q"],
    ),
    "a line feed in a column's constant": (
        ["ts", "v0", "v1", "zone"],
        ["--value=v0=humidity,device_id=p\nq", "--value=v1=temp,device_id=q"],
    ),
    "ids of content": (["device_id", "zone", "ts", "kpi", "value", "note"], ["--id-from=device_id,kpi,ts"]),
    "comments": (["device_id", "zone", "ts", "kpi", "value"], ["--comment=d-1"]),
    "semicolons, local times": (
        ["device_id", "zone", "ts", "kpi", "value"],
        ["--delimiter=;", "--time-zone=Europe/Berlin"],
    ),
    "milliseconds": (["device_id", "zone", "ts", "kpi", "value"], ["--time-format=ms"]),
    "unquoted": (["device_id", "zone", "ts", "kpi", "value"], ["--quote=none"]),
    "decimal commas": (["device_id", "zone", "ts", "kpi", "value"], ["--delimiter=;", "--decimal=,"]),
    "a delimiter at the end": (["device_id", "zone", "ts", "kpi", "value", ""], []),
    "columns without a name": (
        ["", "device_id", "zone", "ts", "kpi", "value", "", "", ""],
        ["--map=value=#6", "--keep=#7"],
    ),
    "marks for missing": (["device_id", "zone", "ts", "kpi", "value"], ["--missing=1"]),
}


LOGGER: Final = logging.getLogger("test-plain-rows")
LOGGER.disabled = True


class Kept:
    """Keeps refusals."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, bytes]] = []

    def add(self, line: int, reason: str, data: bytes, /) -> None:
        self.found.append((line, reason, data))

    def flush(self) -> None:
        pass


def read(
    path: Path, options: list[str], size: int
) -> tuple[Reader, list[Outgoing], list[Any], dict[int, int]]:
    """Give the reader, the events, what was refused, and how many events lie before each position."""
    told = read_options(["--from", str(path), *options])
    assert told.reading is not None
    events: list[Outgoing] = []
    behind = {0: 0}
    with ExitStack() as stack:
        opener = Opener(
            told.reading, Spellings(told.settings.kpis), lambda: False, LOGGER, Metrics("producer"), stack
        )
        reader = opener.open()
        refusals = reader.refusals = Kept()
        numbering = Numbering("7abc-8def-012")
        while (batch := reader.next_batch(size, 1.0, numbering)) is not None:
            assert len(batch.events) <= max(size, 2)
            events += [one._replace(fields=tuple(one.fields)) for one in batch.events]
            assert isinstance(batch.position, Position)
            behind[batch.position.offset] = len(events)
        assert reader.account.is_balanced
        return reader, events, refusals.found, behind


def write(path: Path, columns: list[str], delimiter: str, chance: random.Random, odd: float) -> None:
    lines = [delimiter.join(columns)]
    for number in range(200):
        cells = []
        for name in columns:
            choices = CELLS[name]
            cell = chance.choice(choices) if chance.random() < odd else choices[0]
            cells.append(f"{1_710_028_800 + number // 3}" if name == "ts" and cell == choices[0] else cell)
        line = delimiter.join(cells)
        if chance.random() < odd / 3:
            line = chance.choice(["", "   ", f"{line}{delimiter}", line[: len(line) // 2], "#", f" {line}"])
        lines.append(line + ("\r" if chance.random() < odd else ""))
    path.write_text("\n".join(lines) + ("\n" if chance.random() < 0.5 else ""), encoding="utf-8", newline="")


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("odd", [0.0, 0.02, 0.3])
def test_the_events_are_those_that_care_makes(
    kind: str, odd: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same numbers, accounts, refusals, counts and places to go on from."""
    columns, options = TABLES[kind]
    delimiter = ";" if "--delimiter=;" in options else ","
    path = tmp_path / "table.csv"
    for seed in range(2):
        write(path, columns, delimiter, random.Random(f"{kind}{odd}{seed}"), odd)
        with monkeypatch.context() as patch:
            patch.setattr(opening, "plain_rows", lambda *_: None)
            careful, wanted, refused, places = read(path, options, 1)
        for size in (7, 500):
            reader, events, said, behind = read(path, options, size)
            assert events == wanted
            assert said == refused
            assert reader.account == careful.account
            assert reader.left_out == careful.left_out
            assert reader.times.twice == careful.times.twice
            assert reader.read == careful.read
            for offset, count in behind.items():
                assert max(places[one] for one in places if one <= offset) <= count
                assert count <= min(places[one] for one in places if one >= offset)


@pytest.mark.parametrize("kind", TABLES)
def test_plain_rows_are_taken_by_many(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what needs care in each row."""
    columns, options = TABLES[kind]
    path = tmp_path / "table.csv"
    write(path, columns, ";" if "--delimiter=;" in options else ",", random.Random(1), 0.0)
    taken: Counter[str] = Counter()
    original = PlainRows.take

    def take(*arguments: Any) -> Any:
        found = original(*arguments)
        taken["rows"] += 0 if found is None else found.rows
        return found

    monkeypatch.setattr(PlainRows, "take", take)
    monkeypatch.setattr(opening, "tell_unused", lambda *_: None)
    read(path, options, 500)
    needs_care = kind in {
        "decimal commas", "marks for missing", "milliseconds", "comments",
        "a line feed in a column's constant",
    }  # fmt: skip
    assert (taken["rows"] > 180) != needs_care


def test_a_table_without_a_plain_row_is_seldom_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for plain rows where there are none would cost as much as it saves elsewhere."""
    path = tmp_path / "quoted.csv"
    rows = "".join(f'"d",z,{1_710_028_800 + number},humidity,1\n' for number in range(3000))
    path.write_text(f"device_id,zone,ts,kpi,value\n{rows}", encoding="ascii")
    calls: Counter[str] = Counter()
    original = PlainRows.take

    def take(*arguments: Any) -> Any:
        calls["take"] += 1
        return original(*arguments)

    monkeypatch.setattr(PlainRows, "take", take)
    assert len(read(path, [], 500)[1]) == 3000
    assert 0 < calls["take"] < 30
