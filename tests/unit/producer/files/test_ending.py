"""What the exit code says of files that were read, stopped or refused."""

import pytest

from services.producer.files.account import Account
from services.producer.files.ending import NOT_ALL, STOPPED, Result, exit_code


def _read(published: int = 1, refused: int = 0) -> Result:
    return Result("a.csv", Account(published=published, events=published, refused=refused))


def _stopped(refused: int = 0) -> Result:
    account = Account(published=1, events=1, refused=refused)
    return Result("b.csv", account, stopped="stopped after line 2", may_go_on=True, is_at_end=False)


_BROKEN = Result("c.csv", Account(), stopped="it could not be read to its end", is_at_end=False)


@pytest.mark.parametrize(
    ("results", "not_begun", "code"),
    [
        ([_read()], [], 0),
        ([_read(refused=2)], [], 0),
        ([_read(refused=3)], [], NOT_ALL),
        ([_read(published=0)], [], NOT_ALL),
        ([_stopped()], [], STOPPED),
        ([_stopped(refused=2)], [], STOPPED),
        # Who goes on there never sees these lines again, so it has to be said now.
        ([_stopped(refused=3)], [], NOT_ALL),
        ([_read(), _stopped()], [], STOPPED),
        ([_read(published=0)], ["b.csv"], STOPPED),
        ([], ["b.csv"], STOPPED),
        ([_BROKEN], [], NOT_ALL),
        ([_BROKEN, _stopped()], [], NOT_ALL),
    ],
)
def test_what_was_only_stopped_can_be_told_from_what_is_wrong(
    results: list[Result], not_begun: list[str], code: int
) -> None:
    """With at most two refused."""
    assert exit_code(results, 2, not_begun) == code
