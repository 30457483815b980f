"""The API served in this process, all of it real, without the daemon's start-up.

For tests that look inside, or that need many servers with settings of their own; chat stands for all
services.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from claude_daemon.chat.service import ChatService
from claude_daemon.config import RateSettings, ServerSettings, StorageSettings
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.rooms import Rooms
from claude_daemon.core.status import Sources, Status
from claude_daemon.gateway.credentials import Credentials
from claude_daemon.gateway.http import Routes
from claude_daemon.gateway.server import Server, local_caller
from claude_daemon.gateway.sockets import Sockets
from claude_daemon.lib.files import private_folder
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import notices, replies, requests
from claude_daemon.protocol.model import DeviceId, Scope, UserId
from claude_daemon.security.devices import Devices
from claude_daemon.security.tokens import Tokens
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.store import Store

USER = UserId("tester")
SECRET = "of the tests, and long enough for everyone"
ISSUER = "the installation of the tests"
DEFAULT_SCOPES: frozenset[Scope] = frozenset({"view", "chat", "files", "terminal"})


class OneProject:
    """The registered projects: `app`."""

    def known(self, project_id: str) -> bool:
        return project_id == "app"


@dataclass
class Served:
    """What stands behind the listeners."""

    server: Server
    socket_path: Path
    store: Store
    hub: Hub
    rooms: Rooms
    dispatcher: Dispatcher
    sockets: Sockets
    devices: Devices
    tokens: Tokens
    routes: Routes
    problems: list[str]
    """What `/health` and `system_status` complain about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def token(
        self, *, scopes: frozenset[Scope] = DEFAULT_SCOPES, ttl_s: int = 3_600, name: str = "a test"
    ) -> str:
        """A program's token, each time of another device."""
        made = await self.devices.token_create(
            self.devices.local(), requests.TokenCreate(scopes=list(scopes), ttl_seconds=ttl_s, name=name)
        )
        return made.token

    def device(self, token: str) -> DeviceId:
        return self.tokens.read(token).device_id


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    server: ServerSettings | None = None,
    rate: RateSettings | None = None,
    storage: StorageSettings | None = None,
    socket_path: Path | None = None,
) -> AsyncIterator[Served]:
    """Rate limits are out of the way unless given."""
    server = server or ServerSettings(port=0)
    rate = rate or RateSettings(points=1_000_000)
    socket_path = socket_path or private_folder(folder / "run") / "daemon.sock"
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        metrics = Metrics()
        store = await enter(Store(storage or StorageSettings(), private_folder(folder / "state")))
        supervisor = await enter(Supervisor())
        tokens = Tokens(SECRET, issuer=ISSUER)
        devices = Devices(store, tokens, user_id=USER, token_ttl_s=3_600)
        await devices.load()
        hub = Hub(EventLog(store))
        dispatcher = Dispatcher(Remembered(store), metrics, rate)
        rooms = Rooms(hub, OneProject(), "none")
        credentials = Credentials(
            devices.admit, local_caller(devices.local), devices.connected, devices.disconnected
        )
        sockets = Sockets(
            settings=server,
            rate=rate,
            hub=hub,
            rooms=rooms,
            dispatcher=dispatcher,
            metrics=metrics,
            supervisor=supervisor,
            credentials=credentials,
        )
        problems: list[str] = []
        status = Status(_sources(sockets, hub, devices, store, problems), metrics)
        chat = ChatService(hub, rooms, None)
        on = dispatcher.on
        on(requests.JoinSession, rooms.join_session)
        on(requests.JoinProject, rooms.join_project)
        on(requests.JoinUser, rooms.join_user)
        on(requests.LeaveSession, rooms.leave_session)
        on(requests.LeaveProject, rooms.leave_project)
        on(requests.ListSessions, rooms.list_sessions)
        on(requests.ChatHistory, chat.history)
        on(requests.Typing, chat.typing)
        on(requests.SystemStatus, status.system_status)
        on(requests.DeviceList, devices.device_list)
        on(requests.DeviceRename, devices.device_rename)
        on(requests.DeviceRevoke, devices.device_revoke)
        on(requests.TokenCreate, devices.token_create)
        dispatcher.on_once(requests.ChatMessage, chat.message)
        devices.on_revoked.append(sockets.revoked)

        routes = Routes(status, metrics, credentials)
        listening = await enter(Server(server, socket_path, sockets, routes))
        routes.ready = True
        yield Served(
            listening, socket_path, store, hub, rooms, dispatcher, sockets, devices, tokens, routes, problems
        )
        sockets.announce(notices.ServerShutdown(message="goodbye"))
        await sockets.close(0.5)


def _sources(sockets: Sockets, hub: Hub, devices: Devices, store: Store, problems: list[str]) -> Sources:
    return Sources(
        clients=lambda: sockets.connected,
        sessions=lambda: hub.audience("session:"),
        devices=devices.listed,
        projects=list,
        terminal=lambda: replies.TerminalStatus(0, 0, 0, replies.Sandbox("none", "off", [])),
        speech=lambda: replies.SpeechStatus(None, "unavailable", 0),
        assistant=lambda: replies.AssistantStatus("none", False),
        storage=lambda: replies.StorageStatus("sqlite", store.size()),
        vault=lambda: "file",
        problems=lambda: [*problems, *filter(None, [store.problem])],
    )
