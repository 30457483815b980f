"""One project: its folder, what is known of it, and the turn that its watcher and its writers take."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from msgspec import UNSET

from claude_daemon.config import ProjectSettings
from claude_daemon.errors import NotFoundError, OutsideProjectError
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.projects.recorder import Author, Recorded, Recorder
from claude_daemon.projects.snapshot import File, Snapshot
from claude_daemon.projects.take import Change
from claude_daemon.projects.watcher import RETRY_S, Watcher
from claude_daemon.projects.workers import Workers
from claude_daemon.projects.writer import Edit
from claude_daemon.protocol import replies


class Project:
    """Created paused; `start` begins to watch."""

    def __init__(
        self,
        project_id: str,
        path: Path,
        *,
        user_id: str,
        recorder: Recorder,
        workers: Workers,
        settings: ProjectSettings,
    ) -> None:
        self.project_id = project_id
        self.path = path
        self.nested: set[str] = set()
        """Folders in it that are projects of their own: their files are theirs."""
        self._disk = Author(user_id)
        self._recorder = recorder
        self._workers = workers
        self._settings = settings
        self._snapshot = Snapshot(max_entries=settings.max_files)
        self._turn = asyncio.Lock()
        self._watcher: Watcher | None = None

    @property
    def paused(self) -> bool:
        return self._watcher is None

    def expect(self, hashes: Mapping[str, str]) -> None:
        """Say what clients were last told of files, before the first start: what differs is told then."""
        for path, sha256 in hashes.items():
            self._snapshot.put(path, File(size=-1, mtime_ns=0, inode=0, sha256=sha256, sure=False))

    def start(self, supervisor: Supervisor) -> None:
        self._watcher = Watcher(
            self.path,
            self._snapshot,
            self._turn,
            self,
            settings=self._settings,
            workers=self._workers,
            elsewhere=self.nested,
        )
        supervisor.loop(f"project:{self.project_id}", self._watcher.serve)

    async def stop(self) -> None:
        """End watching, and wait for the write that is under way."""
        if watcher := self._watcher:
            self._watcher = None
            await watcher.stop()
        async with self._turn:
            pass

    async def ready(self) -> None:
        """Return when every change from now on will be told."""
        if self._watcher:
            await self._watcher.ready.wait()

    def compare_again(self) -> None:
        """Look at everything soon."""
        if self._watcher:
            self._watcher.compare_again([""])

    def check(self) -> None:
        """Raise `NotFoundError` while the folder isn't there."""
        if self._watcher and self._watcher.state == "unavailable":
            raise NotFoundError(f"project {self.project_id}: {self._watcher.problem}")

    def status(self) -> replies.Project:
        watcher = self._watcher
        return replies.Project(
            project_id=self.project_id,
            path=str(self.path),
            state=watcher.state if watcher else "paused",
            files=self._snapshot.files,
            problem=(watcher and watcher.problem) or UNSET,
        )

    async def write(
        self, path: str, content: bytes | None, author: Author, *, base_sha256: str | None, repeated: bool
    ) -> Recorded:
        """Write or, without content, delete a file, and tell of it.  Raises `DaemonError`."""
        for folder in self.nested:
            if path.startswith(f"{folder}/"):
                raise OutsideProjectError(f"{folder} is a project of its own; write {path} by that one")
        edit = Edit(self.path, path, content, keep_bytes=self._settings.version_file_bytes)
        try:
            present = await self._workers.run(edit.prepare)
            await self._recorder.keep(path, [present, content])
            async with self._turn:
                return await self._commit(edit, path, content, author, base_sha256, repeated=repeated)
        finally:
            await self._workers.run(edit.close)

    async def _commit(
        self,
        edit: Edit,
        path: str,
        content: bytes | None,
        author: Author,
        base_sha256: str | None,
        *,
        repeated: bool,
    ) -> Recorded:
        before = self._snapshot.get(path)
        try:
            written = await self._workers.run(
                edit.commit, self._snapshot, base_sha256=base_sha256, repeated=repeated
            )
            if written.replaced is not None:
                await self._recorder.keep_replaced(self.project_id, path, written.replaced)
            change = Change(path, written.action, len(content or b""), written.sha256, content)
            [recorded] = await self._recorder.record(self.project_id, [change], author)
        except BaseException:
            self._find_again(path, before)
            raise
        return recorded

    def _find_again(self, path: str, before: File | None) -> None:
        """What was perhaps written but not told is told by the watcher, as somebody's."""
        if before is None:
            self._snapshot.remove(path)
        else:
            self._snapshot.put(path, before)
        if self._watcher:
            self._watcher.compare_again([path], after_s=RETRY_S)

    # What the watcher tells, within the turn.

    async def changed(self, changes: list[Change]) -> None:
        await self._recorder.record(self.project_id, changes, self._disk)

    async def rescanned(self, changed: int) -> None:
        await self._recorder.rescanned(self.project_id, changed)
