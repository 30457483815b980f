"""The database: one writer with group commit, a few readers, and a plain word when it cannot be used.

All writes go through one thread, which takes whatever waits, runs it in one transaction and commits once:
the cost of an fsync is shared, and nobody is told of success before it.  When a transaction fails, each of
its writes is tried alone, so that one bad write cannot take others with it.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import sqlalchemy as sa

from claude_daemon.config import StorageSettings
from claude_daemon.errors import BusyError, DaemonError, SettingError, StorageFullError, StorageUnusableError
from claude_daemon.storage import tables

if TYPE_CHECKING:  # 60 ms that only a migration is worth
    from alembic.config import Config

T = TypeVar("T")
Connection = sa.Connection
"""Re-exported for services: what a piece of `Work` is given."""
Work = Callable[[Connection], T]

READERS = 2
CHECKED_BYTES = 64 << 20  # a database up to this size is checked as a whole at each start: under a second
BUSY_TIMEOUT_S = 5.0  # another process (a backup) may hold the file for a moment


class Group(Protocol):
    """Writes of one kind that are cheaper together."""

    def run(self, connection: sa.Connection, items: Sequence[Any]) -> Sequence[Any]:
        """Do them in order; an outcome that is an exception refuses its item alone."""
        ...

    def rolled_back(self) -> None:
        """Forget what was learned in a transaction that did not come to be."""
        ...


class _Each:
    """Writes that have nothing in common."""

    def run(self, connection: sa.Connection, items: Sequence[Work[Any]]) -> Sequence[Any]:
        return [work(connection) for work in items]

    def rolled_back(self) -> None: ...


class _Write:
    __slots__ = ("group", "item", "landed", "outcome")

    def __init__(self, group: Group, item: Any, landed: Callable[[Any], None]) -> None:
        self.group = group
        self.item = item
        self.landed = landed
        self.outcome: Any = None


class Store:
    """The open database, an async context."""

    def __init__(self, settings: StorageSettings, folder: Path) -> None:
        self._settings = settings
        self.path = _path(settings.url, folder)
        self._each = _Each()
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._waiting = 0
        self._thread = threading.Thread(target=self._serve, name="storage", daemon=True)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reading")
        self.problem: str | None = None
        """Why the last write failed; None once one succeeds again."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._engine = await self._loop.run_in_executor(self._readers, self._open)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        await self._loop.run_in_executor(self._readers, self._thread.join)
        await self._loop.run_in_executor(self._readers, self._engine.dispose)
        self._readers.shutdown(wait=False)

    def submit(self, group: Group, item: Any, landed: Callable[[Any], None]) -> None:
        """Queue a write; `landed` is called on the loop, in order, with its outcome or exception.

        Raises `BusyError` when more writes wait for the disk than settings allow.
        """
        if self._waiting >= self._settings.waiting:
            raise BusyError("too many writes wait for the disk; try again in a moment")
        self._waiting += 1
        self._queue.put(_Write(group, item, landed))

    async def write(self, work: Work[T]) -> T:
        """Run `work` in the next transaction; on return it is on disk.  Raises what `work` raises."""
        future: asyncio.Future[T] = self._loop.create_future()

        def landed(outcome: T | Exception) -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.submit(self._each, work, landed)
        return await future

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which only reads, on what is committed."""

        def run() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        try:
            return await self._loop.run_in_executor(self._readers, run)
        except sa.exc.DatabaseError as error:
            raise unusable(error, self.path) from None

    def size(self) -> int:
        """Bytes on disk."""
        total = 0
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                total += self.path.with_name(self.path.name + suffix).stat().st_size
        return total

    # The writer's thread.

    def _serve(self) -> None:
        while first := self._queue.get():
            batch = [first]
            time.sleep(self._settings.commit_window_ms / 1_000)
            last = False
            with contextlib.suppress(queue.Empty):
                while len(batch) < self._settings.batch:
                    write = self._queue.get_nowait()
                    if write is None:
                        last = True
                        break
                    batch.append(write)
            self._commit(batch)
            self._loop.call_soon_threadsafe(self._arrived, batch)
            if last:
                return

    def _commit(self, batch: list[_Write]) -> None:
        try:
            with self._engine.begin() as connection:
                for group, writes in _grouped(batch):
                    outcomes = group.run(connection, [write.item for write in writes])
                    for write, outcome in zip(writes, outcomes, strict=True):
                        write.outcome = outcome
        except Exception as error:  # noqa: BLE001  whatever it is, it is handed to who asked for the write
            for group in {write.group for write in batch}:
                group.rolled_back()
            if len(batch) == 1:
                batch[0].outcome = self._failure(error)
            else:
                for write in batch:
                    self._commit([write])
        else:
            self.problem = None

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, sa.exc.DatabaseError):
            error = unusable(error, self.path)
            self.problem = str(error)
        return error

    # Back on the loop.

    def _arrived(self, batch: list[_Write]) -> None:
        self._waiting -= len(batch)
        for write in batch:
            write.landed(write.outcome)

    # Opening.

    def _open(self) -> sa.Engine:
        with contextlib.suppress(OSError):  # SQLite says it better, with the reason
            self.path.touch(mode=0o600)  # its companions get the same mode
        engine = sa.create_engine(
            f"sqlite:///{self.path}",
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        )
        sa.event.listen(engine, "connect", _prepare)
        try:
            self._check(engine)
        except sa.exc.DatabaseError as error:
            engine.dispose()
            raise unusable(error, self.path) from None
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _check(self, engine: sa.Engine) -> None:
        with engine.connect() as connection:
            if self.path.stat().st_size <= CHECKED_BYTES:
                verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                if verdict != "ok":
                    raise damaged(self.path, str(verdict))
            found = sa.inspect(connection).get_table_names()
            version = None
            if "alembic_version" in found:
                version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            elif found:
                raise StorageUnusableError(
                    f"{self.path} is not a database of claude-daemon; it is kept as it is: move it away"
                )
        config = None if version == tables.HEAD else self._migrations(version)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # kept in the file: for all connections
        if config:
            self._migrate(engine, config)

    def _migrations(self, version: str | None) -> "Config":
        """The steps that lead from a version to ours.  Raises `StorageUnusableError` for a newer one."""
        from alembic.config import Config
        from alembic.script import ScriptDirectory
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        if version is not None:
            try:
                ScriptDirectory.from_config(config).get_revision(version)
            except CommandError:
                raise StorageUnusableError(
                    f"{self.path} was written by a newer claude-daemon (schema {version}, this one knows "
                    f"{tables.HEAD}); it is kept as it is: install the newer version again"
                ) from None
        return config

    def _migrate(self, engine: sa.Engine, config: "Config") -> None:
        from alembic import command

        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver itself begins none for DDL
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def unusable(error: sa.exc.DatabaseError, path: Path) -> DaemonError:
    """What a database's error means for the reader."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    text = str(error.orig)
    match code:
        case sqlite3.SQLITE_FULL:
            return StorageFullError(f"no room is left for {path}; make room, then try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StorageUnusableError(
                f"{path} cannot be written ({text}); check its owner, its mode and its file system"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(path, text)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageUnusableError(f"another program holds {path}; close it, then try again")
        case _:
            return StorageUnusableError(f"{path} cannot be used: {text}")


def damaged(path: Path, what: str) -> StorageUnusableError:
    line = what.splitlines()[-1]  # SQLite writes a headline above it
    return StorageUnusableError(
        f"{path} is damaged ({line}); it is kept as it is: move it away to start afresh, or put a copy back"
    )


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def _grouped(batch: list[_Write]) -> list[tuple[Group, list[_Write]]]:
    groups: dict[Group, list[_Write]] = {}
    for write in batch:
        groups.setdefault(write.group, []).append(write)
    return list(groups.items())


def _path(url: str, folder: Path) -> Path:
    if not url:
        return folder / "claude-daemon.db"
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///"))
    raise SettingError(
        "DATABASE_URL must begin with sqlite:/// in this version (PostgreSQL is not built yet); "
        "leave it out for the default"
    )


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
