"""The log's files in order of age, and a reader that goes on over their rotation.

The daemon renames `daemon.log` to `daemon.log.1`, that to `.2`, and begins a new one: the file that was being
read is recognized by its inode, under whichever name it has by then.
"""

import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from claude_daemon.cli.show import coloured
from claude_daemon.cli.text import lines, one_line
from claude_daemon.cli.words import moment

LOOK_EVERY_S = 0.2
MOST_FILES = 1_000

_COLOURS = {"warning": "yellow", "error": "red", "critical": "red", "debug": "dim"}
_HEAD = ("time", "level", "logger", "message", "exception")


class LogFiles:
    """`daemon.log` and its rotated predecessors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedReader | None = None
        self._rest = b""

    def last(self, count: int) -> list[str]:
        """The last lines of all files; `follow` goes on behind them."""
        found: deque[str] = deque(maxlen=count)
        for path in self._by_age():
            if self._open(path):
                found.extend(self._read())
        return list(found)

    def follow(self) -> Iterator[str]:
        """Lines as they are written; ends when nobody reads stdout any more."""
        while True:
            yield from self._read()
            if (newer := self._successor()) is not None:
                yield from self._read()  # what was written between the last look and the rotation
                self._open(newer)
            elif not _pause(LOOK_EVERY_S):
                return

    def _by_age(self) -> list[Path]:
        """The oldest first."""
        found = [self._path]
        for number in range(1, MOST_FILES):
            path = self._path.with_name(f"{self._path.name}.{number}")
            if not path.exists():
                break
            found.append(path)
        return found[::-1]

    def _successor(self) -> Path | None:
        """The file that was begun after the one being read, once there is one."""
        paths = self._by_age()
        if self._file is None:
            return self._path if self._path.exists() else None
        mine = os.fstat(self._file.fileno()).st_ino
        inodes = [_inode(path) for path in paths]
        if mine not in inodes:  # deleted: the oldest that is left comes next
            return next((path for path, inode in zip(paths, inodes, strict=True) if inode), None)
        behind = paths[inodes.index(mine) + 1 :]
        return next((path for path in behind if path.exists()), None)

    def _open(self, path: Path) -> bool:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        if self._file:
            self._file.close()
        self._file, self._rest = file, b""
        return True

    def _read(self) -> Iterator[str]:
        """Whole lines; the rest waits for its end."""
        if self._file is None:
            return
        for line in self._file:
            self._rest += line
            if self._rest.endswith(b"\n"):
                whole, self._rest = self._rest, b""
                yield whole.rstrip(b"\n").decode("utf-8", "replace")


def readable(line: str) -> str:
    """`2026-11-23 08:38:01 info app: ready (url=http://…)`, and an exception's traceback below."""
    try:
        entry: dict[str, Any] = json.loads(line)
        text = f"{one_line(entry['logger'])}: {one_line(entry['message'])}"
        level = one_line(entry["level"])
        at = moment(str(entry["time"]), seconds=True)
    except (ValueError, KeyError, TypeError):
        return lines(line)
    more = ", ".join(
        f"{one_line(name)}={one_line(value)}" for name, value in entry.items() if name not in _HEAD
    )
    head = f"{at} {coloured(level, _COLOURS[level]) if level in _COLOURS else level}"
    shown = f"{head} {text}" + (f" ({more})" if more else "")
    return "\n    ".join([shown, *lines(entry.get("exception", "")).splitlines()])


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _pause(seconds: float) -> bool:
    """Wait; False once the reader of stdout is gone."""
    if sys.platform == "win32" or sys.stdout is None:
        time.sleep(seconds)
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return not any(mask & select.POLLERR for _, mask in poll.poll(seconds * 1_000))
