"""Plain events, read in one go: a JSON list of events with the five fields, their usual types, and no more.

What is plainly right is taken here, all of a body or nothing. Whatever else there is, a mistake above all, is
for `taking/making.py`, which can say what is wrong with which event. For what both take, both give the same.
"""

import re
from typing import Final

import msgspec

from services.contract.event import MAX_LABEL_CHARS
from services.contract.ids import content_id
from services.contract.producing.outgoing import Outgoing
from services.producer.mapping.mapped import Mapped
from services.producer.rows.problem import Problem
from services.producer.rows.times import TimeReader
from services.producer.taking.making import Rules

_QUOTES: Final = 16
"""In an event: two for each of five names and three texts. One more member, or a name twice, has more."""
_value = re.compile(r"(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?").fullmatch
_time = re.compile(r"[1-9][0-9]{0,11}(?:\.[0-9]{1,20})?").fullmatch
_MOST_BYTES: Final = 2048
"""Of an event whose labels are as long as they may be."""


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event as it is sent; numbers keep their text."""

    device_id: str
    zone: str
    ts: msgspec.Raw
    kpi: str
    value: msgspec.Raw


class PlainReader:
    """Reads bodies of plain events."""

    def __init__(self, rules: Rules) -> None:
        self._decode = msgspec.json.Decoder(list[_Event]).decode
        self._times = TimeReader(Mapped().times)
        self._known = rules.spellings.kpi
        self._kpis = rules.kpis
        self._most = rules.most_events if rules.max_entry_bytes >= _MOST_BYTES else 0

    def read(self, data: bytes) -> list[Outgoing] | None:
        """Give what is to be published of a body; None where it is not plain, and wants a closer look."""
        if b"\\" in data:
            return None
        try:
            events = self._decode(data)
            if not 0 < len(events) <= self._most or data.count(b'"') != _QUOTES * len(events):
                return None
            return self._outgoing(events)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, Problem):
            return None

    def _outgoing(self, events: list[_Event]) -> list[Outgoing] | None:
        made = []
        kpis, known = self._kpis, self._known
        ts = written = ""
        for one in events:
            device_id, zone = one.device_id, one.zone
            value = str(one.value, "latin-1")
            kpi = known(one.kpi)
            if (
                kpi is None
                or _value(value) is None
                or (kpis is not None and not (kpi.name in kpis and kpi.min <= float(value) <= kpi.max))
                or not (_is_label(device_id) and _is_label(zone))
            ):
                return None
            if (text := str(one.ts, "latin-1")) != written:  # those of a body often have one time
                if _time(text) is None:
                    return None
                ts, written = self._times.seconds(text), text
            event_id, id_bytes = content_id(device_id, zone, ts, kpi.name, value)
            made.append(Outgoing((event_id, device_id, zone, ts, kpi.name, value), None, id_bytes))
        return made


def _is_label(text: str) -> bool:
    """Tell whether a text is a label as it stands: without a control character, and no blank around it."""
    return text.isprintable() and 0 < len(text) <= MAX_LABEL_CHARS and text[0] != " " != text[-1]
