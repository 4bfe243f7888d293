"""What each error of PostgreSQL means: nothing that can occur is without a meaning, and each line helps."""

import psycopg
import pytest
from psycopg import errors

from services.contract.errors import PipelineError, RowsRefused, SinkUnavailable, SinkWrong
from services.stores.postgres.errors import kind_of, meaning_of, ours, told

REFUSED = ["22P02", "22021", "22008", "22003", "22P03", "22P05", "23502", "23514", "23505", "54000", "P0001",
           "38000", "39P01", "2F003", "44000", "09000", "27000"]  # fmt: skip
AGAIN = ["40001", "40P01", "55P03", "57014", "XX000", "25P02", "55006", "45000", "U0001", "99ABC"]
DOWN = ["08006", "08001", "08P01", "25006", "53000", "53100", "53200", "53300", "57P01", "57P02", "57P03",
        "58030", "58P01", "XX001", "26000", "72000", "F0000", "HV000"]  # fmt: skip
UNUSABLE = ["28000", "28P01", "3D000", "3F000", "42501", "42P01", "42703", "42883", "0A000", "57P04"]
WORDS = {
    'FATAL:  password authentication failed for user "x"': "unusable",
    'FATAL:  role "x" does not exist': "unusable",
    'FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "x", database "y", no encryption': "unusable",
    'FATAL:  database "x" does not exist': "unusable",
    "server does not support SSL, but SSL was required": "unusable",
    "SSL error: certificate verify failed": "unusable",
    'server certificate for "a" does not match host name "b"': "unusable",
    'root certificate file "/x" does not exist': "unusable",
    "FATAL:  sorry, too many clients already": "down",
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute": "down",
    "FATAL:  the database system is starting up": "down",
    "FATAL:  the database system is shutting down": "down",
    "session is read-only": "down",
    "connection refused\n\tIs the server running on that host?": "down",
    "failed to resolve host 'x': [Errno -2] Name or service not known": "down",
    "connection timeout expired": "down",
    "FATAL:  Passwort-Authentifizierung fehlgeschlagen": "down",
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
    error = psycopg.OperationalError(f"connection failed: {text}")
    assert meaning_of(error).verdict == WORDS[text]
    line = told(error, "db:5432/x")
    assert "\n" not in line
    assert meaning_of(error).hint in line


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
