"""Runs commands for clients: one sandbox each, so many at once, the others in line.

A command belongs to nobody's connection: it runs on when its client leaves, and its output can be had back.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from msgspec import UNSET

from claude_daemon.config import TerminalSettings
from claude_daemon.core.hub import Hub
from claude_daemon.core.rooms import Rooms
from claude_daemon.core.service import Caller
from claude_daemon.errors import (
    BusyError,
    DaemonError,
    InvalidError,
    NotFoundError,
    SandboxUnavailableError,
)
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import facts, replies, requests
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import DeviceId, session_stream, timestamp
from claude_daemon.storage import commands as rows
from claude_daemon.storage.commands import CommandRow
from claude_daemon.storage.store import Store, now_ms
from claude_daemon.terminal.command import Command, Finish, last_event
from claude_daemon.terminal.ending import Asked, Ending
from claude_daemon.terminal.limits import Limits
from claude_daemon.terminal.place import Projects, find_place
from claude_daemon.terminal.pool import Pool
from claude_daemon.terminal.process import Process, Steps, find_capability
from claude_daemon.terminal.sandbox import Capability, Job, Sandbox
from claude_daemon.terminal.transcript import Transcripts

T = TypeVar("T")

log = logging.getLogger(__name__)

STOP_S = 3.0  # of the daemon's 5 s to drain: for ending what runs and telling so
AT_ONCE: Steps = ((0, "TERM"), (1.0, "KILL"))  # for a stop, and for a revocation within its 2 s
TRY_AGAIN_S = 1.0  # a sandbox that could not be made is tried again with a command, but not more often


class TerminalService:
    """An async context; leaving it ends all commands."""

    def __init__(
        self,
        hub: Hub,
        store: Store,
        supervisor: Supervisor,
        *,
        rooms: Rooms,
        projects: Projects,
        sandbox: Sandbox,
        settings: TerminalSettings,
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
        kept_bytes = self._settings.kept_bytes
        self._transcripts = await asyncio.to_thread(Transcripts, self._folder, kept_bytes=kept_bytes)
        await asyncio.to_thread(self._sandbox.sweep)
        await self._try_sandbox()
        for row in await self._store.read(rows.unfinished):
            await self._end_interrupted(row)
        known = await self._store.read(rows.ids)
        await asyncio.to_thread(self._transcripts.remove_all_but, set(known))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        under_way = list(self._commands.values())
        for command in under_way:
            command.end(Asked("daemon_stopped"), AT_ONCE)
        if tasks := [command.task for command in under_way if command.task]:
            await asyncio.wait(tasks, timeout=STOP_S)

    def status(self) -> replies.TerminalStatus:
        return replies.TerminalStatus(
            running=self._pool.running,
            queued=self._pool.queued,
            slots=self._pool.slots,
            sandbox=self._shown(),
        )

    def problems(self) -> list[str]:
        """Why no command can be run, if so."""
        return [] if self._capability else [self._why_not]

    async def cancel_device(self, device_id: DeviceId) -> None:
        """End the commands of a device whose access was revoked."""
        for command in list(self._commands.values()):
            if command.row.device_id == device_id:
                command.end(Asked("cancelled"), AT_ONCE)

    # Handlers.

    async def run(self, caller: Caller, request: requests.TerminalCommand) -> replies.CommandAccepted:
        """What can be refused is refused here: with a free slot it is started before it is accepted."""
        self._check(request)
        await self._require_sandbox()
        place = await asyncio.to_thread(
            find_place,
            self._projects,
            project_id=request.project_id,
            working_dir=request.working_dir,
            current=self._rooms.current_project(caller),
        )
        if self._stopping:
            raise BusyError("the daemon is stopping; send the command again when it is back")
        command_id = str(uuid.uuid4())
        position = self._pool.enter(command_id)
        command = Command(
            CommandRow(
                command_id,
                session_id=self._rooms.write_to(caller, request.session_id),
                project_id=place.project_id,
                device_id=caller.device_id,
                user_id=caller.user_id,
                command=request.command,
                folder=str(place.folder) if place.folder else None,
                state="queued" if position else "running",
                sandbox=self._shown().mechanism,
                created=now_ms(),
                started=None if position else now_ms(),
            ),
            Process(
                self._sandbox,
                Job(request.command, self._limits(request), place.project, place.folder, place.inner),
                self._settings,
            ),
            self._transcripts.begin(command_id),
            self._hub,
            caller.connection,
        )
        self._commands[command_id] = command
        try:
            if position == 0:
                await command.start()
                command.take_turn()
            await self._store.write(partial(rows.add, row=command.row))
            if caller.connection and caller.turn:  # the ack comes first
                caller.connection.hold(session_stream(command.row.session_id), caller.turn)
            command.task = self._supervisor.spawn("command", self._live(command, caller, request.client_id))
        except BaseException:
            await command.abandon()
            self._leave(command)
            del self._commands[command_id]
            raise
        return replies.CommandAccepted(
            command_id=command_id,
            state="queued" if position else "running",
            sandbox=self._shown(),
            position=position or UNSET,
        )

    async def cancel(self, caller: Caller, request: requests.TerminalCancel) -> None:
        """To end what has ended is no failure: it may have been a moment ago."""
        row = await self._row(caller, request.command_id)
        command = self._commands.get(row.command_id)
        if command is None:
            return
        if request.signal and command.state == "running":
            command.signal(request.signal)
        else:
            to_term, to_kill = self._settings.int_grace_s, self._settings.term_grace_s
            command.end(Asked("cancelled"), [(0, "INT"), (to_term, "TERM"), (to_term + to_kill, "KILL")])

    async def list(self, caller: Caller, request: requests.TerminalList) -> replies.Commands:
        session_id = request.session_id and self._rooms.session(caller, request.session_id)
        settings = self._settings
        limit = settings.kept_commands + settings.slots + settings.queue
        found = await self._store.read(
            partial(rows.newest, user_id=caller.user_id, session_id=session_id, limit=limit)
        )
        return replies.Commands(commands=[self._listed(row) for row in found])

    async def history(self, caller: Caller, request: requests.TerminalHistory) -> replies.CommandOutput:
        row = await self._row(caller, request.command_id)
        state = self._state(row)
        page = await asyncio.to_thread(
            self._transcripts.read, row.command_id, after=request.after_seq, limit=request.limit
        )
        return replies.CommandOutput(
            command_id=row.command_id, state=state, output=page.output, has_more=page.more
        )

    # A command's life.

    async def _live(self, command: Command, caller: Caller, client_id: str | None) -> None:
        try:
            finish = await self._finish(command, caller, client_id)
            command.say_last(finish)
            self._leave(command)
            await self._record(command.row, finish)
        finally:
            await command.abandon()
            self._leave(command)
            del self._commands[command.row.command_id]

    async def _finish(self, command: Command, caller: Caller, client_id: str | None) -> Finish:
        asked = await command.turn()
        row = command.row
        if command.state == "queued":
            if asked:
                return Finish(Ending(None, None, asked.reason))
            try:
                await command.start()
            except DaemonError as error:  # it was accepted, so this is no answer any more
                command.say("stderr", f"{error}\n", size=0)
                return Finish(Ending(None, None, "sandbox"))
            work = partial(rows.started, command_id=row.command_id, at=now_ms())
            await self._or_say_so(self._store.write(work))
        await self._or_say_so(
            self._hub.publish(
                session_stream(row.session_id),
                facts.TerminalStarted(
                    command_id=row.command_id,
                    command=row.command,
                    device_id=row.device_id,
                    project_id=row.project_id or UNSET,
                ),
                caller=replace(caller, connection=None),  # its socket hears it like all others
                client_id=client_id,
            )
        )
        return await command.run()

    def _leave(self, command: Command) -> None:
        """Give its place to the next; more than once does no harm."""
        following = self._pool.leave(command.row.command_id)
        if following:
            self._commands[following].take_turn()

    async def _record(self, row: CommandRow, finish: Finish) -> None:
        """Say it in the session's stream, and forget the oldest command."""
        ending = finish.ending

        await self._or_say_so(
            self._hub.publish(
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
        )
        work = partial(
            rows.finished,
            command_id=row.command_id,
            at=now_ms(),
            exit_code=ending.exit_code,
            signal=ending.signal,
            reason=ending.reason,
            keep=self._settings.kept_commands,
        )
        forgotten = await self._or_say_so(self._store.write(work))
        if forgotten:
            await asyncio.to_thread(self._transcripts.remove, forgotten)

    async def _end_interrupted(self, row: CommandRow) -> None:
        """It died with an earlier run of the daemon; how is not known, so nothing is said of that."""
        ended = await asyncio.to_thread(self._transcripts.last_sign, row.command_id)
        duration_ms = max(0, ended - row.started) if ended and row.started else 0
        finish = Finish(Ending(None, None, "daemon_stopped"), duration_ms)
        transcript = await asyncio.to_thread(self._transcripts.resume, row.command_id)
        transcript.append(encode(last_event(row, transcript, finish)), size=0)
        transcript.close()
        await self._record(row, finish)

    async def _or_say_so(self, writing: Awaitable[T]) -> T | None:
        """A disk that is full does not end a command, and what is missing is said in the log."""
        try:
            return await writing
        except DaemonError as error:
            log.warning("a command could not be recorded", extra={"reason": str(error)})
            return None

    # The sandbox.

    async def _require_sandbox(self) -> None:
        loop = asyncio.get_running_loop()
        if self._capability is None and loop.time() - self._tried_at > TRY_AGAIN_S:
            await self._try_sandbox()
        if self._capability is None:
            raise SandboxUnavailableError(self._why_not)

    async def _try_sandbox(self) -> None:
        async with self._trying:
            if self._capability:
                return
            try:
                self._capability = await find_capability(self._sandbox, self._settings)
            except SandboxUnavailableError as error:
                self._why_not = str(error)
                log.warning("no sandbox: %s", error)
            self._tried_at = asyncio.get_running_loop().time()

    def _shown(self) -> replies.Sandbox:
        if self._capability is None:
            return replies.Sandbox("none", "off", [])
        return replies.Sandbox(
            self._capability.mechanism, self._capability.network, list(self._capability.limits)
        )

    # Requests and rows.

    def _check(self, request: requests.TerminalCommand) -> None:
        if request.pty:
            raise _malformed("pty", "any.only", "a pseudo-terminal is not built yet; leave pty out")
        if request.network != "off":
            raise _malformed("network", "any.only", "commands have no network yet; leave network out")
        longest = self._settings.max_timeout_s
        if request.timeout_seconds and request.timeout_seconds > longest:
            raise _malformed("timeoutSeconds", "any.only", f"at most {longest} seconds are allowed here")
        if "\0" in request.command or not _is_unicode(request.command):
            raise _malformed("command", "string.base", "a command holds no NUL and no lone surrogate")

    def _limits(self, request: requests.TerminalCommand) -> Limits:
        return Limits.of(self._settings, wall_s=request.timeout_seconds or self._settings.timeout_s)

    async def _row(self, caller: Caller, command_id: str) -> CommandRow:
        row = await self._store.read(partial(rows.find, command_id=command_id))
        if row is None or row.user_id != caller.user_id:
            raise NotFoundError(f"there is no command {command_id!r}, or it was too long ago")
        return row

    def _state(self, row: CommandRow) -> replies.CommandState:
        """As it is now; the database follows."""
        command = self._commands.get(row.command_id)
        return command.state if command else "finished"

    def _listed(self, row: CommandRow) -> replies.Command:
        command = self._commands.get(row.command_id)
        finish = command.finish if command else None
        state = self._state(row)
        return replies.Command(
            command_id=row.command_id,
            session_id=row.session_id,
            project_id=row.project_id,
            command=row.command,
            state=state,
            started_at=timestamp(datetime.fromtimestamp((row.started or row.created) / 1_000, UTC)),
            exit_code=UNSET if state != "finished" else finish.ending.exit_code if finish else row.exit_code,
        )


def _malformed(field: str, kind: str, reason: str) -> InvalidError:
    return InvalidError("Invalid command format", path=[field], kind=kind, reason=reason)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
