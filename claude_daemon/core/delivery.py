"""One event on its way to many sockets, written as JSON once."""

from dataclasses import dataclass
from typing import Any

import msgspec

from claude_daemon.protocol.model import DeviceId, EventId, Stream


@dataclass(frozen=True, slots=True)
class Stored:
    """An event that is on disk."""

    stream: Stream
    seq: int
    id: EventId
    name: str
    body: bytes
    """The event as a JSON object without `id`, `seq` and `clientId`."""
    device_id: DeviceId | None
    """Whose request it came from; that device alone reads the `clientId`."""
    client_id: str | None = None


class Delivery:
    """An event and its encodings; `packets` is where a transport keeps its own form of them."""

    __slots__ = ("_payload", "_stored", "body", "name", "packets", "replayed", "stream")

    def __init__(
        self,
        name: str,
        body: bytes,
        stored: Stored | None = None,
        *,
        replayed: bool = False,
        stream: Stream | None = None,
    ) -> None:
        self.name = name
        self.body = body
        self.replayed = replayed
        self.stream = stored.stream if stored else stream
        """Whose order it keeps to; None for what may leave at any time."""
        self.packets: dict[bool, Any] = {}
        self._stored = stored
        self._payload: bytes | None = None

    def carries_client_id(self, device_id: DeviceId) -> bool:
        """Whether this device reads another form of the event than all others do."""
        stored = self._stored
        return stored is not None and stored.client_id is not None and stored.device_id == device_id

    def payload(self, *, with_client_id: bool = False) -> bytes:
        """The JSON object that clients read."""
        if self._stored is None:
            return self.body
        if with_client_id:
            return self._write({"clientId": self._stored.client_id})
        if self._payload is None:
            self._payload = self._write({})
        return self._payload

    def _write(self, more: dict[str, Any]) -> bytes:
        assert self._stored is not None
        head: dict[str, Any] = {"id": self._stored.id, "seq": self._stored.seq, **more}
        if self.replayed:
            head["replayed"] = True
        opening = msgspec.json.encode(head)
        return opening if self.body == b"{}" else opening[:-1] + b"," + self.body[1:]
