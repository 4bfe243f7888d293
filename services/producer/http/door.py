"""The door as a whole: opened by the settings, stopped in order."""

import ipaddress
import logging
from pathlib import Path
from typing import Final

from services.producer.http.app import App, Limits
from services.producer.http.certificates import Certificates, CertificatesInvalid
from services.producer.http.plain import PlainReader
from services.producer.http.serving import DoorClosed, Serving, listen, make_room_for
from services.producer.http.tokens import Tokens, TokensInvalid
from services.producer.mapping.keys import build
from services.producer.mapping.mapped import Mapped
from services.producer.mapping.mapping_file import read_mapping_file
from services.producer.spellings import Spellings
from services.producer.taking.desk import Desk
from services.producer.taking.making import JsonMaker, LineMaker, Rules
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings, SettingsInvalid
from services.runtime.telemetry.metrics import Metrics

_END_S: Final = 5.0
"""How long the server may take to end once all is answered."""


class Door:
    """Takes events by HTTP, and leaves them at `desk` for the loop.

    Raises SettingsInvalid with every error.
    """

    waits = False
    """For room in a full stream: they are told, and may come again."""

    def __init__(
        self,
        settings: ProducerSettings,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        logger: logging.Logger,
    ) -> None:
        self._is_stopped = False
        errors: list[str] = []
        tokens = _tokens(settings, clock, logger, errors)
        certificates = _certificates(settings, logger, errors)
        json = _mapping(settings.http_mapping_file, "HTTP_MAPPING_FILE", ("json", "jsonl", "senml"), errors)
        influx = _mapping(settings.influx_mapping_file, "INFLUX_MAPPING_FILE", ("influx",), errors)
        if errors:
            raise SettingsInvalid(errors)
        self.most_events = min(
            settings.http_max_events, settings.stream_max_length or settings.http_max_events
        )
        """Of one request: more than the stream holds would never fit."""
        rules = Rules(
            Spellings(settings.kpis),
            settings.kpis if settings.http_check_kpis else None,
            settings.max_entry_bytes,
            self.most_events,
        )
        limits = Limits(
            settings.http_max_body_bytes, self.most_events, settings.http_read_timeout_s, settings.http_wait_s
        )
        self.desk = Desk(settings.linger_ms / 1000, clock.monotonic)
        app = App(
            self.desk,
            JsonMaker(json, rules),
            PlainReader(rules) if json == Mapped() else None,
            LineMaker(influx, rules),
            tokens,
            not (settings.anonymous or settings.http_client_ca_file),
            limits,
            health,
            metrics,
            logger,
        )
        try:
            make_room_for(settings.http_connections)
        except DoorClosed as error:
            raise SettingsInvalid([f"HTTP_CONNECTIONS={settings.http_connections}: {error}"]) from None
        try:
            listening = listen(settings.http_host, settings.http_port)
        except DoorClosed as error:
            raise SettingsInvalid(
                [f"HTTP_HOST={settings.http_host}, HTTP_PORT={settings.http_port}: {error}"]
            ) from None
        self._serving = Serving(
            app.asgi(),
            listening,
            metrics,
            logger,
            certificates=certificates,
            connections=settings.http_connections,
            read_s=settings.http_read_timeout_s,
            end_s=settings.http_read_timeout_s + settings.http_wait_s,
        )

    def open(self) -> None:
        """Let them in."""
        self._serving.start()

    def turn(self) -> None:
        """Look after the server. Raises RuntimeError where it has failed."""
        if not (self._is_stopped or self._serving.is_open):
            raise RuntimeError("the server has ended by itself")

    def stop(self) -> None:
        """Take no more requests. Those that have begun are still answered, so the desk needs its loop."""
        self._is_stopped = True
        self._serving.stop()

    @property
    def is_open(self) -> bool:
        """Whether a request may still leave events at the desk."""
        return self._serving.is_open

    def close(self) -> None:
        """End it, whatever waits: it is given back."""
        self.stop()
        self.desk.close()
        self._serving.join(_END_S)


def _tokens(
    settings: ProducerSettings, clock: Clock, logger: logging.Logger, errors: list[str]
) -> Tokens | None:
    if settings.http_tokens_file:
        if settings.anonymous:
            errors.append("ANONYMOUS=true and HTTP_TOKENS_FILE: with the first, anybody may send; take one")
        try:
            return Tokens(Path(settings.http_tokens_file), logger, clock.monotonic)
        except TokensInvalid as error:
            errors.append(f"HTTP_TOKENS_FILE={settings.http_tokens_file}: {error}")
    elif not (settings.anonymous or settings.http_client_ca_file or _is_own(settings.http_host)):
        errors.append(
            f"HTTP_HOST={settings.http_host}: others can reach it, so say who may send (HTTP_TOKENS_FILE, or "
            "certificates by HTTP_CLIENT_CA_FILE), or let anybody (ANONYMOUS=true)"
        )
    return None


def _certificates(
    settings: ProducerSettings, logger: logging.Logger, errors: list[str]
) -> Certificates | None:
    certificate, key = settings.http_cert_file, settings.http_key_file
    if bool(certificate) != bool(key):
        errors.append("HTTP_CERT_FILE and HTTP_KEY_FILE: TLS needs both")
    elif certificate:
        client_ca = Path(settings.http_client_ca_file) if settings.http_client_ca_file else None
        try:
            return Certificates(Path(certificate), Path(key), client_ca, logger)
        except CertificatesInvalid as error:
            errors.append(str(error))
    elif settings.http_client_ca_file:
        errors.append("HTTP_CLIENT_CA_FILE: clients show certificates in TLS alone; set HTTP_CERT_FILE too")
    return None


def _is_own(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mapping(path: str, setting: str, formats: tuple[str, ...], errors: list[str]) -> Mapped:
    if not path:
        return Mapped()
    mapped = build(read_mapping_file(Path(path), errors, f"{setting}="), errors)
    if mapped.format is not None and mapped.format not in formats:
        errors.append(f"{setting}={path}: format {mapped.format}; here it is {' or '.join(formats)}")
    return mapped
