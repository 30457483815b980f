"""Everything that happens goes out here: stored first, then offered to the subscribers of its stream.

Publishing never waits for a subscriber.  A subscriber that joins with `afterSeq` reads the log until it
has caught up with what was delivered, and only then, within one turn of the loop, goes live: so nothing
is missed in between and nothing comes twice.
"""

import asyncio
import uuid
from collections.abc import Mapping

import msgspec

from claude_daemon.core.delivery import Delivery, Stored
from claude_daemon.core.log import Draft, Log, OnceKey, Outcome, Reach, Repeated
from claude_daemon.core.service import Caller, Connection, Restorer
from claude_daemon.errors import ConflictError
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import EventId, Fact, Json, Notice, Stream, wire_name

PAGE = 500  # events read from the log at once while a client catches up
DRAIN_TIMEOUT_S = 5.0  # how long a producer waits for a slow client; then that one lags alone


class RepeatedError(ConflictError):
    """Not a failure: the same request was done before, and `reply` is its answer."""

    def __init__(self, reply: Json) -> None:
        super().__init__("done before")
        self.reply = reply


class Hub:
    """Streams, who listens to them, and how far each has been delivered."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.restorers: dict[str, Restorer] = {}
        self._listeners: dict[Stream, dict[Connection, int | None]] = {}
        """The seq up to which each was served from the log; None while it still catches up."""
        self._heads: dict[Stream, int] = {}
        self._laggards: set[Connection] = set()

    async def publish(
        self,
        stream: Stream,
        fact: Fact,
        *,
        caller: Caller | None = None,
        event_id: str | None = None,
        client_id: str | None = None,
        once: OnceKey | None = None,
        reply: Mapping[str, object] | None = None,
        kept: Fact | None = None,
        echo: bool = False,
    ) -> Stored:
        """Store `fact`, then offer it to the stream's subscribers but the caller's own socket.

        `kept` is what the log keeps when it is less than what is said live; `echo` offers it to the
        caller's socket too.  With `once` the event is appended only the first time: a repetition raises
        `RepeatedError` with the first answer.  On return the event is on disk.
        """
        name = wire_name(type(fact))
        body = encode(fact)
        draft = Draft(
            stream,
            EventId(event_id or str(uuid.uuid4())),
            name,
            body if kept is None else encode(kept),
            device_id=caller.device_id if caller else None,
            client_id=client_id,
            once=once,
            reply=dict(reply) if reply else None,
        )
        sender = caller.connection if caller and not echo else None
        outcome: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

        def landed(result: Outcome) -> None:
            if isinstance(result, Stored):
                self._deliver(Delivery(name, body, result), result, sender)
            if outcome.done():
                return
            if isinstance(result, Stored):
                outcome.set_result(result)
            else:
                outcome.set_exception(RepeatedError(result.reply) if isinstance(result, Repeated) else result)

        self.log.append(draft, landed)
        return await outcome

    def announce(
        self,
        stream: Stream,
        event: Notice,
        *,
        exclude: Connection | None = None,
        also: Connection | None = None,
    ) -> None:
        """Offer an event that is not stored to a stream's live subscribers, and to `also` once."""
        delivery = Delivery(wire_name(type(event)), encode(event))
        listeners = self._listeners.get(stream, {})
        for connection in list(listeners):
            if connection is not exclude:
                connection.offer(delivery)
        if also is not None and also not in listeners:
            also.offer(delivery)

    async def drained(self, stream: Stream, also: Connection | None = None) -> None:
        """Wait, for a bounded time, until no listener of the stream is congested.

        Who has not drained by then is not waited for again until it has.
        """
        listeners = [*self._listeners.get(stream, ()), *([also] if also else [])]
        for connection in listeners:
            if not connection.congested or connection.closed:
                self._laggards.discard(connection)
            elif connection not in self._laggards:
                try:
                    async with asyncio.timeout(DRAIN_TIMEOUT_S):
                        await connection.drained()
                except TimeoutError:
                    self._laggards.add(connection)

    def subscribe(self, stream: Stream, connection: Connection) -> None:
        """Hear what is delivered from now on; a socket that hears the stream already goes on as it is."""
        self._listeners.setdefault(stream, {}).setdefault(connection, 0)

    async def enter(self, stream: Stream, connection: Connection) -> Reach:
        """Begin to hear a stream, in the state of catching up; `catch_up` ends it."""
        self._listeners.setdefault(stream, {})[connection] = None
        return await self.log.reach(stream)

    def unsubscribe(self, stream: Stream, connection: Connection) -> None:
        listeners = self._listeners.get(stream)
        if listeners and listeners.pop(connection, None) is not None and not listeners:
            del self._listeners[stream]
            self._heads.pop(stream, None)

    def forget(self, connection: Connection) -> None:
        """Leave every stream."""
        self._laggards.discard(connection)
        for stream in [s for s, listeners in self._listeners.items() if connection in listeners]:
            self.unsubscribe(stream, connection)

    def listens(self, stream: Stream, connection: Connection) -> bool:
        return connection in self._listeners.get(stream, {})

    def audience(self, prefix: str) -> int:
        """How many streams of a kind have a listener."""
        return sum(1 for stream in self._listeners if stream.startswith(prefix))

    async def catch_up(
        self, stream: Stream, connection: Connection, *, after: int, head: int
    ) -> tuple[int, int]:
        """Send what was stored after `after`, then go live.  Returns (last seq, number sent).

        Comes after `enter`, whose reach gave `head` and showed that the log reaches back to `after`.
        """
        position, sent = after, 0
        while self.listens(stream, connection) and not connection.closed:
            if position >= max(head, self._heads.get(stream, 0)):
                self._listeners[stream][connection] = position
                break
            page = await self.log.read(stream, after=position, limit=PAGE)
            for stored in page:
                delivery = Delivery(stored.name, await self._restored(stored), stored, replayed=True)
                connection.offer(delivery)
                position, sent = stored.seq, sent + 1
                if connection.congested:
                    await connection.drained()
        return position, sent

    async def _restored(self, stored: Stored) -> bytes:
        restore = self.restorers.get(stored.name)
        if restore is None:
            return stored.body
        return encode(await restore(stored.stream, msgspec.json.decode(stored.body)))

    def _deliver(self, delivery: Delivery, stored: Stored, sender: Connection | None) -> None:
        listeners = self._listeners.get(stored.stream)
        if not listeners:
            return
        self._heads[stored.stream] = stored.seq
        for connection, served in list(listeners.items()):
            if served is not None and stored.seq > served and connection is not sender:
                connection.offer(delivery)
