"""What tells that a web page sends a request."""

import pytest

from services.producer.http.pages import is_own_name, sent_by_page


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        # curl, Telegraf, the clients of InfluxDB, Node's fetch
        ({"user-agent": "curl/8", "content-type": "application/x-www-form-urlencoded"}, ""),
        ({"user-agent": "Telegraf/1.36", "content-type": "text/plain; charset=utf-8"}, ""),
        ({"sec-fetch-mode": "cors"}, ""),
        ({"sec-fetch-site": "none"}, ""),
        ({"origin": ""}, "Origin: "),
        ({"origin": "null"}, "Origin: 'null'"),
        ({"origin": "https://a.example\x1b[1m"}, "Origin: 'https://a.example"),
        ({"sec-fetch-site": "same-origin"}, "Sec-Fetch-Site: 'same-origin'"),
        ({"sec-fetch-site": "cross-site"}, "Sec-Fetch-Site: 'cross-site'"),
    ],
)
def test_a_browser_is_known_by_what_it_adds(headers: dict[str, str], found: str) -> None:
    """And shown without what a terminal would heed."""
    said = sent_by_page(headers)
    assert said.startswith(found)
    assert bool(said) is bool(found)
    assert said.isprintable()


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("", True), ("localhost", True), ("localhost:8080", True), ("LocalHost.", True),
        ("a.localhost:1", True), ("127.0.0.1:8080", True), ("[::1]:8080", True), ("::1", False),
        ("192.168.1.7", True), ("example.com", False), ("localhost.example.com", False),
        ("127.0.0.1.example.com:8080", False), ("[::1].example.com", False), ("notlocalhost", False),
    ],
)  # fmt: skip
def test_the_names_of_this_machine(host: str, is_own: bool) -> None:
    """Addresses, and what leads nowhere else."""
    assert is_own_name(host) is is_own
