"""Helm, and the sets of values; no test of the chart where Helm is missing."""

import pytest
from chart.rendering import SETS, Rendered, need, render


@pytest.fixture(scope="session")
def helm() -> None:
    """Ask for Helm; skip without it, unless CI has to have it."""
    need("helm", "the chart is not rendered")


@pytest.fixture(params=SETS)
def rendered(request: pytest.FixtureRequest, helm: None) -> Rendered:  # noqa: ARG001 - it renders
    """Give what each set of values is rendered to, in turn."""
    return render(SETS[request.param])
