"""The house: what docs/architecture.md says of it, and how large its rooms may be."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
MOST_MODULES = 14


def test_every_place_that_the_page_names_is_there() -> None:
    """A file that is moved is named anew."""
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:services|charts|tests)/[\w/.]+)`", text))
    named |= {f"docs/{target}" for target in re.findall(r"\]\(([\w/.-]+)\)", text)}
    assert len(named) > 20
    assert [one for one in sorted(named) if not (ROOT / one).exists()] == []


def test_every_room_is_small_enough_to_be_known() -> None:
    """A room with more is two rooms."""
    rooms = {path.parent for path in (ROOT / "services").rglob("*.py")}
    sizes = {str(room.relative_to(ROOT)): len(list(room.glob("*.py"))) for room in rooms}
    assert {room: size for room, size in sizes.items() if size > MOST_MODULES} == {}
