"""DATABASE_URL: read strictly, and what is wrong with it told without a piece of it."""

import subprocess
import sys

import psycopg
import pytest

from services.runtime.settings import ConsumerSettings, SettingsInvalid, Sources, load
from services.stores.choice import at_address, store_of
from services.stores.postgres.connection import Database, UrlInvalid, read_url
from services.stores.postgres.store import PostgresStore
from services.stores.sqlite.store import SQLiteStore

BAD = {
    "mysql://root:s3cret@db/x": "'mysql' is no scheme",
    "s3cret@db": "what it begins with is no scheme",
    "sqlite:///s3cret.db": "'sqlite' is no scheme",
    "postgresql://me:s3@cret@db/x": "two @",
    "postgresql://me:s3/cret@db/x": "behind a / or a ?",
    "postgresql://me:s3?cret@db/x": "behind a / or a ?",
    "postgresql://me:s3%cret@db/x": "begins no code",
    "postgresql://me:s3 cret@db/x": "white space",
    "postgresql://me:s3cret@db:s3cret/x": "no port",
    "postgresql://me:s3cret@db:99999/x": "no port",
    "postgresql://me:s3cret@db/x?sslmod=require": "no parameter sslmod",
    "postgresql://me:s3cret@db/x?sslmode=yes": "sslmode is one of",
    "postgresql://me:s3cret@db/x?client_encoding=LATIN1": "leave client_encoding out",
    "postgresql://me:s3cret@[::1/x": "libpq can't read it",
}


@pytest.mark.parametrize("url", BAD, ids=BAD.values())
def test_what_is_wrong_with_a_url_is_told_without_a_piece_of_it(url: str) -> None:
    """Each in one line that says what to write instead."""
    settings = ConsumerSettings(database_url=url)
    with pytest.raises(SettingsInvalid) as caught:
        store_of(settings)
    (line,) = caught.value.errors
    assert line.startswith("DATABASE_URL=(hidden): ")
    assert BAD[url] in line
    assert "s3" not in line
    assert "cret" not in line
    assert "postgresql://user:password@host:port/database" in line


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://me:word@db.example:6432/plant?sslmode=verify-full", "db.example:6432/plant"),
        ("postgres://me@db/plant", "db:5432/plant"),
        ("postgresql://me@a:1,b:2/plant?target_session_attrs=read-write", "a:1,b:2/plant"),
        ("postgresql://me@a,b/plant", "a:5432,b:5432/plant"),
        ("postgresql://me@/plant?host=/run/postgresql", "/run/postgresql:5432/plant"),
        ("postgresql://me@db", "db:5432/me"),
    ],
)
def test_a_database_is_named_without_user_and_password(
    url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a person would look for it."""
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    assert store_of(ConsumerSettings(database_url=url)).place == f"PostgreSQL at {place}"


def test_what_the_url_does_not_say_libpqs_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing in it but the scheme, all of it."""
    for name, value in {"PGHOST": "db", "PGPORT": "6000", "PGUSER": "me", "PGDATABASE": "plant"}.items():
        monkeypatch.setenv(name, value)
    assert Database.of("postgresql://").place == "db:6000/plant"
    assert Database.of("postgresql://other/x").place == "other:6000/x"


def test_codes_in_a_url_are_read() -> None:
    """A password may have any character."""
    assert read_url("postgresql://me:a%40b%2Fc%3A@db/x")["password"] == "a@b/c:"  # noqa: S105 - of nobody


@pytest.mark.parametrize("host", ["x" * 64, "db..example.com", f"db,{'x' * 64}"])
def test_a_host_that_can_be_none_is_refused_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Python raises no error of the network for it."""
    with pytest.raises(UrlInvalid, match="its host is no name of one, nor an address"):
        read_url(f"postgresql://me:s3cret@{host}/x")
    monkeypatch.setenv("PGHOST", host)
    with pytest.raises(psycopg.OperationalError, match="no name of a host"):
        Database.of("postgresql://").connect()
    assert read_url(f"postgresql://%2Frun%2F{'x' * 64}/x")["host"] == f"/run/{'x' * 64}"


def test_the_password_is_hidden_from_whoever_prints_the_database() -> None:
    """In a traceback, say."""
    assert "s3cret" not in repr(Database.of("postgresql://me:s3cret@db/x"))


def test_without_a_url_it_is_the_file() -> None:
    """And dead letters lie in a file, unless told otherwise."""
    settings = ConsumerSettings()
    assert isinstance(store_of(settings), SQLiteStore)
    assert settings.letters_in == "file"
    assert ConsumerSettings(database_url="postgresql://db/x").letters_in == "database"
    assert ConsumerSettings(database_url="postgresql://db/x", dead_letters="stream").letters_in == "stream"
    assert isinstance(store_of(ConsumerSettings(database_url="POSTGRES://db/x")), PostgresStore)


def test_a_folder_at_the_other_side_of_a_copy_has_no_index_by_device() -> None:
    """What the settings say of PostgreSQL is for the side that is one."""
    settings = ConsumerSettings(database_url="postgresql://db/x", database_device_index=True)
    assert isinstance(store_of(at_address(settings, "sqlite:here")), SQLiteStore)
    assert at_address(settings, "postgresql://other/x").database_device_index


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"dead_letters": "database"}, "set DATABASE_URL, or DEAD_LETTERS=file"),
        ({"database_device_index": True}, "DATABASE_DEVICE_INDEX=true: the events are in SQLite"),
        ({"database_url": "postgresql://db/x", "max_entry_bytes": 33 << 20}, "fits into no row"),
        ({"database_url": "postgresql://a:b@db/x", "database_password_file": "/x"}, "leave one of them out"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(more: dict[str, object], told: str) -> None:
    """With what to change."""
    with pytest.raises(SettingsInvalid, match=told):
        store_of(ConsumerSettings(**more))  # type: ignore[arg-type]


def test_a_claim_waits_for_the_longest_write_of_the_database() -> None:
    """As it does for the file's."""
    sources = Sources({}, {"DATABASE_URL": "postgresql://db/x", "DATABASE_TIMEOUT_S": "30"}, {})
    with pytest.raises(SettingsInvalid, match=r"DATABASE_TIMEOUT_S.*raise it"):
        load(ConsumerSettings, sources)


def test_a_driver_that_is_not_installed_is_named_with_its_extra() -> None:
    """And nothing of a store that is not chosen is imported."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from services.runtime.settings import ConsumerSettings, SettingsInvalid\n"
        "from services.stores.choice import store_of\n"
        "print(store_of(ConsumerSettings()).place)\n"
        "try:\n    store_of(ConsumerSettings(database_url='postgresql://me:s3cret@db/x'))\n"
        "except SettingsInvalid as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "data/telemetry.db"
    assert "psycopg is not installed here: pip install 'telemetry-pipeline[postgres]'" in second
    assert "s3cret" not in second
