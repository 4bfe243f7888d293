"""What the tests of this room share."""

import pytest
from postgres import with_tables


@pytest.fixture
def url(postgres_url: str) -> str:
    """Give a database with our tables."""
    return with_tables(postgres_url)
