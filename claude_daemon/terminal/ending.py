"""How a command ended: a pure rule from what was seen to what clients are told."""

import signal
from dataclasses import dataclass
from typing import Literal

from claude_daemon.terminal.limits import Limit
from claude_daemon.terminal.prelude import Report

Reason = Literal["exit", "signal", "cancelled", "timeout", "limit", "sandbox", "daemon_stopped"]

_OF_SIGNAL: dict[str, Limit] = {"XCPU": "cpu", "XFSZ": "file_size"}


@dataclass(frozen=True, slots=True)
class Ending:
    """`signal` is a name without SIG; it and `exit_code` are never both set."""

    exit_code: int | None
    signal: str | None
    reason: Reason
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Why the daemon itself ended a command."""

    reason: Reason
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a cgroup counted: kills for want of memory, and forks that it did not allow."""

    memory: int = 0
    forks: int = 0


def judge(
    status: int, report: Report, *, sent: frozenset[str], asked: Asked | None, refused: Refusals
) -> Ending:
    """`status` is the sandbox's: an exit code (128+n for a signal n inside), or -n for one that hit itself.

    A command that ends as if by a signal that was sent to it ended by that signal.  Of XCPU and XFSZ also
    the shell's 128+n counts as a limit reached: a shell in between turns the signal into that code.
    """
    exit_code, number = _end(status, report, sent)
    name = None if number is None else _name(number)
    if asked:
        return Ending(exit_code, name, asked.reason, asked.limit)
    if not report.ready:
        return Ending(None, None, "sandbox")
    limit = _limit(exit_code, name, refused)
    if limit:
        return Ending(exit_code, name, "limit", limit)
    if name in sent:
        return Ending(exit_code, name, "cancelled")
    return Ending(exit_code, name, "signal" if name else "exit")


def _end(status: int, report: Report, sent: frozenset[str]) -> tuple[int | None, int | None]:
    """Exit code and signal number; neither for a command that never ran."""
    if status < 0:
        return None, -status
    code = report.exit_status
    if code is None:  # the lines around the command were killed with it
        return (None, status - 128) if status > 128 else (status, None)
    if code > 128 and (report.killed or _name(code - 128) in sent):
        return None, code - 128
    return code, None


def _limit(exit_code: int | None, name: str | None, refused: Refusals) -> Limit | None:
    if exit_code == 0:
        return None
    if refused.memory:
        return "memory"
    if exit_code is not None and exit_code > 128:
        name = _name(exit_code - 128)
    if name in _OF_SIGNAL:
        return _OF_SIGNAL[name]
    return "processes" if refused.forks else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # a real-time signal
        return str(number)
