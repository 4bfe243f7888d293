"""Certificates of files: what can be used, and what is said of the rest."""

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, Signed
from fakes import FakeClock

from services.producer.http.certificates import Certificates, CertificatesInvalid
from services.producer.http.door import Door
from services.runtime.health import Health
from services.runtime.settings import ProducerSettings, SettingsInvalid
from services.runtime.telemetry.metrics import Metrics

LOGGER = logging.getLogger("test")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> list[Signed]:
    return [authority.sign(name, "DNS:localhost") for name in ("one", "two")]


@pytest.fixture
def pair(pairs: list[Signed], tmp_path: Path) -> Signed:
    """Give a pair that a test may change."""
    put(pairs[0], into := Signed(tmp_path / "tls.crt", tmp_path / "tls.key"))
    return into


def put(pair: Signed, into: Signed) -> None:
    for source, target in zip(pair, into, strict=True):
        shutil.copy(source, target)


def test_what_cannot_be_used_is_told_with_its_setting(pair: Signed, pairs: list[Signed]) -> None:
    """And what is wrong with it; a key with a password asks nobody for it."""
    locked = pair.key.with_name("locked.key")
    command = [
        "openssl",
        "rsa",
        "-aes256",
        "-passout",
        "pass:secret",
        "-in",
        str(pair.key),
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    text = pair.key.with_name("text")
    text.write_text("hello\n")
    cut = pair.key.with_name("cut")
    cut.write_text(pair.certificate.read_text()[:200] + "\n-----END CERTIFICATE-----\n")
    pipe = pair.key.with_name("pipe")
    os.mkfifo(pipe)
    for certificate, key, authority, error in (
        (text, pair.key, None, f"HTTP_CERT_FILE={text}: there is no certificate"),
        (pair.certificate, text, None, f"HTTP_KEY_FILE={text}: there is no private key"),
        (pair.certificate, locked, None, "the key has a password"),
        (pair.certificate, pairs[1].key, None, "it is not the key of"),
        (cut, pair.key, None, f"HTTP_CERT_FILE={cut}"),
        (pipe, pair.key, None, f"HTTP_CERT_FILE={pipe}: can't be read"),
        (pair.certificate, pair.key, text, f"HTTP_CLIENT_CA_FILE={text}: no certificate can be read"),
    ):
        with pytest.raises(CertificatesInvalid) as raised:
            Certificates(certificate, key, authority, LOGGER)
        assert error in str(raised.value)
        assert "secret" not in str(raised.value)


def test_they_are_read_again_when_both_have_changed(
    pair: Signed, pairs: list[Signed], caplog: pytest.LogCaptureFixture
) -> None:
    """Half of a pair changes nothing, and is told where it stays so; once."""
    found = Certificates(pair.certificate, pair.key, None, LOGGER)
    first = found.context
    with caplog.at_level(logging.INFO):
        found.look()
        shutil.copy(pairs[1].certificate, pair.certificate)
        found.look()
        shutil.copy(pairs[1].key, pair.key)
        found.look()
        second = found.context
        pair.key.unlink()
        for _ in range(4):
            found.look()
        assert found.context is second
        shutil.copy(pairs[1].key, pair.key)
        found.look()
    assert first is not second
    assert found.context is not second
    names = [record.message for record in caplog.records]
    assert names == ["certificate_read", "certificate_unusable", "certificate_read"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"http_cert_file": "some.pem"}, "TLS needs both"),
        ({"http_key_file": "some.pem"}, "TLS needs both"),
        ({"http_client_ca_file": "some.pem"}, "set HTTP_CERT_FILE too"),
        ({"http_cert_file": "none.pem", "http_key_file": "none.pem"}, "none.pem: there is no such file"),
    ],
)
def test_settings_that_do_not_fit_together_are_told(settings: dict[str, Any], error: str) -> None:
    """Before anything is served."""
    clock = FakeClock()
    with pytest.raises(SettingsInvalid, match=error):
        Door(ProducerSettings(**settings), clock, Health(60, clock.monotonic), Metrics("producer"), LOGGER)
