"""Which process is this installation's daemon, told by the note in its lock, without touching the lock."""

import json
from dataclasses import dataclass
from pathlib import Path

import psutil

from claude_daemon.lib.lock import read_note

CLOCK_SLACK_S = 2.0  # a process's start is known to a tick, a file's time to that of its file system


@dataclass(frozen=True, slots=True)
class Instance:
    """A daemon that was ready and whose process is alive."""

    pid: int
    url: str


def running_instance(state: Path) -> Instance | None:
    """The daemon whose lock lies in `state`; None while it starts, and when a crash left only its note."""
    path = state / "daemon.lock"
    try:
        note = json.loads(read_note(path))
        instance = Instance(int(note["pid"]), str(note["url"]))
        process = psutil.Process(instance.pid)
        younger = process.create_time() > path.stat().st_mtime + CLOCK_SLACK_S
    except (ValueError, TypeError, KeyError, OSError, psutil.Error):
        return None
    # A process that is younger than the note only has the pid of the one that wrote it.
    return None if younger or has_ended(process) else instance


def has_ended(process: psutil.Process) -> bool:
    """Also true of a zombie: in a container, nobody may ever ask for its exit code."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
