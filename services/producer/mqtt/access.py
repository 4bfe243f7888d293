"""Where the broker is, and who we are there: an address, and files that may change."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from services.runtime.address import host_and_port, may_be_host
from services.runtime.redact import know
from services.runtime.settings import ProducerSettings
from services.runtime.small_files import FileUnreadable, read_small

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_HINT: Final = "write mqtt://host:port, or mqtts://host:port for TLS"
_HOST: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_]))*\.?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%\w+)?"
)


@dataclass(frozen=True, slots=True)
class Access:
    """How the broker is reached."""

    host: str
    port: int
    is_tls: bool
    username_file: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def place(self) -> str:
        """Name the broker for a person."""
        return f"{'mqtts' if self.is_tls else 'mqtt'}://{host_and_port(self.host, self.port)}"

    def credentials(self) -> tuple[str, str | None] | None:
        """Read user and password; None without a user. Raises OSError, which names the setting."""
        if not self.username_file:
            return None
        username = _read("MQTT_USERNAME_FILE", self.username_file)
        if not self.password_file:
            return username, None
        password = _read("MQTT_PASSWORD_FILE", self.password_file)
        know(password)
        return username, password

    def context(self) -> ssl.SSLContext | None:
        """Make what TLS needs; None without. Raises OSError, which names the setting."""
        if not self.is_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise OSError(f"MQTT_CA_FILE: {_why(error)}") from None
        self.load_certificate(context)
        return context

    def load_certificate(self, context: ssl.SSLContext) -> None:
        """Read our certificate again. Raises OSError, which names the setting."""
        if not self.cert_file:
            return
        try:
            context.load_cert_chain(self.cert_file, self.key_file or None, _no_password)
        except (OSError, ValueError) as error:
            both = "MQTT_CERT_FILE, MQTT_KEY_FILE" if self.key_file else "MQTT_CERT_FILE"
            raise OSError(f"{both}: {_why(error)}") from None


def read_access(settings: ProducerSettings, errors: list[str]) -> Access:
    """Read the settings; what is wrong with them, and with the files, goes into `errors`."""
    host, port, is_tls = _address(settings.mqtt_url, errors)
    files = {
        "MQTT_CA_FILE": settings.mqtt_ca_file,
        "MQTT_CERT_FILE": settings.mqtt_cert_file,
        "MQTT_KEY_FILE": settings.mqtt_key_file,
    }
    given = [name for name, path in files.items() if path]
    if given and not is_tls and host:
        errors.append(f"{', '.join(given)}: only with mqtts:// in MQTT_URL")
    if settings.mqtt_key_file and not settings.mqtt_cert_file:
        errors.append("MQTT_KEY_FILE: only with MQTT_CERT_FILE")
    if settings.mqtt_password_file and not settings.mqtt_username_file:
        errors.append("MQTT_PASSWORD_FILE: only with MQTT_USERNAME_FILE")
    access = Access(
        host, port, is_tls, settings.mqtt_username_file, settings.mqtt_password_file, *files.values()
    )
    for read in (access.credentials, access.context):
        try:
            read()
        except OSError as error:
            errors.append(str(error))
    return access


def _address(url: str, errors: list[str]) -> tuple[str, int, bool]:
    """Give host, port and whether it is TLS. No error tells a piece of it: it may be a password."""
    try:
        found = urlsplit(url)
        host, port = found.hostname or "", found.port
    except ValueError:
        errors.append(f"MQTT_URL: it is no address; {_HINT}")
        return "", 0, False
    if "@" in found.netloc:
        errors.append(
            "MQTT_URL: leave user and password out of it; MQTT_USERNAME_FILE and MQTT_PASSWORD_FILE name "
            "files that hold them"
        )
    elif found.scheme not in _PORTS or not _HOST.fullmatch(host) or not may_be_host(host) or port == 0:
        errors.append(f"MQTT_URL: it is no address of a broker; {_HINT}")
    elif found.path not in {"", "/"} or found.query or found.fragment:
        errors.append(f"MQTT_URL: there is something behind the port; {_HINT}")
    return host, port or _PORTS.get(found.scheme, 0), found.scheme == "mqtts"


def _read(setting: str, path: str) -> str:
    # Its name is not told: it may be the password, put where the name of a file belongs.
    try:
        text = read_small(Path(path))
    except FileUnreadable as error:
        raise OSError(f"{setting}: {error}") from None
    if text is None:
        raise OSError(f"{setting}: there is no such file")
    return text.strip()


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"it can't be used: {error.reason or error}"
    return getattr(error, "strerror", None) or str(error)


def _no_password() -> str:
    # Without one, the library asks on the terminal, and waits.
    raise ValueError("the private key is encrypted, and there is no password for it")
