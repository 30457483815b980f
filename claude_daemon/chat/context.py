"""What of a conversation is sent along: a pure rule.

A user may write on while a reply is being written, so the log can hold two questions before the first
one's answer; for the assistant each answer is put where it belongs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from claude_daemon.chat.backend import Turn


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the conversation."""

    id: str
    role: Literal["user", "assistant", "system"]
    text: str
    in_reply_to: str | None = None
    """The last message that a reply had seen when it was begun."""


def context(said: Iterable[Said], *, messages: int, characters: int) -> list[Turn]:
    """The newest turns that fit, of alternating roles, the first one the user's.

    Ends with the user's turn, or is empty when there is nothing to answer.  The newest message is kept
    whole however long it is; what the daemon itself said (`system`) is left out.
    """
    ordered = [each for each in _in_order(said) if each.role != "system" and each.text.strip()]
    if not ordered or ordered[-1].role != "user":
        return []
    kept: list[Said] = []
    for each in reversed(ordered[-messages:]):
        characters -= len(each.text)
        if kept and characters < 0:
            break
        kept.append(each)
    while kept[-1].role != "user":
        kept.pop()
    return _merged(reversed(kept))


def _in_order(said: Iterable[Said]) -> Sequence[Said]:
    """As said, but each reply behind the message that it answers."""
    ordered: list[Said] = []
    for each in said:
        seen = next((i for i, other in enumerate(ordered) if other.id == each.in_reply_to), None)
        if each.in_reply_to is None or seen is None:
            ordered.append(each)
        else:
            ordered.insert(seen + 1, each)
    return ordered


def _merged(said: Iterable[Said]) -> list[Turn]:
    turns: list[Turn] = []
    for each in said:
        assert each.role != "system"
        if turns and turns[-1].role == each.role:
            turns[-1] = Turn(each.role, f"{turns[-1].text}\n\n{each.text}")
        else:
            turns.append(Turn(each.role, each.text))
    return turns
