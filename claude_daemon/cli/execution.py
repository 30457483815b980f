"""The life of one `exec`: asked for, followed to its end through lost connections, cancelled by Ctrl-C."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from claude_daemon.cli.connection import DaemonOffError, connected
from claude_daemon.cli.failure import CommandError
from claude_daemon.cli.output import Output
from claude_daemon.cli.text import one_line
from claude_daemon.client import Client, NotRunningError, RefusedError
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol.model import Json

BACKLOG_BYTES = 16 << 20  # that stdout has not taken yet; beyond, the daemon keeps the rest
HISTORY_PAGE = 50
FRUITLESS = 5  # connections in a row that ended without a piece of output
INTERRUPTED = 130
DIED = "claude-daemon ended while the command ran, and the command with it; see why with: claude-daemon logs"

_WHY = {
    "timeout": "the command was ended: its time was over",
    "limit": "the command was ended: it went over its limit of {limit}",
    "daemon_stopped": "the command was ended: claude-daemon stopped",
}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run, and where."""

    command: str
    session_id: str
    project_id: str | None
    timeout_s: int | None


class Execution:
    """One command; `run` returns the exit code and raises `CommandError` when it could not run."""

    def __init__(self, order: Order, *, as_json: bool) -> None:
        self._order = order
        self._as_json = as_json
        self._client: Client | None = None
        self._command_id: str | None = None
        self._seq = 0
        """The last piece of output that was written."""
        self._final: Json | None = None
        self._interrupts = 0

    async def run(self) -> int:
        async with Supervisor() as jobs, Output() as output:
            self._jobs, self._output = jobs, output
            with self._signals():
                jobs.spawn("unread", self._cancel_when_unread())
                final = await self._follow()
        return self._code(final)

    async def _follow(self) -> Json:
        fruitless = 0
        while fruitless < FRUITLESS:
            before = self._seq
            try:
                await self._follow_on_one_connection()
            except DaemonOffError:
                if self._command_id is None:
                    raise
                raise CommandError(DIED) from None
            if self._final:
                return self._final
            await self._output.written()
            fruitless = 0 if self._seq > before else fruitless + 1
        raise CommandError("the connection to claude-daemon ends again and again; see: claude-daemon logs")

    async def _follow_on_one_connection(self) -> None:
        async with connected() as client:
            self._client = client
            try:
                await (self._catch_up(client) if self._command_id else self._begin(client))
                await self._listen(client)
            finally:
                self._client = None

    async def _begin(self, client: Client) -> None:
        order = self._order
        fields = {
            "command": order.command,
            "sessionId": order.session_id,
            "projectId": order.project_id,
            "workingDir": await _working_dir(client, order.project_id),
            "timeoutSeconds": order.timeout_s,
        }
        accepted = await client.call("terminal_command", fields)
        self._command_id = accepted["commandId"]
        # Its output comes to this socket anyway; that of others in the session must not.
        await client.emit("leave_session", {"sessionId": order.session_id})
        if accepted["state"] == "queued" and sys.stderr.isatty():
            print(f"waiting for a free slot, place {accepted.get('position', '?')}", file=sys.stderr)
        if self._interrupts:
            self._send_cancel()

    async def _catch_up(self, client: Client) -> None:
        """Hear the command again, then fetch what was said meanwhile."""
        await client.call("join_session", sessionId=self._order.session_id)
        while True:
            page = await client.call(
                "terminal_history", commandId=self._command_id, afterSeq=self._seq, limit=HISTORY_PAGE
            )
            for piece in page["output"]:
                self._take(piece)
            if self._final:
                return
            if not page["hasMore"]:
                if page["state"] == "finished":
                    raise CommandError("the command has ended, and how is not known any more")
                return
            await self._output.written()

    async def _listen(self, client: Client) -> None:
        """Until the command or the connection ends, or stdout is too far behind."""
        if self._final:
            return
        async for name, body in client.events():
            if name == "terminal_output" and body["commandId"] == self._command_id:
                self._take(body)
            if self._final or self._output.waiting > BACKLOG_BYTES:
                return

    def _take(self, piece: Json) -> None:
        if piece["seq"] <= self._seq:
            return
        if piece["seq"] > self._seq + 1:
            _note("some of the output came faster than it was read here and is no longer kept")
        self._seq = piece["seq"]
        if self._as_json:
            self._output.put(sys.stdout, json.dumps(piece).encode() + b"\n")
        elif piece["output"]:
            stream = sys.stderr if piece["stream"] == "stderr" else sys.stdout
            self._output.put(stream, piece["output"].encode("utf-8", "replace"))
        if piece.get("final"):
            self._final = piece

    def _code(self, final: Json) -> int:
        """The command's own; 128+n for a signal; 255 when it did not really run."""
        reason = final.get("reason")
        if reason in _WHY:
            _note(_WHY[reason].format(limit=final.get("limit", "the sandbox")))
        if self._output.broken.is_set():
            return 128 + _number("PIPE")
        if reason == "sandbox":
            return 255
        if final.get("exitCode") is not None:
            return int(final["exitCode"])
        return 128 + _number(final["signal"]) if final.get("signal") else 255

    # Ending it early.

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        try:
            for number in numbers:
                loop.add_signal_handler(number, self._interrupted)
        except NotImplementedError:  # Windows
            signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(self._interrupted))
            yield
            return
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _interrupted(self) -> None:
        """First an orderly end, then KILL; then nobody waits any longer."""
        self._interrupts += 1
        if self._interrupts > 2:
            _note("claude-daemon has not ended the command; look with: claude-daemon status")
            sys.exit(INTERRUPTED)
        self._send_cancel()

    def _send_cancel(self) -> None:
        self._jobs.spawn("cancel", self._cancel("KILL" if self._interrupts > 1 else None))

    async def _cancel(self, how: str | None) -> None:
        """Best effort: on a connection that ends, the command's end or the next Ctrl-C comes anyway."""
        if self._client and self._command_id:
            with contextlib.suppress(NotRunningError, RefusedError, TimeoutError):
                await self._client.call("terminal_cancel", commandId=self._command_id, signal=how)

    async def _cancel_when_unread(self) -> None:
        await self._output.broken.wait()
        self._interrupts = max(self._interrupts, 1)
        await self._cancel(None)


async def _working_dir(client: Client, project_id: str | None) -> str | None:
    """The current folder, if it lies in a registered project, or in the one that was named."""
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        return None
    around = [
        (each["path"], each["projectId"])
        for each in (await client.call("list_projects"))["projects"]
        if here.is_relative_to(each["path"])
    ]
    if not around or project_id not in {None, max(around)[1]}:  # the innermost has the longest path
        return None
    return str(here)


def _number(name: str) -> int:
    known = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "PIPE": 13, "TERM": 15}  # on Windows too
    return int(getattr(signal, f"SIG{name}", known.get(name, 0)))


def _note(sentence: str) -> None:
    print(one_line(sentence), file=sys.stderr, flush=True)
