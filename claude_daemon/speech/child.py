"""One child with a deadline: engines and sound devices hang, crash, and leave processes behind.

Whatever happens to it, when `run` is over the child and its whole group are gone.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KEPT_BYTES = 2_048  # of a child's output, the end: there it says what went wrong
REAP_S = 1.0  # a killed process that hangs in a dead sound driver is not waited for longer

# What interpreters, engines and sound servers read.  Everything else, our secrets above all, stays here.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|LANGUAGE|LC_\w+|TMPDIR|PYTHONPATH|PYTHONHOME|LD_LIBRARY_PATH"
    r"|XDG_RUNTIME_DIR|XDG_CONFIG_HOME|DBUS_SESSION_BUS_ADDRESS|DISPLAY"
    r"|ESPEAK_\w+|PULSE_\w+|PIPEWIRE_\w+|ALSA_\w+|SDL_AUDIODRIVER|AUDIODEV"
    r"|SYSTEMROOT|WINDIR|TEMP|TMP|USERPROFILE|APPDATA|LOCALAPPDATA|PROGRAMDATA|PATHEXT",
    re.IGNORECASE,
)


class SpeechError(Exception):
    """The engine, the player or the device failed; the text is the sentence that status shows."""


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    last_line: str
    """Of stdout and stderr together; empty when nothing was printed."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that a child gets."""
    return {name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)}


async def run(argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"") -> Ended:
    """Run `argv` to its end and return how that was.

    `stdin` must fit into a pipe (64 KiB).  Raises `SpeechError` when the child cannot be started or is
    not done in time.
    """
    name = Path(argv[0]).name
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=PIPE if stdin else DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=environment(os.environ),
            start_new_session=True,
        )
    except OSError as error:
        raise SpeechError(f"{name} cannot be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(deadline_s):
            if process.stdin:
                process.stdin.write(stdin)
                process.stdin.close()
            printed = await _tail(process)
            code = await process.wait()
    except TimeoutError:
        raise SpeechError(f"{name} did not finish within {deadline_s:g} s and was ended") from None
    finally:
        await _end(process)
    lines = printed.decode("utf-8", "replace").split("\n")
    return Ended(code, next((line.strip() for line in reversed(lines) if line.strip()), ""))


def how_it_ended(ended: Ended) -> str:
    """`crashed (Segmentation fault)` or `failed: …`, for a sentence that names the program."""
    if ended.code < 0:
        return f"crashed ({signal.strsignal(-ended.code)})"
    return f"failed: {ended.last_line or f'exit code {ended.code}'}"


async def _tail(process: Process) -> bytes:
    assert process.stdout
    kept = b""
    while block := await process.stdout.read(KEPT_BYTES):
        kept = (kept + block)[-KEPT_BYTES:]
    return kept


async def _end(process: Process) -> None:
    """Kill the group, also when its leader is gone already: a player's own children die with it."""
    if sys.platform == "win32":
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    else:
        # PermissionError is how macOS says that only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAP_S):
            await process.wait()
