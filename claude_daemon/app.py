"""The composition root: open everything in order of need; what is opened last is closed first.

It knows everybody, nobody knows it.
"""

import asyncio
import getpass
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from claude_daemon.chat.assistant import Assistant
from claude_daemon.chat.claude_api import ClaudeApi
from claude_daemon.chat.service import ChatService
from claude_daemon.config import Settings, SpeechSettings
from claude_daemon.core import logs
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.rooms import Rooms
from claude_daemon.core.service import Caller
from claude_daemon.core.status import Sources, Status
from claude_daemon.errors import StartError
from claude_daemon.gateway.credentials import Credentials
from claude_daemon.gateway.http import Routes
from claude_daemon.gateway.server import Server, local_caller
from claude_daemon.gateway.sockets import Sockets
from claude_daemon.lib.files import private_folder
from claude_daemon.lib.lock import Lock, LockedError
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.projects.files import FileService
from claude_daemon.projects.service import ProjectService
from claude_daemon.protocol import notices, replies, requests
from claude_daemon.protocol.model import UserId
from claude_daemon.protocol.version import SERVER_VERSION
from claude_daemon.security.devices import Devices
from claude_daemon.security.tokens import Tokens
from claude_daemon.security.vault import API_KEY, Vault, open_vault
from claude_daemon.speech.player import Player
from claude_daemon.speech.service import SpeechService
from claude_daemon.speech.speaker import Speaker
from claude_daemon.speech.voice import Voice, WorkerVoice
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.retention import Retention
from claude_daemon.storage.store import Store
from claude_daemon.terminal.sandbox import Sandbox
from claude_daemon.terminal.sandbox.bwrap import Bubblewrap
from claude_daemon.terminal.service import TerminalService

log = logging.getLogger(__name__)

SECRET = "jwt-secret"  # noqa: S105  its name in the vault
GOODBYE = "claude-daemon is stopping"
GOODBYE_S = 1.0  # of the 5 s to drain: for the last events to leave, and the transports to close


def bubblewrap(settings: Settings) -> Sandbox:
    """The one mechanism that is built; elsewhere its probe says so and no command is run."""
    where = settings.folders
    return Bubblewrap(
        settings.terminal,
        state=where.state,
        home=Path.home(),
        hidden=[where.config, where.state, where.cache, where.run],
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What touches the world outside: the whole difference between the daemon and a test."""

    voice: Callable[[SpeechSettings], Voice] = WorkerVoice
    sandbox: Callable[[Settings], Sandbox] = bubblewrap


@asynccontextmanager
async def running(settings: Settings, parts: Parts, stop: asyncio.Event) -> AsyncIterator[Server]:
    """Open everything in order of need.  What is opened last is closed first."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        work = AsyncExitStack()  # what clients hear the end of: closed before their sockets
        stack.push_async_exit(work)  # here too, should something below not open
        metrics = Metrics()
        store = await enter(Store(settings.storage, settings.folders.state))
        supervisor = await enter(Supervisor())
        vault = await open_vault(settings)
        user_id = UserId(getpass.getuser())
        devices = Devices(
            store,
            await _tokens(settings, vault),
            user_id=user_id,
            token_ttl_s=settings.security.token_ttl_s,
        )
        await devices.load()
        hub = Hub(EventLog(store))
        dispatcher = Dispatcher(Remembered(store), metrics, settings.rate)
        api_key = settings.chat.claude_api_key or await vault.get(API_KEY)
        assistant = None
        if api_key:
            backend = await enter(ClaudeApi(settings.chat, api_key))
            assistant = await work.enter_async_context(Assistant(hub, supervisor, backend, settings.chat))
        projects = await work.enter_async_context(
            ProjectService(hub, store, supervisor, settings, user_id=user_id)
        )
        files = FileService(projects, hub, store, settings.projects)
        rooms = Rooms(hub, projects, assistant.backend.name if assistant else "none")
        chat = ChatService(hub, rooms, assistant)
        speaker = Speaker(
            parts.voice(settings.speech),
            Player(settings.speech),
            settings.speech,
            folder=settings.folders.cache / "speech",
        )
        speech = SpeechService(hub, speaker)
        supervisor.loop("speech", speaker.serve)
        terminal = await work.enter_async_context(
            TerminalService(
                hub,
                store,
                supervisor,
                rooms=rooms,
                projects=projects,
                sandbox=parts.sandbox(settings),
                settings=settings.terminal,
                folder=settings.folders.state / "commands",
            )
        )
        supervisor.loop("retention", Retention(store, settings.storage, devices.forget).serve)
        credentials = Credentials(
            devices.admit, local_caller(devices.local), devices.connected, devices.disconnected
        )
        sockets = Sockets(
            settings=settings.server,
            rate=settings.rate,
            hub=hub,
            rooms=rooms,
            dispatcher=dispatcher,
            metrics=metrics,
            supervisor=supervisor,
            credentials=credentials,
        )
        status = Status(
            Sources(
                clients=lambda: sockets.connected,
                sessions=lambda: hub.audience("session:"),
                devices=devices.listed,
                projects=projects.status,
                terminal=terminal.status,
                speech=speech.status,
                assistant=chat.status,
                storage=lambda: replies.StorageStatus("sqlite", store.size()),
                vault=lambda: vault.name,
                problems=lambda: [
                    *([store.problem] if store.problem else []),
                    *terminal.problems(),
                    *projects.problems(),
                ],
            ),
            metrics,
        )
        _answer(
            dispatcher=dispatcher,
            rooms=rooms,
            devices=devices,
            projects=projects,
            files=files,
            terminal=terminal,
            chat=chat,
            speech=speech,
            status=status,
            stop=stop,
        )
        devices.on_revoked += [sockets.revoked, terminal.cancel_device]
        routes = Routes(status, metrics, credentials)
        server = await enter(Server(settings.server, settings.socket_path, sockets, routes))
        stack.push_async_callback(sockets.close, GOODBYE_S)
        stack.push_async_exit(work)
        routes.ready = True
        try:
            yield server
        finally:
            routes.ready = False
            sockets.announce(notices.ServerShutdown(message=GOODBYE))


def _answer(
    *,
    dispatcher: Dispatcher,
    rooms: Rooms,
    devices: Devices,
    projects: ProjectService,
    files: FileService,
    terminal: TerminalService,
    chat: ChatService,
    speech: SpeechService,
    status: Status,
    stop: asyncio.Event,
) -> None:
    """Say who answers what."""

    async def daemon_stop(_caller: Caller, _request: requests.DaemonStop) -> None:
        stop.set()

    on = dispatcher.on
    on(requests.JoinSession, rooms.join_session)
    on(requests.JoinProject, rooms.join_project)
    on(requests.JoinUser, rooms.join_user)
    on(requests.LeaveSession, rooms.leave_session)
    on(requests.LeaveProject, rooms.leave_project)
    on(requests.ListSessions, rooms.list_sessions)
    on(requests.ListProjects, projects.list)
    on(requests.ProjectAdd, projects.add)
    on(requests.ProjectRemove, projects.remove)
    on(requests.ProjectPause, projects.pause)
    on(requests.ProjectResume, projects.resume)
    dispatcher.on_once(requests.FileUpdate, files.update)
    on(requests.FileList, files.list)
    on(requests.FileRead, files.read)
    on(requests.FileHistory, files.history)
    on(requests.TerminalCommand, terminal.run)
    on(requests.TerminalCancel, terminal.cancel)
    on(requests.TerminalList, terminal.list)
    on(requests.TerminalHistory, terminal.history)
    dispatcher.on_once(requests.ChatMessage, chat.message)
    on(requests.ChatCancel, chat.cancel)
    on(requests.ChatHistory, chat.history)
    on(requests.Typing, chat.typing)
    dispatcher.on_once(requests.TtsNotification, speech.notify)
    on(requests.DeviceList, devices.device_list)
    on(requests.DeviceRename, devices.device_rename)
    on(requests.DeviceRevoke, devices.device_revoke)
    on(requests.TokenCreate, devices.token_create)
    on(requests.SystemStatus, status.system_status)
    on(requests.DaemonStop, daemon_stop)


async def run(settings: Settings, ready: Callable[[str], None], parts: Parts | None = None) -> None:
    """Run until SIGINT, SIGTERM or `daemon_stop`; `ready` is told the address.

    Raises `StartError` and other DaemonErrors when it cannot start, and what ended an essential part.
    """
    prepare(settings)
    parts = parts or Parts()
    stop = asyncio.Event()
    with _only_one(settings) as lock:
        logs.set_up(settings.log, settings.folders.state, to_terminal=sys.stderr.isatty())
        _on_signals(stop)
        async with running(settings, parts, stop) as server:
            url = f"http://127.0.0.1:{server.port}"
            lock.note(msgspec.json.encode({"pid": os.getpid(), "url": url}).decode())
            log.info("ready", extra={"url": url, "version": SERVER_VERSION})
            ready(url)
            await stop.wait()
            log.info("stopping")
    log.info("stopped")


def prepare(settings: Settings) -> None:
    """Make the folders, ours alone."""
    for folder in (
        settings.folders.config,
        settings.folders.state,
        settings.folders.cache,
        settings.folders.run,
    ):
        try:
            private_folder(folder)
        except OSError as error:
            raise StartError(f"{folder} cannot be used: {error}") from None


@contextmanager
def _only_one(settings: Settings) -> Iterator[Lock]:
    try:
        with Lock(settings.folders.state / "daemon.lock") as lock:
            yield lock
    except LockedError as error:
        raise StartError(f"claude-daemon runs already ({error.note or 'it is starting'})") from None


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: Ctrl-C arrives in the main thread only
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


async def _tokens(settings: Settings, vault: Vault) -> Tokens:
    """The secret is made at the first start; JWT_SECRET only adds tokens of the older server."""
    secret = await vault.get(SECRET)
    if secret is None:
        secret = secrets.token_urlsafe(48)
        await vault.set(SECRET, secret)
    security = settings.security
    return Tokens(
        secret,
        issuer=vault.installation,
        legacy_secrets=[security.jwt_secret, security.jwt_secret_previous],
    )
