"""The devices of this installation: whom a credential belongs to, and the end of its access.

All devices are few and are kept in memory; the database has them all, revoked ones included, so that a
revocation survives a restart for as long as a token of it could still be valid.
"""

import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from claude_daemon.core.service import Caller
from claude_daemon.errors import (
    DaemonError,
    DeviceRevokedError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TokenInvalidError,
)
from claude_daemon.protocol import replies, requests
from claude_daemon.protocol.model import SCOPES, DeviceId, Scope, UserId, timestamp
from claude_daemon.security.tokens import LEGACY_SCOPES, Claims, Tokens
from claude_daemon.storage import devices as rows
from claude_daemon.storage.store import Store, now_ms

LOCAL_DEVICE = DeviceId("local")
NOT_FOR_PROGRAMS: frozenset[Scope] = frozenset({"answer", "admin"})
MAX_DEVICES = 1_000
SEEN_EVERY_MS = 60_000


class Devices:
    """Every device and what it may do."""

    def __init__(self, store: Store, tokens: Tokens, *, user_id: UserId, token_ttl_s: int) -> None:
        self._store = store
        self._tokens = tokens
        self._user_id = user_id
        self._token_ttl_s = token_ttl_s
        self._known: dict[str, rows.DeviceRow] = {}
        self._sockets: dict[str, int] = {}
        self.on_revoked: list[Callable[[DeviceId], Awaitable[None]]] = []
        """Called, in order, when a device's access ends."""

    async def load(self) -> None:
        self._known = {row.device_id: row for row in await self._store.read(rows.every)}

    def forget(self, device_ids: Sequence[DeviceId]) -> None:
        """Drop devices that ended so long ago that the database has dropped them."""
        for device_id in device_ids:
            self._known.pop(device_id, None)

    # Credentials.

    def local(self, address: str = "local") -> Caller:
        """Whoever opened the local socket: this user, all but `answer`."""
        return Caller(self._user_id, LOCAL_DEVICE, frozenset(SCOPES) - {"answer"}, address, local=True)

    def admit(self, token: str, address: str) -> Caller:
        """The caller that a token stands for.  Raises `TokenInvalidError` and its kinds."""
        claims = self._tokens.read(token)
        self._check(claims)
        return Caller(claims.user_id, claims.device_id, claims.scopes, address, expires_at=claims.expires_at)

    def _check(self, claims: Claims) -> None:
        row = self._known.get(claims.device_id)
        if row is not None and row.revoked is not None:
            raise DeviceRevokedError
        if row is None and not claims.legacy:
            raise TokenInvalidError

    async def connected(self, caller: Caller) -> None:
        """Count a socket of the device, and remember when it was seen, once a minute at most."""
        device_id = caller.device_id
        self._sockets[device_id] = self._sockets.get(device_id, 0) + 1
        row = self._known.get(device_id)
        if row is None and not caller.local and self._room():
            row = rows.DeviceRow(
                device_id,
                caller.user_id,
                f"older client of {caller.user_id}",
                "legacy",
                " ".join(sorted(caller.scopes)),
                now_ms(),
                None,
                None,
                None,
            )
            self._known[device_id] = row
            await self._store.write(lambda connection: rows.add(connection, row))
        if row is not None and now_ms() - (row.last_seen or 0) > SEEN_EVERY_MS:
            seen = replace(row, last_seen=now_ms())
            self._known[device_id] = seen
            with contextlib.suppress(DaemonError):  # a full disk must not keep anybody from reading
                await self._store.write(
                    lambda connection: rows.seen(connection, device_id, seen.last_seen or 0)
                )

    def disconnected(self, caller: Caller) -> None:
        left = self._sockets.get(caller.device_id, 0) - 1
        if left > 0:
            self._sockets[caller.device_id] = left
        else:
            self._sockets.pop(caller.device_id, None)

    # Handlers.

    async def token_create(self, _caller: Caller, request: requests.TokenCreate) -> replies.TokenMade:
        scopes = frozenset(request.scopes) if request.scopes else LEGACY_SCOPES
        if scopes & NOT_FOR_PROGRAMS:
            raise ForbiddenError(
                "a program's token cannot have the scopes answer or admin: those belong to a person's device"
            )
        if not self._room():
            raise InvalidError(
                f"there are {MAX_DEVICES} devices already; revoke some: claude-daemon devices revoke ID"
            )
        device_id = DeviceId(str(uuid.uuid4()))
        token, expires = self._tokens.make(
            user_id=self._user_id,
            device_id=device_id,
            scopes=scopes,
            ttl_s=request.ttl_seconds or self._token_ttl_s,
        )
        row = rows.DeviceRow(
            device_id,
            self._user_id,
            request.name or f"program token of {time.strftime('%Y-%m-%d %H:%M')}",
            "token",
            " ".join(sorted(scopes)),
            now_ms(),
            None,
            round(expires * 1_000),
            None,
        )
        await self._store.write(lambda connection: rows.add(connection, row))
        self._known[device_id] = row
        return replies.TokenMade(
            token=token, device_id=device_id, scopes=sorted(scopes), expires_at=_iso(row.expires) or ""
        )

    async def device_list(self, _caller: Caller, _request: requests.DeviceList) -> replies.Devices:
        return replies.Devices(devices=self.listed())

    async def device_rename(self, _caller: Caller, request: requests.DeviceRename) -> None:
        row = self._row(request.device_id)
        await self._store.write(lambda connection: rows.rename(connection, row.device_id, request.name))
        self._known[row.device_id] = replace(self._row(row.device_id), name=request.name)

    async def device_revoke(self, _caller: Caller, request: requests.DeviceRevoke) -> None:
        row = self._row(request.device_id)
        at = now_ms()
        await self._store.write(lambda connection: rows.revoke(connection, row.device_id, at))
        self._known[row.device_id] = replace(self._row(row.device_id), revoked=at)
        for told in self.on_revoked:
            await told(DeviceId(row.device_id))

    def listed(self) -> list[replies.Device]:
        """Devices that may connect, the newest first; a token that expired is listed no more."""
        return [
            replies.Device(
                device_id=row.device_id,
                user_id=row.user_id,
                name=row.name,
                kind="legacy" if row.kind == "legacy" else "token",
                scopes=row.scopes.split(),
                created_at=_iso(row.created) or "",
                last_seen=_iso(row.last_seen),
                expires_at=_iso(row.expires),
                connected=row.device_id in self._sockets,
            )
            for row in sorted(self._valid(), key=lambda row: -row.created)
        ]

    def _valid(self) -> list[rows.DeviceRow]:
        now = now_ms()
        return [
            row
            for row in self._known.values()
            if row.revoked is None and (row.expires is None or row.expires > now)
        ]

    def _room(self) -> bool:
        """Whether one device more may be kept.  Those that ended stay known for a while, and don't count."""
        return len(self._known) < MAX_DEVICES or len(self._valid()) < MAX_DEVICES

    def _row(self, device_id: str) -> rows.DeviceRow:
        row = self._known.get(device_id)
        if row is None or row.revoked is not None:
            raise NotFoundError(f"there is no device {device_id!r}; see: claude-daemon devices")
        return row


def _iso(ms: int | None) -> str | None:
    return None if ms is None else timestamp(datetime.fromtimestamp(ms / 1_000, UTC))
