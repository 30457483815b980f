"""Rows of projects and of their files' versions."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from claude_daemon.config import StorageSettings
from claude_daemon.storage import projects, versions
from claude_daemon.storage.projects import ProjectRow
from claude_daemon.storage.store import Store
from claude_daemon.storage.versions import VersionRow


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(StorageSettings(), tmp_path) as opened:
        yield opened


def row(
    number: int,
    path: str = "a",
    sha256: str | None = "aa",
    *,
    project_id: str = "app",
    action: Literal["create", "update", "delete"] = "update",
    size: int = 10,
    kept: bool = True,
) -> VersionRow:
    return VersionRow(f"{number:04}", project_id, path, action, sha256, size, kept, number, "{}")


async def ids(store: Store, path: str = "a", *, limit: int = 100) -> list[str]:
    found = await store.read(partial(versions.of_file, project_id="app", path=path, limit=limit))
    return [each.version_id for each in found]


async def add(store: Store, *rows: VersionRow) -> None:
    await store.write(lambda connection: versions.add(connection, rows))


async def test_a_files_versions_come_newest_first(store: Store) -> None:
    await add(store, row(1), row(2), row(3, "b"), row(4), row(5, project_id="other"))

    assert await ids(store) == ["0004", "0002", "0001"]
    assert await ids(store, limit=1) == ["0004"]
    assert await store.read(partial(versions.one, project_id="app", version_id="0002")) == row(2)
    assert await store.read(partial(versions.one, project_id="app", version_id="0005")) is None


async def test_the_same_content_again_is_no_further_version_where_that_is_asked(store: Store) -> None:
    await add(store, row(1, sha256="aa"))
    for each in (row(2, sha256="aa"), row(3, sha256="bb"), row(4, sha256="bb"), row(5, "b", sha256="bb")):
        await store.write(partial(versions.add_unless_last, row=each))

    assert await ids(store) == ["0003", "0001"]
    assert await ids(store, "b") == ["0005"]


async def test_the_latest_of_each_file_leaves_out_what_was_deleted(store: Store) -> None:
    await add(
        store,
        row(1, "a", "a1"),
        row(2, "a", "a2"),
        row(3, "b", "b1"),
        row(4, "b", None, action="delete"),
        row(5, "c", "c1", kept=False),
        row(6, "d", "d1", project_id="other"),
    )

    assert await store.read(partial(versions.latest, project_id="app")) == {"a": "a2", "c": "c1"}


async def test_versions_go_by_age_and_the_oldest_by_room(store: Store) -> None:
    await add(store, *(row(number) for number in range(1, 9)), row(9, kept=False, size=10_000))
    prune = partial(versions.prune, project_id="app", before=3, kept_bytes=40)
    await store.write(prune)

    assert await ids(store) == ["0009", "0008", "0007", "0006", "0005"]


async def test_other_projects_are_not_pruned(store: Store) -> None:
    await add(store, row(1), row(2, project_id="other"))
    await store.write(partial(versions.prune, project_id="other", before=100, kept_bytes=0))

    assert await ids(store) == ["0001"]


async def test_contents_that_are_needed_are_found_by_the_first_digits(store: Store) -> None:
    await add(
        store,
        row(1, sha256="aab"),
        row(2, sha256="aaf"),
        row(3, sha256="ab0"),
        row(4, sha256="aac", kept=False),
    )

    assert await store.read(partial(versions.live, start="aa")) == {"aab", "aaf"}


async def test_projects_are_added_paused_and_removed_with_their_versions(store: Store) -> None:
    first, second = (
        ProjectRow("app", "/a", paused=False, created=1),
        ProjectRow("b", "/b", paused=True, created=2),
    )
    for each in (second, first):
        await store.write(partial(projects.add, row=each))
    await add(store, row(1), row(2, project_id="b"))
    assert await store.read(projects.every) == [first, second]

    await store.write(partial(projects.pause, project_id="app", paused=True))
    await store.write(partial(projects.remove, project_id="b"))

    assert [(each.project_id, each.paused) for each in await store.read(projects.every)] == [("app", True)]
    assert await ids(store) == ["0001"]
    assert await store.read(partial(versions.one, project_id="b", version_id="0002")) is None
