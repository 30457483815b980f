"""What an assistant is to the daemon: turns in, pieces of a reply out."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

BackendName: TypeAlias = Literal["claude-api", "claude-code"]


@dataclass(frozen=True, slots=True)
class Turn:
    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the reply's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a reply that came to its end."""

    stop_reason: str
    """As the assistant names it: `end_turn`, `max_tokens`, `refusal`."""
    usage: dict[str, int]
    """Tokens, in the wire's names: `inputTokens`, `outputTokens`."""


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool
    reason: str | None = None
    """Why it is not ready, or how its last reply failed."""


class Backend(Protocol):
    @property
    def name(self) -> BackendName: ...

    def readiness(self) -> Readiness:
        """Answers at once and asks nobody: whether a reply would be tried."""
        ...

    def reply(self, turns: Sequence[Turn]) -> AsyncGenerator[Delta | Completed, None]:
        """Write the next turn: pieces, then one `Completed`.

        The first and the last of `turns` are the user's.  Raises `DaemonError` with a sentence for the
        reader; closing the generator, or cancelling its task, ends the work at the other side too.
        """
        ...
