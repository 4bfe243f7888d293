"""Settings: environment variables, and below them a `.env` file, read once into a frozen object.

Each setting is one field of a class here: name, default, bounds and meaning stand together, and the
README's table, `.env.example` and `telemetry settings` are made from them. A wrong value never stops
the reading: all errors come back in one message.
"""

import difflib
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar, cast

from services.contract import kpis as kpi_files
from services.contract.event import (
    DEFAULT_ENTRY_BYTES,
    DEFAULT_GROUP,
    DEFAULT_STREAM,
    LEAST_ENTRY_BYTES,
    MOST_ENTRY_BYTES,
)
from services.contract.kpis import Kpi, KpisInvalid
from services.runtime.address import host_and_port, read_address
from services.runtime.env_file import read_env_file
from services.runtime.redact import head, is_secret, know
from services.runtime.screen import escaped
from services.runtime.small_files import FileUnreadable, read_small

T = TypeVar("T", bound="Settings")

Origin = Literal["default", "environment", ".env", "option"]

THRESHOLD_PREFIX: Final = "THRESHOLD_"
_HINT: Final = "an environment that Kubernetes fills has such names: set enableServiceLinks: false"


class SettingsInvalid(Exception):
    """The settings can't be used; the message has a line for each error."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        self.lines = [f"settings: {escaped(error)}" for error in errors]
        super().__init__("\n".join(self.lines))


def setting(
    default: Any,
    meaning: str,
    *,
    env: str | None = None,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """Declare a setting. Its variable is the field's name in capitals, or `env`."""
    return field(
        default=default,
        metadata={
            "meaning": meaning,
            "env": env,
            "least": least,
            "most": most,
            "choices": choices,
            "secret": secret,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every process is told."""

    broker_url: str = setting(
        "",
        "Address of the Redis or Valkey server: `redis://user:password@host:port/db`, with `rediss://` for "
        "TLS (also `valkey://` and `valkeys://`), or `unix://user:password@/path?db=0`. It replaces "
        "REDIS_HOST and REDIS_PORT. The other REDIS_ settings count for what is not in it",
        secret=True,
    )
    redis_url: str = setting("", "The old name of BROKER_URL", secret=True)
    redis_host: str = setting("localhost", "Host of the Redis or Valkey server")
    redis_port: int = setting(6379, "Its port", least=1, most=65535)
    redis_db: int = setting(0, "Number of the database on this server", least=0)
    redis_username: str = setting("", "ACL user; empty: the default user")
    redis_password: str = setting("", "Password of that user", secret=True)
    redis_password_file: str = setting(
        "", "File with this password. It is read again at each connection, so the password can be rotated"
    )
    redis_tls: bool = setting(False, "Use TLS")
    redis_ca_file: str = setting("", "File with the certificate authority for TLS; empty: the system's")
    redis_cert_file: str = setting(
        "",
        "File with the client's certificate, if the server asks for one (mutual TLS). It is read again at "
        "each connection",
    )
    redis_key_file: str = setting(
        "", "File with the private key of this certificate; empty: the key is in the same file"
    )
    redis_timeout_s: float = setting(
        5.0, "How long to wait for an answer of the server, in seconds", least=0.1
    )
    stream_name: str = setting(DEFAULT_STREAM, "The stream with the events")
    group_name: str = setting(DEFAULT_GROUP, "The consumer group on it")
    max_entry_bytes: int = setting(
        DEFAULT_ENTRY_BYTES,
        "Largest entry of the stream, in bytes: its names and values together. Producers refuse a larger "
        "event. Of a larger entry in the stream, only the beginning becomes a dead letter",
        least=LEAST_ENTRY_BYTES,
        most=MOST_ENTRY_BYTES,
    )
    data_dir: Path = setting(  # noqa: RUF009 - a path can't be changed either
        Path("data"), "Folder with the database, the dead letters and the logs"
    )
    kpis_file: str = setting("", "TOML file with the KPIs; empty: the file that is shipped")
    log_level: str = setting(
        "INFO", "Lowest level of log lines that are written", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    log_format: str = setting(
        "auto", "Form of the log lines. auto: text on a terminal, else json", choices=("auto", "json", "text")
    )
    metrics_host: str = setting(
        "",
        "Address on which /metrics, /livez and /readyz are served; empty: every address of the machine, "
        "but with `telemetry run` only 127.0.0.1",
    )
    trace_sample_ratio: float = setting(
        0.01,
        "Share of batches that are traced, 0 to 1, if OTEL_ variables switch traces on. Errors and dead "
        "letters are always traced",
        least=0,
        most=1,
    )
    trace_spans_per_second: float = setting(
        100.0,
        "Most spans a second that a process makes of sampled batches. Those of errors and dead letters "
        "come on top. 0: no limit",
        least=0,
    )
    kpis: Mapping[str, Kpi] = field(default_factory=dict, metadata={"derived": True})
    uses_user_of_address: bool = field(default=True, metadata={"derived": True})
    """False: who is named in BROKER_URL is not who we are."""

    @property
    def broker_address(self) -> str:
        """Where the server is, for a person: without its password."""
        address, errors = read_address(self)
        if errors:
            return "an address that can't be used"
        if self.broker_url or self.redis_url:
            return address.place
        return host_and_port(address.host, self.redis_port)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "telemetry.db"

    @property
    def dead_letter_file(self) -> Path:
        """The file of the dead letters."""
        return self.data_dir / "dlq.jsonl"

    def check(self) -> list[str]:
        """List what is wrong between settings that are each right alone, and with addresses."""
        return read_address(self)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings(Settings):
    """What a producer is told."""

    batch_size: int = setting(5, "Events published in one round trip", least=1, most=10_000)
    sleep_interval: float = setting(1.0, "Pause between batches, in seconds", least=0)
    producer_run_duration: float = setting(
        30.0, "How long to publish, in seconds; 0: until it is stopped", least=0
    )
    rate: float = setting(
        0.0, "Events a second; it replaces SLEEP_INTERVAL. 0: BATCH_SIZE and SLEEP_INTERVAL count",
        env="RATE", least=0,
    )  # fmt: skip
    device_count: int = setting(20, "Number of simulated devices", least=1, most=1_000_000)
    zone_count: int = setting(4, "Number of zones of these devices", least=1, most=10_000)
    invalid_ratio: float = setting(0.0, "Share of events made invalid, 0 to 1", least=0, most=1)
    duplicate_ratio: float = setting(0.0, "Share of events published twice, 0 to 1", least=0, most=1)
    seed: str = setting("", "Seed for a repeatable run; empty: another run each time")
    events_per_entry: int = setting(
        1,
        "Most events in one entry of the stream; 100 takes most of the work from the server. An entry has "
        "only events of one batch. The producer begins with this by itself, when every consumer can read "
        "such entries (docs/your-data.md)",
        least=1,
        most=1000,
    )
    stream_max_length: int = setting(
        1_000_000,
        "Events in the stream at which publishing stops until consumers catch up; 0: no limit",
        least=0,
    )
    stream_full: str = setting(
        "block",
        "What a producer does at this limit. block: it waits. drop_oldest: it drops the oldest entries, and "
        "counts their events",
        choices=("block", "drop_oldest"),
    )
    metrics_port: int = setting(
        8001,
        "Port of /metrics, /livez and /readyz; 0: none",
        env="PRODUCER_METRICS_PORT",
        least=0,
        most=65535,
    )
    producer_mode: str = setting(
        "generate",
        "Where events come from. generate: the producer makes them up. http: devices send them by HTTP. "
        "mqtt: the producer subscribes to them at an MQTT broker",
        choices=("generate", "http", "mqtt"),
    )
    http_host: str = setting(
        "127.0.0.1",
        "Address on which events are taken by HTTP; 0.0.0.0: every address of the machine. If others "
        "can reach it, say who may send: HTTP_TOKENS_FILE, HTTP_CLIENT_CA_FILE or ANONYMOUS",
    )
    http_port: int = setting(8080, "Port for events by HTTP", least=1, most=65535)
    http_tokens_file: str = setting(
        "",
        "TOML file with the tokens of those who may send by HTTP, and for which devices and zones "
        "(docs/devices.md). It is read again when it changes",
    )
    http_cert_file: str = setting(
        "",
        "PEM file with the certificate of the HTTP port, and those between it and its authority. With it "
        "the port takes HTTPS only. It is read again when it changes",
    )
    http_key_file: str = setting("", "PEM file with the private key of this certificate, without a password")
    http_client_ca_file: str = setting(
        "",
        "PEM file with the authorities that sign clients' certificates. With it, each client must show a "
        "certificate",
    )
    anonymous: bool = setting(False, "Let everybody send who can reach the HTTP port")
    http_mapping_file: str = setting(
        "",
        "Mapping of the JSON that is sent by HTTP; empty: the JSON has the names of an event's fields "
        "(docs/your-data.md)",
    )
    influx_mapping_file: str = setting(
        "", "Mapping of the line protocol that is sent by HTTP; empty: by the usual tags (docs/devices.md)"
    )
    http_check_kpis: bool = setting(
        True,
        "Refuse an event at once if its KPI is unknown or its value is outside the range. false: publish "
        "it. Then a step can correct it; otherwise it becomes a dead letter",
    )
    http_max_body_bytes: int = setting(
        5 << 20, "Largest body of a request, unpacked, in bytes", least=1024, most=64 << 20
    )
    http_max_events: int = setting(
        5000,
        "Most events in one request, and never more than STREAM_MAX_LENGTH. They are published together or "
        "not at all",
        least=1,
        most=10_000,
    )
    http_connections: int = setting(
        1000,
        "Most connections that are open at once. If there are more, the oldest idle one is closed",
        least=1,
        most=100_000,
    )
    http_read_timeout_s: float = setting(
        10.0, "How long the head of a request may take, and then its body, in seconds", least=0.1
    )
    http_wait_s: float = setting(
        10.0,
        "How long a request waits until its events are in the stream, in seconds. After that the answer is "
        "503",
        least=0.1,
    )
    mqtt_url: str = setting(
        "mqtt://localhost:1883",
        "Address of the MQTT broker: mqtt://host:port, or mqtts://host:port for TLS. User and password are "
        "not in it: see MQTT_USERNAME_FILE and MQTT_PASSWORD_FILE",
    )
    mqtt_topics: str = setting(
        "",
        "Topics to subscribe to, separated by commas, such as plant/{zone}/{device}/{kpi}. The levels "
        "{zone}, {device} and {kpi} become those fields of the event; + and # are MQTT's wildcards",
    )
    mqtt_share: str = setting(
        "",
        "Group of a shared subscription, in which each message goes to only one of several producers; "
        "empty: none",
    )
    mqtt_client_id: str = setting(
        "",
        "Name of the session at the broker. Each producer needs one of its own, and the same one after a "
        "restart. Empty: telemetry- and the host's name",
    )
    mqtt_username_file: str = setting("", "File with the user's name at the broker")
    mqtt_password_file: str = setting(
        "",
        "File with the password of that user. It is read again at each connection, so the password can be "
        "rotated",
    )
    mqtt_ca_file: str = setting("", "File with the certificate authority for mqtts://; empty: the system's")
    mqtt_cert_file: str = setting(
        "",
        "File with the client's certificate, if the broker asks for one. It is read again at each connection",
    )
    mqtt_key_file: str = setting(
        "", "File with the private key of this certificate; empty: the key is in the same file"
    )
    mqtt_mapping_file: str = setting(
        "",
        "Mapping of the JSON in messages; empty: the JSON has the names of an event's fields "
        "(docs/your-data.md)",
    )
    mqtt_version: str = setting("5", "Version of MQTT that the broker speaks", choices=("5", "3.1.1"))
    mqtt_max_in_flight: int = setting(
        1000,
        "Most unacknowledged messages at once; the broker sends no more until one is acknowledged",
        least=1,
        most=65_535,
    )
    mqtt_end_session: bool = setting(
        False,
        "What happens when the producer is stopped. true: it takes what the broker still has for this "
        "session, and ends the session; for a producer that won't come back. false: the broker keeps the "
        "messages until the producer is back",
    )
    linger_ms: float = setting(
        5.0, "How long a few events that were sent wait for others to share a batch, in milliseconds",
        least=0, most=10_000,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings(Settings):
    """What a consumer is told."""

    batch_size: int = setting(10, "Most events read, stored and acknowledged together", least=1, most=4000)
    sleep_interval: float = setting(
        0.5, "How long a read waits for entries, in seconds; no pause between full batches", least=0.001
    )
    consumer_run_duration: float = setting(
        35.0, "How long to consume, in seconds; 0: until it is stopped", least=0
    )
    consumer_name: str = setting(
        "", "Name of the consumer in the group; each needs one of its own. Empty: host name and process id"
    )
    operator_redis_username: str = setting("", "ACL user of the `telemetry` command; empty: the default user")
    operator_redis_password_file: str = setting(
        "",
        "File with the password of that user; empty: the command uses the service's own user",
    )
    max_retries: int = setting(3, "How often a failed write is tried again", least=0, most=100)
    retry_backoff_s: float = setting(0.5, "Pause before retry n is n times this, in seconds", least=0)
    max_deliveries: int = setting(
        # From the third delivery on an entry comes alone: with fewer, its batch would die with it.
        5,
        "How often an entry is delivered without being acknowledged, before it becomes a dead letter",
        least=3,
    )
    claim_idle_ms: int = setting(
        60_000, "Idle time after which another consumer's entries are taken over, in milliseconds", least=1
    )
    claim_interval_s: float = setting(5.0, "Seconds between two checks for such entries", least=0.01)
    consumer_expiry_s: float = setting(
        3600.0,
        "Idle time after which a consumer with nothing pending is removed from the group, in seconds",
        least=1,
    )
    retention_interval_s: float = setting(
        10.0,
        "Seconds between two trims of the stream, which remove the entries that every group has "
        "acknowledged. 0: never, and idle consumers stay in the group too",
        least=0,
    )
    retain_days: int = setting(
        0,
        "Days that rows are kept. Then whole days (UTC) are dropped, once an audit has proven them "
        "(docs/retention.md). 0: rows are kept for ever",
        least=0,
        most=36_500,
    )
    audit_interval_s: float = setting(
        3600.0,
        "With RETAIN_DAYS: seconds between two audits that one of the consumers makes. 0: consumers make "
        "none; run `telemetry audit --record --retain` yourself",
        least=0,
    )
    silent_after_s: float = setting(
        0.0,
        "Seconds after which a device that used to send counts as silent. Consumers then write down each "
        "device's last reading. 0: silent devices are not counted",
        least=0,
    )
    silent_forget_days: int = setting(
        30,
        "Days without a reading after which a silent device is forgotten, and no longer counts",
        least=1,
        most=36_500,
    )
    max_future_s: float = setting(
        300.0, "How far the time of an event may be in the future, in seconds", least=0
    )
    sqlite_busy_timeout_ms: int = setting(
        5000, "How long a write to SQLite waits for another replica's lock, in milliseconds", least=0
    )
    database_url: str = setting(
        "",
        "Address of the PostgreSQL database for rows: "
        "`postgresql://user:password@host:port/database?sslmode=verify-full`. libpq's own variables "
        "(PGHOST, PGPASSWORD, PGSSLROOTCERT, ...) count for what is not in it. Empty: SQLite, in "
        "telemetry.db in DATA_DIR",
        secret=True,
    )
    database_password_file: str = setting(
        "",
        "File with the password of the database. It is read again at each connection, so the password can "
        "be rotated",
    )
    database_connect_timeout_s: float = setting(
        5.0, "How long to wait for a connection to PostgreSQL, in seconds", least=1
    )
    database_timeout_s: float = setting(
        4.0,
        "Longest time that one write to PostgreSQL may take, in seconds; then it is tried again",
        least=0.1,
    )
    database_lock_timeout_s: float = setting(
        3.0,
        "Longest time that a write may wait there for the lock of another transaction, in seconds",
        least=0.01,
    )
    database_device_index: bool = setting(
        False,
        "Keep an index by device and time on each partition in PostgreSQL. It is made while rows are "
        "written. It makes storing more expensive (docs/postgres.md)",
    )
    fresh: bool = setting(
        False,
        "Start with a PostgreSQL that has nothing of this pipeline, though its consumers have acknowledged "
        "events before. Those events are not in it, so the audit calls them missing. Not needed after "
        "`telemetry copy`",
    )
    dead_letters: str = setting(
        "auto",
        "Where dead letters go. file: dlq.jsonl in DATA_DIR. stream: {STREAM_NAME}:dlq in Redis. database: "
        "a table beside the rows in PostgreSQL. auto: database if DATABASE_URL is set, else file",
        choices=("auto", "file", "stream", "database"),
    )
    pipeline_name: str = setting(
        "telemetry",
        "Name of this pipeline. It tells its dead letters from those of other pipelines in the same database",
    )
    dlq_breaker_ratio: float = setting(
        0.0,
        "Share of dead letters among the latest entries (100 or more) above which consuming stops; 0: never",
        least=0,
        most=1,
    )
    liveness_timeout_s: float = setting(
        60.0, "Seconds without a turn of the consumer's loop after which /livez fails", least=1
    )
    metrics_port: int = setting(
        8000,
        "Port of /metrics, /livez and /readyz; 0: none",
        env="CONSUMER_METRICS_PORT",
        least=0,
        most=65535,
    )

    @property
    def name(self) -> str:
        """The consumer's name in the group."""
        # The process id keeps two on one host apart; in a container it is 1, so a restarted
        # container finds its own pending entries again.
        return self.consumer_name or f"{socket.gethostname()}-{os.getpid()}"

    @property
    def letters_in(self) -> str:
        """Where dead letters go: `file`, `stream` or `database`."""
        if self.dead_letters != "auto":
            return self.dead_letters
        return "database" if self.database_url else "file"

    def as_operator(self) -> Self:
        """Give the settings of the `telemetry` command, which may be another user than the service."""
        if not self.operator_redis_password_file:
            return self
        return replace(
            self,
            redis_username=self.operator_redis_username,
            redis_password="",
            redis_password_file=self.operator_redis_password_file,
            uses_user_of_address=False,
        )

    @property
    def longest_batch_s(self) -> float:
        """The longest from a delivery to its settlement with a sink that answers, in seconds."""
        attempts = self.max_retries + 1
        # What the server is given for its answer comes on top.
        one_write_s = self.database_timeout_s + 1 if self.database_url else self.sqlite_busy_timeout_ms / 1000
        waiting = attempts * one_write_s
        one = waiting + self.retry_backoff_s * self.max_retries * attempts / 2 + self.redis_timeout_s
        # A batch that was asked for ahead waits for the one before it.
        return 2 * one

    def check(self) -> list[str]:
        """List what is wrong between settings that are each right alone."""
        errors = Settings.check(self)
        waits = "DATABASE_TIMEOUT_S" if self.database_url else "SQLITE_BUSY_TIMEOUT_MS"
        if self.claim_idle_ms < self.longest_batch_s * 1000:
            errors.append(
                f"CLAIM_IDLE_MS={self.claim_idle_ms}: a batch can take {self.longest_batch_s * 1000:.0f} ms "
                f"from its delivery, behind the one before it ({waits}, MAX_RETRIES, "
                "RETRY_BACKOFF_S, REDIS_TIMEOUT_S), and a shorter idle time takes entries from consumers "
                "that still work on them; raise it, or lower those"
            )
        if self.silent_after_s > (longest_s := self.silent_forget_days * 86_400):
            errors.append(
                f"SILENT_AFTER_S={self.silent_after_s:g}: devices are forgotten after {longest_s} seconds "
                f"(SILENT_FORGET_DAYS={self.silent_forget_days}), and none would ever count as silent; "
                "raise that, or lower this"
            )
        return errors


def variable(declared: Any) -> str:
    """Name the environment variable of a declared setting."""
    return str(declared.metadata["env"] or declared.name.upper())


def declared(cls: type[Settings]) -> list[Any]:
    """List the settings of a class, as dataclass fields, in their order."""
    return [one for one in fields(cls) if not one.metadata.get("derived")]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from, the strongest first: options, the environment, the `.env` file."""

    options: Mapping[str, str]
    environment: Mapping[str, str]
    file: Mapping[str, str]
    errors: Sequence[str] = ()
    """What is wrong with the file; `load` tells it with all the rest."""

    def find(self, name: str) -> tuple[str, Origin] | None:
        """Find a variable's text and where it came from. An empty text counts as not set."""
        origins: tuple[tuple[Mapping[str, str], Origin], ...] = (
            (self.options, "option"),
            (self.environment, "environment"),
            (self.file, ".env"),
        )
        return next(((found[name], origin) for found, origin in origins if found.get(name, "") != ""), None)


def read_sources(options: Mapping[str, str] | None = None, env_file: Path = Path(".env")) -> Sources:
    """Gather the environment, and `.env` from the working folder (env_file.py)."""
    values, errors = read_env_file(env_file, _names())
    return Sources(options or {}, dict(os.environ), values, errors)


def load(cls: type[T], sources: Sources) -> T:
    """Read and check settings.

    Raises SettingsInvalid with every error in them.
    """
    errors = [*sources.errors, *_unknown(sources)]
    values: dict[str, Any] = {}
    for one in declared(cls):
        found = sources.find(variable(one))
        if found is None:
            continue
        if is_secret(variable(one)):
            know(found[0])  # wherever it turns up in what is said of the others
        try:
            values[one.name] = _parse(one, found[0])
        except ValueError as error:
            shown = "(hidden)" if one.metadata["secret"] else _quoted(found[0])
            errors.append(f"{variable(one)}={shown}: {error} (from {found[1]})")
    settings = cls(**values)
    try:
        kpis = kpi_files.with_thresholds(_read_kpis(settings.kpis_file), _thresholds(sources, errors))
        settings = cls(**values, kpis=kpis)
    except KpisInvalid as error:
        errors.append(f"KPIS_FILE={settings.kpis_file}: {error}")
    errors += settings.check()
    if errors:
        raise SettingsInvalid(errors)
    return settings


def thresholds_set(sources: Sources) -> list[str]:
    """List the THRESHOLD_ variables that are set."""
    return sorted(
        {
            name
            for mapping in (sources.options, sources.environment, sources.file)
            for name in mapping
            if name.startswith(THRESHOLD_PREFIX) and sources.find(name)
        }
    )


def _thresholds(sources: Sources, errors: list[str]) -> dict[str, float]:
    thresholds = {}
    for name in thresholds_set(sources):
        text, origin = cast("tuple[str, Origin]", sources.find(name))
        try:
            thresholds[name.removeprefix(THRESHOLD_PREFIX).lower()] = _number(text)
        except ValueError as error:
            errors.append(f"{name}={_quoted(text)}: {error} (from {origin})")
    return thresholds


def _read_kpis(path: str) -> dict[str, Kpi]:
    if not path:
        return kpi_files.parse_kpis(kpi_files.shipped())
    try:
        text = read_small(Path(path))
    except FileUnreadable as error:
        raise KpisInvalid(str(error)) from None
    if text is None:
        raise KpisInvalid("can't be read: there is no such file")
    return kpi_files.parse_kpis(text)


def _parse(one: Any, text: str) -> Any:
    """Read one value by the type of its field; raises ValueError saying what to write."""
    parse = _PARSERS[one.type]
    if not is_utf8(text):
        raise ValueError("it is not UTF-8")
    if "\0" in text:
        raise ValueError("there is a NUL in it")
    value = parse(text.strip())
    least, most, choices = one.metadata["least"], one.metadata["most"], one.metadata["choices"]
    if most is None and one.type is float:
        most = _LONGEST
    if least is not None and value < least:
        raise ValueError(f"at least {least:g}")
    if most is not None and value > most:
        raise ValueError(f"at most {most:g}")
    if choices:
        value = value.upper() if choices[0].isupper() else value.lower()
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
    return value


def _quoted(text: str) -> str:
    """Write a value that is refused: its beginning, where it is long."""
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"{head(text, _LONGEST_SHOWN)!r}…"


def is_utf8(text: str) -> bool:
    """Tell whether a text of the environment was UTF-8: surrogates stand for what wasn't."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("write a number")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        hint = f"; {_HINT}" if text.startswith("tcp://") else ""
        raise ValueError(f"write a whole number{hint}") from None


def _flag(text: str) -> bool:
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
    except KeyError:
        raise ValueError("write true or false") from None


_PARSERS: Final[Mapping[type, Callable[[str], Any]]] = {
    str: str,
    int: _whole,
    float: _number,
    bool: _flag,
    Path: Path,
}


def _names() -> set[str]:
    return {variable(one) for cls in (ProducerSettings, ConsumerSettings) for one in declared(cls)}


def _unknown(sources: Sources) -> list[str]:
    """Name settings that nobody reads: all in the file, and look-alikes of ours in the environment.

    The environment is shared with everything else, so there only a near miss is taken for one.
    """
    names = _names()
    errors = []
    for mapping, origin, cutoff in (
        (sources.options, "option", 0.0),
        (sources.file, ".env", 0.0),
        (sources.environment, "environment", 0.93),
    ):
        for name in sorted(mapping):
            if name in names or name.startswith((THRESHOLD_PREFIX, *_OTHERS)):
                continue
            near = difflib.get_close_matches(name, names, n=1, cutoff=max(cutoff, 0.6))
            if near:
                errors.append(f"{name}: no such setting; did you mean {near[0]}? (from {origin})")
            elif cutoff == 0.0:
                errors.append(f"{name}: no such setting (from {origin})")
    return errors


_LONGEST_SHOWN: Final = 100
"""Characters of a value that is refused."""

# Read by Python, by libraries and by docker compose, beside ours in the same file.
_LONGEST: Final = 1e9
"""Seconds, where a setting has no limit of its own: thirty years, and no more than a socket takes."""
_OTHERS: Final = ("OTEL_", "PYTHON", "TZ", "COMPOSE_", "IMAGE_TAG")
