"""From a client's payload to a typed request, and from typed answers to what clients read.

A payload that is not well formed becomes an `InvalidError` or `TooLargeError` with one detail: the first
mistake, its exact path, and the type that the older server's validator (joi) gave such a mistake.
"""

import re
from typing import Any

import msgspec

from claude_daemon.errors import DaemonError, InvalidError, TooLargeError
from claude_daemon.protocol.model import REQUESTS, Json, Record, Request, RequestSpec

encode = msgspec.json.encode
decode_json = msgspec.json.decode

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>\$.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
_MISSING = re.compile(r"missing required field `(.+)`")
_KINDS = (
    ("Object missing required field", "any.required"),
    ("Invalid enum value", "any.only"),
    ("Expected `str` of length >= ", "string.empty"),
    ("Expected `str` of length <= ", "string.max"),
    ("Expected `str", "string.base"),
    ("Expected `bool", "any.only"),
    ("Expected `int", "number.base"),
    ("Expected `float", "number.base"),
)
_NAME_SHOWN = 64


def spec_of(name: object) -> RequestSpec:
    """The kind of request that an event's name stands for.  Raises `InvalidError` for a name of none."""
    spec = REQUESTS.get(name) if isinstance(name, str) else None
    if spec is None:
        shown = name[:_NAME_SHOWN] if isinstance(name, str) else type(name).__name__
        raise InvalidError(f"Unknown event {shown}")
    return spec


def decode(spec: RequestSpec, payload: object) -> Request:
    """The typed request.  Raises `InvalidError` or `TooLargeError` about the first mistake."""
    if spec.shorthand and not isinstance(payload, dict) and payload is not None:
        payload = {spec.shorthand: payload}
    if payload is None and spec.refusal is None:
        payload = {}
    try:
        return msgspec.convert(payload, spec.kind)
    except msgspec.ValidationError as error:
        raise _refusal(spec, str(error)) from None


def _refusal(spec: RequestSpec, text: str) -> InvalidError:
    found = _PLACE.match(text)
    assert found is not None
    what = found["what"]
    path: list[str | int] = [
        int(index) if index else name for name, index in _STEP.findall(found["path"] or "") if name or index
    ]
    kind = next((kind for start, kind in _KINDS if what.startswith(start)), "object.base")
    if missing := _MISSING.search(what):
        path.append(missing[1])
    where = f'"{".".join(map(str, path))}"' if path else "the payload"
    reason = f"{where}: {_in_words(what, kind)}"
    refused = TooLargeError if kind == "string.max" else InvalidError
    return refused(spec.refusal or f"{spec.name}: {reason}", path=path, kind=kind, reason=reason)


def _in_words(what: str, kind: str) -> str:
    if kind == "any.required":
        return "is required"
    if kind == "string.empty":
        return "must not be empty"
    if "matching regex" in what:
        return "must be 1 to 128 printable characters"
    return what[:1].lower() + what[1:].replace("`", "")


def error_body(error: DaemonError, event: str) -> Json:
    """The error shape: `{message, code, event, details?, …}`."""
    body: Json = {"message": error.message, "code": error.code, "event": event[:_NAME_SHOWN]}
    if details := error.details:
        body["details"] = details
    return body | error.extra


def accepted(reply: Record | Json | None) -> Json:
    """The ack of a request that was done."""
    fields: Any = {} if reply is None else msgspec.to_builtins(reply)
    return {"ok": True, **fields}


def refused(error: DaemonError, event: str) -> Json:
    """The ack of a request that was not done."""
    return {"ok": False, "error": error_body(error, event)}
