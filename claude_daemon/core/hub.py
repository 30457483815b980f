"""Everything that happens goes out here: stored first, then offered to the subscribers of its stream.

Publishing never waits for a subscriber.  A subscriber that joins with `afterSeq` reads the log until it
has caught up with what was delivered, and only then, within one turn of the loop, goes live: so nothing
is missed in between and nothing comes twice.  What it publishes itself meanwhile waits until then, or its
own event would come back to it and its answer would overtake older events.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(slots=True, eq=False)
class _Listener:
    served: int | None = None
    """The seq up to which it was served from the log, and is not served again; None when it never joined."""
    live: asyncio.Future[None] | None = None
    """Not done while it still catches up; None when it never had to."""

    @property
    def catching_up(self) -> bool:
        return self.live is not None and not self.live.done()

    def go_live(self) -> None:
        if self.live is not None and not self.live.done():
            self.live.set_result(None)


class ForgottenError(Exception):
    """The log no longer has the events that a listener still missed."""


class Hub:
    """Streams, who listens to them, and how far each has been delivered."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.restorers: dict[str, Restorer] = {}
        self._listeners: dict[Stream, dict[Connection, _Listener]] = {}
        self._heads: dict[Stream, int] = {}
        """The seq up to which each stream was delivered while it had listeners."""
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
        sender = caller.connection if caller else None
        if sender:
            await self._live(stream, sender)
        outcome: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

        def landed(result: Outcome) -> None:
            if isinstance(result, Stored):
                self._deliver(Delivery(name, body, result), result, None if echo else sender)
                if sender and caller and caller.turn:
                    sender.hold(stream, caller.turn)
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
        delivery = Delivery(wire_name(type(event)), encode(event), stream=stream)
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
        if not connection.closed:
            self._listeners.setdefault(stream, {}).setdefault(connection, _Listener())

    async def enter(self, stream: Stream, connection: Connection) -> Reach:
        """Begin to hear a stream, in the state of catching up; `catch_up` or `unsubscribe` ends it.

        For a socket that hears the stream already, `head` is how far that one was served.
        """
        heard = self._heard(stream, connection)
        if not connection.closed:  # it may have gone while its request waited
            live = asyncio.get_running_loop().create_future()
            self._listeners.setdefault(stream, {})[connection] = _Listener(live=live)
        reach = await self.log.reach(stream)
        return reach if heard is None else Reach(reach.floor, heard)

    def unsubscribe(self, stream: Stream, connection: Connection) -> None:
        listeners = self._listeners.get(stream, {})
        listener = listeners.pop(connection, None)
        if listener is None:
            return
        listener.go_live()
        if not listeners:
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

        Comes after `enter`, whose reach gave `head` and showed that the log reaches back to `after`.  Raises
        `ForgottenError` when it no longer does, because retention was faster.
        """
        position, sent = after, 0
        while not connection.closed:
            listener = self._listeners.get(stream, {}).get(connection)
            if listener is None:
                break
            if position >= max(head, self._heads.get(stream, 0)):
                listener.served = position
                listener.go_live()
                break
            page = await self.log.read(stream, after=position, limit=PAGE)
            if not page or page[0].seq != position + 1:
                raise ForgottenError
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

    def _heard(self, stream: Stream, connection: Connection) -> int | None:
        """How far a live listener was served, if that is known."""
        listener = self._listeners.get(stream, {}).get(connection)
        if listener is None or listener.catching_up:
            return None
        known = [each for each in (listener.served, self._heads.get(stream)) if each is not None]
        return max(known, default=None)

    async def _live(self, stream: Stream, connection: Connection) -> None:
        while (listener := self._listeners.get(stream, {}).get(connection)) and listener.catching_up:
            assert listener.live is not None
            await asyncio.shield(listener.live)

    def _deliver(self, delivery: Delivery, stored: Stored, sender: Connection | None) -> None:
        listeners = self._listeners.get(stored.stream)
        if not listeners:
            return
        self._heads[stored.stream] = stored.seq
        for connection, listener in list(listeners.items()):
            if connection is sender or listener.catching_up:
                continue
            if listener.served is None or stored.seq > listener.served:
                connection.offer(delivery)
