"""A command of ours as a process that is watched while it runs, or as a person sees it on a terminal."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from daemon import Daemon

LINE_WITHIN_S = 10.0
END_WITHIN_S = 10.0
ROOT = Path(__file__).parents[1]


class Program:
    """`claude-daemon ARGUMENTS` for the time of a block, at whose end it is killed if it still runs."""

    def __init__(self, daemon: Daemon, *arguments: str, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "claude_daemon", *arguments],
            env=environment(daemon),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def line(self, containing: str = "") -> str:
        """The next line of stdout that contains something."""
        while True:
            line = self._lines.get(timeout=LINE_WITHIN_S)
            assert line is not None, f"it ended: {self.said_wrong()}"
            if containing in line:
                return line

    def event(self, name: str) -> Any:
        """The next event of a name, printed with --json."""
        return json.loads(self.line(f'"event": "{name}"'))

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        return self.process.wait(END_WITHIN_S)

    def rest(self) -> str:
        """What else it wrote to stdout before it ended."""
        lines = []
        while (line := self._lines.get(timeout=END_WITHIN_S)) is not None:
            lines.append(line)
        return "".join(lines)

    def said_wrong(self) -> str:
        """Its stderr, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)


def environment(daemon: Daemon) -> dict[str, str]:
    """The daemon's, from any folder."""
    return daemon._environment | {"PYTHONPATH": str(ROOT)}


def on_a_terminal(daemon: Daemon, *arguments: str) -> str:
    """What a person sees of a command, escape sequences and all."""
    if sys.platform == "win32":
        pytest.skip("there are no such terminals")
    import pty

    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "claude_daemon", *arguments],
            env=environment(daemon) | {"TERM": "xterm", "COLUMNS": "200"},
            stdout=theirs,
            check=True,
        )
        return os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
