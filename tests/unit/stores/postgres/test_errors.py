"""What each error of PostgreSQL means: nothing that can occur is without a meaning, and each line helps."""

import psycopg
import pytest
from psycopg import errors

from services.contract.errors import PipelineError, RowsRefused, SinkUnavailable, SinkWrong
from services.stores.postgres.errors import kind_of, meaning_of, ours, told

REFUSED = ["22P02", "22021", "22008", "22003", "22P03", "22P05", "23502", "23514", "23505", "54000", "P0001",
           "38000", "39P01", "2F003", "44000", "09000", "27000"]  # fmt: skip
AGAIN = [
    "21000",
    "40001",
    "40003",
    "40P01",
    "55P03",
    "57014",
    "XX000",
    "25P02",
    "55006",
    "45000",
    "U0001",
    "99ABC",
]
DOWN = ["08006", "08001", "08P01", "25006", "53000", "53100", "53200", "53300", "57P01", "57P02", "57P03",
        "57P05", "58030", "58P01", "XX001", "XX002", "26000", "72000", "F0000", "HV000"]  # fmt: skip
UNUSABLE = ["28000", "28001", "28P01", "3D000", "3F000", "42501", "42P01", "42703", "42883", "0A000", "57P04"]
WORDS = {
    'FATAL:  password authentication failed for user "x"': ("unusable", "check user and password"),
    "fe_sendauth: no password supplied": ("unusable", "check user and password"),
    'FATAL:  role "x" does not exist': ("unusable", "pg_hba.conf"),
    'FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "x", database "y", no encryption': (
        "unusable",
        "pg_hba.conf",
    ),
    'FATAL:  database "x" does not exist': ("unusable", "create the database"),
    'FATAL:  permission denied for database "x"': ("unusable", "GRANT CONNECT"),
    "FATAL:  unsupported startup parameter: tcp_user_timeout": ("unusable", "ignore_startup_parameters"),
    "server does not support SSL, but SSL was required": ("unusable", "ssl = on"),
    "SSL error: certificate verify failed": ("unusable", "sslrootcert names the file"),
    'server certificate for "a" does not match host name "b"': ("unusable", "as its certificate does"),
    'root certificate file "/x" does not exist': ("unusable", "sslrootcert names the file"),
    "FATAL:  connection requires a valid client certificate": ("unusable", "refuses our certificate"),
    "SSL error: tlsv1 alert unknown ca": ("unusable", "refuses our certificate"),
    'certificate present, but not private key file "/x"': ("unusable", "our certificate and key"),
    "FATAL:  sorry, too many clients already": ("down", "max_connections"),
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute": (
        "down",
        "max_connections",
    ),
    "FATAL:  the database system is starting up": ("down", "starts, stops or recovers"),
    "FATAL:  the database system is shutting down": ("down", "starts, stops or recovers"),
    "session is read-only": ("down", "a standby or a full disk"),
    "connection refused\n\tIs the server running on that host?": ("down", "nothing listens there"),
    "failed to resolve host 'x': [Errno -2] Name or service not known": ("down", "check the host's name"),
    "failed to resolve host 'x': [Errno -3] Temporary failure in name resolution": (
        "down",
        "no name server answers",
    ),
    "connection timeout expired": ("down", "nothing answers there"),
    "FATAL:  Passwort-Authentifizierung fehlgeschlagen": ("down", "the server's log tells more"),
}


def of_code(code: str) -> psycopg.Error:
    """Make the error that the driver raises for a code."""
    try:
        kind = errors.lookup(code)
    except KeyError:
        kind = type("Unnamed", (psycopg.Error,), {"sqlstate": code})
    return kind("what the server says")


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        *((code, "refused") for code in REFUSED if code != "23514"),
        *((code, "again") for code in AGAIN),
        *((code, "down") for code in DOWN),
        *((code, "unusable") for code in UNUSABLE),
    ],
)
def test_a_code_has_its_meaning(code: str, verdict: str) -> None:
    """And its line has the code, and what to change where that is for a person."""
    error = of_code(code)
    assert meaning_of(error).verdict == verdict
    line = told(error, "db:5432/x")
    assert line.startswith(f"PostgreSQL at db:5432/x: what the server says ({code})")
    if verdict in {"down", "unusable"}:
        assert meaning_of(error).hint
        assert line.endswith(meaning_of(error).hint)


@pytest.mark.parametrize("text", WORDS)
def test_words_of_a_failed_connection_have_their_meaning(text: str) -> None:
    """In one line; what nobody knows is waited for."""
    verdict, hint = WORDS[text]
    error = psycopg.OperationalError(f"connection failed: {text}")
    assert meaning_of(error).verdict == verdict
    line = told(error, "db:5432/x")
    assert "\n" not in line
    assert hint in line
    assert meaning_of(error).hint in line


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("no such database: x", "unusable"),
        ("transaction blocks not allowed in statement pooling mode", "unusable"),
        ("no more connections allowed (max_client_conn)", "down"),
        ("server login has been failing, try again later", "down"),
    ],
)
def test_a_pooler_gives_one_code_and_is_known_by_its_words(text: str, verdict: str) -> None:
    """What it alone says; all else under its code is a connection that is lost."""
    error = errors.ProtocolViolation(text)
    assert meaning_of(error).verdict == verdict
    assert type(ours(error, "db", is_start=True)) is (SinkWrong if verdict == "unusable" else SinkUnavailable)


@pytest.mark.parametrize(
    ("code", "at_start", "later"),
    [
        ("22P02", RowsRefused, RowsRefused),
        ("40P01", SinkUnavailable, SinkUnavailable),
        ("53100", SinkUnavailable, SinkUnavailable),
        ("42501", SinkWrong, SinkUnavailable),
    ],
)
def test_what_can_t_be_used_ends_the_process_at_its_start_alone(
    code: str, at_start: type[PipelineError], later: type[PipelineError]
) -> None:
    """Later it is waited for: it was usable, and may be so again."""
    assert type(ours(of_code(code), "db", is_start=True)) is at_start
    assert type(ours(of_code(code), "db")) is later


def test_kinds_are_those_of_the_metric() -> None:
    """Whatever is unavailable has one of four names."""
    kinds = {kind_of(of_code(code)) for code in (*AGAIN, *DOWN)}
    assert kinds == {"locked", "away", "full", "read_only"}


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("locked", ["40001", "40P01", "55P03", "55006"]),
        ("away", ["57014", "XX000", "U0001", "57P01", "08006"]),
        ("full", ["53100", "53200", "53300"]),
        ("read_only", ["25006"]),
        ("42P01", ["42P01"]),
    ],
)
def test_a_code_counts_under_its_kind(kind: str, codes: list[str]) -> None:
    """A lock is no outage; what no person can look up is none of the server's codes."""
    assert {kind_of(of_code(code)) for code in codes} == {kind}


def test_a_person_does_not_wait_for_what_only_a_change_ends() -> None:
    """`telemetry run` ends then; a service waits."""
    no_host = psycopg.OperationalError("failed to resolve host 'x': [Errno -2] Name or service not known")
    assert ours(no_host, "db").lasts
    assert ours(of_code("42501"), "db").lasts
    for code in ("57P03", "55P03", "53100"):
        assert not ours(of_code(code), "db").lasts
