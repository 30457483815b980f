"""How a file's content travels: as text if it is UTF-8, else in base64; not at all beyond a limit."""

import base64
import binascii
from dataclasses import dataclass
from typing import Literal

from claude_daemon.config import ProjectSettings
from claude_daemon.errors import InvalidError, TooLargeError
from claude_daemon.protocol.requests import MAX_FILE_BYTES

Encoding = Literal["utf8", "base64"]


@dataclass(frozen=True, slots=True)
class Shown:
    """`content`, `encoding` and `truncated` of an event or an ack."""

    content: str | None
    encoding: Encoding = "utf8"
    truncated: bool = False


NOTHING = Shown(None, truncated=True)


def show(content: bytes | None, settings: ProjectSettings) -> Shown:
    """What a client gets of a content; None is one that isn't kept or must not be told."""
    if content is None or len(content) > settings.inline_bytes:
        return NOTHING
    try:
        return Shown(content.decode())
    except UnicodeDecodeError:
        if len(content) > settings.binary_inline_bytes:
            return Shown(None, "base64", truncated=True)
        return Shown(base64.b64encode(content).decode(), "base64")


def received(content: str | None, encoding: Encoding, *, message: str) -> bytes:
    """The bytes that a client sent.  Raises `InvalidError` or `TooLargeError` with the headline `message`."""

    def invalid(reason: str, kind: str) -> InvalidError:
        return InvalidError(message, path=["content"], kind=kind, reason=reason)

    if content is None:
        raise invalid('"content" is required', "any.required")
    try:
        found = base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
    except (binascii.Error, ValueError):
        raise invalid(f'"content" must be {encoding}', "string.base") from None
    if len(found) > MAX_FILE_BYTES:
        raise TooLargeError(
            message,
            path=["content"],
            kind="string.max",
            reason=f'"content" must have at most {MAX_FILE_BYTES} bytes',
        )
    return found
