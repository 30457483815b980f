"""One command from its place in the queue to its last event."""

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from claude_daemon.core.hub import Hub
from claude_daemon.core.service import Connection
from claude_daemon.protocol import notices
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import session_stream
from claude_daemon.protocol.replies import CommandState
from claude_daemon.storage.commands import CommandRow
from claude_daemon.terminal.ending import Asked, Ending
from claude_daemon.terminal.process import Process, SignalName, Steps
from claude_daemon.terminal.transcript import Transcript

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finish:
    """How it ended, and how long it ran."""

    ending: Ending
    duration_ms: int = 0


class Command:
    """What one is asked for, and what it says.  Asked to end before it began, it never begins."""

    def __init__(
        self,
        row: CommandRow,
        process: Process,
        transcript: Transcript,
        hub: Hub,
        connection: Connection | None,
    ) -> None:
        self.row = row
        self.state: CommandState = "queued"
        self.finish: Finish | None = None
        self.task: asyncio.Task[object] | None = None
        self._process = process
        self._transcript = transcript
        self._hub = hub
        self._stream = session_stream(row.session_id)
        self._connection = connection
        self._asked: Asked | None = None
        self._turn = asyncio.Event()
        self._running = AsyncExitStack()
        self._patience: asyncio.Timeout | None = None
        """While a slow client holds it up."""

    # What is asked of it.

    def take_turn(self) -> None:
        """A slot is free."""
        self._turn.set()

    def end(self, asked: Asked, steps: Steps) -> None:
        """End it step by step; one that waits ends at once."""
        self._asked = self._asked or asked
        self._turn.set()
        if self.state == "running":
            self._process.end(asked, steps)
        if self._patience and asked.reason == "daemon_stopped":
            self._patience.reschedule(asyncio.get_running_loop().time())

    def signal(self, name: SignalName) -> None:
        """Send one that runs a signal, and leave it at that."""
        self._process.signal(name)

    # Its life.

    async def turn(self) -> Asked | None:
        """Wait for a slot; returns why it is not to begin any more."""
        await self._turn.wait()
        return self._asked

    async def start(self) -> None:
        """Raises `SandboxUnavailableError` or `ProtectedPathError`; then nothing runs."""
        await self._running.enter_async_context(self._process)
        self.state = "running"

    async def run(self) -> Finish:
        """Tell its output as it comes; returns when no process of it is left."""
        async with self._running:
            async for chunk in self._process.output():
                self.say(chunk.stream, chunk.text, size=chunk.size)
                await self._wait_for_readers()
            return Finish(await self._process.ended(), self._process.duration_ms)

    async def abandon(self) -> None:
        """End it at once, untold."""
        await self._running.aclose()
        self._transcript.close()

    # What it says.

    def say(self, stream: Literal["stdout", "stderr"], text: str, *, size: int) -> None:
        self._tell(
            notices.TerminalOutput(
                command_id=self.row.command_id,
                session_id=self.row.session_id,
                seq=self._transcript.seq + 1,
                output=text,
                type="error" if stream == "stderr" else "output",
                stream=stream,
            ),
            size=size,
        )

    def say_last(self, finish: Finish) -> None:
        self.state = "finished"
        self.finish = finish
        self._tell(last_event(self.row, self._transcript, finish), size=0)
        self._transcript.close()
        if self._transcript.incomplete:
            log.warning("not all output could be kept", extra={"command_id": self.row.command_id})

    def _tell(self, event: notices.TerminalOutput, *, size: int) -> None:
        self._transcript.append(encode(event), size=size)
        self._hub.announce(self._stream, event, also=self._reader())

    def _reader(self) -> Connection | None:
        """The socket that asked, as long as it is there."""
        if self._connection and self._connection.closed:
            self._connection = None
        return self._connection

    async def _wait_for_readers(self) -> None:
        """A slow client holds up the command, for a bounded time, and not the daemon's stop."""
        if self._asked and self._asked.reason == "daemon_stopped":
            return
        try:
            async with asyncio.timeout(None) as self._patience:
                await self._hub.drained(self._stream, self._reader())
        except TimeoutError:
            pass
        finally:
            self._patience = None


def last_event(row: CommandRow, transcript: Transcript, finish: Finish) -> notices.TerminalOutput:
    """The one that says how a command ended."""
    ending = finish.ending
    return notices.TerminalOutput(
        command_id=row.command_id,
        session_id=row.session_id,
        seq=transcript.seq + 1,
        output="",
        type="success" if ending.reason == "exit" and ending.exit_code == 0 else "error",
        stream="stdout",
        final=True,
        exit_code=ending.exit_code,
        signal=ending.signal,
        reason=ending.reason,
        limit=ending.limit or UNSET,
        duration_ms=finish.duration_ms,
        truncated_bytes=transcript.dropped,
    )
