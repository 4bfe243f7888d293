"""docs/redis-users.md says what the rules of the users are."""

import re
from pathlib import Path

from charts.users import rules
from charts.users.__main__ import acl_file, table
from services.brokers.redis.keys import StreamKeys
from services.contract.event import DEFAULT_STREAM

PAGE = Path(__file__).parents[2] / "docs" / "redis-users.md"


def test_the_page_is_what_make_docs_writes() -> None:
    """The table and the lines of an ACL file."""
    users, drops = rules(DEFAULT_STREAM), rules(DEFAULT_STREAM, drops_oldest=True)["producer"]
    page = PAGE.read_text(encoding="utf-8")
    assert table(users) in page
    assert acl_file(users, drops) in page


def test_a_stream_with_a_hash_tag_has_its_keys_there() -> None:
    """No rule names a key that the pipeline does not have, whatever the stream's name."""
    keys = StreamKeys("plant{7}")
    producer = re.sub(r"[()]", " ", rules(keys.stream)["producer"]).split()
    assert f"~{keys.runs}" in producer
    assert f"~{keys.run('*')}" in producer
    assert keys.former is not None
    assert f"~{keys.former.replay('*')}" in producer, "a file is gone on with that an earlier version began"
    assert not [word for word in producer if "STREAM" in word or "PREFIX" in word or "hash_tag" in word]


def test_only_a_producer_that_drops_the_oldest_may_trim() -> None:
    """And only its rules differ then."""
    shipped, dropping = rules(DEFAULT_STREAM), rules(DEFAULT_STREAM, drops_oldest=True)
    assert "+xtrim" not in shipped["producer"]
    assert "+xtrim)" in dropping["producer"].split()
    assert {user for user in shipped if shipped[user] != dropping[user]} == {"producer"}
