"""The tutorial's page about a cluster: all of its commands, in one shell and in their order."""

import shutil
from pathlib import Path
from typing import Final

import pytest
from acceptance.pages import blocks_of
from e2e.cluster import POSTGRES, Namespace, nodes, run_given
from e2e.conftest import NewNamespace
from e2e.pages import typed, with_own
from e2e.postgres import HOST, PASSWORD, USER, deploy

_OWN: Final = {
    "password=change-me": f"password='{PASSWORD}'",
    "database.host=pg.example.com": f"database.host={HOST}",
    "database.user=telemetry": f"database.user={USER}",
}
"""What everybody has of one's own."""


@pytest.fixture(scope="module")
def server(new: NewNamespace, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """Run the PostgreSQL that the page takes for granted."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make certificates with")
    run_given("TELEMETRY_E2E_LOAD", POSTGRES)
    namespace = new(prefix="tutorial")
    deploy(namespace, tmp_path_factory.mktemp("tls"), nodes()[0])
    return namespace


def test_the_page_leads_from_nothing_to_a_mended_event_in_postgresql(
    server: Namespace, tmp_path: Path
) -> None:
    """Installed, broken, moved to PostgreSQL, fed by a file; what was wrong in it is stored in the end."""
    # The file and its mapping are made on the page before.
    before = [one for one in blocks_of("tutorial/own-data.md") if "> shed.csv" in one or "--write" in one]
    assert len(before) == 2
    commands = with_own("\n".join([*before, *blocks_of("tutorial/cluster.md")]), _OWN)
    with typed(server, tmp_path, commands) as said:
        audits = [line for line in said.splitlines() if line.startswith("audit: ")]
        assert len(audits) == 4
        assert all("missing=0" in line for line in audits)
        assert " dead=1 " in audits[-2]
        assert " dead=0 " in audits[-1]
        assert "value_out_of_range" in said
        assert said.count("demo-consumer") >= 4
