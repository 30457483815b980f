"""Projects and their files on real parts: store, hub, dispatcher, watcher; clients are `fakes.Socket`s."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_daemon.config import Folders, ProjectSettings, RateSettings, Settings, StorageSettings
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.rooms import Rooms
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.projects.files import FileService
from claude_daemon.projects.service import ProjectService
from claude_daemon.protocol import requests
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.store import Store
from fakes import Socket, until


@dataclass
class Desk:
    projects: ProjectService
    hub: Hub
    store: Store
    _dispatcher: Dispatcher

    async def call(self, client: Socket, event: str, **payload: Any) -> dict[str, Any]:
        """The whole ack."""
        return await self._dispatcher(client.caller, event, payload)

    async def done(self, client: Socket, event: str, **payload: Any) -> dict[str, Any]:
        """The ack of a request that must succeed."""
        ack = await self.call(client, event, **payload)
        assert ack["ok"], ack
        return ack

    async def refused(self, client: Socket, event: str, **payload: Any) -> dict[str, Any]:
        """The error of a request that must not succeed."""
        ack = await self.call(client, event, **payload)
        assert not ack["ok"], ack
        error: dict[str, Any] = ack["error"]
        return error

    async def joined(self, device_id: str, project_id: str, **more: Any) -> Socket:
        """A new client that hears a project."""
        client = Socket(device_id)
        await self.done(client, "join_project", projectId=project_id, **more)
        return client


@asynccontextmanager
async def desk(home: Path, **settings: Any) -> AsyncIterator[Desk]:
    """Open everything over `home`; again over the same one, it goes on where it ended."""
    chosen = Settings(
        folders=Folders(home / "config", home / "state", home / "cache", home / "run"),
        projects=ProjectSettings(**settings),
    )
    chosen.folders.state.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = await enter(Store(StorageSettings(), chosen.folders.state))
        supervisor = await enter(Supervisor())
        hub = Hub(EventLog(store))
        rate = RateSettings(points=1_000_000)
        dispatcher = Dispatcher(Remembered(store), Metrics(), rate)
        projects = await enter(ProjectService(hub, store, supervisor, chosen, user_id="ada"))
        files = FileService(projects, hub, store, chosen.projects)
        rooms = Rooms(hub, projects, "none")
        on = dispatcher.on
        on(requests.JoinProject, rooms.join_project)
        on(requests.ListProjects, projects.list)
        on(requests.ProjectAdd, projects.add)
        on(requests.ProjectRemove, projects.remove)
        on(requests.ProjectPause, projects.pause)
        on(requests.ProjectResume, projects.resume)
        on(requests.FileList, files.list)
        on(requests.FileRead, files.read)
        on(requests.FileHistory, files.history)
        dispatcher.on_once(requests.FileUpdate, files.update)
        yield Desk(projects, hub, store, dispatcher)


async def heard(client: Socket, path: str, *, times: int = 1) -> list[dict[str, Any]]:
    """The `file_update`s of one file that a client hears."""

    def found() -> list[dict[str, Any]]:
        return [each for each in client.heard("file_update") if each["filePath"] == path]

    await until(lambda: len(found()) >= times)
    return found()


async def in_step(client: Socket, root: Path) -> None:
    """Return when a client has heard of everything done to the project's files so far."""
    fence = root / "fence"
    fence.write_text("fence")
    await heard(client, "fence")
    fence.unlink()
    await heard(client, "fence", times=2)
    client.events = [each for each in client.events if each[1].get("filePath") != "fence"]
    await asyncio.sleep(0)
