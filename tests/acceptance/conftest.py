"""A pipeline of real processes for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.rig import Rig
from observability import Observability, shared_observability
from servers import LocalServer


@pytest.fixture
def rig(own_server: Callable[..., LocalServer], tmp_path: Path) -> Iterator[Rig]:
    """Give a server with append-only files, an empty data folder, and what runs on them."""
    one = Rig(own_server(), tmp_path)
    yield one
    one.close()


@pytest.fixture(scope="session")
def observability(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observability]:
    """Give a collector and Jaeger."""
    one = shared_observability(tmp_path_factory.mktemp("observability"))
    yield one
    one.stop()
