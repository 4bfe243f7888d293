"""What is answered to which request.

    POST /v1/events                    one event, a list of them, or JSON lines
    POST /api/v2/write   /write        line protocol, as InfluxDB 2 and InfluxDB 1 take it
    GET  /ping   /health               as InfluxDB answers them

An answer of success means that the events are in the stream; before that there is none.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.contract.producing.outgoing import Outgoing
from services.producer.http.answers import Answers, EventAnswers, InfluxAnswers
from services.producer.http.bodies import Body, Memory
from services.producer.http.pages import is_own_name, sent_by_page
from services.producer.http.plain import PlainReader
from services.producer.http.refusals import AWAY_RETRY_S, FULL_RETRY_S, TurnedAway
from services.producer.http.tokens import ANYBODY, Tokens, Writer, given_tokens
from services.producer.rows.pick import Picked
from services.producer.rows.problem import Problem, shown
from services.producer.taking.contexts import traced
from services.producer.taking.desk import Bundle, Desk, Outcome
from services.producer.taking.making import PRECISIONS, JsonMaker, LineMaker, Made, TooMany
from services.runtime.health import Health
from services.runtime.redact import head
from services.runtime.telemetry.metrics import Metrics

_VERSION: Final = "2.7.0"
"""Of InfluxDB: clients look at it to tell how they are to write."""
_DOCUMENT: Final = frozenset({"", "application/json"})
_LINES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
     "application/jsonlines", "application/json-lines"}
)  # fmt: skip
_SMALL: Final = 1 << 14
"""Bytes of a body that is read where it comes in; a larger one goes to another thread meanwhile."""
_MEMORY_BODIES: Final = 8
"""So many bodies of the largest size may be here at once; of small ones, as many as fit."""
_FORM: Final = "application/x-www-form-urlencoded"

_REST_S: Final = 1.0
"""How long what is not wanted is read on, so that a client that is still sending hears the answer."""

_Make = Callable[[bytes], Made]
_Handle = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may be, and how long it may take."""

    body_bytes: int
    events: int
    read_s: float
    wait_s: float


@dataclass(slots=True)
class App:
    """The interfaces, and what they need."""

    desk: Desk
    json: JsonMaker
    plain: PlainReader | None
    """None: the mapping makes something else of them."""
    influx: LineMaker
    tokens: Tokens | None
    """None: any program may write anything."""
    is_for_own_names: bool
    """Whether it is asked by this machine's names alone."""
    limits: Limits
    health: Health
    metrics: Metrics
    logger: logging.Logger
    _memory: Memory = field(init=False)
    _making: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _heard: "_Heard" = field(init=False)

    def __post_init__(self) -> None:
        self._memory = Memory(_MEMORY_BODIES * self.limits.body_bytes)
        self._heard = _Heard()

    def asgi(self) -> ASGIApp:
        """Give it as an ASGI application."""
        ours, second, first = EventAnswers(), InfluxAnswers(2), InfluxAnswers(1)
        routes: dict[str, tuple[Collection[str], _Handle]] = {
            "/v1/events": ({"POST"}, self._answering("events", ours, self._events)),
            "/api/v2/write": ({"POST"}, self._answering("influx", second, self._lines)),
            "/write": ({"POST"}, self._answering("influx", first, self._lines)),
            "/ping": ({"GET", "HEAD"}, self._answering("other", first, self._ping)),
            "/health": ({"GET", "HEAD"}, self._answering("other", second, self._health)),
        }

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            methods, handle = routes.get(scope["path"].rstrip("/"), ((), None))
            if handle is None or scope["method"] not in methods:
                response = await self._no_such(request, sorted(methods))
            else:
                response = await handle(request)
            await response(scope, receive, send)

        return answer

    def _answering(
        self, endpoint: str, answers: Answers, handle: Callable[[Request, Answers], Awaitable[Response]]
    ) -> _Handle:
        """Make a handler that answers whatever happens, and counts it."""

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request, answers)
            except TurnedAway as turned_away:
                if turned_away.field:
                    self._count_refused([turned_away.field])
                response = await _turned_away(request, answers, turned_away)
            except ClientDisconnect:
                response = Response(status_code=400)  # nobody is there to read it
            except Exception as error:
                # A mistake of ours must not cost the others who send: it is one answer, and it is told.
                told = {"endpoint": endpoint, "error": str(error)}
                self.logger.error("request_failed", extra=told, exc_info=error)
                refusal = TurnedAway(503, "this request can't be answered; the log says why")
                response = await _turned_away(request, answers, refusal)
            self.metrics.count(
                "telemetry_http_requests_total", endpoint=endpoint, code=str(response.status_code)
            )
            return response

        return answer

    async def _no_such(self, request: Request, methods: list[str]) -> Response:
        """Answer that there is nothing here, or not by this method."""
        message = "there is POST /v1/events, /api/v2/write and /write, GET /ping and /health"
        if methods:
            message = f"{shown(request.method, 20)}: use {' or '.join(methods)} here"
        refusal = TurnedAway(405 if methods else 404, message)
        self.metrics.count("telemetry_http_requests_total", endpoint="other", code=str(refusal.status))
        response = await _turned_away(request, EventAnswers(), refusal)
        if methods:
            response.headers["Allow"] = ", ".join(methods)
        return response

    async def _ping(self, _: Request, __: Answers) -> Response:
        return Response(
            status_code=204, headers={"X-Influxdb-Version": _VERSION, "X-Influxdb-Build": "telemetry"}
        )

    async def _health(self, _: Request, answers: Answers) -> Response:
        if self.health.why("redis"):
            return answers.turned_away(TurnedAway(503, "the broker is away", retry_after_s=AWAY_RETRY_S))
        return Response(
            '{"name":"influxdb","message":"ready for queries and writes","status":"pass","checks":[],'
            f'"version":"{_VERSION}"}}\n',
            media_type="application/json",
        )

    async def _events(self, request: Request, answers: Answers) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _DOCUMENT | _LINES:
            hint = "; curl sends it by itself: use --json, or -H" if kind == _FORM else ""
            raise TurnedAway(
                415, f"content-type {head(kind, 60)!a}: application/json or application/x-ndjson{hint}"
            )
        if kind in _LINES:
            return await self._take(request, answers, self.json.lines)
        # A context goes into each event.
        is_plain = self.plain is not None and "traceparent" not in request.headers
        return await self._take(request, answers, self._document if is_plain else self.json.document)

    def _document(self, data: bytes) -> Made:
        """Make events of a document, all at once where they are plain. Raises Problem and TooMany."""
        ready = None if self.plain is None else self.plain.read(data)
        return self.json.document(data) if ready is None else Made(len(ready), ready=ready)

    async def _lines(self, request: Request, answers: Answers) -> Response:
        precision = request.query_params.get("precision", "ns") or "ns"
        if precision not in PRECISIONS:
            raise TurnedAway(400, f"precision {head(precision, 20)!a}: ns, us, ms or s", field="ts")
        return await self._take(request, answers, lambda data: self.influx.lines(data, precision))

    async def _take(self, request: Request, answers: Answers, make: _Make) -> Response:
        """Read a request, and answer it when its events are in the stream."""
        headers = request.headers
        writer = self._writer(request)
        if self.health.why("redis"):
            raise TurnedAway(503, "the broker is away; send it again", retry_after_s=AWAY_RETRY_S)
        with Body(self._memory, self.limits.body_bytes) as body:
            data = await body.read(
                request.stream(),
                headers.get("content-encoding", "").strip().lower(),
                headers.get("content-length", ""),
                self.limits.read_s,
            )
            started = time.monotonic()
            made = await self._made(make, data)
            self._allow(writer, made)
            if made.refused_fields:
                self._count_refused(made.refused_fields)
                if not made.good:
                    return answers.nothing_good(made)
            if made.good:
                with_context = traced(headers.get("traceparent", ""), headers.get("tracestate", ""))
                await self._publish(made.ready or [with_context(one) for _, one in made.events])
                self.metrics.observe("telemetry_http_publish_duration_seconds", time.monotonic() - started)
        return answers.taken(made)

    def _writer(self, request: Request) -> Writer:
        if self.tokens is None:
            self._turn_pages_away(request)
            return ANYBODY
        query = request.query_params
        given = given_tokens(request.headers.get("authorization", ""), query.get("u"), query.get("p"))
        for token in given:
            if (writer := self.tokens.writer(token)) is not None:
                return writer
        raise TurnedAway(
            401,
            "no such token" if given else "a token is needed: Authorization: Bearer TOKEN",
            field="token",
        )

    def _turn_pages_away(self, request: Request) -> None:
        if page := sent_by_page(request.headers):
            raise TurnedAway(
                403, f"a web page sends this ({page}): pages need a token, so set HTTP_TOKENS_FILE"
            )
        host = request.headers.get("host", "")
        if self.is_for_own_names and not is_own_name(host):
            raise TurnedAway(
                403,
                f"Host: {shown(host, 60)}: without tokens write localhost or an address there, or set "
                "HTTP_TOKENS_FILE, or ANONYMOUS=true",
            )

    async def _made(self, make: _Make, data: bytes) -> Made:
        try:
            if len(data) <= _SMALL:
                return make(data)
            async with self._making:
                return await asyncio.to_thread(make, data)
        except Problem as problem:
            raise TurnedAway(400, str(problem), field="body") from None
        except TooMany:
            raise TurnedAway(
                413,
                f"more than {self.limits.events:,} events (HTTP_MAX_EVENTS), or far more values than those; "
                "send them in parts",
                field="body",
            ) from None

    def _allow(self, writer: Writer, made: Made) -> None:
        if not (writer.devices or writer.zones):
            return
        for position, device_id, zone in made.labels():
            if not writer.may_write(device_id, zone):
                raise TurnedAway(
                    403,
                    f"event {position}: this token may not write device_id {shown(device_id, 60)} in zone "
                    f"{shown(zone, 60)}; nothing of the request is published",
                    field="token",
                )

    async def _publish(self, events: Sequence[Picked | Outgoing]) -> None:
        """Have events published. Raises TurnedAway where they are not, or nobody knows."""
        settled: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        bundle = Bundle(events, functools.partial(self._heard.put, settled))
        outcome: Outcome = "away"
        if self.desk.hand_in(bundle):
            try:
                async with asyncio.timeout(self.limits.wait_s):
                    outcome = await settled
            except TimeoutError:
                pass
            finally:
                bundle.is_withdrawn = True
        if outcome == "full":
            raise TurnedAway(
                429,
                "the stream is full until consumers catch up; send it again",
                retry_after_s=FULL_RETRY_S,
            )
        if outcome == "away":
            raise TurnedAway(
                503, "the broker has not confirmed it; send it again", retry_after_s=AWAY_RETRY_S
            )

    def _count_refused(self, fields: list[str]) -> None:
        for one in fields:
            self.metrics.count("telemetry_http_refused_events_total", field=one or "form")


async def _turned_away(request: Request, answers: Answers, refusal: TurnedAway) -> Response:
    """Answer that nothing is taken, once what is still being sent is read over."""
    try:
        async with asyncio.timeout(_REST_S):
            async for _ in request.stream():
                pass
    except TimeoutError:
        refusal.closes = True
    except (ClientDisconnect, RuntimeError):
        pass  # nobody sends any more: it went away, or all of it was read before
    return answers.turned_away(refusal)


class _Heard:
    """What the thread that publishes has told, for requests that wait; the server is woken once for many."""

    def __init__(self) -> None:
        self._told: deque[tuple[asyncio.Future[Outcome], Outcome]] = deque()
        self._is_woken = False

    def put(self, settled: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
        """Tell what became of a request. For the thread that publishes."""
        self._told.append((settled, outcome))
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(RuntimeError):  # the server has ended: nobody waits any more
                settled.get_loop().call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        self._is_woken = False  # before it looks: what is told from here on wakes it again
        while self._told:
            settled, outcome = self._told.popleft()
            if not settled.done():
                settled.set_result(outcome)
