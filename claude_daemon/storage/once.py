"""Requests that were done before, for effects outside the log: begun, then done with their answer."""

import msgspec
import sqlalchemy as sa

from claude_daemon.core.log import OnceKey, ReusedClientIdError
from claude_daemon.errors import OutcomeUnknownError
from claude_daemon.protocol.model import Json
from claude_daemon.storage import tables
from claude_daemon.storage.store import Store, now_ms

_ONCE = tables.once.c


class Remembered:
    """`core.log.Once` on a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, key: OnceKey) -> Json | None:
        def write(connection: sa.Connection) -> Json | None:
            row = connection.execute(sa.select(_ONCE.fingerprint, _ONCE.reply).where(_is(key))).one_or_none()
            if row is None:
                connection.execute(
                    tables.once.insert().values(
                        device_id=key.device_id,
                        event=key.event,
                        client_id=key.client_id,
                        fingerprint=key.fingerprint,
                        reply=None,
                        at=now_ms(),
                    )
                )
                return None
            if row.fingerprint != key.fingerprint:
                raise ReusedClientIdError(key.client_id)
            if row.reply is None:
                raise OutcomeUnknownError(key.client_id)
            reply: Json = msgspec.json.decode(row.reply)
            return reply

        return await self._store.write(write)

    async def done(self, key: OnceKey, reply: Json) -> None:
        await self._store.write(
            lambda connection: connection.execute(
                tables.once.update().where(_is(key)).values(reply=msgspec.json.encode(reply))
            )
        )

    async def undone(self, key: OnceKey) -> None:
        await self._store.write(lambda connection: connection.execute(tables.once.delete().where(_is(key))))


def _is(key: OnceKey) -> "sa.ColumnElement[bool]":
    return sa.and_(
        _ONCE.device_id == key.device_id, _ONCE.event == key.event, _ONCE.client_id == key.client_id
    )
