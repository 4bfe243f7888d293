"""The tutorial's page about a cluster: all of its commands, in one shell and in their order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from acceptance.pages import blocks_of
from e2e.cluster import PATIENCE_S, POSTGRES, ROOT, Namespace, nodes, run, run_given
from e2e.conftest import NewNamespace
from e2e.postgres import HOST, PASSWORD, USER, deploy

_THERE: Final = "make() { :; }\nkind() { :; }"
"""The cluster and the images are there, and stay."""
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


@pytest.fixture
def folder(server: Namespace, tmp_path: Path) -> Path:
    """Give a clone's folder with the file and the mapping that `own-data.md` has made."""
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    config = tmp_path / "kubeconfig"
    config.write_text(run("kubectl", "config", "view", "--raw", "--flatten"), encoding="utf-8")
    typed(tmp_path, f"kubectl config set-context --current --namespace={server.name}")
    before = blocks_of("tutorial/own-data.md")
    typed(tmp_path, next(one for one in before if "cat > shed.csv" in one))
    typed(tmp_path, next(one for one in before if "--write shed.toml" in one))
    return tmp_path


def typed(folder: Path, commands: str) -> str:
    """Type commands in a shell; gives what they say."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{_THERE}\n{commands}"],
        cwd=folder,
        env={**os.environ, "KUBECONFIG": str(folder / "kubeconfig"), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=5 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_the_page_leads_from_nothing_to_a_mended_event_in_postgresql(folder: Path) -> None:
    """Installed, broken, moved to PostgreSQL, fed by a file; what was wrong in it is stored in the end."""
    commands = "\n".join(blocks_of("tutorial/cluster.md"))
    for theirs, ours in _OWN.items():
        assert commands.count(theirs) == 1
        commands = commands.replace(theirs, ours)
    said = typed(folder, commands)
    audits = [line for line in said.splitlines() if line.startswith("audit: ")]
    assert len(audits) == 4
    assert all("missing=0" in line for line in audits)
    assert " dead=1 " in audits[-2]
    assert " dead=0 " in audits[-1]
    assert "value_out_of_range" in said
    assert said.count("demo-consumer") >= 4
