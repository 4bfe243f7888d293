"""The OpenAPI document of the door, as its settings make it. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from services import __version__
from services.contract.event import MAX_LABEL_CHARS
from services.producer.taking.making import MOST_NAMED, PRECISIONS
from services.runtime.settings import ProducerSettings

_ANY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - it is read, not bound
_TURNED_AWAY: Final[Mapping[str, str]] = {
    "400": "Nothing was good, or the whole could not be read",
    "401": "A token is needed, or nobody has this one",
    "403": "The token may not write one of the devices or zones, or a web page has none",
    "408": "The request was too slow (HTTP_READ_TIMEOUT_S)",
    "413": "The body is too large (HTTP_MAX_BODY_BYTES), or has too many events (HTTP_MAX_EVENTS)",
    "415": "Another Content-Type or Content-Encoding",
    "429": "The stream is full, or too much is being sent at once: nothing is published. Send it again",
    "503": "The broker is away, or has not confirmed it (HTTP_WAIT_S): perhaps published. Send it again",
}
_RETRIED: Final = frozenset({"429", "503"})
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds after which to send it again", "schema": {"type": "integer"}}
}
_NUMBER: Final = ["number", "string"]

_Schema = Mapping[str, Any]


def document(settings: ProducerSettings) -> dict[str, Any]:
    """Describe what is answered to which request."""
    needs_token = bool(settings.http_tokens_file)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Events by HTTP",
            "version": __version__,
            "description": "An answer of success means that the events are in the stream. "
            "Who has none, or another one, sends again: an event with a time of its own is no second row.",
        },
        "servers": [_server(settings)],
        "paths": {
            "/v1/events": {"post": _events(settings)},
            "/api/v2/write": {"post": _lines("writeV2", "as InfluxDB 2 takes it", "ErrorV2")},
            "/write": {"post": _lines("writeV1", "as InfluxDB 1 takes it", "Error")},
            "/ping": {"get": _look("ping", "Whether it is there", {"204": {"description": "It is"}})},
            "/health": {
                "get": _look(
                    "health",
                    "Whether it can publish",
                    {
                        "200": _answer("It can", "Health"),
                        "503": _answer(_TURNED_AWAY["503"], "ErrorV2", headers=_RETRY_AFTER),
                    },
                )
            },
        },
        "components": {"schemas": _schemas(settings)},
    }
    if needs_token:
        found["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic", "description": "The token as password, any name"},
            "influx": {
                "type": "apiKey", "in": "header", "name": "Authorization", "description": "`Token TOKEN`",
            },
        }  # fmt: skip
        found["security"] = [{"bearer": []}, {"basic": []}, {"influx": []}]
    return found


def _server(settings: ProducerSettings) -> dict[str, Any]:
    scheme = "https" if settings.http_cert_file else "http"
    host = "localhost" if settings.http_host in _ANY_ADDRESS else settings.http_host
    return {
        "url": f"{scheme}://{{host}}:{settings.http_port}",
        "variables": {"host": {"default": f"[{host}]" if ":" in host else host}},
    }


def _events(settings: ProducerSettings) -> dict[str, Any]:
    lines = {"schema": {"type": "string", "description": "One event on each line"}}
    return {
        "operationId": "publish",
        "summary": "Publish events",
        "description": "One event, a list of them, or one on each line; "
        f"at most {settings.http_max_events:,}.",
        "parameters": [_ENCODING, _TRACEPARENT],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            {"$ref": "#/components/schemas/Event"},
                            {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
                        ]
                    },
                    "example": _example(settings),
                },
                "application/x-ndjson": lines,
            },
        },
        "responses": {
            "200": _answer("All is in the stream", "Published"),
            "207": _answer("What was good is in the stream; the others are named", "Published"),
            **_turned_away("Error", {"400": ("Published", "Error")}),
        },
    }


def _example(settings: ProducerSettings) -> Any:
    if settings.http_mapping_file or not settings.kpis:
        return {}
    name, kpi = next(iter(settings.kpis.items()))
    return {"device_id": "oven-1", "zone": "hall", "kpi": name, "value": kpi.min}


def _lines(operation: str, how: str, error: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": f"Publish line protocol, {how}",
        "description": "Each field that is a number becomes an event. Where some lines are bad, the others "
        "are published, and the answer is 400 and names the bad ones.",
        "parameters": [
            {
                "name": "precision",
                "in": "query",
                "description": "Of the times of the lines",
                "schema": {"type": "string", "enum": list(PRECISIONS), "default": "ns"},
            },
            *(
                {
                    "name": name,
                    "in": "query",
                    "description": "Not heeded",
                    "schema": {"type": "string"},
                }
                for name in (("org", "bucket") if error == "ErrorV2" else ("db", "rp"))
            ),
            _ENCODING,
            _TRACEPARENT,
        ],
        "requestBody": {
            "required": True,
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "climate,device=oven-2,zone=hall temperature=22.5",
                }
            },
        },
        "responses": {"204": {"description": "All is in the stream"}, **_turned_away(error, {})},
    }


def _look(operation: str, summary: str, responses: Mapping[str, Any]) -> dict[str, Any]:
    return {"operationId": operation, "summary": summary, "security": [], "responses": dict(responses)}


def _turned_away(error: str, other: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    return {
        status: _answer(
            meaning, *other.get(status, (error,)), headers=_RETRY_AFTER if status in _RETRIED else None
        )
        for status, meaning in _TURNED_AWAY.items()
    }


def _answer(meaning: str, *schemas: str, headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    named = [{"$ref": f"#/components/schemas/{one}"} for one in schemas]
    answer: dict[str, Any] = {
        "description": meaning,
        "content": {"application/json": {"schema": named[0] if len(named) == 1 else {"anyOf": named}}},
    }
    if headers:
        answer["headers"] = dict(headers)
    return answer


_ENCODING: Final = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "How the body is packed",
    "schema": {"type": "string", "enum": ["gzip", "identity"]},
}
_TRACEPARENT: Final = {
    "name": "traceparent",
    "in": "header",
    "description": "W3C Trace Context; where it is sampled, the events are in its trace",
    "schema": {"type": "string"},
}


def _schemas(settings: ProducerSettings) -> dict[str, _Schema]:
    label = {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARS}
    event: _Schema = {
        "type": "object",
        "required": ["device_id", "zone", "kpi", "value"],
        "properties": {
            "device_id": label,
            "zone": label,
            "kpi": {"type": "string", "description": _kpis(settings)},
            "value": {
                "type": [*_NUMBER, "null"],
                "description": "In the KPI's unit; null: there is no reading",
            },
            "ts": {
                "type": _NUMBER,
                "description": "Unix seconds, or a time with its zone; without it, that of its arrival, and "
                "then a repeat is another event",
            },
            "unit": {"type": "string", "description": "Of the value, where it isn't the KPI's"},
            "event_id": {"type": "string", "format": "uuid", "description": "Only together with ts"},
            "attributes": {
                "type": "object",
                "maxProperties": 16,
                "additionalProperties": {"type": "string"},
            },
        },
    }
    if settings.http_mapping_file:
        event = {"description": "What the mapping reads (HTTP_MAPPING_FILE)"}
    count = {"type": "integer", "minimum": 0}
    return {
        "Event": event,
        "Published": {
            "type": "object",
            "required": ["published"],
            "properties": {
                "published": count,
                "without_reading": {**count, "description": "Events that say that they have none"},
                "refused": count,
                "errors": {
                    "type": "array",
                    "maxItems": MOST_NAMED,
                    "items": {
                        "type": "object",
                        "required": ["position", "field", "reason"],
                        "properties": {
                            "position": {
                                "type": "integer",
                                "minimum": 1,
                                "description": "Of the event or line",
                            },
                            "field": {"type": "string", "description": "Empty where it can't be told"},
                            "reason": {"type": "string"},
                        },
                    },
                },
            },
        },
        "Error": _texts("error"),
        "ErrorV2": _texts("code", "message"),
        "Health": {
            "type": "object",
            "required": ["name", "status"],
            "properties": {
                **{name: {"type": "string"} for name in ("name", "message", "status", "version")},
                "checks": {"type": "array"},
            },
        },
    }


def _kpis(settings: ProducerSettings) -> str:
    return "; ".join(f"{name}: {one.min:g} to {one.max:g} {one.unit}" for name, one in settings.kpis.items())


def _texts(*names: str) -> _Schema:
    return {
        "type": "object",
        "required": list(names),
        "properties": {name: {"type": "string"} for name in names},
    }
