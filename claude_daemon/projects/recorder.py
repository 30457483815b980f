"""Makes changes last and tells of them: first the content, then its version, then the fact.

The log keeps a fact without its content; on replay the content comes from the history store.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from msgspec import UNSET

from claude_daemon.config import ProjectSettings
from claude_daemon.core.delivery import Stored
from claude_daemon.core.hub import Hub
from claude_daemon.core.service import Caller
from claude_daemon.projects.content import NOTHING, show
from claude_daemon.projects.history import History
from claude_daemon.projects.refusals import refusal
from claude_daemon.projects.sensitive import sensitive
from claude_daemon.projects.take import Change
from claude_daemon.projects.workers import Workers
from claude_daemon.protocol import facts, replies
from claude_daemon.protocol.model import Json, Stream, project_stream
from claude_daemon.storage import versions
from claude_daemon.storage.store import Store, now_ms
from claude_daemon.storage.versions import VersionRow

DAY_MS = 86_400_000
DISK = replies.Origin(kind="disk")


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a change; `caller`'s socket does not hear of it."""

    user_id: str
    origin: replies.Origin = DISK
    caller: Caller | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    stored: Stored
    sha256: str | None
    version_id: str | None
    """None when the content isn't kept."""


class Recorder:
    """What all projects share.  `record` and `keep_replaced` run within a project's turn."""

    def __init__(
        self, hub: Hub, store: Store, history: History, workers: Workers, settings: ProjectSettings
    ) -> None:
        self._hub = hub
        self._store = store
        self._history = history
        self._workers = workers
        self._settings = settings
        self._last_id = 0

    async def keep(self, path: str, contents: Iterable[bytes | None]) -> None:
        """Put contents that a file has, or is about to have, on disk ahead of their versions."""
        await self._keep([each for each in contents if each is not None and self._may_keep(path, each)])

    async def record(self, project_id: str, changes: Sequence[Change], author: Author) -> list[Recorded]:
        """Return when all is on disk.  Raises `DaemonError`; then some may have been told."""
        made = [self._row(project_id, change, author.origin) for change in changes]
        await self._keep([content for path, content in _contents(changes) if self._may_keep(path, content)])
        # Each is queued in its first step, so the store takes them in this order.
        row_written, *published = await asyncio.gather(
            self._store.write(lambda connection: versions.add(connection, made)),
            *(self._publish(change, row, author) for change, row in zip(changes, made, strict=True)),
            return_exceptions=True,
        )
        for outcome in (row_written, *published):
            if isinstance(outcome, BaseException):
                raise outcome
        return [
            Recorded(stored, row.sha256, row.version_id if row.kept else None)
            for stored, row in zip(published, made, strict=True)
            if isinstance(stored, Stored)
        ]

    async def rescanned(self, project_id: str, changed: int) -> None:
        fact = facts.ProjectRescan(project_id=project_id, changed=changed)
        await self._hub.publish(project_stream(project_id), fact)

    async def keep_replaced(self, project_id: str, path: str, content: bytes) -> None:
        """Enter what a client's write took from the disk, unless it is the last version already."""
        sha256 = hashlib.sha256(content).hexdigest()
        row = self._row(project_id, Change(path, "update", len(content), sha256, content), DISK)
        if not row.kept:
            return
        await self._keep([content])
        await self._store.write(lambda connection: versions.add_unless_last(connection, row))

    async def content(self, sha256: str) -> bytes | None:
        """A content that some version had; None when it isn't kept."""
        return await self._workers.run(self._history.read, sha256)

    async def restore(self, _stream: Stream, body: Json) -> Json:
        """Give a replayed `file_update` its content back, if that is still kept."""
        if body["sha256"] is None or body.get("sensitive"):
            return body
        shown = show(await self.content(body["sha256"]), self._settings)
        return {**body, **msgspec.to_builtins(shown)}

    async def prune(self, project_ids: Sequence[str]) -> None:
        """Drop versions beyond their time and room, then the contents that no version needs."""
        before = now_ms() - int(self._settings.version_days * DAY_MS)
        for project_id in project_ids:
            prune = partial(
                versions.prune, project_id=project_id, before=before, kept_bytes=self._settings.version_bytes
            )
            await self._store.write(prune)
        for shelf in await self._workers.run(self._history.shelves):
            live = await self._store.read(partial(versions.live, start=shelf))
            await self._workers.run(self._history.sweep, shelf, live)

    async def _publish(self, change: Change, row: VersionRow, author: Author) -> Stored:
        shown = NOTHING if sensitive(change.path) else show(change.content, self._settings)
        fact = facts.FileUpdate(
            file_path=change.path,
            content=shown.content,
            encoding=shown.encoding,
            size=change.size,
            sha256=change.sha256,
            project_id=row.project_id,
            action=change.action,
            truncated=shown.truncated,
            origin=author.origin,
            user_id=author.user_id,
            renamed_from=change.renamed_from or UNSET,
            sensitive=sensitive(change.path) or UNSET,
            version_id=row.version_id if row.kept else UNSET,
        )
        return await self._hub.publish(
            project_stream(row.project_id),
            fact,
            caller=author.caller,
            client_id=author.client_id,
            kept=msgspec.structs.replace(fact, content=None, truncated=True),
        )

    async def _keep(self, contents: Sequence[bytes]) -> None:
        if not contents:
            return
        try:
            await self._workers.run(self._history.keep, contents)
        except OSError as error:
            raise refusal(error, "the history of files", writing=True) or error from None

    def _row(self, project_id: str, change: Change, origin: replies.Origin) -> VersionRow:
        self._last_id = max(self._last_id + 1, time.time_ns())
        return VersionRow(
            version_id=f"{self._last_id:016x}{secrets.token_hex(4)}",
            project_id=project_id,
            path=change.path,
            action=change.action,
            sha256=change.sha256,
            size=change.size,
            kept=change.content is not None and self._may_keep(change.path, change.content),
            at=now_ms(),
            origin=msgspec.json.encode(origin).decode(),
        )

    def _may_keep(self, path: str, content: bytes) -> bool:
        return len(content) <= self._settings.version_file_bytes and not sensitive(path)


def _contents(changes: Iterable[Change]) -> Iterator[tuple[str, bytes]]:
    for change in changes:
        if change.content is not None:
            yield change.path, change.content
