"""Waiting for a server: how long, and what ends it. The servers are sockets of the test."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis

from services.brokers.redis.server.attention import Attention
from services.brokers.redis.server.connection import connect
from services.runtime.settings import ConsumerSettings

TIMEOUT_S = 1.0
LAST_WAIT_S = 1.2
ROOM_S = 1.0
"""What a busy machine may add."""


class Host:
    """Takes connections, and does with each what it was told."""

    def __init__(self, serve: Callable[[socket.socket], None], backlog: int = 16) -> None:
        self._serve = serve
        self.ends = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self._taken: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        port = int(self._listener.getsockname()[1])
        self.settings = ConsumerSettings(redis_host="127.0.0.1", redis_port=port, redis_timeout_s=TIMEOUT_S)
        if backlog:
            self._spawn(self._accept)

    def close(self) -> None:
        self.ends.set()
        # A blocked accept() does not hear that its socket is closed.
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        for thread in self._threads[:1]:
            thread.join(timeout=5)
        self._listener.close()
        for one in self._taken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ends.is_set():
            taken, _ = self._listener.accept()
            self._taken.append(taken)
            self._spawn(self._answer, taken)

    def _answer(self, taken: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._serve(taken)


Serve = Callable[[Callable[[socket.socket], None]], Host]


@pytest.fixture
def host() -> Iterator[Callable[..., Host]]:
    """Start hosts."""
    started: list[Host] = []

    def start(serve: Callable[[socket.socket], None], backlog: int = 16) -> Host:
        started.append(Host(serve, backlog))
        return started[-1]

    yield start
    for one in started:
        one.close()


def drip(reply: bytes, piece: int, pause_s: float) -> Callable[[socket.socket], None]:
    """Send an answer in pieces."""

    def serve(taken: socket.socket) -> None:
        while taken.recv(65536):
            for at in range(0, len(reply), piece):
                taken.sendall(reply[at : at + piece])
                time.sleep(pause_s)

    return serve


def silent(taken: socket.socket) -> None:
    while taken.recv(65536):
        pass


def never_reads(taken: socket.socket) -> None:
    del taken


def took(ask: Callable[[], object]) -> float:
    """Ask for an answer that does not come, and tell how long it was waited for."""
    began = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        ask()
    return time.monotonic() - began


@pytest.mark.parametrize("pause_s", [0.02, 0.3], ids=["often", "seldom"])
def test_an_answer_that_drips_has_one_deadline(host: Callable[..., Host], pause_s: float) -> None:
    """However often a byte of it comes."""
    one = host(drip(b"$100000\r\n" + bytes(100_000) + b"\r\n", 1, pause_s))
    with contextlib.closing(connect(one.settings)) as client:
        assert TIMEOUT_S <= took(lambda: client.get("a")) < TIMEOUT_S + ROOM_S


def test_the_deadline_is_of_all_answers_to_what_was_sent(host: Callable[..., Host]) -> None:
    """A pipeline of many commands has no deadline for each."""
    one = host(drip(b"+OK\r\n", 1, 0.1))
    with contextlib.closing(connect(one.settings)) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(50):
            pipeline.set("a", number)
        assert TIMEOUT_S <= took(pipeline.execute) < TIMEOUT_S + ROOM_S


def test_each_question_has_the_whole_time(host: Callable[..., Host]) -> None:
    """However old the connection is."""
    one = host(drip(b"+PONG\r\n", 4, 0.3))
    with contextlib.closing(connect(one.settings)) as client:
        for _ in range(4):
            assert client.ping()
            time.sleep(0.3)


def test_a_long_answer_may_take_longer(host: Callable[..., Host]) -> None:
    """At the pace of a slow network, it is twice the timeout on its way."""
    reply = b"$200000\r\n" + bytes(200_000) + b"\r\n"
    one = host(drip(reply, 10_000, 0.1))
    with contextlib.closing(connect(one.settings)) as client:
        began = time.monotonic()
        assert client.get("a") == bytes(200_000)
        assert time.monotonic() - began > TIMEOUT_S


def test_who_was_asked_to_stop_waits_a_second_and_then_no_more(host: Callable[..., Host]) -> None:
    """The first wait in vain is the last: all clients of the process know of it."""
    one = host(silent)
    settings = replace(one.settings, redis_timeout_s=30.0)
    stopping = threading.Event()
    attention = Attention(stopping.is_set)
    with (
        contextlib.closing(connect(settings, attention=attention)) as client,
        contextlib.closing(connect(settings, attention=attention)) as other,
    ):
        timer = threading.Timer(0.3, stopping.set)
        timer.start()
        assert 0.3 + LAST_WAIT_S <= took(client.ping) < 0.3 + LAST_WAIT_S + ROOM_S
        timer.join()
        assert took(client.ping) < 0.5
        assert took(other.ping) < 0.5


def test_who_was_asked_to_stop_gets_the_answers_that_come(host: Callable[..., Host]) -> None:
    """A server that answers is served to the end: what is in hand is acknowledged."""
    one = host(drip(b"+PONG\r\n", 7, 0.05))
    with contextlib.closing(connect(one.settings, attention=Attention(lambda: True))) as client:
        for _ in range(5):
            assert client.ping()


def test_what_can_not_be_sent_is_not_sent_for_ever(host: Callable[..., Host]) -> None:
    """The server reads nothing: the timeout ends it, or the second after we were asked to stop."""
    one = host(never_reads)
    large = bytes(64 << 20)
    with contextlib.closing(connect(one.settings)) as client:
        assert TIMEOUT_S <= took(lambda: client.set("a", large)) < TIMEOUT_S + 2 * ROOM_S
    settings = replace(one.settings, redis_timeout_s=30.0)
    with contextlib.closing(connect(settings, attention=Attention(lambda: True))) as client:
        assert took(lambda: client.set("a", large)) < LAST_WAIT_S + 2 * ROOM_S


@pytest.mark.parametrize("tls", [False, True])
def test_a_host_that_takes_no_connection_is_not_waited_for(host: Callable[..., Host], tls: bool) -> None:
    """Its queue is full; or it takes the connection, and shakes no hands."""
    one = host(silent) if tls else host(silent, backlog=0)
    settings = replace(one.settings, redis_tls=tls)
    with contextlib.ExitStack() as stack:
        if not tls:
            address = ("127.0.0.1", settings.redis_port)
            for _ in range(4):  # fill the queue
                filler = stack.enter_context(contextlib.closing(socket.socket()))
                filler.setblocking(False)
                filler.connect_ex(address)
        client = stack.enter_context(contextlib.closing(connect(settings)))
        assert TIMEOUT_S <= took(client.ping) < TIMEOUT_S + ROOM_S
        long = replace(settings, redis_timeout_s=30.0)
        client = stack.enter_context(contextlib.closing(connect(long, attention=Attention(lambda: True))))
        assert took(client.ping) < LAST_WAIT_S + ROOM_S


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the thread that asks it waits on; and what it says at last is told."""
    hung = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hung.wait(30))
    settings = ConsumerSettings(redis_host="h.example", redis_timeout_s=TIMEOUT_S)
    with contextlib.closing(connect(settings)) as client:
        assert TIMEOUT_S <= took(client.ping) < TIMEOUT_S + ROOM_S
    long = replace(settings, redis_timeout_s=30.0)
    with contextlib.closing(connect(long, attention=Attention(lambda: True))) as client:
        assert took(client.ping) < LAST_WAIT_S + ROOM_S
    hung.set()

    def none(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    with (
        contextlib.closing(connect(settings)) as client,
        pytest.raises(redis.ConnectionError, match="Name or service not known"),
    ):
        client.ping()


@pytest.mark.parametrize("said", ["MOVED 11822", "MOVED x 127.0.0.1:1", "ASK 1 nowhere", "MOVED"])
def test_an_error_that_is_none_is_an_error_of_the_client(host: Callable[..., Host], said: str) -> None:
    """And no crash: a hostile server says what it likes."""
    one = host(drip(f"-{said}\r\n".encode(), 1000, 0))
    with contextlib.closing(connect(one.settings)) as client, pytest.raises(redis.RedisError):
        client.execute_command("ECHO", "a")


def test_one_server_that_is_not_the_one_ends_every_connection_of_the_process(
    host: Callable[..., Host],
) -> None:
    """Also those of other clients, which have heard nothing; and each is made anew once."""
    made: list[socket.socket] = []
    demoted: list[socket.socket] = []

    def serve(taken: socket.socket) -> None:
        made.append(taken)
        while taken.recv(65536):
            taken.sendall(b"-READONLY You can't write\r\n" if taken in demoted else b"+PONG\r\n")

    attention = Attention()
    one = host(serve)
    clients = [connect(one.settings, attention=attention) for _ in range(3)]
    for client in clients:
        client.ping()
    assert len(made) == 3
    demoted += made
    with pytest.raises(redis.exceptions.ReadOnlyError):
        clients[0].ping()
    for client in clients:
        assert client.ping()
        assert client.ping()
        client.close()
    assert len(made) == 6


@pytest.mark.parametrize(
    "said",
    [
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: abc, on @user_script:1.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "MOVED 11822 127.0.0.1:7001",
        "ASK 11822 127.0.0.1:7001",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN Hash slot not served",
        "NOREPLICAS Not enough good replicas to write.",
        "REDIRECT 127.0.0.1:7001",
    ],
)
def test_the_words_of_a_server_that_is_not_the_one(host: Callable[..., Host], said: str) -> None:
    """Alone, or as the first answer of a transaction."""
    for reply, attention in ((f"-{said}\r\n", Attention()), (f"*1\r\n-{said}\r\n", Attention())):
        one = host(drip(reply.encode(), 1000, 0))
        with contextlib.closing(connect(one.settings, attention=attention)) as client:
            with contextlib.suppress(redis.ResponseError):
                client.execute_command("ECHO", "a")
            assert attention.generation == 1


@pytest.mark.parametrize(
    "said", ["ERR syntax error", "OOM full", "BUSY script", "NOGROUP none", "MISCONF disk"]
)
def test_other_errors_keep_the_connection(host: Callable[..., Host], said: str) -> None:
    """The server is the one."""
    attention = Attention()
    one = host(drip(f"-{said}\r\n".encode(), 1000, 0))
    with contextlib.closing(connect(one.settings, attention=attention)) as client:
        for _ in range(3):
            with pytest.raises(redis.ResponseError):
                client.execute_command("ECHO", "a")
    assert attention.generation == 0
