"""What the door says of itself."""

import json
import re
from html.parser import HTMLParser

import pytest
from openapi_spec_validator import validate

from services.contract.producing.outgoing import FIELD_NAMES
from services.producer.http.openapi import pages
from services.producer.http.openapi.document import document
from services.runtime.settings import ProducerSettings

SETTINGS = [
    ProducerSettings(),
    ProducerSettings(
        http_host="0.0.0.0", http_tokens_file="tokens.toml", http_cert_file="a", http_key_file="b"
    ),
    ProducerSettings(http_host="::1", http_mapping_file="mapping.toml"),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_document_is_openapi(settings: ProducerSettings) -> None:
    """By the judgement of a program that others use too."""
    validate(document(settings))


def test_it_has_the_settings_of_this_door() -> None:
    """Address, tokens, and what an event is."""
    own, secure, mapped = (document(one) for one in SETTINGS)
    assert own["servers"][0]["variables"]["host"]["default"] == "127.0.0.1"
    assert secure["servers"][0]["url"] == "https://{host}:8080"
    assert secure["servers"][0]["variables"]["host"]["default"] == "localhost"
    assert mapped["servers"][0]["variables"]["host"]["default"] == "[::1]"
    assert "security" not in own
    assert secure["security"]
    assert own["components"]["schemas"]["Event"]["properties"].keys() >= set(FIELD_NAMES)
    assert "properties" not in mapped["components"]["schemas"]["Event"]


class Links(HTMLParser):
    """Collects what a page leads to, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href" and tag == "a":
                self.links.add(value or "")
            elif name == "id":
                self.anchors.add(f"#{value}")
            elif name in {"src", "href"}:
                self.loaded.append(value or "")
        if tag == "script":
            self.loaded.append(tag)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_page_needs_no_network_and_has_every_operation(settings: ProducerSettings) -> None:
    """And each of its links leads somewhere."""
    found = pages(settings)
    text = found["/docs"].body.decode()
    links = Links()
    links.feed(text)
    assert links.loaded == []
    assert links.links <= {*links.anchors, *found}
    operations = document(settings)["paths"]
    assert re.findall(r"<h2><code>([A-Z]+ [^<]+)<", text) == [
        f"{method.upper()} {path}" for path, methods in operations.items() for method in methods
    ]
    assert json.loads(found["/openapi.json"].body) == document(settings)


def test_what_settings_say_is_text_in_the_page() -> None:
    """And no piece of HTML."""
    text = pages(ProducerSettings(http_host="<b>"))["/docs"].body.decode()
    assert "http://&lt;b&gt;:8080" in text
    assert "<b>" not in text
