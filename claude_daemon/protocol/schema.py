"""The contract as an AsyncAPI 3 document, generated from the classes."""

from functools import cache
from typing import Any

import msgspec

from claude_daemon.protocol import facts, notices, requests  # noqa: F401  their import fills the registries
from claude_daemon.protocol.model import FACTS, NOTICES, REQUESTS, Json, Record
from claude_daemon.protocol.replies import Status
from claude_daemon.protocol.version import SERVER_VERSION

_REF = "#/components/schemas/{name}"


@cache
def asyncapi() -> Json:
    """Every event that clients may send or will receive, with payloads and acks as JSON Schema."""
    kinds: list[Any] = [spec.kind for spec in REQUESTS.values()]
    kinds += [spec.reply for spec in REQUESTS.values()]
    kinds += [*FACTS.values(), *NOTICES.values()]
    # A request and a fact may share a name (chat_message): each gets its own place.
    schemas: Json = {}
    for kind in kinds:
        (_,), components = msgspec.json.schema_components([kind], ref_template=_REF)
        for name, schema in components.items():
            schemas[_place(kind) if name == kind.__name__ else name] = schema
    sent: Json = {}
    for name, spec in REQUESTS.items():
        sent[name] = {
            **_message(name, spec.kind),
            "x-scope": spec.scope,
            "x-ack": {"$ref": _REF.format(name=_place(spec.reply))},
            "x-clientId": spec.once is not None,
        }
        if spec.shorthand:
            sent[name]["x-shorthand"] = spec.shorthand
    received = {name: _message(name, kind) for name, kind in (FACTS | NOTICES).items()}
    received["system_status"] = _message("system_status", Status)
    for name in FACTS:
        received[name]["x-stored"] = True
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "claude-daemon",
            "version": SERVER_VERSION,
            "description": (
                "Socket.IO protocol 5, path /socket.io/, namespace /.  Acks are {ok, …} or {ok, error}."
            ),
            "license": {"name": "MIT"},
        },
        "servers": {"loopback": {"host": "127.0.0.1:3001", "protocol": "socketio"}},
        "channels": {
            "toDaemon": {"address": "/", "messages": sent},
            "fromDaemon": {"address": "/", "messages": received},
        },
        "operations": {
            "ask": {"action": "receive", "channel": {"$ref": "#/channels/toDaemon"}},
            "tell": {"action": "send", "channel": {"$ref": "#/channels/fromDaemon"}},
        },
        "components": {"schemas": schemas},
    }


def _message(name: str, kind: type[Record]) -> Json:
    doc = (kind.__doc__ or "").strip()
    return {
        "name": name,
        "summary": doc.split("\n")[0],
        "payload": {"$ref": _REF.format(name=_place(kind))},
    }


def _place(kind: type[Record]) -> str:
    """Where a class's schema stands: requests are told from the events of the same name."""
    return f"{kind.__name__}Request" if kind.__module__.endswith(".requests") else kind.__name__
