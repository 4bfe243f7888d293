"""The peer of the door for MQTT: paho, and an XADD before each acknowledgement.

`python -m bench.mqtt_peer REDIS_URL PORT CLIENT_ID`, until it is ended.

It is what the documentation of both shows, and keeps the same promise: a message is acknowledged when its
event is in the stream. A payload is read as JSON, and an id is drawn for each event, since the stream has to
have one; nothing is checked, there is no record of what was published, and a repeat is another event.
"""

import json
import sys
import uuid
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from redis import Redis

from bench.broker import connect, session
from bench.stream import KEYS


def run(url: str, port: int, client_id: str) -> None:
    """Take messages for ever."""
    redis = Redis.from_url(url)
    client = session(client_id, manual_ack=True)

    def take(client: Client, _: Any, message: MQTTMessage) -> None:
        zone, device_id, kpi = message.topic.split("/")[1:]
        said = json.loads(message.payload)
        fields: dict[Any, Any] = {
            "event_id": str(uuid.uuid4()), "device_id": device_id, "zone": zone, "ts": said["ts"], "kpi": kpi,
            "value": said["value"],
        }  # fmt: skip
        redis.xadd(KEYS.stream, fields)
        client.ack(message.mid, message.qos)

    client.on_message = take
    connect(client, port)
    client.loop_forever()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[3])
