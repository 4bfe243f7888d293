"""Where the broker is, and who we are there."""

from pathlib import Path

import pytest

from services.producer.mqtt.access import Access, read_access
from services.runtime.settings import ProducerSettings


def read(url: str, **more: str) -> tuple[Access, list[str]]:
    errors: list[str] = []
    return read_access(ProducerSettings(mqtt_url=url, **more), errors), errors  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("mqtt://localhost", "mqtt://localhost:1883"),
        ("mqtts://broker.example.com", "mqtts://broker.example.com:8883"),
        ("mqtt://10.0.0.1:1900/", "mqtt://10.0.0.1:1900"),
        ("mqtt://[::1]:1900", "mqtt://[::1]:1900"),
        ("mqtt://my_broker-0.mqtt.svc.", "mqtt://my_broker-0.mqtt.svc.:1883"),
    ],
)
def test_an_address_is_read(url: str, place: str) -> None:
    """With the usual ports."""
    access, errors = read(url)
    assert (access.place, errors) == (place, [])


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:1883", "tcp://secret-word", "mqtt://", "mqtt://secret-word:x", "mqtt://secret-word:0",
        "mqtt://secret-word:99999", "mqtt://h:1/secret-word", "mqtt://h?secret-word", "mqtt://u:secret-word@h",
        "mqtt://secret-word@h", "mqtt://secret-word..x", "mqtt://[secret-word", "mqtt://.", "ws://secret-word",
        f"mqtt://secret-word{'x' * 64}.org",
    ],
)  # fmt: skip
def test_what_is_none_is_told_without_a_piece_of_it(url: str) -> None:
    """It may hold a password."""
    _, errors = read(url)
    assert len(errors) == 1
    assert errors[0].startswith("MQTT_URL: ")
    assert "secret-word" not in errors[0]


def test_user_and_password_are_read_each_time(tmp_path: Path) -> None:
    """A rotated secret needs no restart, and one that is gone is told by its setting alone."""
    user, password = tmp_path / "user", tmp_path / "password"
    user.write_text("plant\n", encoding="utf-8")
    password.write_text("one\n", encoding="utf-8")
    access, errors = read("mqtt://h", mqtt_username_file=str(user), mqtt_password_file=str(password))
    assert (errors, access.credentials()) == ([], ("plant", "one"))
    password.write_text("another", encoding="utf-8")
    assert access.credentials() == ("plant", "another")
    password.unlink()
    with pytest.raises(OSError, match=r"^MQTT_PASSWORD_FILE: there is no such file$"):
        access.credentials()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"mqtt_password_file": "/dev/null"}, "MQTT_PASSWORD_FILE: only with MQTT_USERNAME_FILE"),
        ({"mqtt_key_file": "key.pem"}, "MQTT_KEY_FILE: only with MQTT_CERT_FILE"),
        ({"mqtt_username_file": "/none"}, "MQTT_USERNAME_FILE: there is no such file"),
        ({"mqtt_ca_file": __file__}, "MQTT_CA_FILE: "),
        ({"mqtt_cert_file": "/none"}, "MQTT_CERT_FILE: No such file"),
        ({"url": "mqtt://h", "mqtt_ca_file": "ca.pem"}, "MQTT_CA_FILE: only with mqtts://"),
    ],
)
def test_files_that_cannot_be_used_are_told(settings: dict[str, str], error: str) -> None:
    """By the name of their setting."""
    _, errors = read(**{"url": "mqtts://h", **settings})
    assert any(one.startswith(error) for one in errors), errors
