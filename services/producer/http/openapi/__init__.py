"""What the door says of itself: an OpenAPI document, and a page made of it that needs no network."""

import json
from collections.abc import Mapping
from typing import Final

from services.producer.http.openapi.document import document
from services.producer.http.openapi.page import page
from services.runtime.endpoint import Page
from services.runtime.settings import ProducerSettings

_DOCUMENT: Final = "/openapi.json"


def pages(settings: ProducerSettings) -> Mapping[str, Page]:
    """Give what is served beside the probes, by its path."""
    found = document(settings)
    return {
        "/docs": Page("text/html; charset=utf-8", page(found, _DOCUMENT).encode()),
        _DOCUMENT: Page("application/json", json.dumps(found, indent=2).encode() + b"\n"),
    }
