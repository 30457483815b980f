"""Answers what clients ask about a project's files: write, list, read, and the versions they had."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec
from msgspec import UNSET

from claude_daemon.config import ProjectSettings
from claude_daemon.core.hub import Hub
from claude_daemon.core.log import OnceKey
from claude_daemon.core.service import Caller
from claude_daemon.errors import BusyError, ForbiddenError, NotFoundError
from claude_daemon.projects import browse
from claude_daemon.projects.content import received, show
from claude_daemon.projects.paths import parse_path
from claude_daemon.projects.project import Project
from claude_daemon.projects.recorder import Author
from claude_daemon.projects.refusals import refusal
from claude_daemon.projects.sensitive import sensitive
from claude_daemon.projects.service import ProjectService
from claude_daemon.protocol import replies, requests
from claude_daemon.protocol.model import project_stream, timestamp
from claude_daemon.storage import versions
from claude_daemon.storage.store import Store

REFUSAL = "Invalid file update format"
READERS = 2  # of the projects' threads may be busy for clients that only look
REPEATS_SEARCHED = 500  # events among which an interrupted request's own is looked for

P = ParamSpec("P")
T = TypeVar("T")


class FileService:
    def __init__(self, projects: ProjectService, hub: Hub, store: Store, settings: ProjectSettings) -> None:
        self._projects = projects
        self._hub = hub
        self._store = store
        self._settings = settings
        self._readers = asyncio.Semaphore(READERS)

    async def update(
        self, caller: Caller, request: requests.FileUpdate, once: OnceKey | None
    ) -> replies.FileWritten:
        """Write a file.  `create` and `update` do the same; `baseSha256` is what guards another's change."""
        project = self._project(request.project_id)
        path = parse_path(request.file_path, message=REFUSAL)
        content = None
        if request.action != "delete":
            content = received(request.content, request.encoding, message=REFUSAL)
        repeated = once is not None and once.unknown
        if repeated and (earlier := await self._earlier(caller, request)):
            return earlier
        recorded = await project.write(
            path,
            content,
            Author(
                caller.user_id,
                replies.Origin(kind="client", device_id=caller.device_id),
                caller,
                request.client_id,
            ),
            base_sha256=request.base_sha256,
            repeated=repeated,
        )
        return replies.FileWritten(
            id=recorded.stored.id,
            seq=recorded.stored.seq,
            sha256=recorded.sha256,
            version_id=recorded.version_id,
        )

    async def list(self, _caller: Caller, request: requests.FileList) -> replies.FileListPage:
        project = self._project(request.project_id)
        folder = parse_path(request.path, field="path") if request.path else ""
        found, more = await self._look(
            folder,
            "path",
            browse.entries,
            project.path,
            folder,
            after=request.cursor or "",
            limit=self._settings.list_page,
        )
        entries = [
            replies.FileEntry(
                name=each.name,
                type=each.kind,
                size=each.size,
                modified=timestamp(each.modified),
                ignored=each.ignored,
            )
            for each in found
        ]
        return replies.FileListPage(path=folder, entries=entries, cursor=found[-1].name if more else UNSET)

    async def read(self, _caller: Caller, request: requests.FileRead) -> replies.FileContent:
        project = self._project(request.project_id)
        path = parse_path(request.file_path)
        if sensitive(path):
            raise ForbiddenError(f"{path} holds secrets by its name; read it on the machine itself")
        if request.version_id is not None:
            return await self._read_version(project.project_id, path, request.version_id)
        found = await self._look(
            path, "filePath", browse.read, project.path, path, keep=self._settings.inline_bytes
        )
        if found is None:
            raise BusyError(f"{path} is being written all the time; try again in a moment")
        return self._content(path, found.content, found.size, found.sha256)

    async def history(self, _caller: Caller, request: requests.FileHistory) -> replies.FileVersions:
        project = self._projects.get(request.project_id)
        path = parse_path(request.file_path)
        found = await self._store.read(
            partial(
                versions.of_file,
                project_id=project.project_id,
                path=path,
                limit=self._settings.list_page,
            )
        )
        return replies.FileVersions(
            versions=[
                replies.FileVersion(
                    version_id=row.version_id,
                    action=row.action,
                    size=row.size,
                    sha256=row.sha256,
                    timestamp=timestamp(datetime.fromtimestamp(row.at / 1_000, UTC)),
                    origin=msgspec.json.decode(row.origin, type=replies.Origin),
                )
                for row in found
                if row.kept or row.action == "delete"
            ]
        )

    def _project(self, project_id: str) -> Project:
        project = self._projects.get(project_id)
        project.check()
        return project

    async def _read_version(self, project_id: str, path: str, version_id: str) -> replies.FileContent:
        row = await self._store.read(partial(versions.one, project_id=project_id, version_id=version_id))
        content = None
        if row and row.path == path and row.kept and row.sha256:
            content = await self._projects.recorder.content(row.sha256)
        if row is None or row.sha256 is None or content is None:
            raise NotFoundError(f"{path} has no version {version_id} that is still kept")
        return self._content(path, content, row.size, row.sha256)

    def _content(self, path: str, content: bytes | None, size: int, sha256: str) -> replies.FileContent:
        shown = show(content, self._settings)
        return replies.FileContent(
            file_path=path,
            content=shown.content,
            encoding=shown.encoding,
            size=size,
            sha256=sha256,
            truncated=shown.truncated,
        )

    async def _earlier(self, caller: Caller, request: requests.FileUpdate) -> replies.FileWritten | None:
        """What an attempt that a crash interrupted had told already, if it came so far."""
        told = await self._hub.log.last(
            project_stream(request.project_id), "file_update", before=None, limit=REPEATS_SEARCHED
        )
        for stored in reversed(told):
            if (stored.device_id, stored.client_id) == (caller.device_id, request.client_id):
                body = msgspec.json.decode(stored.body)
                return replies.FileWritten(
                    id=stored.id, seq=stored.seq, sha256=body["sha256"], version_id=body.get("versionId")
                )
        return None

    async def _look(
        self, path: str, field: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._readers:
            try:
                return await self._projects.workers.run(work, *args, **kwargs)
            except OSError as error:
                raise refusal(error, path, field=field) or error from None
