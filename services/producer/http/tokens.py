"""Who may send: tokens of a file, which is read again when it changes.

    [gateway-1]                       # a name, for the log
    token = "..."                     # 16 characters at least
    devices = ["plant-*"]             # what it may write; without it, any. * is any text, ? any character
    zones = ["north"]

A token comes as `Authorization: Bearer TOKEN`, as InfluxDB's `Token TOKEN`, as the password of Basic, or as
`p` beside `u` in the address (InfluxDB 1). A file that can't be used changes nothing: who could send still
can.
"""

import base64
import binascii
import hmac
import logging
import secrets
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from services.runtime.small_files import FileUnreadable, read_small

SHORTEST: Final = 16
"""Characters of a token."""
_LONGEST: Final = 4096
_LOOK_S: Final = 1.0
"""Seconds between two looks at the file."""
_KEYS: Final = ("token", "devices", "zones")
_MOST_KEPT: Final = 100_000
"""Devices and zones of which is remembered whether they may be written."""


class TokensInvalid(Exception):
    """The file can't be used; the message lists every error, and no token."""


@dataclass(slots=True)
class Writer:
    """Somebody who may send."""

    name: str
    devices: tuple[str, ...] = ()
    """Patterns; empty: any."""
    zones: tuple[str, ...] = ()
    _met: dict[tuple[str, str], bool] = field(default_factory=dict)

    def may_write(self, device_id: str, zone: str) -> bool:
        """Tell whether an event of this device and zone may be written."""
        if not (self.devices or self.zones):
            return True
        known = self._met.get((device_id, zone))
        if known is None:
            if len(self._met) >= _MOST_KEPT:
                self._met.clear()
            known = _fits(device_id, self.devices) and _fits(zone, self.zones)
            self._met[device_id, zone] = known
        return known


ANYBODY: Final = Writer("anonymous")


class Tokens:
    """The tokens of a file. Raises TokensInvalid where it can't be used at the start."""

    def __init__(self, path: Path, logger: logging.Logger, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._logger = logger
        self._monotonic = monotonic
        self._looking = threading.Lock()
        self._look_at = monotonic() + _LOOK_S
        # Found by a hash with a key that nobody knows: how long it takes says nothing of a token.
        self._key = secrets.token_bytes(32)
        self._seen = self._stamp()
        self._by_hash = self._read()

    def writer(self, token: str) -> Writer | None:
        """Give whose token it is; None: nobody's."""
        self._look()
        hashed = self._hash(token)
        found = self._by_hash.get(hashed)
        return found[1] if found is not None and hmac.compare_digest(found[0], hashed) else None

    def _hash(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode(errors="surrogateescape"), "sha256")

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _look(self) -> None:
        if self._monotonic() < self._look_at or not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at = self._monotonic() + _LOOK_S
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self._by_hash = self._read()
            except TokensInvalid as error:
                self._logger.error("tokens_unusable", extra={"file": str(self._path), "error": str(error)})
            else:
                self._logger.info(
                    "tokens_read", extra={"file": str(self._path), "writers": len(self._by_hash)}
                )
        finally:
            self._looking.release()

    def _read(self) -> dict[bytes, tuple[bytes, Writer]]:
        try:
            text = read_small(self._path)
        except FileUnreadable as error:
            raise TokensInvalid(str(error)) from None
        if text is None:
            raise TokensInvalid("there is no such file")
        found = parse_tokens(text)
        hashed = [(self._hash(token), writer) for token, writer in found.items()]
        return {one: (one, writer) for one, writer in hashed}


def parse_tokens(text: str) -> Mapping[str, Writer]:
    """Read the text of a file: whose each token is. Raises TokensInvalid."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TokensInvalid(f"not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise TokensInvalid("not TOML: a number is too long, or brackets stand too deep") from None
    errors: list[str] = []
    found: dict[str, Writer] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            errors.append(f"{name}: write a table, [{name}]")
            continue
        errors += [f"[{name}] {key}: unknown; there are {', '.join(_KEYS)}" for key in table.keys() - _KEYS]
        token = table.get("token")
        if not isinstance(token, str) or not SHORTEST <= len(token) <= _LONGEST:
            errors.append(f"[{name}] token: a text of at least {SHORTEST} characters")
        elif token != token.strip() or not token.isprintable() or not token.isascii():
            errors.append(f"[{name}] token: ASCII characters, without blanks around them")
        elif token in found:
            errors.append(f"[{name}] token: {found[token].name} has the same")
        else:
            found[token] = Writer(
                name, _patterns(name, table, "devices", errors), _patterns(name, table, "zones", errors)
            )
    if not tables:
        errors.append('no token in it; write [NAME], and token = "..." below')
    if errors:
        raise TokensInvalid("; ".join(errors[:20]))
    return found


def _patterns(name: str, table: Mapping[str, Any], key: str, errors: list[str]) -> tuple[str, ...]:
    given = table.get(key)
    if given is None:
        return ()
    # An empty list would be taken for "any", and is meant as "none".
    if not isinstance(given, list) or not given or not all(isinstance(one, str) and one for one in given):
        errors.append(f'[{name}] {key}: a list of names or patterns, such as ["plant-*"]; without it, any')
        return ()
    return tuple(one.replace("[", "[[]") for one in given)


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def given_tokens(authorization: str, user: str | None, password: str | None) -> list[str]:
    """Give what a request may mean as its token; none where it has none."""
    scheme, _, rest = authorization.strip().partition(" ")
    rest = rest.strip()
    found: list[str] = []
    if scheme.lower() in {"bearer", "token"} and rest:
        found = [rest]
        if ":" in rest:  # InfluxDB 1 writes user:password there
            found.append(rest.partition(":")[2])
    elif scheme.lower() == "basic":
        try:
            text = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, ValueError):
            return []
        found = [text.partition(":")[2]]
    elif user is not None and password:
        found = [password]
    return [one for one in found if one and len(one) <= _LONGEST]
