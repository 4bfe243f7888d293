"""The house: what docs/architecture.md says of it, and how large its rooms may be."""

import re
from pathlib import Path

import pytest
from image_files import files_of

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


@pytest.mark.parametrize("service", ["producer", "consumer"])
def test_what_a_service_never_imports_has_a_name_that_its_dockerfile_drops(service: str) -> None:
    """And nothing else has: of the folders that are copied, what is left is what can be imported."""
    build, _, _ = (ROOT / f"Dockerfile.{service}").read_text(encoding="utf-8").partition(" AS service\n")
    copied = re.findall(r"^COPY services/(\w+) ", build, re.MULTILINE)
    single = set(re.findall(r" services/(\w+\.py)(?= )", build))
    dropped = tuple(re.findall(r"-name '(\w+)\*'", build))
    files = {
        path.relative_to(ROOT / "services")
        for room in copied
        for path in (ROOT / "services" / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {str(path) for path in files if not any(part.startswith(dropped) for part in path.parts)}
    assert held | single == files_of(service)
