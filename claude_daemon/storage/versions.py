"""What each file was, change by change.  The contents are in the history store, by their hash.

A version's id is larger than that of every earlier one, so it orders them.  A row whose content is not
kept (too large, sensitive, a deletion) still tells what the file was when it was last spoken of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from claude_daemon.storage import tables

_VERSIONS = tables.versions.c


@dataclass(frozen=True, slots=True)
class VersionRow:
    """`at` is in Unix milliseconds, `origin` is JSON."""

    version_id: str
    project_id: str
    path: str
    action: Literal["create", "update", "delete"]
    sha256: str | None
    size: int
    kept: bool
    at: int
    origin: str


def add(connection: sa.Connection, rows: Sequence[VersionRow]) -> None:
    if rows:
        connection.execute(
            tables.versions.insert(),
            [{name: getattr(row, name) for name in VersionRow.__slots__} for row in rows],
        )


def add_unless_last(connection: sa.Connection, row: VersionRow) -> None:
    """Enter a version unless the file's last one has the same content."""
    last = of_file(connection, row.project_id, row.path, limit=1)
    if not last or last[0].sha256 != row.sha256:
        add(connection, [row])


def of_file(connection: sa.Connection, project_id: str, path: str, *, limit: int) -> list[VersionRow]:
    """The newest first."""
    query = (
        sa.select(tables.versions)
        .where(_VERSIONS.project_id == project_id, _VERSIONS.path == path)
        .order_by(_VERSIONS.version_id.desc())
        .limit(limit)
    )
    return [VersionRow(**row) for row in connection.execute(query).mappings()]


def one(connection: sa.Connection, project_id: str, version_id: str) -> VersionRow | None:
    query = sa.select(tables.versions).where(
        _VERSIONS.project_id == project_id, _VERSIONS.version_id == version_id
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else VersionRow(**row)


def latest(connection: sa.Connection, project_id: str) -> dict[str, str]:
    """Path → hash of the files that were last spoken of as existing."""
    newest = (
        sa.select(sa.func.max(_VERSIONS.version_id))
        .where(_VERSIONS.project_id == project_id)
        .group_by(_VERSIONS.path)
    )
    query = sa.select(_VERSIONS.path, _VERSIONS.sha256).where(
        _VERSIONS.version_id.in_(newest), _VERSIONS.sha256.is_not(None)
    )
    return {row.path: row.sha256 for row in connection.execute(query)}


def prune(connection: sa.Connection, project_id: str, *, before: int, kept_bytes: int) -> None:
    """Drop versions older than `before`, and the oldest ones beyond `kept_bytes` of content."""
    connection.execute(
        tables.versions.delete().where(_VERSIONS.project_id == project_id, _VERSIONS.at < before)
    )
    running = sa.func.sum(_VERSIONS.size).over(order_by=_VERSIONS.version_id.desc()).label("running")
    sizes = (
        sa.select(_VERSIONS.version_id, running)
        .where(_VERSIONS.project_id == project_id, _VERSIONS.kept)
        .subquery()
    )
    beyond = sa.select(sizes.c.version_id).where(sizes.c.running > kept_bytes)
    connection.execute(tables.versions.delete().where(_VERSIONS.version_id.in_(beyond)))


def live(connection: sa.Connection, start: str) -> set[str]:
    """Which hashes that begin with `start` some version needs."""
    after = start + "g"  # the letter after the last digit; unlike LIKE, a range is found by index
    query = (
        sa.select(_VERSIONS.sha256)
        .where(_VERSIONS.kept, _VERSIONS.sha256 >= start, _VERSIONS.sha256 < after)
        .distinct()
    )
    return {row.sha256 for row in connection.execute(query)}
