"""How far a client may lag: a pure rule on what waits for it, with the time as an argument."""

from claude_daemon.config import ServerSettings


class Outbox:
    """Counts what was queued for a client and not yet taken by its transport.

    Over the soft limits for longer than the grace time, or over twice the bytes at any time, the client is
    `overflowing`: its transport is closed and it comes back by `afterSeq`.  From a quarter of the limits on
    it is `congested`: whoever produces a lot for it should pause.
    """

    __slots__ = ("_bytes", "_grace_s", "_limit_bytes", "_limit_packets", "_over_since", "_packets")

    def __init__(self, settings: ServerSettings) -> None:
        self._limit_packets = settings.outbox_packets
        self._limit_bytes = settings.outbox_bytes
        self._grace_s = settings.outbox_grace_s
        self._packets = 0
        self._bytes = 0
        self._over_since: float | None = None

    def add(self, size: int, now: float) -> None:
        """Count a packet of `size` bytes."""
        self._packets += 1
        self._bytes += size
        if self.over and self._over_since is None:
            self._over_since = now

    def drain(self, size: int) -> None:
        """A packet was taken by the transport."""
        self._packets -= 1
        self._bytes -= size
        if not self.over:
            self._over_since = None

    def overflowing(self, now: float) -> bool:
        if self._over_since is None:
            return False
        return self._bytes > 2 * self._limit_bytes or now - self._over_since >= self._grace_s

    @property
    def congested(self) -> bool:
        return 4 * self._packets > self._limit_packets or 4 * self._bytes > self._limit_bytes

    @property
    def over(self) -> bool:
        """Over a soft limit: to be looked at again when the grace time is up."""
        return self._packets > self._limit_packets or self._bytes > self._limit_bytes
