"""One command from its place in the queue to its last event."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from claude_daemon.config import TerminalSettings
from claude_daemon.core.hub import Hub
from claude_daemon.core.service import Connection
from claude_daemon.errors import DaemonError
from claude_daemon.protocol import notices
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import session_stream
from claude_daemon.storage.commands import CommandRow
from claude_daemon.terminal.ending import Asked, Ending
from claude_daemon.terminal.process import Process, SignalName, Steps
from claude_daemon.terminal.sandbox import Job, Sandbox
from claude_daemon.terminal.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Finish:
    """How it ended, and how long it ran."""

    ending: Ending
    duration_ms: int


class Command:
    """Asked to end before it began, it never begins."""

    def __init__(
        self, row: CommandRow, job: Job, transcript: Transcript, hub: Hub, connection: Connection | None
    ) -> None:
        self.row = row
        self.finished = asyncio.Event()
        self._job = job
        self._transcript = transcript
        self._hub = hub
        self._stream = session_stream(row.session_id)
        self._connection = connection
        self._seq = 0
        self._process: Process | None = None
        self._asked: Asked | None = None
        self._turn = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        """While a slow client holds it up."""

    # What is asked of it.

    def begin(self) -> None:
        """A slot is free."""
        self._turn.set()

    def end(self, asked: Asked, steps: Steps) -> None:
        """End it step by step; one that waits ends at once."""
        self._asked = self._asked or asked
        self._turn.set()
        if self._process:
            self._process.end(asked, steps)
        if asked.reason == "daemon_stopped" and self._patience:
            self._patience.reschedule(asyncio.get_running_loop().time())

    def signal(self, name: SignalName) -> bool:
        """Send one signal.  False when it does not run yet."""
        if self._process is None:
            return False
        self._process.signal(name)
        return True

    # Its life.

    async def turn(self) -> bool:
        """Wait for a slot.  False when it was asked to end first."""
        await self._turn.wait()
        return self._asked is None

    async def run(self, sandbox: Sandbox, settings: TerminalSettings) -> Finish:
        """Run it, telling its output as it comes; returns when no process of it is left."""
        try:
            async with Process(sandbox, self._job, settings) as process:
                self._process = process
                if self._asked:  # while it was being started
                    process.end(self._asked, [(0, "KILL")])
                async for chunk in process.output():
                    self._say(chunk.stream, chunk.text, chunk.size)
                    await self._wait_for_readers()
                return Finish(await process.ended(), process.duration_ms)
        except DaemonError as error:
            self._say("stderr", f"{error.message}\n", 0)
            return Finish(Ending(None, None, "sandbox"), 0)
        finally:
            self._process = None

    def never_ran(self) -> Finish:
        """The end of one that was asked to end while it waited."""
        assert self._asked is not None
        return Finish(Ending(None, None, self._asked.reason), 0)

    def say_final(self, finish: Finish) -> None:
        """The last event of its output."""
        ending = finish.ending
        self._tell(
            notices.TerminalOutput(
                command_id=self.row.command_id,
                session_id=self.row.session_id,
                seq=self._next(),
                output="",
                type="success" if ending.exit_code == 0 and ending.reason == "exit" else "error",
                stream="stdout",
                final=True,
                exit_code=ending.exit_code,
                signal=ending.signal,
                reason=ending.reason,
                limit=ending.limit or UNSET,
                duration_ms=finish.duration_ms,
                truncated_bytes=self._transcript.dropped,
            ),
            size=0,
        )
        self._transcript.close()

    def _say(self, stream: Literal["stdout", "stderr"], text: str, size: int) -> None:
        self._tell(
            notices.TerminalOutput(
                command_id=self.row.command_id,
                session_id=self.row.session_id,
                seq=self._next(),
                output=text,
                type="error" if stream == "stderr" else "output",
                stream=stream,
            ),
            size=size,
        )

    def _tell(self, event: notices.TerminalOutput, *, size: int) -> None:
        self._transcript.append(event.seq, encode(event), size=size)
        connection = self._connection
        self._hub.announce(
            self._stream, event, also=connection if connection and not connection.closed else None
        )

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    async def _wait_for_readers(self) -> None:
        """A slow client holds up the command, for a bounded time, and not the daemon."""
        if self._asked and self._asked.reason == "daemon_stopped":
            return
        try:
            async with asyncio.timeout(None) as self._patience:
                await self._hub.drained(self._stream, self._connection)
        except TimeoutError:
            pass
        finally:
            self._patience = None
