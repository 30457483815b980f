"""The one writer: group commit, order, failures, and databases that cannot be used."""

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from claude_daemon.config import StorageSettings
from claude_daemon.errors import BusyError, SettingError, StorageFullError, StorageUnusableError
from claude_daemon.storage import tables
from claude_daemon.storage.store import Store

NAME = "claude-daemon.db"
IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0


def remember(name: str) -> Callable[[sa.Connection], str]:
    """A small write."""

    def work(connection: sa.Connection) -> str:
        connection.execute(
            tables.projects.insert().values(project_id=name, path=f"/{name}", paused=False, created=0)
        )
        return name

    return work


def remembered(connection: sa.Connection) -> list[str]:
    return [*connection.execute(sa.select(tables.projects.c.project_id)).scalars()]


def on_disk(folder: Path) -> list[str]:
    """What another process sees that opens the database now."""
    with closing(sqlite3.connect(folder / NAME)) as connection:
        return [row[0] for row in connection.execute("SELECT project_id FROM projects")]


@pytest.fixture
def commits() -> Iterator[list[object]]:
    """One entry for each transaction that is committed, whoever does it."""
    seen: list[object] = []

    def count(connection: object) -> None:
        seen.append(connection)

    sa.event.listen(sa.Engine, "commit", count)
    yield seen
    sa.event.remove(sa.Engine, "commit", count)


# Writing


async def test_a_write_is_committed_when_it_returns(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path) as store:
        for number in range(20):
            name = await store.write(remember(f"p{number}"))

            assert name in on_disk(tmp_path)


async def test_writes_that_come_together_share_their_commits(tmp_path: Path, commits: Any) -> None:
    async with Store(StorageSettings(), tmp_path) as store:
        commits.clear()

        await asyncio.gather(*(store.write(remember(f"p{number}")) for number in range(1_000)))

        assert len(commits) < 50
        assert len(on_disk(tmp_path)) == 1_000


async def test_outcomes_come_in_the_order_of_the_writes(tmp_path: Path) -> None:
    landed: list[int] = []

    async def write(store: Store, number: int) -> None:
        await store.write(remember(f"p{number}"))
        landed.append(number)

    async with Store(StorageSettings(batch=7), tmp_path) as store:
        await asyncio.gather(*(write(store, number) for number in range(100)))

    assert landed == list(range(100))


async def test_a_write_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    def broken(connection: sa.Connection) -> str:
        remember("half")(connection)
        raise ValueError("a bug")

    async with Store(StorageSettings(), tmp_path) as store:
        outcomes = await asyncio.gather(
            *(store.write(broken if number == 4 else remember(f"p{number}")) for number in range(10)),
            return_exceptions=True,
        )

        assert [str(each) for each in outcomes] == [
            "a bug" if number == 4 else f"p{number}" for number in range(10)
        ]
        assert sorted(on_disk(tmp_path)) == [f"p{number}" for number in range(10) if number != 4]


async def test_a_write_that_breaks_a_constraint_takes_no_other_with_it(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path) as store:
        outcomes = await asyncio.gather(
            store.write(remember("a")),
            store.write(remember("a")),
            store.write(remember("b")),
            return_exceptions=True,
        )

        assert outcomes[0] == "a" and isinstance(outcomes[1], StorageUnusableError) and outcomes[2] == "b"


async def test_too_many_writes_are_refused_and_those_that_wait_are_done(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(connection: sa.Connection) -> str:
        go_on.wait(5)
        return ""

    async with Store(StorageSettings(waiting=5), tmp_path) as store:
        waiting = [asyncio.ensure_future(store.write(slow))]  # noqa: TID251  # five callers that wait
        waiting += [asyncio.ensure_future(store.write(remember(f"p{n}"))) for n in range(4)]  # noqa: TID251
        await asyncio.sleep(0)

        with pytest.raises(BusyError):
            await store.write(remember("too many"))

        go_on.set()
        await asyncio.gather(*waiting)
        await store.write(remember("later"))
        assert sorted(on_disk(tmp_path)) == ["later", "p0", "p1", "p2", "p3"]


async def test_closing_waits_for_what_was_asked_before(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path) as store:
        writes = [asyncio.ensure_future(store.write(remember(f"p{n}"))) for n in range(50)]  # noqa: TID251
        await asyncio.sleep(0)

    assert len(await asyncio.gather(*writes)) == 50
    assert len(on_disk(tmp_path)) == 50


async def test_a_reader_sees_what_is_committed_while_a_write_is_under_way(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(connection: sa.Connection) -> str:
        go_on.wait(5)
        return remember("second")(connection)

    async with Store(StorageSettings(), tmp_path) as store:
        await store.write(remember("first"))
        writing = asyncio.ensure_future(store.write(slow))  # noqa: TID251

        async with asyncio.timeout(2):
            assert await store.read(remembered) == ["first"]

        go_on.set()
        await writing
        assert await store.read(remembered) == ["first", "second"]


def modes_and_sizes(folder: Path) -> dict[str, tuple[str, int]]:
    return {path.name: (oct(path.stat().st_mode & 0o777), path.stat().st_size) for path in folder.iterdir()}


async def test_the_file_is_nobody_elses(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path) as store:
        await store.write(remember("a"))

        found = modes_and_sizes(tmp_path)
        assert {name: mode for name, (mode, _) in found.items()} == {
            NAME: "0o600",
            f"{NAME}-wal": "0o600",
            f"{NAME}-shm": "0o600",
        }
        assert store.size() == sum(size for _, size in found.values())


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    if not IS_ROOT or not shutil.which("mount"):
        pytest.skip("only root can make a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=False).returncode:
        pytest.skip("this root cannot mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def blob(number: int) -> Callable[[sa.Connection], int]:
    def work(connection: sa.Connection) -> int:
        connection.execute(
            tables.events.insert().values(
                stream="s", seq=number, id=str(number), name="n", at=0, body=b"x" * 30_000
            )
        )
        return number

    return work


async def fill(store: Store) -> list[int]:
    """Write until there is no room; returns what was acknowledged."""
    done: list[int] = []
    for number in range(1_000):
        outcomes = await asyncio.gather(
            *(store.write(blob(number * 3 + each)) for each in range(3)), return_exceptions=True
        )
        done += [outcome for outcome in outcomes if isinstance(outcome, int)]
        failures = [outcome for outcome in outcomes if not isinstance(outcome, int)]
        if failures:
            assert {type(each) for each in failures} == {StorageFullError}
            return done
    raise AssertionError("the disk never filled")


def stored(connection: sa.Connection) -> list[int]:
    return [*connection.execute(sa.select(tables.events.c.seq).order_by(tables.events.c.seq)).scalars()]


async def test_a_full_disk_refuses_loses_nothing_acknowledged_and_heals(small_disk: Any) -> None:
    async with Store(StorageSettings(), small_disk) as store:
        done = await fill(store)

        assert store.problem is not None and "no room is left" in store.problem
        assert await store.read(stored) == done
        resize(small_disk, "20m")
        done.append(await store.write(blob(10_000)))
        assert store.problem is None
    async with Store(StorageSettings(), small_disk) as store:
        assert await store.read(stored) == done


async def test_a_full_database_refuses_and_heals_where_nobody_can_mount(tmp_path: Path) -> None:
    def limit(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=200")

    sa.event.listen(sa.Engine, "connect", limit)
    try:
        async with Store(StorageSettings(), tmp_path) as store:
            done = await fill(store)

            assert store.problem is not None
            assert await store.read(stored) == done
            await store.write(lambda connection: connection.execute(tables.events.delete()))
            assert await store.write(blob(1)) == 1
            assert store.problem is None
    finally:
        sa.event.remove(sa.Engine, "connect", limit)


# Databases that cannot be used


async def a_database(folder: Path) -> Path:
    """One of ours with something in it, closed."""
    async with Store(StorageSettings(), folder) as store:
        for number in range(100):
            await store.write(blob(number))
    assert list(modes_and_sizes(folder)) == [NAME]
    return folder / NAME


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


def zeroed_page(path: Path) -> None:
    overwrite(path, 5 * 4_096, bytes(4_096))


def no_database(path: Path) -> None:
    path.write_bytes(b"this was never a database\n" * 1_000)


def damaged_header(path: Path) -> None:
    overwrite(path, 0, b"nothing to see here")


def cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(20_000)


def damage_everything(path: Path) -> None:
    overwrite(path, 4_096, b"\xff" * (path.stat().st_size - 4_096))


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


UNUSABLE: list[tuple[Callable[[Path], None], str]] = [
    (zeroed_page, "is damaged .*; it is kept as it is: move it away to start afresh, or put a copy back"),
    (no_database, "is damaged .*; it is kept as it is"),
    (damaged_header, "is damaged .*; it is kept as it is"),
    (cut_short, "is damaged .*; it is kept as it is"),
    (newer, r"was written by a newer claude-daemon \(schema 9999, this one knows \d+\); it is kept as it is"),
]


@pytest.mark.parametrize(("harm", "sentence"), UNUSABLE)
async def test_an_unusable_database_is_named_and_kept(tmp_path: Path, harm: Any, sentence: Any) -> None:
    path = await a_database(tmp_path)
    harm(path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(StorageUnusableError, match=sentence) as refused:
        async with Store(StorageSettings(), tmp_path):
            pass

    assert str(path) in refused.value.message and "\n" not in refused.value.message
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


async def test_a_database_of_a_foreign_program_is_not_mixed_with_ours(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
        connection.execute("CREATE TABLE events (theirs TEXT)")
    before = (tmp_path / NAME).read_bytes()

    with pytest.raises(StorageUnusableError, match="is not a database of claude-daemon"):
        async with Store(StorageSettings(), tmp_path):
            pass

    assert (tmp_path / NAME).read_bytes() == before


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Make a folder read-only for this very user, root included."""
    mounted: list[Path] = []

    def make(folder: Path) -> Path:
        if IS_ROOT:
            for options in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
                if subprocess.run(["mount", *options], check=False).returncode:
                    pytest.skip("this root cannot mount")
                mounted.append(folder)
        else:
            (folder / NAME).chmod(0o400)
            folder.chmod(0o500)
        return folder

    yield make
    if mounted:
        subprocess.run(["umount", mounted[0]], check=True)
    elif not IS_ROOT:
        for folder in tmp_path.rglob("*"):
            folder.chmod(0o700)


async def test_a_read_only_database_is_named_and_kept(tmp_path: Path, read_only: Any) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = await a_database(folder)
    before = path.read_bytes()
    read_only(folder)

    with pytest.raises(StorageUnusableError, match=r"cannot be written .*; check its owner, its mode"):
        async with Store(StorageSettings(), folder):
            pass

    assert path.read_bytes() == before


async def test_a_database_that_another_program_holds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_daemon.storage.store.BUSY_TIMEOUT_S", 0.1)
    await a_database(tmp_path)
    with closing(sqlite3.connect(tmp_path / NAME)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(StorageUnusableError, match=r"another program holds .*; close it, then try again"):
            async with Store(StorageSettings(), tmp_path):
                pass


def bodies(connection: sa.Connection) -> int:
    return len(connection.execute(sa.select(tables.events.c.body)).all())


async def test_damage_that_shows_while_running_is_named(tmp_path: Path) -> None:
    path = await a_database(tmp_path)
    async with Store(StorageSettings(), tmp_path) as store:
        damage_everything(path)

        with pytest.raises(StorageUnusableError, match=r"is damaged .*; it is kept as it is"):
            await store.read(bodies)


def test_an_address_that_is_not_built_yet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="DATABASE_URL must begin with sqlite:///"):
        Store(StorageSettings(url="postgresql://localhost/db"), tmp_path)


async def test_a_database_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.db"

    async with Store(StorageSettings(url=f"sqlite:///{path}"), tmp_path / "state") as store:
        await store.write(remember("a"))

    assert path.exists()
