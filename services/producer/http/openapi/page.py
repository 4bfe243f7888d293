"""An OpenAPI document as a page for people: no script, and nothing that is loaded from elsewhere. Pure."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h2{margin-top:2.5rem}code,pre{background:#f3f3f3;border-radius:4px;padding:.1em .3em}pre{padding:.8em;"
    "overflow:auto}table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;"
    "border-bottom:1px solid #ddd;padding:.3em .8em .3em 0}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}code,pre{background:#222}}"
)


def page(document: Mapping[str, Any], address: str) -> str:
    """Give the page; `address` is where the document is."""
    return "\n".join(_parts(document, address)) + "\n"


def _parts(document: Mapping[str, Any], address: str) -> Iterator[str]:
    about, (server, *_) = document["info"], document["servers"]
    url = server["url"].format(**{name: one["default"] for name, one in server["variables"].items()})
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(about["title"])}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    yield f"<h1>{escape(about['title'])}</h1><p>{escape(about['description'])}</p>"
    yield f"<p>At <code>{escape(url)}</code>, version {escape(about['version'])}; for programs, the same as "
    yield f'<a href="{escape(address)}">OpenAPI</a>.</p>'
    if "security" in document:
        yield "<p>Each request that writes needs a token: <code>Authorization: Bearer TOKEN</code>.</p>"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield from _operation(f"{method.upper()} {path}", operation)
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p>'
        yield from _table(_members(schema, ""))


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(title)}</code></h2>"
    yield f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>"
    yield from _table(
        (f"{one['name']} ({one['in']})", _kind(one["schema"]), escape(one["description"]))
        for one in operation.get("parameters", ())
    )
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(kind)}</code>, {_kind(content['schema'])}</p>"
        if example := content.get("example"):
            text = example if isinstance(example, str) else json.dumps(example)
            yield f"<pre>{escape(text)}</pre>"
    yield from _table(
        (status, _answered(answer), escape(answer["description"]))
        for status, answer in operation["responses"].items()
    )


def _answered(answer: Mapping[str, Any]) -> str:
    return ", ".join(_kind(one["schema"]) for one in answer.get("content", {}).values())


def _table(rows: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    """Make a table; of each row the first text is plain, and the others are HTML."""
    found = [f"<tr><td><code>{escape(name)}</code><td>{kind}<td>{text}" for name, kind, text in rows]
    if found:
        yield f"<table>{''.join(found)}</table>"


def _members(schema: Mapping[str, Any], before: str) -> Iterator[tuple[str, str, str]]:
    needed = schema.get("required", ())
    for name, one in schema.get("properties", {}).items():
        told = escape(one.get("description", ""))
        yield f"{before}{name}", _kind(one), told if name in needed else f"optional. {told}"
        yield from _members(one.get("items", {}), f"{before}{name}[].")


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in HTML what a value is."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_kind(one) for one in schema[several])
    if "enum" in schema:
        return " ".join(f"<code>{escape(one)}</code>" for one in schema["enum"])
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_kind(schema['items'])}"
    kinds = schema.get("type", "any")
    return escape(" or ".join(kinds) if isinstance(kinds, list) else kinds)
