"""What PostgreSQL's errors mean for the pipeline, by their SQLSTATE, and what to change.

    refused    what is in a row can't be stored: the batch is split until the guilty row stands alone
    again      it passes by itself, or may be the fault of one write: a lock, a timeout, a deadlock, or
               a code that is none of the server's own
    down       the database as a whole takes no writes now: away, full, read-only, starting
    unusable   nothing will work before somebody changes something: a password, a right, a name

At the start `unusable` ends the process; later it is `down`, since it was usable and may be so again. A
failure to connect has no SQLSTATE, only the server's words; words that nobody knows here (in another
language, say) are `down`: waited for, and told.
"""

import re
from typing import Final, Literal, NamedTuple

import psycopg

from services.contract.errors import PipelineError, RowsRefused, SinkUnavailable, SinkWrong

Verdict = Literal["refused", "again", "down", "unusable"]


class Meaning(NamedTuple):
    """What an error means, and the sentence that says what to change; empty where there is nothing to."""

    verdict: Verdict
    hint: str = ""


class NoAnswer(psycopg.OperationalError):
    """The server has not answered in time; whatever was asked of it may have been done, or not."""


_URL: Final = "DATABASE_URL, PGHOST, PGPORT"
_STANDBY: Final = "name the primary, or several hosts with target_session_attrs=read-write (DATABASE_URL)"
_GRANT: Final = "the user needs its rights on the schema telemetry: docs/postgres.md has the GRANTs"
_TABLES: Final = (
    "the tables of the schema telemetry are not as ours were made: put them back, or name another database"
)

_BY_CODE: Final[dict[str, Meaning]] = {
    "21000": Meaning("again"),
    "23505": Meaning("refused", "a unique index that is not ours refuses it: drop that index"),
    "25006": Meaning("down", f"the server is read-only, a standby or a full disk: {_STANDBY}"),
    "26000": Meaning("down", "a pooler lost the session: use transaction or session pooling, or no pooler"),
    "28000": Meaning("unusable", "check user, password and pg_hba.conf (DATABASE_URL, PGUSER)"),
    "28P01": Meaning(
        "unusable", "check user and password (DATABASE_URL, PGPASSWORD, DATABASE_PASSWORD_FILE)"
    ),
    "3D000": Meaning("unusable", "create the database, or name another one (DATABASE_URL, PGDATABASE)"),
    "3F000": Meaning("unusable", _TABLES),
    "42501": Meaning("unusable", _GRANT),
    "53100": Meaning("down", "the server's disk is full: make room there"),
    "53200": Meaning("down", "the server is out of memory: give it more, or lower BATCH_SIZE"),
    "53300": Meaning(
        "down", "the server has no connection left: raise max_connections, or put a pooler before it"
    ),
    "55P03": Meaning("again", "somebody holds a lock on the rows or the table (pg_locks shows who)"),
    "57014": Meaning("again", "the statement took too long, or was cancelled (DATABASE_TIMEOUT_S)"),
    "57P01": Meaning("down", "the server is being shut down, or an administrator ended the connection"),
    "57P02": Meaning("down", "the server has crashed and starts again"),
    "57P03": Meaning("down", "the server starts, stops or recovers"),
    "57P04": Meaning("unusable", "the database was dropped: create it, or name another one (DATABASE_URL)"),
    "XX001": Meaning("down", "a table is damaged: restore it from a backup; the server's log names it"),
    "XX002": Meaning("down", "an index is damaged: REINDEX it; the server's log names it"),
}
_BY_CLASS: Final[dict[str, Meaning]] = {
    "08": Meaning("down", f"check that it is there, and what is between ({_URL})"),
    "0A": Meaning("unusable", "PostgreSQL 15 or newer is needed, without a pooler that pools by statement"),
    "22": Meaning("refused"),
    "23": Meaning("refused"),
    "25": Meaning("again"),
    "28": Meaning("unusable", "check user, password and pg_hba.conf (DATABASE_URL, PGUSER)"),
    "40": Meaning("again"),
    "42": Meaning("unusable", _TABLES),
    "53": Meaning("down", "the server lacks room: its log tells more"),
    "54": Meaning("refused", "it is larger than the database can hold"),
    "55": Meaning("again"),
    "57": Meaning("down", "an administrator acts on the server"),
    "58": Meaning("down", "the server can't read or write its files: its log tells more"),
    "XX": Meaning("again", "an internal error of the server: its log tells more"),
    # What only a trigger, a function or a view says; the last is RAISE.
    **dict.fromkeys(("09", "27", "2F", "38", "39", "44", "P0"), Meaning("refused", "a trigger refuses it")),
}
_OTHERS: Final = frozenset(
    {
        "00", "01", "02", "03", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "24", "26", "2B", "2D",
        "34", "3B", "3D", "3F", "72", "F0", "HV",
    }
)  # fmt: skip
"""The further classes that PostgreSQL has: of the server or the session, and not of a row."""
_ODD: Final = "odd"
_NOT_ITS_OWN: Final = Meaning("again", "no code of PostgreSQL's own: a trigger says it, or what is between")
"""RAISE takes any code. Found out as all that may be the fault of one row, since nobody knows."""
_NO_PARTITION: Final = Meaning(
    "down", "the DEFAULT partition is gone: attach telemetry.events_default to telemetry.events again"
)
_MOVED: Final = "moved"
_NO_HOST: Final = "no_host"
_UNKNOWN: Final = Meaning("down", f"the server's log tells more ({_URL})")

_LATER: Final = "nothing listens there: check host and port, and that it runs"
_BY_WORDS: Final[tuple[tuple[re.Pattern[str], str, Meaning], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind, meaning)
    for pattern, kind, meaning in (
        (
            "password authentication failed|no password supplied|authentication failed",
            "28P01",
            _BY_CODE["28P01"],
        ),
        (
            'role "[^"]*" does not exist|no pg_hba.conf entry|not permitted to log in',
            "28000",
            _BY_CODE["28000"],
        ),
        ('database "[^"]*" does not exist|no such database', "3D000", _BY_CODE["3D000"]),
        (
            "permission denied for database",
            "42501",
            Meaning("unusable", "GRANT CONNECT ON DATABASE to the user"),
        ),
        (
            "too many (clients|connections)|remaining connection slots|no more connections allowed",
            "53300",
            _BY_CODE["53300"],
        ),
        (
            "the database system is|not yet accepting connections|in recovery mode",
            "57P03",
            _BY_CODE["57P03"],
        ),
        ("is read-only|hot standby mode", "25006", _BY_CODE["25006"]),
        (
            "statement pool",
            "statement_pooling",
            Meaning("unusable", "the pooler pools by statement: use pool_mode = transaction or session"),
        ),
        (
            "server does not support SSL",
            "tls",
            Meaning("unusable", "let the server speak TLS (ssl = on), or write another sslmode"),
        ),
        (
            "does not match host name",
            "tls",
            Meaning(
                "unusable",
                "name the host as its certificate does, or give it one of this name (DATABASE_URL, PGHOST)",
            ),
        ),
        (
            "certificate verify failed|root certificate file|sslrootcert",
            "tls",
            Meaning(
                "unusable",
                "sslrootcert names the file of the authority that has signed the server's certificate; if it "
                "does, that one has expired: renew it on the server",
            ),
        ),
        (
            "valid client cert|alert (unknown ca|[a-z ]*certificate)",
            "tls",
            Meaning(
                "unusable",
                "the server refuses our certificate: sslcert, sslkey name one that has not expired, of an "
                "authority that it knows",
            ),
        ),
        (
            "private key file|certificate file|sslkey|sslcert",
            "tls",
            Meaning("unusable", "our certificate and key: sslcert, sslkey"),
        ),
        (
            "temporary failure in name resolution",
            "no_name_server",
            Meaning(
                "down",
                "no name server answers: check the network, and the host's name (DATABASE_URL, PGHOST)",
            ),
        ),
        (
            "failed to resolve host|could not translate host name",
            _NO_HOST,
            Meaning("down", "check the host's name (DATABASE_URL, PGHOST)"),
        ),
        ("connection refused|no such file or directory", "refused", Meaning("down", f"{_LATER} ({_URL})")),
        (
            "timeout expired|timed out",
            "timeout",
            Meaning("down", f"nothing answers there: check host, port and firewall ({_URL})"),
        ),
        (
            "unsupported startup parameter",
            "pooler",
            Meaning("unusable", "the pooler refuses a parameter: add it to its ignore_startup_parameters"),
        ),
    )
)


def meaning_of(error: psycopg.Error) -> Meaning:
    """Tell what an error means."""
    return _look(error)[1]


def kind_of(error: psycopg.Error) -> str:
    """Name an error for a metric's label: one of few; its message has the code."""
    code, meaning = _look(error)
    if meaning.verdict == "again":
        return "away" if code in {"57014", "XX000", _ODD} else "locked"
    if meaning.verdict == "down":
        return {"25006": "read_only"}.get(code, "full" if code.startswith("53") else "away")
    return code


def is_moved(error: psycopg.Error) -> bool:
    """Tell whether a day was attached while a row of it waited to go into the DEFAULT partition.

    Its place is another one now: the same again goes well.
    """
    return _look(error)[0] == _MOVED


def ours(error: psycopg.Error, place: str, *, is_start: bool = False) -> PipelineError:
    """Make the error that the pipeline knows. `is_start`: what can't be used ends the process then."""
    meaning, kind = meaning_of(error), kind_of(error)
    text = told(error, place)
    if meaning.verdict == "refused":
        return RowsRefused(text, kind)
    if meaning.verdict == "unusable" and is_start:
        return SinkWrong(text, kind)
    # A name may come with the next pod; nobody types it meanwhile.
    lasts = meaning.verdict == "unusable" or _look(error)[0] == _NO_HOST
    return SinkUnavailable(text, kind, lasts=lasts)


def told(error: psycopg.Error, place: str) -> str:
    """Say in one line what is wrong, where, and what to change."""
    said = error.diag.message_primary or str(error)
    line = " ".join(said.split()).removeprefix("connection failed: ").removeprefix("connection is bad: ")
    code = f" ({error.sqlstate})" if error.sqlstate else ""
    hint = _look(error)[1].hint
    return f"PostgreSQL at {place}: {line or type(error).__name__}{code}" + (f"; {hint}" if hint else "")


def _look(error: psycopg.Error) -> tuple[str, Meaning]:
    code = error.sqlstate
    text = str(error)
    if code is None or code == "08P01":  # a pooler gives its own errors this one code
        for pattern, kind, meaning in _BY_WORDS:
            if pattern.search(text):
                return kind, meaning
    if code is None:
        return type(error).__name__, _UNKNOWN
    if code == "23514" and error.diag.constraint_name is None:
        return _about_partitions(error.diag.table_name)
    known = _BY_CODE.get(code) or _BY_CLASS.get(code[:2])
    if known is None and code[:2] not in _OTHERS:
        return _ODD, _NOT_ITS_OWN
    return code, known or _UNKNOWN


def _about_partitions(table: str | None) -> tuple[str, Meaning]:
    """Tell a row that has no partition at all, which names the whole table, from one whose day is new."""
    return ("no_partition", _NO_PARTITION) if table == "events" else (_MOVED, Meaning("again"))
