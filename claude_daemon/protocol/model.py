"""Types that every event is made of, and the three registries: requests, facts and notices.

The wire name of an event is its class's name in snake_case, its fields are in camelCase; neither is
written twice.  A field that may be absent is `T | UnsetType = UNSET`; one that may be null is `T | None`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NewType, TypeVar, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

UserId = NewType("UserId", str)
DeviceId = NewType("DeviceId", str)
EventId = NewType("EventId", str)
CommandId = NewType("CommandId", str)
Stream = NewType("Stream", str)
Seq = int

# Ids are whatever their maker likes, as long as they can be printed and stored.
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+\Z")]
ClientId = Annotated[str, Meta(min_length=1, max_length=64)]
FilePath = Annotated[str, Meta(min_length=1, max_length=4_096)]
Count = Annotated[int, Meta(ge=0, le=2**53)]  # what every JSON reader can hold exactly

Scope = Literal["view", "chat", "answer", "files", "terminal", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Budget = Literal["events", "joins", "typing"]
Once = Literal["append", "claim", "compare"]
Json = dict[str, Any]

__all__ = ["UNSET", "UnsetType"]


def session_stream(session_id: str) -> Stream:
    return Stream(f"session:{session_id}")


def project_stream(project_id: str) -> Stream:
    return Stream(f"project:{project_id}")


def user_stream(user_id: str) -> Stream:
    return Stream(f"user:{user_id}")


def timestamp(at: datetime | None = None) -> str:
    """`at`, or now, as ISO 8601 UTC with milliseconds and `Z`."""
    return (at or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Record(Struct, rename="camel"):
    """A part of an event."""


class Request(Record):
    """What a client asks.  Unknown keys are ignored."""


class Reply(Record):
    """What an ack carries beside `ok`."""


class Fact(Record):
    """What happened: stored in a stream; `id`, `seq` and `clientId` are added by the log."""


class Notice(Record):
    """What is said once and not stored."""


class Nothing(Reply):
    """An ack that only says `ok`."""


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """How one kind of request is admitted and answered."""

    name: str
    kind: type[Request]
    reply: type[Reply]
    scope: Scope
    budget: Budget
    refusal: str | None
    """The message of a request that is not well formed; None: a sentence about the first mistake."""
    shorthand: str | None
    """The wire field that a payload which is no object stands for; `refusal` is about this one alone."""
    once: Once | None
    """How a repeated clientId is kept from acting twice.

    append: remembered in the same transaction as the event.  claim: remembered before the effect; after a
    crash the outcome is unknown.  compare: the same, but the handler can see whether it happened.
    """


REQUESTS: dict[str, RequestSpec] = {}
FACTS: dict[str, type[Fact]] = {}
NOTICES: dict[str, type[Notice]] = {}

_R = TypeVar("_R", bound=type[Request])
_F = TypeVar("_F", bound=type[Fact])
_N = TypeVar("_N", bound=type[Notice])


def wire_name(kind: type[Struct]) -> str:
    """`FileUpdate` is `file_update` on the wire."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def request(
    scope: Scope,
    *,
    reply: type[Reply] = Nothing,
    budget: Budget = "events",
    refusal: str | None = None,
    shorthand: str | None = None,
    once: Once | None = None,
) -> Callable[[_R], _R]:
    """Register a class as an event that clients may send."""

    def register(kind: _R) -> _R:
        name = wire_name(kind)
        REQUESTS[name] = RequestSpec(name, kind, reply, scope, budget, refusal, shorthand, once)
        return kind

    return register


def fact(kind: _F) -> _F:
    """Register a class as an event that is stored and replayed."""
    FACTS[wire_name(kind)] = kind
    return kind


def notice(kind: _N) -> _N:
    """Register a class as an event that is sent but not stored."""
    NOTICES[wire_name(kind)] = kind
    return kind
