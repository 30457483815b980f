"""What is forgotten: the oldest events by age and by size, old clientIds, devices long gone.

Everything goes in small transactions with pauses between them, so that no writer waits long.  A stream
keeps its row for ever, or its numbers would begin again; its `floor` says from where on events are kept.
Pages that become free are used again: the file does not shrink, and does not grow either.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from claude_daemon.config import StorageSettings
from claude_daemon.errors import DaemonError
from claude_daemon.protocol.model import DeviceId
from claude_daemon.storage import tables
from claude_daemon.storage.store import Store, now_ms

log = logging.getLogger(__name__)

ROWS = 500  # of one transaction: a few milliseconds
BYTES = 4 << 20  # of their contents, as large rows cost more
PAUSE_S = 0.05  # between two: writers have the disk for most of the time
FIRST_S = 60.0  # after the start, which has enough to do
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
FORGETTABLE = ("token",)  # kinds of devices that are refused without their row as well

_EVENTS = tables.events.c
_STREAMS = tables.streams.c
_ONCE = tables.once.c
_DEVICES = tables.devices.c


class Old(NamedTuple):
    """An event that may go."""

    stream: str
    seq: int
    size: int


def cut(oldest: Iterable[Old], *, max_bytes: int) -> dict[str, int]:
    """How far each stream is forgotten in one transaction: the oldest first, and at least one event."""
    floors: dict[str, int] = {}
    total = 0
    for each in oldest:
        total += each.size
        if floors and total > max_bytes:
            break
        floors[each.stream] = max(each.seq, floors.get(each.stream, 0))
    return floors


class Retention:
    """A loop for the Supervisor."""

    def __init__(
        self,
        store: Store,
        settings: StorageSettings,
        forget_devices: Callable[[Sequence[DeviceId]], None],
        *,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._settings = settings
        self._forget_devices = forget_devices
        self._clock_ms = clock_ms

    async def serve(self) -> None:
        await asyncio.sleep(min(FIRST_S, self._settings.retention_s))
        while True:
            try:
                await self.run()
            except DaemonError as error:  # a full disk is said elsewhere; next time there may be room
                log.warning("nothing could be forgotten: %s", error)
            await asyncio.sleep(self._settings.retention_s)

    async def run(self) -> None:
        """Forget all that is due."""
        now = self._clock_ms()
        settings = self._settings
        too_old = now - round(settings.keep_days * DAY_MS)
        forgotten = await self._repeat(partial(_forget_events, before=too_old))
        forgotten += await self._repeat(partial(_shrink, keep_bytes=settings.keep_bytes))
        await self._repeat(partial(_forget_empty_streams, before=too_old))
        await self._forget_client_ids(now - round(settings.once_hours * HOUR_MS))
        await self._forget_ended_devices(now - round(settings.keep_devices_days * DAY_MS))
        if forgotten:
            log.info("old events were forgotten", extra={"events": forgotten})

    async def _forget_client_ids(self, before: int) -> None:
        kept = self._settings.once_per_device
        for device_id, oldest_kept in await self._store.read(partial(_crowded, kept=kept)):
            work = partial(_forget_once, device_id=device_id, before=min(before, oldest_kept))
            await self._repeat(work)

    async def _forget_ended_devices(self, before: int) -> None:
        for device_id in await self._store.read(partial(_ended, before=before)):
            await self._repeat(partial(_forget_once, device_id=device_id, before=None))
            await self._store.write(partial(_forget_device, device_id=device_id))
            self._forget_devices([device_id])

    async def _repeat(self, work: Callable[[sa.Connection], int]) -> int:
        """Do it until there is nothing left to do; returns how much there was."""
        total = 0
        while done := await self._store.write(work):
            total += done
            await asyncio.sleep(PAUSE_S)
        return total


# Each in one transaction; returns how many rows went.


def _forget_events(connection: sa.Connection, *, before: int | None) -> int:
    query = sa.select(_EVENTS.stream, _EVENTS.seq, sa.func.length(_EVENTS.body))
    if before is not None:
        query = query.where(_EVENTS.at < before)
    oldest = connection.execute(query.order_by(_EVENTS.at, _EVENTS.stream, _EVENTS.seq).limit(ROWS))
    gone = 0
    for stream, floor in cut((Old(*row) for row in oldest), max_bytes=BYTES).items():
        gone += connection.execute(
            tables.events.delete().where(_EVENTS.stream == stream, _EVENTS.seq <= floor)
        ).rowcount
        connection.execute(
            tables.streams.update()
            .where(_STREAMS.stream == stream, _STREAMS.floor < floor)
            .values(floor=floor)
        )
    return gone


def _shrink(connection: sa.Connection, *, keep_bytes: int) -> int:
    return _forget_events(connection, before=None) if live_bytes(connection) > keep_bytes else 0


def live_bytes(connection: sa.Connection) -> int:
    """The size of the database without its free pages."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _forget_empty_streams(connection: sa.Connection, *, before: int) -> int:
    """Sessions that somebody joined and nobody ever wrote to."""
    empty = sa.select(_STREAMS.stream).where(_STREAMS.head == 0, _STREAMS.updated < before).limit(ROWS)
    return connection.execute(tables.streams.delete().where(_STREAMS.stream.in_(empty))).rowcount


def _crowded(connection: sa.Connection, *, kept: int) -> list[tuple[str, int]]:
    """Devices with more clientIds than have to be kept, and the time of the oldest of those."""
    devices = connection.execute(
        sa.select(_ONCE.device_id).group_by(_ONCE.device_id).having(sa.func.count() > kept)
    ).scalars()
    return [(device_id, _oldest_kept(connection, device_id, kept)) for device_id in devices]


def _oldest_kept(connection: sa.Connection, device_id: str, kept: int) -> int:
    newest = sa.select(_ONCE.at).where(_ONCE.device_id == device_id).order_by(_ONCE.at.desc())
    return int(connection.execute(newest.offset(kept - 1).limit(1)).scalar_one())


def _forget_once(connection: sa.Connection, *, device_id: str, before: int | None) -> int:
    query = sa.select(_ONCE.event, _ONCE.client_id).where(_ONCE.device_id == device_id)
    if before is not None:
        query = query.where(_ONCE.at < before)
    keys = [*connection.execute(query.order_by(_ONCE.at).limit(ROWS))]
    for event, client_id in keys:
        connection.execute(
            tables.once.delete().where(
                _ONCE.device_id == device_id, _ONCE.event == event, _ONCE.client_id == client_id
            )
        )
    return len(keys)


def _ended(connection: sa.Connection, *, before: int) -> list[DeviceId]:
    """Tokens that ended long ago."""
    query = sa.select(_DEVICES.device_id).where(
        _DEVICES.kind.in_(FORGETTABLE), sa.or_(_DEVICES.revoked < before, _DEVICES.expires < before)
    )
    return [DeviceId(each) for each in connection.execute(query).scalars()]


def _forget_device(connection: sa.Connection, *, device_id: str) -> Any:
    connection.execute(tables.devices.delete().where(_DEVICES.device_id == device_id))
