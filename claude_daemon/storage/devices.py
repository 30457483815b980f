"""Devices and program tokens: who may connect, and who may no more."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from claude_daemon.storage import tables

_DEVICES = tables.devices.c


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """Times are Unix milliseconds."""

    device_id: str
    user_id: str
    name: str
    kind: str
    scopes: str
    created: int
    last_seen: int | None
    expires: int | None
    revoked: int | None


def add(connection: sa.Connection, row: DeviceRow) -> None:
    connection.execute(
        tables.devices.insert().values({name: getattr(row, name) for name in DeviceRow.__slots__})
    )


def every(connection: sa.Connection) -> Sequence[DeviceRow]:
    """All of them, revoked ones included, the newest first."""
    rows = connection.execute(sa.select(tables.devices).order_by(_DEVICES.created.desc()))
    return [DeviceRow(**row) for row in rows.mappings()]


def rename(connection: sa.Connection, device_id: str, name: str) -> None:
    connection.execute(tables.devices.update().where(_DEVICES.device_id == device_id).values(name=name))


def revoke(connection: sa.Connection, device_id: str, at: int) -> None:
    connection.execute(tables.devices.update().where(_DEVICES.device_id == device_id).values(revoked=at))


def seen(connection: sa.Connection, device_id: str, at: int) -> None:
    connection.execute(tables.devices.update().where(_DEVICES.device_id == device_id).values(last_seen=at))
