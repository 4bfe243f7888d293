"""Who quotes a part of a foreign text takes its secrets out before: half an address is none any more."""

from collections.abc import Callable
from typing import Any, Final, cast

import pytest
from samples import KPIS, NOW, entry, row

from services.brokers.redis.server.answers import malformed
from services.consumer.steps import through
from services.consumer.validate import validate
from services.contract.event import Event
from services.producer.http.answers import InfluxAnswers
from services.producer.http.refusals import TurnedAway
from services.producer.rows.problem import shown
from services.producer.rows.resolve import resolver
from services.producer.spellings import PLAIN, NumberStyle, Spellings
from services.runtime.redact import redact
from services.runtime.settings import ConsumerSettings, Sources, load
from services.steps import Step, reject

EVENT: Final = Event(*row(1)[:6])


def _step(text: str) -> Any:
    return through(EVENT, [cast("Step", lambda _: reject(text))])


def _error(call: Callable[[str], object]) -> Callable[[str], str]:
    def say(text: str) -> str:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of several kinds; what it says is looked at
            call(text)
        return str(caught.value)

    return say


_QUOTING: Final[dict[str, Callable[[str], Any]]] = {
    "a step's sentence": _step,
    "a value": _error(lambda text: resolver(Spellings(KPIS), PLAIN)("temperature", text, "")),
    "a unit": _error(
        lambda text: Spellings(KPIS).reading("temperature", "1", text, NumberStyle()),
    ),
    "a cell": shown,
    "a cell that is no text": lambda text: shown([text]),
    "a label": lambda text: validate([(entry(1), EVENT._replace(device_id=f"{text}\n"))], KPIS, NOW),
    "a KPI": lambda text: validate([(entry(1), EVENT._replace(kpi=text))], KPIS, NOW),
    "a setting": _error(lambda text: load(ConsumerSettings, Sources({"BATCH_SIZE": text}, {}, {}))),
    "a server's words": malformed,
}


@pytest.mark.parametrize("name", _QUOTING)
def test_half_an_address_is_shown_by_none(name: str) -> None:
    """Wherever in it the cut falls: a whole one is hidden where the text is logged or shown."""
    told = [
        redact(str(_QUOTING[name](f"{'x' * length} redis://me:hunter{'2' * 20}@h/0")))
        for length in (*range(110), *range(440, 500), *range(3940, 4000))
    ]
    assert [one for one in told if "hunter" in one] == []


@pytest.mark.parametrize("version", [1, 2])
def test_an_answer_is_cut_when_its_secrets_are_out_of_it(version: int) -> None:
    """Many lines of a request are quoted in one: a header and a message bear no more."""
    for length in range(3940, 4000):
        text = f"{'x' * length} redis://me:hunter{'2' * 20}@h/0"
        answer = InfluxAnswers(version).turned_away(TurnedAway(400, text))
        assert "hunter" not in redact(bytes(answer.body).decode() + repr(answer.raw_headers))


def test_a_short_hint_is_answered_as_it_is() -> None:
    """It says how a token is given, and is none."""
    hint = "a token is needed: Authorization: Bearer TOKEN"
    assert hint.encode() in bytes(InfluxAnswers(2).turned_away(TurnedAway(401, hint)).body)
