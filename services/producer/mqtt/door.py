"""The door as a whole: messages go to the desk, and are acknowledged once they are in the stream."""

import functools
import logging
import socket
import threading
from pathlib import Path
from typing import Final

from paho.mqtt.client import MQTTMessage

from services.producer.mapping.keys import build
from services.producer.mapping.mapped import Mapped
from services.producer.mapping.mapping_file import read_mapping_file
from services.producer.mqtt.access import read_access
from services.producer.mqtt.connection import Connection
from services.producer.mqtt.messages import Arrived, MessageMaker, Readings
from services.producer.mqtt.shelf import Message, Shelf, digest_of
from services.producer.mqtt.topics import Template, read_templates
from services.producer.spellings import Spellings
from services.producer.taking.desk import Bundle, Desk, Outcome
from services.producer.taking.making import Rules
from services.runtime.clock import Clock
from services.runtime.health import Health
from services.runtime.redact import head
from services.runtime.settings import ProducerSettings, SettingsInvalid
from services.runtime.telemetry.metrics import Metrics

_MOST_EVENTS: Final = 5000
"""Of one message; they are published in one step."""
_MOST_BYTES: Final = 32 << 20
"""Of all messages in hand; one larger message is taken alone."""
_AWAY_S: Final = 10.0
"""How long the end of a session waits for a broker that is away."""


class Door:
    """Takes messages of a broker, and leaves them at `desk` for the loop.

    What is received and not in the stream is bounded, by number and by bytes. Where that is reached nothing
    more is read, so that the broker keeps it. Raises SettingsInvalid with every error.
    """

    waits = True
    """For room in a full stream, and for the server: the broker keeps the rest meanwhile."""

    def __init__(
        self,
        settings: ProducerSettings,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        logger: logging.Logger,
    ) -> None:
        errors: list[str] = []
        access = read_access(settings, errors)
        templates = read_templates(settings.mqtt_topics, errors)
        mapped = _mapping(settings.mqtt_mapping_file, templates, errors)
        filters = [_shared(one.topic_filter, settings.mqtt_share, errors) for one in templates]
        if errors:
            raise SettingsInvalid(errors)
        self._clock = clock
        self._metrics = metrics
        self._logger = logger
        # Brokers send some more where a session goes on, and those of MQTT 3.1.1 can't be told how many. And
        # where nothing is read, no answer of the broker is read either.
        self._most = 2 * settings.mqtt_max_in_flight
        self.most_events = min(_MOST_EVENTS, settings.stream_max_length or _MOST_EVENTS)
        """Of one message: more than the stream holds would never fit."""
        # KPIs and ranges are the consumer's to judge: nobody is there who could be told.
        rules = Rules(Spellings(settings.kpis), None, settings.max_entry_bytes, self.most_events)
        self._maker = MessageMaker(templates, mapped, rules)
        self.desk = Desk(settings.linger_ms / 1000, clock.monotonic)
        self._connection = Connection(
            access,
            settings.mqtt_client_id or f"telemetry-{socket.gethostname()}",
            settings.mqtt_version,
            filters,
            settings.mqtt_max_in_flight,
            self,
            health,
            metrics,
            logger,
        )
        self._ends_session = settings.mqtt_end_session
        self._changed = threading.Condition(threading.RLock())
        self._shelf = Shelf()
        self._in_hand = 0
        self._bytes_in_hand = 0
        self._received = 0
        self._is_closed = False
        self._received_when_asked = -1
        self._open_until = 0.0
        self._is_drained = False
        self._was_opened = False

    def open(self) -> None:
        """Begin to take messages."""
        self._was_opened = True
        self._connection.start()

    def turn(self) -> None:
        """Look after the connection. Raises RuntimeError where it has failed."""
        self._connection.turn()

    def stop(self) -> None:
        """Take no more, or only what the broker has already, where the session is to end.

        What is in hand is still published, so the desk needs its loop.
        """
        with self._changed:
            if self._ends_session:
                self._open_until = self._clock.monotonic() + _AWAY_S
                self._connection.leave()
            else:
                self._is_closed = True
            self._changed.notify_all()

    @property
    def is_open(self) -> bool:
        """Whether something is in hand, or is still to come, since it was stopped."""
        with self._changed:
            if not self._ends_session or self.desk.is_closed:
                return self._in_hand > 0
            if not self._connection.is_open:
                self._received_when_asked = -1
                return self._clock.monotonic() < self._open_until
            self._open_until = self._clock.monotonic() + _AWAY_S
            if self._in_hand or len(self._shelf) or not self._connection.is_answered:
                return True
            # A broker answers in order: where nothing came between a question and its answer, it has no more.
            self._is_drained = self._received == self._received_when_asked
            if not self._is_drained:
                self._received_when_asked = self._received
                self._connection.leave()
            return not self._is_drained

    def close(self) -> None:
        """End it. What was not acknowledged is the broker's, and comes again."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self.desk.close()
        if not self._was_opened:
            return
        if self._ends_session and not self._is_drained:
            hint = "the broker may have messages for it: start it again with the same MQTT_CLIENT_ID"
            self._logger.warning("mqtt_session_kept", extra={"hint": hint})
        self._connection.close(ends_session=self._is_drained)

    # Called by the connection, in its thread.

    def opened(self, *, is_known: bool) -> None:
        """Hear that the connection is there."""
        with self._changed:
            self._shelf.interrupt()
            if not is_known:
                self._shelf.forget()

    def interrupted(self) -> None:
        """Hear that it is gone."""
        with self._changed:
            self._shelf.interrupt()

    def came(self, message: MQTTMessage) -> None:
        """Take a message: make events of it, and leave them at the desk."""
        started = self._clock.monotonic()
        arrived = _arrived(message, self._clock.now())
        payload = arrived.payload
        one = Message(message.mid, digest_of(arrived.topic, payload), len(arrived.topic) + len(payload))
        with self._changed:
            if self._is_closed:
                return
            self._received += 1
            self._metrics.count(
                "telemetry_mqtt_received_messages_total", delivery="redelivered" if message.dup else "new"
            )
            if message.qos and self._shelf.put(one, is_repeated=message.dup) is not one:
                self._settled("repeated")
                return
            if message.retain:
                one.is_in_stream = True
                self._settled("retained")
                return
            if not self._wait_for_room(one):
                return
            self._count_in_hand(1, one)
        readings = self._readings(arrived)
        if readings.reason:
            self._metrics.count("telemetry_mqtt_refused_messages_total", reason=readings.reason)
        if readings.lag_s is not None:
            self._metrics.observe("telemetry_mqtt_lag_seconds", readings.lag_s)
        settle = functools.partial(self._settle, one, readings.result, started)
        if not readings.events:
            settle("taken")
        elif not self.desk.hand_in(Bundle(readings.events, settle)):
            settle("away")

    def _readings(self, arrived: Arrived) -> Readings:
        try:
            return self._maker.make(arrived)
        except Exception as error:
            # A mistake of ours must not hold up the messages behind it: it is told, and this one is kept.
            self._logger.error(
                "message_failed", extra={"topic": arrived.topic, "error": str(error)}, exc_info=error
            )
            return self._maker.refused(
                arrived, f"it could not be read, for a mistake of ours: {error}", "failed"
            )

    # Called by the thread that publishes, too.

    def _settle(self, one: Message, result: str, started: float, outcome: Outcome) -> None:
        with self._changed:
            self._count_in_hand(-1, one)
            if outcome == "taken":
                one.is_in_stream = True
                self._metrics.observe(
                    "telemetry_mqtt_publish_duration_seconds", self._clock.monotonic() - started
                )
                self._settled(result)
            self._changed.notify_all()

    def _settled(self, outcome: str) -> None:
        self._metrics.count("telemetry_mqtt_settled_messages_total", outcome=outcome)
        for number in self._shelf.take_due():
            self._connection.acknowledge(number)

    def _wait_for_room(self, one: Message) -> bool:
        """Wait until it may be taken in hand; False where nothing is taken any more."""
        self._changed.wait_for(lambda: self._is_closed or self._has_room_for(one))
        return not self._is_closed

    def _has_room_for(self, one: Message) -> bool:
        return self._in_hand == 0 or (
            self._in_hand < self._most and self._bytes_in_hand + one.size <= _MOST_BYTES
        )

    def _count_in_hand(self, by: int, one: Message) -> None:
        self._in_hand += by
        self._bytes_in_hand += by * one.size
        self._metrics.set("telemetry_mqtt_in_flight_messages", self._in_hand)


def _arrived(message: MQTTMessage, at: float) -> Arrived:
    try:
        topic = message.topic
    except UnicodeDecodeError:  # no broker lets one through
        topic = ""
    pairs = getattr(message.properties, "UserProperty", ())
    said = {name: value for name, value in pairs if name in {"traceparent", "tracestate"}}
    return Arrived(topic, bytes(message.payload), at, said.get("traceparent", ""), said.get("tracestate", ""))


def _shared(topic_filter: str, group: str, errors: list[str]) -> str:
    if not group:
        return topic_filter
    wrong = f"MQTT_SHARE: {head(ascii(group), 80)}: a name without /, + and #"
    if set(group) & set("/+#") and wrong not in errors:
        errors.append(wrong)
    return f"$share/{group}/{topic_filter}"


def _mapping(path: str, templates: tuple[Template, ...], errors: list[str]) -> Mapped:
    if not path:
        return Mapped()
    mapped = build(read_mapping_file(Path(path), errors, "MQTT_MAPPING_FILE="), errors)
    if mapped.format not in {None, "json", "senml"}:
        errors.append(f"MQTT_MAPPING_FILE={path}: format {mapped.format}; here it is json or senml")
    if mapped.values and any("kpi" in one.fields for one in templates):
        errors.append(
            f"MQTT_MAPPING_FILE={path}: [values] says which KPI each reading is, and so does {{kpi}} in "
            "MQTT_TOPICS; leave one of them out"
        )
    return mapped
