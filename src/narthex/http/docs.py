"""`/docs`: the OpenAPI document as one page of HTML that loads nothing."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

CONTENT_SECURITY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font-size:.9em}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #8884;padding:.25rem .5rem;text-align:left;vertical-align:top}"
    ":root{color-scheme:light dark}"
)
_KEYED = "Key: <code>Authorization: Bearer &lt;key&gt;</code> or <code>x-api-key: &lt;key&gt;</code>."


def page(document: Mapping[str, Any]) -> bytes:
    """The page, as UTF-8."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    sections = "".join(
        _section(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><p>{_text(info['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>{sections}</body></html>'
    ).encode()


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    access = _KEYED if operation["security"] else "Open to everybody."
    said = _text(f"{operation['summary']} {operation.get('description', '')}")
    answers = "".join(
        f"<tr><td>{escape(status)}</td><td>{_text(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    name = escape(f"{method.upper()} {path}")
    return (
        f'<section id="{escape(operation["operationId"])}"><h2><code>{name}</code></h2>'
        f"<p>{said} {access}</p>{_body(operation)}"
        f"<table><tr><th>Status</th><th>When</th></tr>{answers}</table></section>"
    )


def _body(operation: Mapping[str, Any]) -> str:
    if "requestBody" not in operation:
        return ""
    [content] = operation["requestBody"]["content"].values()
    schema = content["schema"]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' (required)' if name in schema['required'] else ''}</td>"
        f"<td>{escape(' or '.join(dict.fromkeys(_kinds(field))))}</td>"
        f"<td>{_text(field.get('description', ''))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<table><tr><th>Field</th><th>Type</th><th></th></tr>{rows}</table>"


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    """The types that a field takes, in words."""
    for variant in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _kinds(variant)
    if "enum" in schema:
        yield " | ".join(map(str, schema["enum"]))
    elif "type" in schema:
        bounds = [f"{sign} {schema[name]}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in schema]
        yield " ".join([schema["type"], *bounds])


def _text(markdown: str) -> str:
    """Text with `code` in it."""
    pieces = markdown.split("`")
    return "".join(f"<code>{escape(piece)}</code>" if at % 2 else escape(piece) for at, piece in enumerate(pieces))
