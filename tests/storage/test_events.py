"""The log on the store: numbers without gaps, reading back, and clientIds that act once."""

import asyncio
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from claude_daemon.config import StorageSettings
from claude_daemon.core.delivery import Stored
from claude_daemon.core.log import Draft, OnceKey, Outcome, Reach, Repeated, ReusedClientIdError
from claude_daemon.errors import InvalidError
from claude_daemon.protocol.model import DeviceId, EventId, Stream
from claude_daemon.storage import events
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(StorageSettings(), tmp_path) as store:
        yield store


@pytest.fixture
def log(store: Store) -> EventLog:
    return EventLog(store)


def key(client_id: str, *, fingerprint: bytes = b"f", device: str = "laptop") -> OnceKey:
    return OnceKey(DeviceId(device), "chat_message", client_id, fingerprint)


def draft(
    stream: str = "session:s", *, name: str = "chat_message", body: bytes = b"{}", once: OnceKey | None = None
) -> Draft:
    return Draft(
        Stream(stream),
        EventId(str(uuid.uuid4())),
        name,
        body,
        device_id=DeviceId("laptop"),
        client_id=once.client_id if once else None,
        once=once,
        reply={"sessionId": "s"},
    )


async def append(log: EventLog, draft: Draft) -> Outcome:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    log.append(draft, future.set_result)
    return await future


async def seqs(log: EventLog, stream: str = "session:s") -> list[int]:
    return [each.seq for each in await log.read(Stream(stream), after=0, limit=10_000)]


# Numbers


async def test_numbers_have_no_gap_in_any_stream_whoever_writes_at_once(log: EventLog, store: Store) -> None:
    landed: defaultdict[str, list[int]] = defaultdict(list)

    async def write(writer: int) -> None:
        for number in range(25):
            outcome = await append(log, draft(f"session:{(writer + number) % 7}"))
            assert isinstance(outcome, Stored)
            landed[outcome.stream].append(outcome.seq)

    await asyncio.gather(*(write(writer) for writer in range(20)))

    assert sum(map(len, landed.values())) == 500
    for stream, told in landed.items():
        assert told == list(range(1, len(told) + 1))
        assert await seqs(log, stream) == told
        assert await log.reach(Stream(stream)) == Reach(0, len(told))


async def test_a_failing_write_in_the_same_batch_leaves_no_gap(log: EventLog, store: Store) -> None:
    def broken(connection: sa.Connection) -> None:
        raise ValueError("a bug")

    outcomes = await asyncio.gather(
        *(append(log, draft()) for _ in range(5)),
        store.write(broken),
        *(append(log, draft()) for _ in range(5)),
        return_exceptions=True,
    )

    assert [each.seq if isinstance(each, Stored) else str(each) for each in outcomes] == [
        *range(1, 6),
        "a bug",
        *range(6, 11),
    ]
    assert await seqs(log) == list(range(1, 11))


async def test_an_event_that_cannot_be_stored_takes_no_number(log: EventLog) -> None:
    twice = draft()
    await append(log, draft())
    spoilt = Draft(Stream("session:s"), EventId("x"), "chat_message", None)  # type: ignore[arg-type]  # NOT NULL fails

    outcomes = await asyncio.gather(append(log, twice), append(log, spoilt), append(log, draft()))

    assert [type(each) is Stored for each in outcomes] == [True, False, True]
    assert await seqs(log) == [1, 2, 3]


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        async with Store(StorageSettings(), tmp_path) as store:
            outcome = await append(EventLog(store), draft())

            assert isinstance(outcome, Stored) and outcome.seq == expected


async def test_more_streams_than_are_cached_stay_correct(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEADS_CACHED", 3)

    for _ in range(3):
        await asyncio.gather(*(append(log, draft(f"session:{n % 10}")) for n in range(20)))

    for number in range(10):
        assert await seqs(log, f"session:{number}") == [1, 2, 3, 4, 5, 6]


# Reading


async def test_an_event_comes_back_as_it_was_given(log: EventLog) -> None:
    given = draft(body='{"content":"grüße 🎈"}'.encode(), once=key("c1"))

    outcome = await append(log, given)

    [stored] = await log.read(Stream("session:s"), after=0, limit=10)
    assert (
        stored
        == outcome
        == Stored(Stream("session:s"), 1, given.id, "chat_message", given.body, DeviceId("laptop"), "c1")
    )


async def test_reading_begins_after_a_number_and_ends_at_the_limit(log: EventLog) -> None:
    await asyncio.gather(*(append(log, draft()) for _ in range(9)))

    page = await log.read(Stream("session:s"), after=3, limit=4)

    assert [each.seq for each in page] == [4, 5, 6, 7]


async def test_the_last_of_one_kind_come_oldest_first(log: EventLog) -> None:
    for number in range(10):
        await append(log, draft(name="chat_message" if number % 2 else "terminal_started"))

    last = await log.last(Stream("session:s"), "chat_message", before=None, limit=2)
    earlier = await log.last(Stream("session:s"), "chat_message", before=8, limit=2)

    assert [each.seq for each in last] == [8, 10]
    assert [each.seq for each in earlier] == [4, 6]


async def test_a_stream_that_nobody_wrote_to_has_no_reach(log: EventLog) -> None:
    assert await log.reach(Stream("session:nothing")) == Reach(0, 0)


async def test_a_touched_stream_is_listed_and_begins_at_one(log: EventLog) -> None:
    await log.touch(Stream("session:quiet"))
    await log.touch(Stream("session:quiet"))

    found, more = await log.streams("session:", before=None, limit=10)
    assert [(each["stream"], each["seq"]) for each in found] == [("session:quiet", 0)] and more is None
    assert isinstance(outcome := await append(log, draft("session:quiet")), Stored) and outcome.seq == 1


async def test_streams_are_listed_by_their_last_activity_page_by_page(log: EventLog, tmp_path: Path) -> None:
    for number in range(7):
        await append(log, draft(f"session:{number}"))
    await append(log, draft("project:p"))
    with closing(sqlite3.connect(tmp_path / "claude-daemon.db")) as connection, connection:
        connection.execute("UPDATE streams SET updated = 1000 * (CAST(substr(stream, 9) AS INT) / 2)")

    pages, cursor = [], None
    while True:
        page, cursor = await log.streams("session:", before=cursor, limit=3)
        pages.append([each["stream"][8:] for each in page])
        if cursor is None:
            break

    assert pages == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
    assert page[0]["lastActivity"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize("prefix", ["session:%", "session:_"])
async def test_a_prefix_is_no_pattern(log: EventLog, prefix: Any) -> None:
    await append(log, draft("session:x"))

    assert await log.streams(prefix, before=None, limit=10) == ([], None)


@pytest.mark.parametrize("cursor", ["", "x", "x:session:s", "-1:session:s"])
async def test_a_cursor_that_is_none_is_refused(log: EventLog, cursor: Any) -> None:
    with pytest.raises(InvalidError):
        await log.streams("session:", before=cursor, limit=10)


# clientIds


async def test_the_same_again_gets_the_first_answer_and_no_second_event(log: EventLog) -> None:
    first = await append(log, draft(once=key("c1")))
    again = await append(log, draft(once=key("c1")))

    assert isinstance(first, Stored)
    assert again == Repeated({"sessionId": "s", "id": first.id, "seq": 1})
    assert await seqs(log) == [1]


async def test_two_at_once_are_one_event(log: EventLog) -> None:
    outcomes = await asyncio.gather(*(append(log, draft(once=key("c1"))) for _ in range(10)))

    assert sorted(type(each).__name__ for each in outcomes) == ["Repeated"] * 9 + ["Stored"]
    assert await seqs(log) == [1]


async def test_another_payload_under_the_same_client_id_is_a_conflict(log: EventLog) -> None:
    await append(log, draft(once=key("c1")))

    outcome = await append(log, draft(once=key("c1", fingerprint=b"other")))

    assert isinstance(outcome, ReusedClientIdError) and outcome.code == "conflict"
    assert await seqs(log) == [1]


async def test_a_client_id_belongs_to_its_device_and_its_event(log: EventLog) -> None:
    await append(log, draft(once=key("c1")))
    other_event = OnceKey(DeviceId("laptop"), "tts_notification", "c1", b"f")

    outcomes = [
        await append(log, draft(once=key("c1", device="phone"))),
        await append(log, draft(once=other_event)),
    ]

    assert [type(each) for each in outcomes] == [Stored, Stored]


async def test_a_client_id_is_remembered_over_a_restart(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path) as store:
        await append(EventLog(store), draft(once=key("c1")))
    async with Store(StorageSettings(), tmp_path) as store:
        assert isinstance(await append(EventLog(store), draft(once=key("c1"))), Repeated)


async def test_an_event_and_its_client_id_are_stored_together_or_not_at_all(log: EventLog) -> None:
    spoilt = Draft(
        Stream("session:s"),
        EventId("x"),
        "chat_message",
        None,  # type: ignore[arg-type]  # NOT NULL fails
        once=key("c1"),
    )

    assert isinstance(await append(log, spoilt), Exception)
    assert isinstance(await append(log, draft(once=key("c1"))), Stored)


async def test_looking_for_client_ids_uses_the_index(log: EventLog, store: Store) -> None:
    """Else each commit reads all that are remembered, which are many."""
    seen: list[tuple[str, Any]] = []

    def see(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "FROM once" in statement:
            seen.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", see)
    await asyncio.gather(*(append(log, draft(once=key(f"c{n}", device=f"d{n % 3}"))) for n in range(30)))
    sa.event.remove(sa.Engine, "before_cursor_execute", see)

    plans = [
        row[3]
        for statement, parameters in seen
        for row in await store.read(partial(plan, statement=statement, parameters=parameters))
    ]
    assert plans and all(step.startswith("SEARCH once USING INDEX") for step in plans), plans


def plan(connection: sa.Connection, *, statement: str, parameters: Any) -> list[Any]:
    return [*connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
