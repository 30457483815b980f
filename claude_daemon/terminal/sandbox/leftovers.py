"""What a daemon that was killed in the very moment of starting a command leaves: a bwrap that waits for ever.

bwrap's first process inside dies with bwrap only once it has been let go; before, it waits on an eventfd
that it holds open itself.  It runs nothing, but it stays, so the next start ends it.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

GONE_WITHIN_S = 1.0
PAUSE_S = 0.005


def end_leftovers(program: str, mark: str) -> None:
    """Kill each `program` that has `mark`, a path of this daemon's alone, among its arguments.  Blocks."""
    if sys.platform != "linux":
        return
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if folder.name.isdigit() and _is(folder, os.fsencode(program), os.fsencode(mark)):
                os.kill(int(folder.name), signal.SIGKILL)
                found.append(folder)
    deadline = time.monotonic() + GONE_WITHIN_S
    while any(folder.exists() for folder in found) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)


def _is(process: Path, program: bytes, mark: bytes) -> bool:
    name, *arguments = (process / "cmdline").read_bytes().split(b"\0")
    return name.rpartition(b"/")[2] == program and mark in arguments
