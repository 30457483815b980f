"""Commands that were run or wait to be: what `terminal_list` shows, and what a crash left unfinished."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import sqlalchemy as sa

from claude_daemon.storage import tables

_COMMANDS = tables.commands.c


@dataclass(frozen=True, slots=True)
class CommandRow:
    """Times are Unix milliseconds; `state` is queued, running or finished."""

    command_id: str
    session_id: str
    project_id: str | None
    device_id: str
    user_id: str
    command: str
    folder: str | None
    state: str
    sandbox: str
    created: int
    started: int | None = None
    finished: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    reason: str | None = None


_NAMES = tuple(each.name for each in fields(CommandRow))


def add(connection: sa.Connection, row: CommandRow) -> None:
    connection.execute(tables.commands.insert().values({name: getattr(row, name) for name in _NAMES}))


def started(connection: sa.Connection, command_id: str, at: int) -> None:
    connection.execute(
        tables.commands.update().where(_COMMANDS.command_id == command_id).values(state="running", started=at)
    )


def finished(
    connection: sa.Connection,
    command_id: str,
    *,
    at: int,
    exit_code: int | None,
    signal: str | None,
    reason: str,
    keep: int,
) -> Sequence[str]:
    """Note the end of one, and forget the oldest that ended beyond `keep`; returns their ids."""
    connection.execute(
        tables.commands.update()
        .where(_COMMANDS.command_id == command_id)
        .values(state="finished", finished=at, exit_code=exit_code, signal=signal, reason=reason)
    )
    ended = sa.select(_COMMANDS.command_id).where(_COMMANDS.state == "finished")
    gone = list(
        connection.execute(ended.order_by(_COMMANDS.finished.desc()).offset(keep).limit(1_000)).scalars()
    )
    connection.execute(tables.commands.delete().where(_COMMANDS.command_id.in_(gone)))
    return gone


def find(connection: sa.Connection, command_id: str) -> CommandRow | None:
    query = sa.select(tables.commands).where(_COMMANDS.command_id == command_id)
    row = connection.execute(query).mappings().one_or_none()
    return CommandRow(**row) if row else None


def newest(
    connection: sa.Connection, *, user_id: str, session_id: str | None, limit: int
) -> Sequence[CommandRow]:
    query = sa.select(tables.commands).where(_COMMANDS.user_id == user_id)
    if session_id is not None:
        query = query.where(_COMMANDS.session_id == session_id)
    query = query.order_by(_COMMANDS.created.desc()).limit(limit)
    return [CommandRow(**row) for row in connection.execute(query).mappings()]


def unfinished(connection: sa.Connection) -> Sequence[CommandRow]:
    """What a daemon that died had not ended, the oldest first."""
    query = sa.select(tables.commands).where(_COMMANDS.state != "finished").order_by(_COMMANDS.created)
    return [CommandRow(**row) for row in connection.execute(query).mappings()]


def ids(connection: sa.Connection) -> Sequence[str]:
    return list(connection.execute(sa.select(_COMMANDS.command_id)).scalars())
