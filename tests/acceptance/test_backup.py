"""docs/backup.md: each of its commands is run as it stands, and each restore is ended by an audit."""

import os
import pwd
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from acceptance.pages import blocks_of, run_blocks
from acceptance.publisher import KEYS
from acceptance.rig import Process, Rig
from acceptance.test_postgres import PostgresRig
from postgres import LocalPostgres, with_tables
from servers import LocalServer, eventually

(
    BY_COPY, BY_SQLITE, RESTORE_SQLITE, AUDIT_SQLITE,
    DUMP, BASE, RESTORE_DUMP, RESTORE_BASE, AUDIT_POSTGRES,
) = range(9)  # fmt: skip
"""The blocks of the page, in their order."""


@pytest.fixture
def blocks() -> list[str]:
    """Give the commands of the page."""
    found = blocks_of("backup.md")
    assert len(found) == AUDIT_POSTGRES + 1
    return found


def missing(answer: str) -> int:
    """Read the number in the line of an audit."""
    (found,) = re.findall(r"^audit: .* missing=([\d,]+)$", answer, re.MULTILINE)
    return int(found.replace(",", ""))


def send_again(rig: Rig) -> None:
    """Have every entry of the stream delivered once more; nothing was trimmed."""
    rig.client.xgroup_setid(KEYS.stream, KEYS.group, "0")


def settle(rig: Rig, count: int, consumer: Process) -> None:
    """Publish events and have them settled."""
    rig.publisher(seed=count).mix(count).send()
    rig.drain(consumer)


@pytest.mark.parametrize("kind", ["copy", "file"])
def test_a_restored_file_says_what_is_lost_and_what_comes_again_is_a_duplicate(
    rig: Rig, blocks: Sequence[str], kind: str
) -> None:
    """The backup is made while a consumer runs, and events come after it."""
    if shutil.which("sqlite3") is None:
        pytest.skip("no sqlite3 here")
    rig.environment |= {"RETENTION_INTERVAL_S": "0"}
    backup = str(rig.folder / "backup")
    consumer = rig.consumer("consumer-1")
    settle(rig, 200, consumer)
    command = blocks[BY_COPY if kind == "copy" else BY_SQLITE]
    for _ in range(2):  # the second one takes the place of the first, or adds to it
        made = run_blocks(rig, [command], BACKUP=backup)
        assert made.returncode == 0, made.stdout + made.stderr
    in_it = set(rig.stored())
    settle(rig, 100, consumer)
    consumer.stop()
    after = set(rig.stored())
    used = backup if kind == "copy" else f"{backup}-file"
    restored = run_blocks(rig, [blocks[RESTORE_SQLITE]], BACKUP=used)
    assert restored.returncode == 0, restored.stderr
    assert set(rig.stored()) == in_it
    audited = run_blocks(rig, [blocks[AUDIT_SQLITE]])
    assert audited.returncode == 0, audited.stderr
    assert "the restore has lost the events that are named above" in audited.stdout
    assert missing(audited.stdout) >= len(after - in_it) > 0
    # Nobody knows the time any more that an id began with.
    named = set(re.findall(r"-(7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})", audited.stdout))
    assert named & {one[14:] for one in after - in_it}
    assert not named & {one[14:] for one in in_it}
    send_again(rig)
    again = rig.consumer("consumer-2")
    rig.drain(again)
    again.stop()
    assert sum(line["duplicates"] for line in again.lines("batch_settled")) >= len(in_it)
    rig.assert_complete()


@pytest.fixture
def archiving_server() -> Iterator[LocalPostgres]:
    """Give a server that archives its log."""
    server = LocalPostgres()
    archive = server.folder / "archive"
    archive.mkdir()
    own(archive)
    server.options = ("archive_mode=on", f"archive_command=cp %p {archive}/%f")
    try:
        server.start()
        yield server
    finally:
        server.remove()


def own(path: Path) -> None:
    """Give files to the user by whom servers run."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        for one in (path, *path.rglob("*")):
            os.chown(one, user.pw_uid, user.pw_gid)


class OnServer(PostgresRig):
    """A rig that moves from one database to the next."""

    def use(self, url: str) -> None:
        """Have another database from now on."""
        self.url = url
        self.environment |= {"DATABASE_URL": url}

    def assert_integrity(self) -> None:
        """Rows may lie in DEFAULT for a moment after a restore."""


def test_a_restored_database_says_what_is_lost_and_what_comes_again_is_a_duplicate(
    own_server: Callable[..., LocalServer],
    archiving_server: LocalPostgres,
    tmp_path: Path,
    blocks: Sequence[str],
) -> None:
    """From a dump all is lost that came after it, from the archived log what was not archived yet."""
    server = archiving_server
    with server.admin() as admin:
        admin.execute("CREATE ROLE telemetry LOGIN PASSWORD 'change-me'")
        admin.execute("CREATE DATABASE telemetry OWNER telemetry ENCODING 'UTF8' TEMPLATE template0")
    rig = OnServer(own_server(), tmp_path)
    rig.environment |= {"RETENTION_INTERVAL_S": "0", "CLAIM_IDLE_MS": "60000"}
    rig.use(with_tables(server.dsn("telemetry", "telemetry")))
    page = {
        "BACKUP": str(tmp_path / "backup"),
        "ADMIN_URL": server.dsn(),
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "ARCHIVE": str(server.folder / "archive"),
    }
    other: LocalPostgres | None = None
    try:
        consumer = rig.consumer("consumer-1")
        settle(rig, 200, consumer)
        made = run_blocks(rig, [blocks[DUMP], blocks[BASE]], **page)
        assert made.returncode == 0, made.stdout + made.stderr
        settle(rig, 60, consumer)
        with server.admin() as admin:
            row = admin.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        eventually((server.folder / "archive" / row[0]).exists, 30, "the log is archived")
        settle(rig, 40, consumer)
        consumer.stop()
        from_dump = run_blocks(rig, [blocks[RESTORE_DUMP], blocks[AUDIT_POSTGRES]], **page)
        assert from_dump.returncode == 0, from_dump.stdout + from_dump.stderr
        assert "the restore has lost the events that are named above" in from_dump.stdout
        server.kill()
        other = LocalPostgres()
        restored = run_blocks(rig, [blocks[RESTORE_BASE]], **page, RESTORED=str(other.data))
        assert restored.returncode == 0, restored.stderr
        own(other.data)
        other.start()
        eventually(other_is_ready(other), 30, "the end of the recovery")
        rig.use(other.dsn("telemetry", "telemetry"))
        from_log = run_blocks(rig, [blocks[AUDIT_POSTGRES]])
        assert from_log.returncode == 0, from_log.stdout + from_log.stderr
        assert 0 < missing(from_log.stdout) <= 40 < 100 - 15 <= missing(from_dump.stdout)
        in_it = set(rig.stored())
        send_again(rig)
        again = rig.consumer("consumer-2")
        rig.drain(again)
        again.stop()
        assert sum(line["duplicates"] for line in again.lines("batch_settled")) >= len(in_it)
        rig.assert_complete()
    finally:
        rig.close()
        if other is not None:
            other.remove()


def other_is_ready(server: LocalPostgres) -> Callable[[], bool]:
    """Ask whether a server has read all of the log."""

    def is_ready() -> bool:
        with server.admin() as admin:
            return admin.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)

    return is_ready
