"""Runs commands for clients: one sandbox each, so many at once, the others in line.

A command belongs to nobody's connection: it runs on when its client leaves, and its output can be had back.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import msgspec
from msgspec import UNSET

from claude_daemon.config import TerminalSettings
from claude_daemon.core.hub import Hub
from claude_daemon.core.rooms import Rooms
from claude_daemon.core.service import Caller
from claude_daemon.errors import (
    BusyError,
    ConflictError,
    InvalidError,
    NotFoundError,
    SandboxUnavailableError,
)
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import facts, notices, replies, requests
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import CommandId, DeviceId, session_stream, timestamp
from claude_daemon.storage import commands as rows
from claude_daemon.storage.commands import CommandRow
from claude_daemon.storage.store import Store, now_ms
from claude_daemon.terminal import place
from claude_daemon.terminal.command import Command, Finish
from claude_daemon.terminal.ending import Asked, Ending
from claude_daemon.terminal.limits import Limits
from claude_daemon.terminal.place import Projects
from claude_daemon.terminal.pool import Pool
from claude_daemon.terminal.process import Steps, find_capability
from claude_daemon.terminal.sandbox import Capability, Job, Sandbox
from claude_daemon.terminal.transcript import Transcripts

STOP_S = 3.0  # of the daemon's 5 s to drain: for ending what runs and telling so
STOPPING: Steps = ((0, "TERM"), (1.0, "KILL"))
REVOKED: Steps = ((0, "TERM"), (1.0, "KILL"))
TRY_AGAIN_S = 5.0  # a sandbox that was not there is looked for again, this much later at the earliest
LISTED = 200


class TerminalService:
    """An async context; leaving it ends all commands."""

    def __init__(
        self,
        hub: Hub,
        store: Store,
        supervisor: Supervisor,
        rooms: Rooms,
        projects: Projects,
        sandbox: Sandbox,
        settings: TerminalSettings,
        *,
        folder: Path,
    ) -> None:
        """`folder` keeps what commands printed."""
        self._hub = hub
        self._store = store
        self._supervisor = supervisor
        self._rooms = rooms
        self._projects = projects
        self._sandbox = sandbox
        self._settings = settings
        self._folder = folder
        self._pool = Pool(slots=settings.slots, queue=settings.queue)
        self._commands: dict[str, Command] = {}
        self._stopping = False
        self._capability: Capability | None = None
        self._why_not = ""
        self._tried_at = 0.0
        self._trying = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._transcripts = await asyncio.to_thread(
            Transcripts, self._folder, kept_bytes=self._settings.kept_bytes
        )
        await self._try_sandbox()
        await self._end_what_a_crash_left()
        known = await self._store.read(rows.ids)
        await asyncio.to_thread(self._transcripts.remove_all_but, known)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        under_way = list(self._commands.values())
        for command in under_way:
            command.end(Asked("daemon_stopped"), STOPPING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                for command in under_way:
                    await command.finished.wait()

    def status(self) -> replies.TerminalStatus:
        return replies.TerminalStatus(
            running=self._pool.running,
            queued=self._pool.queued,
            slots=self._pool.slots,
            sandbox=self._shown(),
        )

    def problems(self) -> list[str]:
        return [] if self._capability else [self._why_not]

    async def cancel_device(self, device_id: DeviceId) -> None:
        """End all commands of a device whose access was revoked."""
        for command in self._commands.values():
            if command.row.device_id == device_id:
                command.end(Asked("cancelled"), REVOKED)

    # Handlers.

    async def run(self, caller: Caller, request: requests.TerminalCommand) -> replies.CommandAccepted:
        _refuse_what_is_not_built(request)
        if not self._capability:
            await self._try_sandbox()
        if not self._capability:
            raise SandboxUnavailableError(self._why_not)
        where = await asyncio.to_thread(
            place.find,
            self._projects,
            project_id=request.project_id,
            working_dir=request.working_dir,
            joined=self._rooms.current_project(caller),
        )
        if self._stopping:
            raise BusyError("the daemon is stopping; try again when it is back")
        command_id = CommandId(str(uuid.uuid4()))
        position = self._pool.enter(command_id)
        try:
            row = CommandRow(
                command_id,
                self._rooms.write_to(caller, request.session_id),
                where.project_id,
                caller.device_id,
                caller.user_id,
                request.command,
                str(where.cwd) if where.cwd else None,
                "queued" if position else "running",
                self._capability.mechanism,
                now_ms(),
            )
            await self._store.write(lambda connection: rows.add(connection, row))
            wall_s = min(request.timeout_seconds or self._settings.timeout_s, self._settings.max_timeout_s)
            command = Command(
                row,
                Job(
                    request.command,
                    Limits.of(self._settings, wall_s=wall_s),
                    where.project,
                    where.cwd,
                    where.inner,
                ),
                self._transcripts.begin(command_id),
                self._hub,
                caller.connection,
            )
        except BaseException:
            self._free(command_id)
            raise
        self._commands[command_id] = command
        if not position or self._has_slot(command_id):
            command.begin()
        self._supervisor.spawn("command", self._live(command, request.client_id, caller))
        return replies.CommandAccepted(
            command_id=command_id,
            state="queued" if position else "running",
            sandbox=self._shown(),
            position=position or UNSET,
        )

    async def cancel(self, _caller: Caller, request: requests.TerminalCancel) -> None:
        command = self._commands.get(request.command_id)
        if command is None:
            row = await self._row(request.command_id)
            raise ConflictError(f"the command {row.command_id} has ended already")
        if request.signal is None or not command.signal(request.signal):
            steps: Steps = (
                (0, "INT"),
                (self._settings.int_grace_s, "TERM"),
                (self._settings.int_grace_s + self._settings.term_grace_s, "KILL"),
            )
            command.end(Asked("cancelled"), steps)

    async def list(self, caller: Caller, request: requests.TerminalList) -> replies.Commands:
        session_id = request.session_id and self._rooms.session(caller, request.session_id)
        found = await self._store.read(partial(rows.newest, session_id=session_id, limit=LISTED))
        return replies.Commands(commands=[_listed(row) for row in found])

    async def history(
        self, _caller: Caller, request: requests.TerminalHistory
    ) -> replies.CommandOutput:
        row = await self._row(request.command_id)
        page = await asyncio.to_thread(
            self._transcripts.read, row.command_id, after=request.after_seq, limit=request.limit
        )
        return replies.CommandOutput(
            command_id=row.command_id, state=_state(row), output=page.output, has_more=page.more
        )

    # A command's life.

    async def _live(self, command: Command, client_id: str | None, caller: Caller) -> None:
        command_id = command.row.command_id
        try:
            if await command.turn():
                await self._store.write(lambda connection: rows.started(connection, command_id, now_ms()))
                await self._hub.publish(
                    session_stream(command.row.session_id),
                    facts.TerminalStarted(
                        command_id=command_id,
                        command=command.row.command,
                        device_id=command.row.device_id,
                        project_id=command.row.project_id or UNSET,
                    ),
                    # Its place in line is over: the event goes to everybody, the asking socket too.
                    caller=msgspec.structs.replace(caller, connection=None)
                    if isinstance(caller, msgspec.Struct)
                    else _without_socket(caller),
                    client_id=client_id,
                )
                finish = await command.run(self._sandbox, self._settings)
            else:
                finish = command.never_ran()
            command.say_final(finish)
            await self._finished(command.row, finish)
        finally:
            del self._commands[command_id]
            self._free(command_id)
            command.finished.set()

    async def _finished(self, row: CommandRow, finish: Finish) -> None:
        ending = finish.ending
        await self._hub.publish(
            session_stream(row.session_id),
            facts.TerminalFinished(
                command_id=row.command_id,
                exit_code=ending.exit_code,
                signal=ending.signal,
                reason=ending.reason,
                duration_ms=finish.duration_ms,
                limit=ending.limit or UNSET,
            ),
        )
        gone = await self._store.write(partial(self._record_end, row, ending))
        await asyncio.to_thread(self._transcripts.remove, gone)
