"""Registered project folders."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from claude_daemon.storage import tables

_PROJECTS = tables.projects.c


@dataclass(frozen=True, slots=True)
class ProjectRow:
    project_id: str
    path: str
    paused: bool
    created: int


def every(connection: sa.Connection) -> Sequence[ProjectRow]:
    """All of them, the oldest first."""
    rows = connection.execute(sa.select(tables.projects).order_by(_PROJECTS.created, _PROJECTS.project_id))
    return [ProjectRow(**row) for row in rows.mappings()]


def add(connection: sa.Connection, row: ProjectRow) -> None:
    connection.execute(
        tables.projects.insert().values({name: getattr(row, name) for name in ProjectRow.__slots__})
    )


def pause(connection: sa.Connection, project_id: str, *, paused: bool) -> None:
    connection.execute(
        tables.projects.update().where(_PROJECTS.project_id == project_id).values(paused=paused)
    )


def remove(connection: sa.Connection, project_id: str) -> None:
    """Forget a project and its files' versions; its events age with the others."""
    for table in (tables.versions, tables.projects):
        connection.execute(table.delete().where(table.c.project_id == project_id))
