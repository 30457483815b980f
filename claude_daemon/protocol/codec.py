"""From a client's payload to a typed request, and from typed answers to what clients read.

A payload that is not well formed becomes an `InvalidError` or `TooLargeError` with one detail: the first
mistake, its exact path, and the type that the older server's validator (joi) gave such a mistake.
"""

import re
from typing import Any, Literal, get_origin

import msgspec
from msgspec.structs import fields

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
MAX_DEPTH = 64  # levels of a client's own data; Python's and many other readers of JSON end at 1,000


def spec_of(name: object) -> RequestSpec:
    """The kind of request that an event's name stands for.  Raises `InvalidError` for a name of none."""
    spec = REQUESTS.get(name) if isinstance(name, str) else None
    if spec is None:
        shown = name[:_NAME_SHOWN] if isinstance(name, str) else type(name).__name__
        raise InvalidError(f"Unknown event {shown}")
    return spec


def decode(spec: RequestSpec, payload: object) -> Request:
    """The typed request.  Raises `InvalidError` or `TooLargeError` about the first mistake."""
    if payload is None and (spec.shorthand or spec.refusal is None):
        payload = {}
    elif spec.shorthand and not isinstance(payload, dict):
        payload = {spec.shorthand: payload}
    try:
        request = msgspec.convert(payload, spec.kind)
    except msgspec.ValidationError as error:
        raise _refusal(spec, *_first_mistake(spec.kind, payload, str(error))) from None
    for name in spec.kind.__struct_fields__:
        if _nested_deeper(getattr(request, name), MAX_DEPTH):
            raise _refused(spec, [name], "object.base", f"must not be nested deeper than {MAX_DEPTH} levels")
    return request


def _first_mistake(kind: type[Request], payload: object, found: str) -> tuple[str, list[str | int]]:
    """What is wrong in msgspec's words, and the field they begin at.

    `found` is what msgspec met first in the client's order; first in the contract's order is always the same.
    """
    if isinstance(payload, dict):
        for field in fields(kind):
            if field.encode_name not in payload:
                if field.required:
                    return f"Object missing required field `{field.encode_name}`", []
                continue
            try:
                msgspec.convert(payload[field.encode_name], field.type)
            except msgspec.ValidationError as error:
                return str(error), [field.encode_name]
    return found, []


def _refusal(spec: RequestSpec, text: str, path: list[str | int]) -> InvalidError:
    found = _PLACE.match(text)
    assert found is not None
    what = found["what"]
    path += [
        int(index) if index else name for name, index in _STEP.findall(found["path"] or "") if name or index
    ]
    kind = next((kind for start, kind in _KINDS if what.startswith(start)), "object.base")
    if missing := _MISSING.search(what):
        path.append(missing[1])
    elif any(path == [each.encode_name] and get_origin(each.type) is Literal for each in fields(spec.kind)):
        kind = "any.only"  # joi looks at the choices first
    return _refused(spec, path, kind, _in_words(what, kind))


def _refused(spec: RequestSpec, path: list[str | int], kind: str, what: str) -> InvalidError:
    where = f'"{".".join(map(str, path))}"' if path else "the payload"
    reason = f"{where}: {what}"
    error = TooLargeError if kind == "string.max" else InvalidError
    about_another = spec.shorthand is not None and path != [] and path[0] != spec.shorthand
    message = f"{spec.name}: {reason}" if spec.refusal is None or about_another else spec.refusal
    return error(message, path=path, kind=kind, reason=reason)


def _nested_deeper(value: object, depth: int) -> bool:
    """Whether a value nests deeper, so that a reader with less stack left than this one might fail."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        if not level:
            return False
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, (dict, list))
        ]
    return level != []


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
