"""TLS of the door: certificate, key and clients' authority of files, which are read again when they change.

Each reading makes another context, and a new connection takes the newest: what is open goes on with its own,
and neither half a pair nor a session of an authority that is gone gets into a new one. Files that can't be
used change nothing. They are read twice before that is told: who replaces two files does it one by one.
"""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from services.runtime.small_files import FileUnreadable, read_small

LOOK_S: Final = 1.0
"""Seconds between two looks at the files."""

_Stamp = tuple[int, int, int]


class CertificatesInvalid(Exception):
    """The files can't be used; the message names the setting at fault."""


class Certificates:
    """The certificate of a server, and its key. Raises CertificatesInvalid where they can't be used.

    `client_ca`: who signs the certificates that clients must show; None: they need none.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None, logger: logging.Logger) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._logger = logger
        self._seen = self._stamps()
        self._doubted: tuple[_Stamp | None, ...] | None = None
        self.context = self._read()
        """For a new connection."""

    async def keep_looking(self) -> None:
        """Read them again when they change, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read them again where they have changed; what can't be used at a second look either is told."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        try:
            self.context = self._read()
        except CertificatesInvalid as error:
            if stamps != self._doubted:
                self._doubted = stamps
                return
            told = {"file": str(self._certificate), "error": str(error)}
            self._logger.error("certificate_unusable", extra=told)
        else:
            self._logger.info("certificate_read", extra={"file": str(self._certificate)})
        self._seen, self._doubted = stamps, None

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(
            None if path is None else _stamp(path) for path in (self._certificate, self._key, self._client_ca)
        )

    def _read(self) -> ssl.SSLContext:
        certificate = _text(self._certificate, "HTTP_CERT_FILE")
        key = _text(self._key, "HTTP_KEY_FILE")
        if "-----BEGIN CERTIFICATE-----" not in certificate:
            raise CertificatesInvalid(
                f"HTTP_CERT_FILE={self._certificate}: there is no certificate in it (PEM)"
            )
        if "PRIVATE KEY-----" not in key:
            raise CertificatesInvalid(f"HTTP_KEY_FILE={self._key}: there is no private key in it (PEM)")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without this, openssl would ask for a password on the terminal.
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except _HasPassword:
            raise CertificatesInvalid(
                f"HTTP_KEY_FILE={self._key}: the key has a password; give it without one"
            ) from None
        except (OSError, ValueError) as error:
            raise CertificatesInvalid(self._why(error)) from None
        if self._client_ca is not None:
            self._trust(context, self._client_ca)
        return context

    def _why(self, error: Exception) -> str:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return f"HTTP_KEY_FILE={self._key}: it is not the key of {self._certificate}"
        return f"HTTP_CERT_FILE={self._certificate}, HTTP_KEY_FILE={self._key}: {_reason(error)}"

    @staticmethod
    def _trust(context: ssl.SSLContext, authority: Path) -> None:
        text = _text(authority, "HTTP_CLIENT_CA_FILE")
        try:
            context.load_verify_locations(cadata=text)
        except (OSError, ValueError) as error:
            raise CertificatesInvalid(
                f"HTTP_CLIENT_CA_FILE={authority}: no certificate can be read in it: {_reason(error)}"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED


class _HasPassword(Exception):
    """A key is asked for its password."""


def _no_password() -> str:
    raise _HasPassword


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return reason.replace("_", " ").lower()


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _text(path: Path, setting: str) -> str:
    try:
        text = read_small(path)
    except FileUnreadable as error:
        raise CertificatesInvalid(f"{setting}={path}: {error}") from None
    if text is None:
        raise CertificatesInvalid(f"{setting}={path}: there is no such file")
    return text
