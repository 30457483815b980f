"""`/docs`: the contract as a page that people read, written from the same document as `/asyncapi.json`."""

from functools import cache
from html import escape

from claude_daemon.protocol.model import Json
from claude_daemon.protocol.schema import asyncapi


@cache
def docs_page() -> str:
    """One page: what clients send, what they receive, and every field."""
    document = asyncapi()
    schemas: Json = document["components"]["schemas"]
    sent = document["channels"]["toDaemon"]["messages"].values()
    received = document["channels"]["fromDaemon"]["messages"].values()
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        "<title>claude-daemon: the API</title><link rel=stylesheet href=/docs.css></head><body><main>",
        f"<h1>claude-daemon <small>{escape(document['info']['version'])}</small></h1>",
        f"<p>{escape(document['info']['description'])}</p>",
        "<p>As a document for programs: <a href=/asyncapi.json>asyncapi.json</a>.</p>",
        "<h2>What clients send</h2>",
        *(_event(each, schemas) for each in sent),
        "<h2>What clients receive</h2>",
        *(_event(each, schemas) for each in received),
        "</main></body></html>",
    ]
    return "".join(parts)


def style_sheet() -> str:
    return """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
section { margin: 1.5rem 0; padding: .2rem 1rem; border: 1px solid #8884; border-radius: .5rem }
h3 { font-family: ui-monospace, monospace; margin: .6rem 0 }
h3 small, .note { font: .85rem system-ui, sans-serif; opacity: .75; margin-left: .5rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-top: 1px solid #8883 }
td:first-child { font-family: ui-monospace, monospace }
"""


def _event(message: Json, schemas: Json) -> str:
    notes = []
    if scope := message.get("x-scope"):
        notes.append(f"scope {scope}")
    if message.get("x-clientId"):
        notes.append("takes clientId")
    if message.get("x-stored"):
        notes.append("stored: carries id and seq")
    ack = ""
    if "x-ack" in message:
        fields = _rows(_schema(message["x-ack"], schemas))
        ack = f"<p class=note>ack: ok</p><table>{fields}</table>" if fields else ""
    payload = _rows(_schema(message["payload"], schemas))
    return (
        f"<section><h3>{escape(message['name'])}<small>{escape(', '.join(notes))}</small></h3>"
        f"<p>{escape(message['summary'])}</p>"
        f"{f'<table>{payload}</table>' if payload else ''}{ack}</section>"
    )


def _rows(schema: Json) -> str:
    required = schema.get("required", [])
    return "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(_type(each))}</td>"
        f"<td>{'' if name in required else 'optional'}</td></tr>"
        for name, each in schema.get("properties", {}).items()
    )


def _schema(reference: Json, schemas: Json) -> Json:
    found: Json = schemas[reference["$ref"].rpartition("/")[2]]
    return found


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (("minLength", "≥"), ("maxLength", "≤"), ("minimum", "≥"), ("maximum", "≤"))
        if key in schema
    ]
    return " ".join([str(schema.get("type", "anything")), *limits])
