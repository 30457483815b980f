"""Which folders are projects: added, removed, paused, and found again after a restart."""

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from claude_daemon.config import Settings
from claude_daemon.core.hub import Hub
from claude_daemon.core.service import Caller
from claude_daemon.errors import ConflictError, InvalidError, NotFoundError
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.projects import registry
from claude_daemon.projects.history import History
from claude_daemon.projects.project import Project
from claude_daemon.projects.recorder import Recorder
from claude_daemon.projects.refusals import refusal
from claude_daemon.projects.workers import Workers
from claude_daemon.protocol import replies, requests
from claude_daemon.storage import projects as rows
from claude_daemon.storage import versions
from claude_daemon.storage.store import Store, now_ms

THREADS = 4
PATIENCE_S = 1.0  # a start, or the ack of an added project, waits so long for the first scan
PRUNE_S = 3_600.0


class ProjectService:
    """An async context; inside it the registered projects that aren't paused are watched."""

    def __init__(
        self, hub: Hub, store: Store, supervisor: Supervisor, settings: Settings, *, user_id: str
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._settings = settings
        self._user_id = user_id
        self._hub = hub
        self._projects: dict[str, Project] = {}
        self._changing = asyncio.Lock()  # adding and removing take turns
        self._closing = asyncio.Event()
        self._pruning = asyncio.Lock()
        self.workers = Workers(THREADS)

    async def __aenter__(self) -> Self:
        history = await self.workers.run(History, self._settings.folders.state / "history")
        self.recorder = Recorder(self._hub, self._store, history, self.workers, self._settings.projects)
        self._hub.restorers["file_update"] = self.recorder.restore
        for row in await self._store.read(rows.every):
            project = self._make(row.project_id, Path(row.path))
            project.expect(await self._store.read(partial(versions.latest, project_id=row.project_id)))
            self._projects[row.project_id] = project
            if not row.paused:
                project.start(self._supervisor)
        self._nest()
        self._supervisor.loop("projects: prune versions", self._prune_on)
        await self._patiently(self._projects.values())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for project in self._projects.values():
            await project.stop()
        async with self._pruning:
            await self.workers.close()

    # What other parts ask.

    def known(self, project_id: str) -> bool:
        return project_id in self._projects

    def get(self, project_id: str) -> Project:
        """Raises `NotFoundError`."""
        if project := self._projects.get(project_id):
            return project
        raise NotFoundError(
            f"there is no project {project_id!r}; "
            f"add it with: claude-daemon projects add PATH --id {project_id}"
        )

    def folder(self, project_id: str) -> Path:
        """Where a project is.  Raises `NotFoundError`."""
        return self.get(project_id).path

    def project_of(self, path: Path) -> str | None:
        """The project that `path`, absolute and without links, lies in; the innermost of nested ones."""
        return registry.owner(path, self._paths())

    def inner(self, project_id: str) -> tuple[Path, ...]:
        """The projects that lie within a project."""
        folder = self.folder(project_id)
        return tuple(path for path in self._paths().values() if folder in path.parents)

    def status(self) -> list[replies.Project]:
        return [project.status() for project in self._projects.values()]

    def problems(self) -> list[str]:
        """A sentence a project that isn't watched as it should be."""
        return [f"project {each.project_id}: {each.problem}" for each in self.status() if each.problem]

    # Handlers.

    async def list(self, _caller: Caller, _request: requests.ListProjects) -> replies.Projects:
        return replies.Projects(projects=self.status())

    async def add(self, _caller: Caller, request: requests.ProjectAdd) -> replies.ProjectAdded:
        folder = await self.workers.run(_found, request.path)
        async with self._changing:
            await self._check(folder)
            project_id = request.project_id or registry.default_id(folder, self._projects)
            if project_id in self._projects:
                raise ConflictError(
                    f"the project {project_id!r} is {self.folder(project_id)}; choose another id"
                )
            row = rows.ProjectRow(project_id, str(folder), paused=False, created=now_ms())
            await self._store.write(lambda connection: rows.add(connection, row))
            project = self._projects[project_id] = self._make(project_id, folder)
            self._nest()
            project.start(self._supervisor)
        await self._patiently([project])
        return replies.ProjectAdded(project_id=project_id, path=str(folder))

    async def remove(self, _caller: Caller, request: requests.ProjectRemove) -> None:
        async with self._changing:
            project = self.get(request.project_id)
            await self._store.write(lambda connection: rows.remove(connection, project.project_id))
            del self._projects[project.project_id]
            self._nest()
            await project.stop()

    async def pause(self, _caller: Caller, request: requests.ProjectPause) -> None:
        """Until it is resumed, nothing is told; then, what changed in between."""
        async with self._changing:
            project = self.get(request.project_id)
            await self._set_paused(project, paused=True)
            await project.stop()

    async def resume(self, _caller: Caller, request: requests.ProjectResume) -> None:
        async with self._changing:
            project = self.get(request.project_id)
            await self._set_paused(project, paused=False)
            if project.paused:
                project.start(self._supervisor)

    async def _set_paused(self, project: Project, *, paused: bool) -> None:
        await self._store.write(partial(rows.pause, project_id=project.project_id, paused=paused))

    async def _check(self, folder: Path) -> None:
        folders = self._settings.folders
        own = [each.resolve() for each in (folders.config, folders.state, folders.cache, folders.run)]
        registry.check(folder, self._paths(), home=Path.home().resolve(), own=own)

    def _make(self, project_id: str, path: Path) -> Project:
        return Project(
            project_id,
            path,
            user_id=self._user_id,
            recorder=self.recorder,
            workers=self.workers,
            settings=self._settings.projects,
        )

    def _nest(self) -> None:
        """Leave each nested project's files to it alone."""
        paths = self._paths()
        for project in self._projects.values():
            nested = registry.nested(project.path, paths.values())
            if nested != project.nested:
                project.nested.clear()
                project.nested.update(nested)
                project.compare_again()

    def _paths(self) -> dict[str, Path]:
        return {project_id: project.path for project_id, project in self._projects.items()}

    async def _patiently(self, projects: Iterable[Project]) -> None:
        """Wait for first scans, but not for those of huge trees."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                for project in projects:
                    await project.ready()

    async def _prune_on(self) -> None:
        while not self._closing.is_set():
            async with self._pruning:
                await self.recorder.prune(list(self._projects))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PRUNE_S):
                    await self._closing.wait()


def _found(text: str) -> Path:
    """The folder that a client named, without links.  Raises `DaemonError`."""
    if not Path(text).is_absolute():
        raise InvalidError(f"{text} must be an absolute path", path=["path"], kind="string.base")
    try:
        folder = Path(text).resolve(strict=True)
    except OSError as error:
        raise refusal(error, text, field="path") or error from None
    if not folder.is_dir():
        raise InvalidError(f"{folder} is no folder", path=["path"], kind="any.only")
    return folder
