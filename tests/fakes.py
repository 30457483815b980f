"""Hand-written stand-ins for what a test cannot have: a loudspeaker, and Anthropic's servers.

Both are real to the code under test: the player is a process, the API a server on a socket.
"""

import asyncio
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

_RECORDING_PLAYER = """\
import pathlib, shutil, sys, time
source = pathlib.Path(sys.argv[-1])
if source.name != "silence.wav":  # the probe's
    target = pathlib.Path(sys.argv[1]) / f"{time.monotonic_ns()}.wav"
    shutil.copy(source, target.with_suffix(".part"))
    target.with_suffix(".part").rename(target)
"""


async def until(condition: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Wait for what another process does.  Raises `TimeoutError`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # nothing in this process could set an event
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether no such process runs; a zombie that only waits to be reaped does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Loudspeaker:
    """A player that plays into `folder`; `command` is for the setting `speech.player`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        script = folder / "player.py"
        script.write_text(_RECORDING_PLAYER, "utf-8")
        self.command = shlex.join([sys.executable, "-S", str(script), str(folder)])

    def played(self) -> list[Path]:
        """The sound files played so far, in order, without the probes' silence."""
        return sorted(self._folder.glob("*.wav"))
