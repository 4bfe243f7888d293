"""Writes the table and the rules of docs/redis-users.md from the rules of the users. `make docs` runs it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from charts.users import rules
from services.contract.event import DEFAULT_STREAM
from services.ops.about.marked import put_into

_PAGE: Final = Path("docs/redis-users.md")


def table(users: Mapping[str, str]) -> str:
    """Write a table of users, commands and keys."""
    rows = ["| user | commands | on |", "| --- | --- | --- |"]
    for user, rule in users.items():
        rows += (f"| {user} | {_commands(part)} | {_keys(part)} |" for part in _parts(rule))
    return "".join(f"{row}\n" for row in rows)


def acl_file(users: Mapping[str, str], drops: str) -> str:
    """Write the lines of an ACL file; `drops`: the producer's rules where STREAM_FULL is drop_oldest."""
    lines = [f"user {user} on >PASSWORD {rule}" for user, rule in users.items()]
    extra = drops.removeprefix(users["producer"]).strip()
    head = "With STREAM_FULL=drop_oldest, add this to the line of the producer:"
    return "\n".join(["```", *lines, "```", "", head, "", "```", extra, "```", ""])


def _parts(rule: str) -> Iterator[str]:
    """Give the rules outside of all selectors, and each selector's."""
    yield re.sub(r"\([^)]*\)", "", rule)
    yield from re.findall(r"\(([^)]*)\)", rule)


def _commands(rule: str) -> str:
    return ", ".join(word[1:].replace("|", " ").upper() for word in rule.split() if word[0] == "+")


def _keys(rule: str) -> str:
    found = (word.partition("~") for word in rule.split() if "~" in word)
    return ", ".join(f"`{key}`" + (" (read)" if mode == "%R" else "") for mode, _, key in found)


def main() -> None:
    """Write it."""
    users = rules(DEFAULT_STREAM)
    drops = rules(DEFAULT_STREAM, drops_oldest=True)["producer"]
    put_into(_PAGE, table(users), "<!-- users:begin -->", "<!-- users:end -->")
    put_into(_PAGE, acl_file(users, drops), "<!-- rules:begin -->", "<!-- rules:end -->")


if __name__ == "__main__":
    main()
