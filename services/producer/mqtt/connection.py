"""The connection to the broker: opened again whenever it breaks, with the session that the broker keeps.

paho reads and calls back in a thread of its own. Messages are acknowledged by us, and never by it.
"""

import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from services.producer.mqtt.access import Access
from services.runtime.health import Health
from services.runtime.telemetry.metrics import Metrics

_QOS: Final = 1
_KEEPALIVE_S: Final = 60
_FIRST_PAUSE_S: Final = 1
_LONGEST_PAUSE_S: Final = 30
_CONNECT_S: Final = 5.0
_END_S: Final = 5.0
"""How long what is still to be sent may take at the end."""
_AGAIN_S: Final = 5.0
"""Pause before a subscription that was refused is asked for again."""
_FOR_EVER_S: Final = 0xFFFF_FFFF
"""How long a broker keeps a session, in MQTT 5."""
_NO_RETAINED: Final = SubscribeOptions.RETAIN_DO_NOT_SEND
_DROPPED: Final = "$SYS/broker/publish/messages/dropped"
_STORED: Final = "$SYS/broker/store/messages/count"
_RETAINED: Final = "$SYS/broker/retained messages/count"
"""Where Mosquitto says what it has dropped, and what it holds."""


class Listener(Protocol):
    """Who hears of the connection, in its thread."""

    def opened(self, *, is_known: bool) -> None:
        """Hear that it is there; `is_known`: the broker has the session of before."""
        ...

    def interrupted(self) -> None:
        """Hear that it is gone: nothing can be acknowledged until it is there again."""
        ...

    def came(self, message: MQTTMessage) -> None:
        """Take a message."""
        ...


class _Client(Client):
    """A client that says when its thread is over."""

    def __init__(self, client_id: str, version: str, *, is_clean: bool = False) -> None:
        is_v5 = version == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if is_v5 else is_clean,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        self.connect_timeout = _CONNECT_S
        self.reconnect_delay_set(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self.on_socket_open = _send_at_once
        self.is_over = threading.Event()
        self.failure: BaseException | None = None

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> Any:
        """Read and write until told to end."""
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.is_over.set()


def _send_at_once(_client: Client, _data: Any, opened: Any) -> None:
    """Let no acknowledgement wait until the broker has confirmed the one before, which takes it 40 ms."""
    with contextlib.suppress(OSError):  # it is gone already, as will be heard
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Connection:
    """The connection of one session."""

    def __init__(
        self,
        access: Access,
        client_id: str,
        version: str,
        filters: Sequence[str],
        most_in_flight: int,
        listener: Listener,
        health: Health,
        metrics: Metrics,
        logger: logging.Logger,
    ) -> None:
        self._access = access
        self._client_id = client_id
        self._version = version
        self._filters = list(filters)
        self._most_in_flight = most_in_flight
        self._listener = listener
        self._health = health
        self._metrics = metrics
        self._logger = logger
        self._context = access.context()
        self._is_ending = False
        self._is_leaving = False
        self._is_told = False
        """Whether it was told what is wrong with this attempt."""
        self._session = ""
        self._asked = 0
        self._ask_again_at = 0.0
        self._unanswered: set[int] = set()
        self._said: dict[str, int] = {}
        """What the broker says of itself, by topic."""
        self.is_open = False
        """Whether the broker has taken us in, and nothing is wrong with the connection since."""
        self._client = self._new_client()

    def start(self) -> None:
        """Begin to connect."""
        self._health.fail("mqtt", "not connected yet")
        self._metrics.set("telemetry_mqtt_connected", 0)
        client = self._client
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_message = self._on_message
        self._connect(client, _FOR_EVER_S)
        client.loop_start()

    def turn(self) -> None:
        """Look after it. Raises RuntimeError where its thread has failed."""
        if self._client.failure is not None:
            raise RuntimeError("the client of MQTT has failed") from self._client.failure
        if self._ask_again_at and time.monotonic() >= self._ask_again_at and self.is_open:
            self._ask_again_at = 0.0
            self._subscribe()

    def acknowledge(self, number: int) -> None:
        """Acknowledge a message that came by the connection that is open now."""
        self._client.ack(number, _QOS)

    def leave(self) -> None:
        """Ask for no more messages: what the broker has for us already still comes."""
        self._is_leaving = True
        if self.is_open:
            _, number = self._client.unsubscribe(self._filters)
            if number is not None:
                self._unanswered.add(number)

    @property
    def is_answered(self) -> bool:
        """Whether the broker has answered all that `leave` has asked it."""
        return self.is_open and not self._unanswered

    def close(self, *, ends_session: bool) -> None:
        """Send what is still to be sent, and end it. The broker keeps the session, or ends it too."""
        self._is_ending = True
        properties = None
        if ends_session and self._version == "5":
            properties = _properties(PacketTypes.DISCONNECT)
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.is_over.wait(_END_S)
        if ends_session and self._version != "5":
            self._forget()
        self.is_open = False
        self._metrics.set("telemetry_mqtt_connected", 0)

    def _new_client(self, *, is_clean: bool = False) -> _Client:
        client = _Client(self._client_id, self._version, is_clean=is_clean)
        client.on_pre_connect = self._on_pre_connect
        if self._context is not None:
            client.tls_set_context(self._context)
        return client

    def _connect(self, client: _Client, kept_s: int) -> None:
        if self._version == "5":
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = kept_s
            properties.ReceiveMaximum = self._most_in_flight
            client.connect_async(
                self._access.host, self._access.port, _KEEPALIVE_S, clean_start=False, properties=properties
            )
        else:
            client.connect_async(self._access.host, self._access.port, _KEEPALIVE_S)

    def _forget(self) -> None:
        """End the session of MQTT 3.1.1: whoever connects once without one ends it."""
        client = self._new_client(is_clean=True)
        is_there = threading.Event()
        client.on_connect = lambda *_: is_there.set()
        self._connect(client, 0)
        client.loop_start()
        is_there.wait(_END_S)
        client.disconnect()
        client.is_over.wait(_END_S)

    def _subscribe(self) -> None:
        filters: list[Any] = [
            (one, SubscribeOptions(_QOS, retainHandling=_NO_RETAINED) if self._version == "5" else _QOS)
            for one in self._filters
        ]
        self._asked = self._client.subscribe(filters)[1] or 0
        self._client.subscribe([(topic, 0) for topic in (_DROPPED, _STORED, _RETAINED)])

    # Called by paho, in its thread.

    def _on_pre_connect(self, client: Client, _: Any) -> None:
        """Read again what may have changed. Raises OSError: then it tries again later."""
        self._is_told = False
        if (credentials := self._access.credentials()) is not None:
            client.username_pw_set(*credentials)
        if self._context is not None:
            self._access.load_certificate(self._context)

    def _on_connect(
        self, _: Client, __: Any, flags: ConnectFlags, reason: ReasonCode, ___: Properties | None
    ) -> None:
        if reason.is_failure:
            hint = "; try MQTT_VERSION=3.1.1" if "rotocol" in str(reason) and self._version == "5" else ""
            self._refused(f"it does not let us in: {reason}{hint}")
            self._is_told = True
            return
        self._unanswered.clear()
        self._is_told = False
        self._session = "known" if flags.session_present else "new"
        self._listener.opened(is_known=flags.session_present)
        self.is_open = True
        if self._is_leaving:
            self.leave()
        else:
            self._subscribe()

    def _on_connect_fail(self, _: Client, __: Any) -> None:
        self._unavailable(_why(sys.exc_info()[1]))

    def _on_disconnect(
        self, _: Client, __: Any, flags: DisconnectFlags, reason: ReasonCode, ___: Properties | None
    ) -> None:
        was_open, self.is_open = self.is_open, False
        self._listener.interrupted()
        if self._is_ending or self._is_told:
            return
        by = "the broker ended the connection" if flags.is_disconnect_packet_from_server else "it broke"
        hint = "; another client has our MQTT_CLIENT_ID" if "taken over" in str(reason) else ""
        if not was_open:
            # A broker that wants a certificate says so behind the handshake, or says nothing.
            by, hint = "the connection broke before it let us in", "; see MQTT_URL, MQTT_CERT_FILE"
        self._unavailable(f"{by}: {reason}{hint}")

    def _on_subscribe(
        self, _: Client, __: Any, number: int, reasons: list[ReasonCode], ___: Properties | None
    ) -> None:
        if number != self._asked:
            return
        for topic_filter, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure or reason.value < _QOS:
                what = str(reason) if reason.is_failure else "it grants QoS 0 only, which confirms nothing"
                self._refused(f"no subscription to {topic_filter}: {what}")
                self._ask_again_at = time.monotonic() + _AGAIN_S
                return
        self._health.clear("mqtt")
        self._metrics.set("telemetry_mqtt_connected", 1)
        told = {"broker": self._access.place, "client_id": self._client_id, "session": self._session}
        self._logger.info("mqtt_connected", extra=told)

    def _on_unsubscribe(
        self, _: Client, __: Any, number: int, ___: list[ReasonCode], ____: Properties | None
    ) -> None:
        self._unanswered.discard(number)

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        if message.qos == 0 and message.topic in {_DROPPED, _STORED, _RETAINED}:
            text = message.payload[:20].decode(errors="replace").strip()
            if text.isascii() and text.isdigit():
                self._broker_said(message.topic, int(text))
            return
        self._listener.came(message)

    def _broker_said(self, topic: str, figure: int) -> None:
        if topic == _DROPPED:
            self._metrics.set("telemetry_mqtt_broker_dropped_messages", figure)
            return
        self._said[topic] = figure
        if len(self._said) == 2:
            waiting = self._said[_STORED] - self._said[_RETAINED]  # said one after the other
            self._metrics.set("telemetry_mqtt_broker_waiting_messages", max(0, waiting))

    def _refused(self, error: str) -> None:
        self._logger.error("mqtt_refused", extra=self._fail(error))

    def _unavailable(self, error: str) -> None:
        self._logger.error("mqtt_unavailable", extra=self._fail(error))

    def _fail(self, error: str) -> dict[str, str]:
        self._metrics.set("telemetry_mqtt_connected", 0)
        self._health.fail("mqtt", error)
        return {"broker": self._access.place, "error": error}


def _properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _why(error: BaseException | None) -> str:
    """Say why a connection could not be made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted: {error.verify_message}; see MQTT_CA_FILE"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}; see MQTT_URL, MQTT_CERT_FILE"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
