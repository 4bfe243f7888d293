"""Where the server is, read from the settings. Pure, and strict: what could be misread is refused.

A password with a character that ends a part of an address (`#`, `/`, `?`, `@`) is the usual mistake. Read
leniently, it leads to another server without a word: `redis://:6379#x@prod/0` is localhost to most parsers.
No error here tells a piece of the address: what looks like a port may be a piece of the password.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from services.runtime.settings import Settings

_TLS: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""Schemes of a host and port, and whether they speak TLS."""
_NOT_YET: Final = re.compile(r"(?:(?:redis|rediss|valkey|valkeys)[+-])?(sentinel|cluster|kafka)s?$")
_DEFAULT_PORT: Final = 6379
_LEAST_CONNECTIONS: Final = 3
"""A consumer reads on one, acknowledges on another, and trims on a third."""

HINT: Final = (
    "write redis://user:password@host:port/db, or rediss:// for TLS, or unix://user:password@/path?db=0, and "
    "percent-encode what a user name or password has of # as %23, / as %2F, ? as %3F, @ as %40, "
    "[ as %5B, % as %25, a blank as %20"
)


class AddressInvalid(ValueError):
    """A text is no address; the message says why, and tells nothing of it."""


def _text(text: str) -> str:
    return text


def _flag(text: str) -> bool:
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
    except KeyError:
        raise AddressInvalid("true or false") from None


def _connections(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < _LEAST_CONNECTIONS:
        raise AddressInvalid(f"a whole number, at least {_LEAST_CONNECTIONS}: so many does a consumer use")
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise AddressInvalid(f"one of {', '.join(choices)}")
        return text

    return parse


_TLS_PARAMETERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_ca_data": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _flag,
    "ssl_ciphers": _text,
}
_PARAMETERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "client_name": _text,
    "max_connections": _connections,
    **_TLS_PARAMETERS,
}
"""What may stand behind the `?`, beside db, username and password."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who we are there. What the text does not say is None."""

    scheme: str = "redis"
    host: str = ""
    port: int | None = None
    path: str = ""
    """Of a Unix socket; empty: a host."""
    db: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_tls(self) -> bool:
        """Whether it speaks TLS."""
        return _TLS.get(self.scheme, False)

    @property
    def place(self) -> str:
        """Name it for a person, without user and password."""
        db = "" if self.db is None else f"/{self.db}"
        if self.path:
            return f"unix://{self.path}" + (f"?db={self.db}" if self.db else "")
        return f"{self.scheme}://{host_and_port(self.host, self.port or _DEFAULT_PORT)}{db}"

    def without_user(self) -> "Address":
        """Give the same place for another user."""
        return replace(self, username=None, password=None)


def host_and_port(host: str, port: int) -> str:
    """Write both as a person does."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_url(url: str) -> Address:
    """Read a whole address. Raises AddressInvalid, which tells nothing of it."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise AddressInvalid("it has no scheme such as redis://")
    if found := _NOT_YET.fullmatch(scheme):
        raise AddressInvalid(f"{_NAMES_OF[found[1]]} is not supported yet: name one Redis or Valkey server")
    if scheme not in _TLS and scheme != "unix":
        raise AddressInvalid("its scheme is none of redis, rediss, valkey, valkeys, unix")
    if any(one.isspace() or not one.isprintable() for one in rest):
        raise AddressInvalid("there is white space in it, or what can't be printed")
    if "#" in rest:
        raise AddressInvalid("there is a # in it, which would end the address: write it as %23")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    if "@" in path or "@" in query:
        raise AddressInvalid("an @ stands behind a / or a ?: those in a password are %2F and %3F")
    user_info, at, host_info = authority.rpartition("@")
    if "@" in user_info:
        raise AddressInvalid("there are two @ in it: the one in a user name or password is %40")
    if any(one in user_info for one in "[]"):
        raise AddressInvalid("a bracket stands before the @: [ is %5B, ] is %5D")
    username, password = _user_of(user_info) if at else (None, None)
    named = _parameters(query, scheme)
    for name, given in (("username", username), ("password", password)):
        if name in named and given is not None:
            raise AddressInvalid(f"it has a {name} before the @ and one behind the ?")
    username, password = named.pop("username", username), named.pop("password", password)
    db = _db_of(named.pop("db", None))
    if scheme == "unix":
        if host_info or not path:
            raise AddressInvalid("a socket's path begins with a /, as in unix:///run/redis.sock")
        return Address(scheme, "", None, _decoded(f"/{path}"), db, username, password, named)
    host, port = _host_of(host_info)
    of_path = _db_of(path.removesuffix("/")) if slash and path not in {"", "/"} else None
    if db is not None and of_path is not None and db != of_path:
        raise AddressInvalid("it has a database number behind the host, and another one behind the ?")
    return Address(scheme, host, port, "", db if of_path is None else of_path, username, password, named)


def read_address(settings: "Settings") -> tuple[Address, list[str]]:
    """Give where the settings lead, and what is wrong with it, a line each.

    What the whole address does not say, the other settings say. Two that say different things are an error.
    """
    if settings.broker_url and settings.redis_url and settings.broker_url != settings.redis_url:
        return Address(), ["REDIS_URL is BROKER_URL by its old name: both are set, and they differ"]
    name = "BROKER_URL" if settings.broker_url else "REDIS_URL"
    url = settings.broker_url or settings.redis_url
    try:
        if url:
            address = parse_url(url)
        else:
            name = "REDIS_HOST"
            scheme = "rediss" if settings.redis_tls else "redis"
            address = Address(scheme, check_host(settings.redis_host), settings.redis_port)
    except AddressInvalid as error:
        if url:
            return Address(), [f"{name}=(hidden): {HINT}; here {error}"]
        hidden = any(one in settings.redis_host for one in ("@", "://"))
        shown = "(hidden)" if hidden else repr(settings.redis_host)
        return Address(), [f"REDIS_HOST={shown}: {error}"]
    if not settings.uses_user_of_address:
        address = address.without_user()
    errors: list[str] = []
    address = _with_place(address, settings, name, errors)
    address = _with_user(address, settings, name, errors)
    return _with_tls(address, settings, name, errors), errors


def _with_place(address: Address, settings: "Settings", name: str, errors: list[str]) -> Address:
    if address.db is not None and settings.redis_db not in {0, address.db}:
        errors.append(f"REDIS_DB={settings.redis_db}: {name} names another database")
    if address.db is None and settings.redis_db:
        address = replace(address, db=settings.redis_db)
    if address.port is None and not address.path:
        address = replace(address, port=settings.redis_port)
    return address


def _with_user(address: Address, settings: "Settings", name: str, errors: list[str]) -> Address:
    if settings.redis_password and settings.redis_password_file:
        errors.append("REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set: set one of them")
    if address.password is not None and settings.redis_password_file:
        errors.append(f"REDIS_PASSWORD_FILE is set, and {name} has a password: leave one of them out")
    who = {"username": address.username, "password": address.password}
    for what, ours in (("username", settings.redis_username), ("password", settings.redis_password)):
        if ours and who[what] not in {None, ours}:
            errors.append(f"REDIS_{what.upper()} is set, and {name} has another one: leave one of them out")
        who[what] = who[what] or ours or None
    return replace(address, username=who["username"], password=who["password"])


_TLS_FILES: Final = {
    "redis_ca_file": "ssl_ca_certs",
    "redis_cert_file": "ssl_certfile",
    "redis_key_file": "ssl_keyfile",
}


def _with_tls(address: Address, settings: "Settings", name: str, errors: list[str]) -> Address:
    if settings.redis_tls and not address.is_tls:
        errors.append(f"REDIS_TLS is true, and {name} has a scheme without TLS: write rediss://")
        return address
    parameters = dict(address.parameters)
    for attribute, parameter in _TLS_FILES.items():
        file = getattr(settings, attribute)
        if not file:
            continue
        if not address.is_tls:
            how = "set REDIS_TLS=true" if name == "REDIS_HOST" else f"write rediss:// in {name}"
            errors.append(f"{attribute.upper()} is set, and the connection is not TLS: {how}")
        elif parameters.setdefault(parameter, file) != file:
            errors.append(f"{attribute.upper()} is set, and {name} has another {parameter}")
    if "ssl_keyfile" in parameters and "ssl_certfile" not in parameters:
        errors.append("REDIS_KEY_FILE is set, and no certificate: set REDIS_CERT_FILE as well")
    return replace(address, parameters=parameters)


_NAMES_OF: Final = {
    "sentinel": "following a Redis Sentinel",
    "cluster": "following a Redis cluster",
    "kafka": "Kafka",
}


def check_host(host: str) -> str:
    """Give the host of a setting without its brackets. Raises AddressInvalid with what to write instead."""
    if "://" in host:
        raise AddressInvalid("that is a whole address: write it as BROKER_URL")
    if "@" in host:
        raise AddressInvalid("that has a user or password in it: write the whole address as BROKER_URL")
    if host.startswith("/"):
        raise AddressInvalid(f"that is a path: write BROKER_URL=unix://{host}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise AddressInvalid("what stands in the brackets is no IPv6 address")
        return host
    if _is_ipv6(host):
        return host
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        raise AddressInvalid(f"that is a host and a port: write REDIS_HOST={name} and REDIS_PORT={port}")
    _check_name(host)
    return host


def may_be_host(host: str) -> bool:
    """Tell whether a name can be looked up: a part that is empty or too long is a UnicodeError to Python."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _check_name(host: str) -> None:
    if not may_be_host(host):
        raise AddressInvalid("no name of a host, nor an address")
    if "," in host:
        raise AddressInvalid("there is more than one host: name one server")
    if not host or any(one.isspace() or one in "/?#[]@:\\\"'<>" or not one.isprintable() for one in host):
        raise AddressInvalid("no name of a host, nor an address")


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _user_of(user_info: str) -> tuple[str | None, str | None]:
    name, colon, password = user_info.partition(":")
    return _decoded(name) or None, (_decoded(password) or None) if colon else None


def _host_of(host_info: str) -> tuple[str, int | None]:
    if host_info.startswith("["):
        host, closed, behind = host_info[1:].partition("]")
        if not closed or not _is_ipv6(host) or (behind and not behind.startswith(":")):
            raise AddressInvalid("what stands in brackets is no IPv6 address")
        return host, _port_of(behind[1:]) if behind else None
    host, colon, port = host_info.partition(":")
    if "," in host_info:
        raise AddressInvalid("there is more than one host: name one server")
    if ":" in port:
        raise AddressInvalid("an IPv6 address stands in brackets: redis://[::1]:6379/0")
    if not host:
        raise AddressInvalid("there is no host in it")
    try:
        host = _decoded(host)
        _check_name(host)
    except AddressInvalid:
        raise AddressInvalid("its host is no name of one, nor an address") from None
    return host, _port_of(port) if colon else None


def _port_of(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 65535:
        raise AddressInvalid(
            "what stands behind the host's colon is no port from 1 to 65535 (a password stands before an @)"
        )
    return int(text)


def _db_of(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise AddressInvalid("its database is no number")
    return int(text)


def _parameters(query: str, scheme: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in query.split("&") if query else ():
        name, equals, text = pair.partition("=")
        if name in {"db", "username", "password"}:
            parse: Callable[[str], Any] = _text
        elif name in _PARAMETERS and (scheme in {"rediss", "valkeys"} or name not in _TLS_PARAMETERS):
            parse = _PARAMETERS[name]
        elif name in _PARAMETERS:
            raise AddressInvalid(f"{name} is of TLS, which this scheme does not speak")
        elif re.fullmatch(r"[a-z_]{1,40}", name):
            # A piece of a password has no such form by chance, or it is no password.
            raise AddressInvalid(f"leave {name} out of it; that is fixed, or there is no such parameter")
        else:
            raise AddressInvalid("behind the ? stands what is no parameter: a ? in a password is %3F")
        if not equals or not text:
            raise AddressInvalid(f"{name} has no value")
        if name in found:
            raise AddressInvalid(f"{name} is there twice")
        try:
            found[name] = parse(_decoded(text))
        except AddressInvalid as error:
            raise AddressInvalid(f"{name}: {error}") from None
    return found


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise AddressInvalid("a % is not followed by two digits: a % of a password is %25")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise AddressInvalid("a percent-encoded part of it is not UTF-8") from None
    if "\0" in decoded:
        raise AddressInvalid("there is a NUL in it")
    return decoded
