"""The event log in the database: numbers are given inside the transaction that stores the event."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from claude_daemon.core.delivery import Stored
from claude_daemon.core.log import Draft, OnceKey, Outcome, Reach, Repeated, ReusedClientIdError
from claude_daemon.errors import InvalidError
from claude_daemon.protocol.model import DeviceId, EventId, Json, Stream, timestamp
from claude_daemon.storage import tables
from claude_daemon.storage.store import Store, now_ms

HEADS_CACHED = 10_000

_EVENTS = tables.events.c
_STREAMS = tables.streams.c
_ONCE = tables.once.c


class EventLog:
    """`core.log.Log` on a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._appends = _Appends()

    def append(self, draft: Draft, landed: Callable[[Outcome], None]) -> None:
        self._store.submit(self._appends, draft, landed)

    async def reach(self, stream: Stream) -> Reach:
        def read(connection: sa.Connection) -> Reach:
            row = connection.execute(
                sa.select(_STREAMS.floor, _STREAMS.head).where(_STREAMS.stream == stream)
            ).one_or_none()
            return Reach(0, 0) if row is None else Reach(row.floor, row.head)

        return await self._store.read(read)

    async def read(self, stream: Stream, *, after: int, limit: int) -> Sequence[Stored]:
        query = (
            sa.select(tables.events)
            .where(_EVENTS.stream == stream, _EVENTS.seq > after)
            .order_by(_EVENTS.seq)
            .limit(limit)
        )
        return await self._store.read(lambda connection: _stored(connection, query))

    async def last(self, stream: Stream, name: str, *, before: int | None, limit: int) -> Sequence[Stored]:
        query = sa.select(tables.events).where(_EVENTS.stream == stream, _EVENTS.name == name)
        if before is not None:
            query = query.where(_EVENTS.seq < before)
        query = query.order_by(_EVENTS.seq.desc()).limit(limit)
        return (await self._store.read(lambda connection: _stored(connection, query)))[::-1]

    async def touch(self, stream: Stream) -> None:
        def write(connection: sa.Connection) -> None:
            connection.execute(
                _insert(connection, tables.streams)
                .values(stream=stream, head=0, floor=0, updated=now_ms())
                .on_conflict_do_nothing()
            )

        await self._store.write(write)

    async def streams(
        self, prefix: str, *, before: str | None, limit: int
    ) -> tuple[Sequence[Json], str | None]:
        query = sa.select(tables.streams).where(_STREAMS.stream.startswith(prefix, autoescape=True))
        if before is not None:
            updated, _, stream = before.partition(":")
            if not updated.isdigit():
                raise InvalidError(
                    "before must be the `next` of an earlier page", path=["before"], kind="any.only"
                )
            query = query.where(sa.tuple_(_STREAMS.updated, _STREAMS.stream) < (int(updated), stream))
        query = query.order_by(_STREAMS.updated.desc(), _STREAMS.stream.desc()).limit(limit + 1)
        rows = await self._store.read(lambda connection: connection.execute(query).all())
        page = rows[:limit]
        found = [
            {
                "stream": row.stream,
                "seq": row.head,
                "lastActivity": timestamp(datetime.fromtimestamp(row.updated / 1_000, UTC)),
            }
            for row in page
        ]
        return found, f"{page[-1].updated}:{page[-1].stream}" if len(rows) > limit else None


class _Appends:
    """Many appends in one transaction: a look at the keys, one insert of the events, one of the heads."""

    def __init__(self) -> None:
        self._heads: dict[str, int] = {}
        self._last_at = 0

    def rolled_back(self) -> None:
        self._heads.clear()

    def run(self, connection: sa.Connection, items: Sequence[Draft]) -> Sequence[Outcome]:
        at = self._now(connection)
        if len(self._heads) > HEADS_CACHED:
            self._heads.clear()
        known = self._known(connection, [draft.once for draft in items if draft.once])
        outcomes: list[Outcome] = []
        rows: list[dict[str, Any]] = []
        keys: list[dict[str, Any]] = []
        touched: dict[str, int] = {}
        for draft in items:
            key = draft.once
            if key and (earlier := known.get(_name(key))):
                outcomes.append(_again(key, *earlier))
                continue
            seq = self._head(connection, draft.stream) + 1
            self._heads[draft.stream] = touched[draft.stream] = seq
            stored = Stored(
                draft.stream, seq, draft.id, draft.name, draft.body, draft.device_id, draft.client_id
            )
            outcomes.append(stored)
            rows.append(
                {
                    "stream": stored.stream,
                    "seq": seq,
                    "id": stored.id,
                    "name": stored.name,
                    "at": at,
                    "device_id": stored.device_id,
                    "client_id": stored.client_id,
                    "body": stored.body,
                }
            )
            if key:
                reply = msgspec.json.encode({**(draft.reply or {}), "id": draft.id, "seq": seq})
                known[_name(key)] = (key.fingerprint, reply)
                keys.append(_key_row(key, reply, at))
        if rows:
            connection.execute(tables.events.insert(), rows)
            self._move(connection, touched, at)
        if keys:
            connection.execute(tables.once.insert(), keys)
        return outcomes

    def _now(self, connection: sa.Connection) -> int:
        """The time, but never before that of an older event.

        What goes first is decided by it, and a computer may start in 1970 until it finds the network.
        """
        if not self._last_at:
            self._last_at = connection.execute(sa.select(sa.func.max(_EVENTS.at))).scalar() or 0
        self._last_at = max(self._last_at, now_ms())
        return self._last_at

    def _head(self, connection: sa.Connection, stream: str) -> int:
        head = self._heads.get(stream)
        if head is None:
            head = connection.execute(
                sa.select(_STREAMS.head).where(_STREAMS.stream == stream)
            ).scalar_one_or_none()
        return head or 0

    def _move(self, connection: sa.Connection, touched: dict[str, int], at: int) -> None:
        insert = _insert(connection, tables.streams)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[_STREAMS.stream],
                set_={"head": insert.excluded.head, "updated": insert.excluded.updated},
            ),
            [{"stream": s, "head": head, "floor": 0, "updated": at} for s, head in touched.items()],
        )

    def _known(
        self, connection: sa.Connection, keys: Sequence[OnceKey]
    ) -> dict[tuple[str, str, str], tuple[bytes, bytes | None]]:
        """Which of the keys are stored; asked for by device and event, as only so SQLite uses the index."""
        wanted: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for key in keys:
            wanted[key.device_id, key.event].append(key.client_id)
        return {
            (device_id, event, row.client_id): (row.fingerprint, row.reply)
            for (device_id, event), client_ids in wanted.items()
            for row in connection.execute(
                sa.select(_ONCE.client_id, _ONCE.fingerprint, _ONCE.reply).where(
                    _ONCE.device_id == device_id, _ONCE.event == event, _ONCE.client_id.in_(client_ids)
                )
            )
        }


def _name(key: OnceKey) -> tuple[str, str, str]:
    return (key.device_id, key.event, key.client_id)


def _again(key: OnceKey, fingerprint: bytes, reply: bytes | None) -> Outcome:
    if fingerprint != key.fingerprint or reply is None:
        return ReusedClientIdError(key.client_id)
    return Repeated(msgspec.json.decode(reply))


def _key_row(key: OnceKey, reply: bytes | None, at: int) -> dict[str, Any]:
    return {
        "device_id": key.device_id,
        "event": key.event,
        "client_id": key.client_id,
        "fingerprint": key.fingerprint,
        "reply": reply,
        "at": at,
    }


def _stored(connection: sa.Connection, query: "sa.Select[Any]") -> list[Stored]:
    return [
        Stored(
            Stream(row.stream),
            row.seq,
            EventId(row.id),
            row.name,
            bytes(row.body),
            DeviceId(row.device_id) if row.device_id is not None else None,
            row.client_id,
        )
        for row in connection.execute(query)
    ]


def _insert(connection: sa.Connection, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
    """The dialect's own insert: both know ON CONFLICT, the standard one doesn't."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
