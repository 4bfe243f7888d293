"""What the runbooks tell people to type works."""

from collections.abc import Iterator
from typing import Final

import pytest
from acceptance.publisher import KEYS
from alerts.pipeline import Pipeline
from runbooks import telemetry_commands
from servers import Absent

COMMANDS: Final = telemetry_commands()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Give a running pipeline that has dead letters."""
    try:
        one = Pipeline("runbooks", tmp_path_factory.mktemp("runbooks") / "pipeline")
    except Absent as why:
        pytest.skip(str(why))
    one.start(INVALID_RATIO="0.3", SILENT_AFTER_S="60")
    one.until(lambda: one.rig.count() and one.rig.letters(), "rows and dead letters")
    yield one
    one.close()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_a_runbook_works(pipeline: Pipeline, command: list[str]) -> None:
    """On a running pipeline that has dead letters; nobody is asked whether to go on."""
    given = {"ENTRY": next(iter(pipeline.rig.letters())), "NAME": "readers_of_before"}
    if "NAME" in command:
        pipeline.rig.client.xgroup_create(KEYS.stream, given["NAME"], "$")
    options = ["--yes"] if command[1:2] in (["purge"], ["remove"]) else []
    code, said = pipeline.run(*(given.get(word, word) for word in command), *options)
    # Letters whose event has no readable id can't be replayed as they are, and of RUN nothing is missing: the
    # commands say so.
    answers = (
        "without a readable event_id",
        "no run 'RUN' is open here: nothing is missing of any",
        "no last reading of a device DEVICE",
    )
    assert code == 0 or any(one in said for one in answers), said
    assert said


def test_there_are_such_commands() -> None:
    """The pages are read as they are written."""
    assert {command[0] for command in COMMANDS} == {
        "audit",
        "dlq",
        "events",
        "forget",
        "groups",
        "settings",
        "status",
    }
