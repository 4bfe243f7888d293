"""TLS, also in both directions, on real servers: it connects each time, and errors name the setting."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from certificates import Authority
from servers import Absent, LocalServer, free_port, system_redis

from services.brokers.redis.server.connection import connect, explain
from services.runtime.settings import ConsumerSettings, SettingsInvalid

CONNECTS = 100


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give one, where this machine has openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH")
    return Authority(tmp_path_factory.mktemp("authority"))


StartTls = Callable[..., tuple[LocalServer, ConsumerSettings]]


@pytest.fixture
def tls_server(authority: Authority, tmp_path: Path) -> Iterator[StartTls]:
    """Start a redis-server that speaks TLS; give it with the settings that lead to it."""
    started: list[LocalServer] = []

    def start(
        *options: str, subject: str = "DNS:localhost,IP:127.0.0.1"
    ) -> tuple[LocalServer, ConsumerSettings]:
        try:
            binary = system_redis()
        except Absent as why:
            pytest.skip(str(why))
        certificate, key = authority.sign(f"server-{len(started)}", subject)
        port = free_port()
        one = LocalServer(
            binary, tmp_path / f"tls-{len(started)}", "--tls-port", str(port),
            "--tls-cert-file", str(certificate),
            "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.file), *options,
        )  # fmt: skip
        started.append(one)
        one.start()
        settings = ConsumerSettings(
            redis_host="localhost", redis_port=port, redis_tls=True, redis_ca_file=str(authority.file)
        )
        return one, settings

    yield start
    for one in started:
        one.kill()


NOT_MUTUAL = ("--tls-auth-clients", "no")


@pytest.mark.parametrize("protocols", ["TLSv1.3", "TLSv1.2"])
@pytest.mark.parametrize("by", ["settings", "url"])
def test_it_connects_each_time_without_a_password(tls_server: StartTls, protocols: str, by: str) -> None:
    """Unread session tickets of TLS 1.3 were taken for an answer to nothing: one connect in three failed."""
    _, settings = tls_server(*NOT_MUTUAL, "--tls-protocols", protocols)
    if by == "url":
        url = f"rediss://localhost:{settings.redis_port}/0"
        settings = ConsumerSettings(redis_url=url, redis_ca_file=settings.redis_ca_file)
    for _ in range(CONNECTS if by == "settings" else 5):
        with closing(connect(settings)) as client:
            assert client.ping()
            assert client.echo("again") == b"again"


def test_a_large_value_comes_through_whole(tls_server: StartTls) -> None:
    """Also where a piece of it was read while looking whether there is data."""
    _, settings = tls_server(*NOT_MUTUAL)
    with closing(connect(settings)) as client:
        value = bytes(range(256)) * 40_000
        client.set("large", value)
        connection = client.connection_pool.get_connection()
        connection.send_command("GET", "large")
        while not connection.can_read(timeout=5):
            pass
        assert connection.can_read()
        assert connection.read_response() == value
        assert not connection.can_read()
        client.connection_pool.release(connection)


def test_a_server_that_asks_for_a_certificate_gets_ours(tls_server: StartTls, authority: Authority) -> None:
    """By settings, from one file or two, and by the address; read anew at each connection."""
    _, settings = tls_server()
    certificate, key = authority.sign("client", "DNS:client")
    both = authority.folder / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    by_url = f"rediss://localhost:{settings.redis_port}/0?ssl_certfile={certificate}&ssl_keyfile={key}"
    for one in (
        replace(settings, redis_cert_file=str(certificate), redis_key_file=str(key)),
        replace(settings, redis_cert_file=str(both)),
        ConsumerSettings(broker_url=by_url, redis_ca_file=settings.redis_ca_file),
    ):
        with closing(connect(one)) as client:
            assert client.ping()
            client.connection_pool.disconnect()
            assert client.ping()


@pytest.mark.parametrize("protocols", ["TLSv1.3", "TLSv1.2"])
def test_a_certificate_that_is_asked_for_and_not_there_is_told(tls_server: StartTls, protocols: str) -> None:
    """The server's own words are an alert after the handshake, or none at all."""
    _, settings = tls_server("--tls-protocols", protocols)
    for _ in range(20):
        line = failure(settings)
        assert "fails at TLS" in line
        assert "REDIS_CERT_FILE, REDIS_KEY_FILE" in line


def test_a_certificate_of_another_authority_is_told(tls_server: StartTls, tmp_path: Path) -> None:
    """The server does not take ours."""
    _, settings = tls_server()
    other = tmp_path / "other"
    other.mkdir()
    certificate, key = Authority(other).sign("client", "DNS:client")
    line = failure(replace(settings, redis_cert_file=str(certificate), redis_key_file=str(key)))
    assert "REDIS_CERT_FILE, REDIS_KEY_FILE" in line


def test_errors_of_tls_name_the_setting_that_mends_them(tls_server: StartTls, tmp_path: Path) -> None:
    """The authority, the name, TLS where there is none, and none where there is."""
    server, settings = tls_server(*NOT_MUTUAL, subject="DNS:redis.example")
    line = failure(replace(settings, redis_ca_file=""))
    assert "(REDIS_CA_FILE: the authority" in line
    assert "another name than that in REDIS_HOST" in failure(settings)
    url = f"rediss://localhost:{settings.redis_port}/0"
    line = failure(ConsumerSettings(broker_url=url, redis_ca_file=settings.redis_ca_file))
    assert "another name than that in BROKER_URL" in line
    assert "REDIS_TLS" in failure(replace(settings, redis_port=server.port, redis_timeout_s=1.0))
    assert "REDIS_TLS where it speaks TLS" in failure(replace(settings, redis_tls=False, redis_ca_file=""))
    for name, told in (("redis_cert_file", "REDIS_CERT_FILE="), ("redis_ca_file", "REDIS_CA_FILE=")):
        with pytest.raises(SettingsInvalid, match=rf"{told}.*none\.pem"):
            connect(replace(settings, **{name: str(tmp_path / "none.pem")}))  # type: ignore[arg-type]


def test_a_key_that_is_encrypted_is_refused_and_not_asked_for(
    tls_server: StartTls, authority: Authority, tmp_path: Path
) -> None:
    """Nobody sits at the terminal of a service."""
    _, settings = tls_server()
    certificate, key = authority.sign("client", "DNS:client")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "rsa", "-aes256", "-passout", "pass:word", "-in", str(key), "-out", str(locked)],
        check=True, capture_output=True,
    )  # fmt: skip
    settings = replace(settings, redis_cert_file=str(certificate), redis_key_file=str(locked))
    with pytest.raises(SettingsInvalid, match=r"REDIS_CERT_FILE=.*encrypted"):
        connect(settings)
    url = f"rediss://localhost:{settings.redis_port}/0?ssl_password=word"
    with closing(connect(replace(settings, broker_url=url))) as client:
        assert client.ping()


def failure(settings: ConsumerSettings) -> str:
    """Give the line about a connection that can't be made."""
    with closing(connect(settings)) as client:
        with pytest.raises(redis.RedisError) as caught:
            client.ping()
        line = explain(caught.value, settings)
    assert "\n" not in line
    return line


def test_what_is_no_tls_is_noticed_in_time(tls_server: StartTls) -> None:
    """A server that never answers the handshake is a timeout, as any other."""
    server, settings = tls_server(*NOT_MUTUAL)
    server.pause()
    try:
        assert "does not answer" in failure(replace(settings, redis_timeout_s=0.3))
    finally:
        server.resume()
