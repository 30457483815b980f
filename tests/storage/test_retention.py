"""What is forgotten, what is kept, and that nobody waits for it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.config import StorageSettings
from claude_daemon.core.delivery import Stored
from claude_daemon.core.log import Draft, OnceKey, Outcome, Reach
from claude_daemon.protocol.model import DeviceId, EventId, Stream
from claude_daemon.storage import devices, events, retention, tables
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.retention import DAY_MS, HOUR_MS, Old, Retention, cut, live_bytes
from claude_daemon.storage.store import Store
from daemon import Daemon
from peer import peer

NOW = 1_800_000_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(StorageSettings(), tmp_path) as store:
        yield store


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE_S", 0)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda ms: monkeypatch.setattr(events, "now_ms", lambda: ms)


def keeping(store: Store, **settings: float) -> Retention:
    chosen = StorageSettings(**settings)  # type: ignore[arg-type]  # whole numbers where they belong
    return Retention(store, chosen, lambda _ids: None, clock_ms=lambda: NOW)


async def append(
    store_log: EventLog, stream: str = "session:s", *, size: int = 10, client_id: str = ""
) -> Outcome:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    once = OnceKey(DeviceId("laptop"), "chat_message", client_id, b"f") if client_id else None
    body = b'"' + b"x" * size + b'"'
    draft = Draft(Stream(stream), EventId(str(uuid.uuid4())), "chat_message", body, once=once)
    store_log.append(draft, future.set_result)
    return await future


async def seqs(log: EventLog, stream: str = "session:s") -> list[int]:
    return [each.seq for each in await log.read(Stream(stream), after=0, limit=100_000)]


# The rule


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100)), min_size=1), st.integers(0, 500))
def test_what_goes_at_once_is_bounded_and_the_oldest(rows: list[tuple[str, int]], limit: int) -> None:
    numbered = []
    heads = dict.fromkeys("abc", 0)
    for stream, size in rows:
        heads[stream] += 1
        numbered.append(Old(stream, heads[stream], size))

    floors = cut(numbered, max_bytes=limit)

    gone = [each for each in numbered if each.seq <= floors.get(each.stream, 0)]
    assert gone == numbered[: len(gone)]
    assert len(gone) >= 1
    assert len(gone) == 1 or sum(each.size for each in gone) <= limit
    assert len(gone) == len(numbered) or sum(each.size for each in numbered[: len(gone) + 1]) > limit


# By age


async def test_old_events_go_and_the_floor_says_so(
    store: Store, set_clock: Callable[[int], None], no_pauses: None
) -> None:
    log = EventLog(store)
    for age_days, count in ((100, 5), (91, 2), (89, 3)):
        set_clock(NOW - age_days * DAY_MS)
        for _ in range(count):
            await append(log)
        await append(log, f"session:{age_days}")

    await keeping(store, keep_days=90).run()

    assert await seqs(log) == [8, 9, 10]
    assert await log.reach(Stream("session:s")) == Reach(7, 10)
    assert await log.reach(Stream("session:100")) == Reach(1, 1)
    assert await log.reach(Stream("session:89")) == Reach(0, 1)


async def test_numbers_go_on_in_a_stream_that_was_emptied(
    tmp_path: Path, set_clock: Callable[[int], None], no_pauses: None
) -> None:
    set_clock(NOW - 100 * DAY_MS)
    async with Store(StorageSettings(), tmp_path) as store:
        await append(EventLog(store))
        await keeping(store, keep_days=90).run()
    async with Store(StorageSettings(), tmp_path) as store:
        outcome = await append(EventLog(store))

        assert isinstance(outcome, Stored) and outcome.seq == 2


async def test_more_than_one_transaction_holds_goes_all_the_same(
    store: Store, set_clock: Callable[[int], None], no_pauses: None
) -> None:
    log = EventLog(store)
    set_clock(NOW - 100 * DAY_MS)
    await asyncio.gather(
        *(append(log, f"session:{number % 7}") for number in range(retention.ROWS * 2 + 100))
    )
    set_clock(NOW)
    await asyncio.gather(*(append(log, f"session:{number % 7}") for number in range(70)))

    await keeping(store, keep_days=90).run()

    for number in range(7):
        assert len(await seqs(log, f"session:{number}")) == 10


async def test_a_clock_that_goes_back_makes_no_event_old(
    store: Store, set_clock: Callable[[int], None], no_pauses: None
) -> None:
    log = EventLog(store)
    set_clock(NOW)
    await append(log)
    set_clock(0)  # the computer started without knowing the time
    await append(log)
    set_clock(NOW)
    await append(log)

    await keeping(store, keep_days=90).run()

    assert await seqs(log) == [1, 2, 3]


async def test_a_clock_that_went_back_over_a_restart_makes_no_event_old(
    tmp_path: Path, set_clock: Callable[[int], None], no_pauses: None
) -> None:
    set_clock(NOW)
    async with Store(StorageSettings(), tmp_path) as store:
        await append(EventLog(store))
    set_clock(0)
    async with Store(StorageSettings(), tmp_path) as store:
        await append(EventLog(store))
        await keeping(store, keep_days=90).run()

        assert await seqs(EventLog(store)) == [1, 2]


async def test_a_session_that_nobody_wrote_to_is_forgotten(
    store: Store, set_clock: Callable[[int], None], no_pauses: None
) -> None:
    log = EventLog(store)
    set_clock(NOW - 100 * DAY_MS)
    await log.touch(Stream("session:empty"))
    await append(log, "session:written")

    await keeping(store, keep_days=90).run()

    found, _ = await log.streams("session:", before=None, limit=10)
    assert [each["stream"] for each in found] == ["session:written"]


# By size


async def test_over_its_size_the_log_loses_its_oldest_events(store: Store, no_pauses: None) -> None:
    log = EventLog(store)
    for _ in range(400):
        await asyncio.gather(append(log, "session:a", size=5_000), append(log, "session:b", size=5_000))
    before = await store.read(live_bytes)

    await keeping(store, keep_days=1e6, keep_bytes=2_000_000).run()

    assert before > 4_000_000
    assert 1_000_000 < await store.read(live_bytes) <= 2_000_000
    for stream in ("session:a", "session:b"):
        kept = await seqs(log, stream)
        assert kept == list(range(kept[0], 401)) and 100 < kept[0] < 400


async def test_the_file_does_not_grow_beyond_its_size_while_events_come_and_go(
    store: Store, no_pauses: None
) -> None:
    log = EventLog(store)
    sizes = []
    for _ in range(4):
        await asyncio.gather(*(append(log, size=5_000) for _ in range(400)))
        await keeping(store, keep_days=1e6, keep_bytes=2_000_000).run()
        await store.write(lambda connection: connection.exec_driver_sql("SELECT 1").all())
        sizes.append(store.path.stat().st_size)

    assert max(sizes) < 6_000_000


async def test_below_its_size_nothing_goes(store: Store, no_pauses: None) -> None:
    log = EventLog(store)
    await asyncio.gather(*(append(log, size=5_000) for _ in range(100)))

    await keeping(store, keep_days=1e6, keep_bytes=2_000_000).run()

    assert len(await seqs(log)) == 100


async def test_writers_do_not_wait_while_much_is_forgotten(
    store: Store, set_clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAUSE_S", 0.005)
    log = EventLog(store)
    set_clock(NOW - 100 * DAY_MS)
    await asyncio.gather(*(append(log, size=500) for _ in range(15_000)))
    set_clock(NOW)
    waits = []

    forgetting = asyncio.ensure_future(keeping(store, keep_days=90).run())  # noqa: TID251  # beside the writer
    while not forgetting.done():
        began = time.perf_counter()
        await append(log)
        waits.append(time.perf_counter() - began)
    await forgetting

    assert len(waits) > 20
    assert max(waits) < 0.5 and sorted(waits)[len(waits) // 2] < 0.1
    assert len(await seqs(log)) == len(waits)


# clientIds


async def claim(store: Store, device: str, count: int, *, age_hours: float) -> None:
    once = Remembered(store)
    for number in range(count):
        await once.claim(OnceKey(DeviceId(device), "file_update", f"{age_hours}-{number}", b"f"))
    at = NOW - round(age_hours * HOUR_MS)
    await store.write(
        lambda connection: connection.execute(
            tables.once.update().where(tables.once.c.client_id.like(f"{age_hours}-%")).values(at=at)
        )
    )


def remembered(connection: sa.Connection) -> dict[str, int]:
    rows = connection.execute(
        sa.select(tables.once.c.device_id, sa.func.count()).group_by(tables.once.c.device_id)
    )
    return {device: count for device, count in rows}  # noqa: C416  # rows are no pairs for dict()


async def test_a_client_id_goes_when_it_is_both_old_and_followed_by_enough_others(
    store: Store, no_pauses: None
) -> None:
    await claim(store, "busy", 10, age_hours=30)
    await claim(store, "busy", 8, age_hours=26)
    await claim(store, "quiet", 5, age_hours=30.5)
    await claim(store, "flooding", 20, age_hours=1)

    await keeping(store, once_hours=24, once_per_device=8).run()

    assert await store.read(remembered) == {"busy": 8, "quiet": 5, "flooding": 20}


async def test_of_a_busy_device_the_newest_are_kept(store: Store, no_pauses: None) -> None:
    for age_hours in range(30, 50):
        await claim(store, "busy", 1, age_hours=age_hours)

    await keeping(store, once_hours=24, once_per_device=8).run()

    kept = await store.read(
        lambda connection: [*connection.execute(sa.select(tables.once.c.client_id)).scalars()]
    )
    assert sorted(kept) == [f"{age_hours}-0" for age_hours in range(30, 38)]


async def test_a_young_client_id_is_kept_however_many_there_are(store: Store, no_pauses: None) -> None:
    for age_hours in range(20, 30):
        await claim(store, "busy", 1, age_hours=age_hours)

    await keeping(store, once_hours=24, once_per_device=2).run()

    assert await store.read(remembered) == {"busy": 5}  # 20, 21, 22, 23, and 24 to the minute


# Devices


def device(
    device_id: str, *, kind: str = "token", revoked: int | None = None, expires: int | None = None
) -> devices.DeviceRow:
    return devices.DeviceRow(device_id, "ada", device_id, kind, "view", 0, None, expires, revoked)


async def test_tokens_that_ended_a_year_ago_go_with_their_client_ids(store: Store, no_pauses: None) -> None:
    year_ago = NOW - 366 * DAY_MS
    forgotten: list[DeviceId] = []

    def forget(ids: Sequence[DeviceId]) -> None:
        forgotten.extend(ids)

    for row in (
        device("revoked long ago", revoked=year_ago),
        device("expired long ago", expires=year_ago),
        device("revoked lately", revoked=NOW - DAY_MS),
        device("expired lately", expires=NOW - DAY_MS),
        device("in use", expires=NOW + DAY_MS),
        # A token of the older server may be valid for ever, and is only refused because of this row.
        device("legacy:bob", kind="legacy", revoked=year_ago),
    ):
        await store.write(lambda connection, row=row: devices.add(connection, row))  # type: ignore[misc]
    await claim(store, "revoked long ago", 3, age_hours=9_000)
    await claim(store, "in use", 3, age_hours=1)

    await Retention(store, StorageSettings(), forget, clock_ms=lambda: NOW).run()

    assert sorted(forgotten) == ["expired long ago", "revoked long ago"]
    assert {row.device_id for row in await store.read(devices.every)} == {
        "revoked lately",
        "expired lately",
        "in use",
        "legacy:bob",
    }
    assert await store.read(remembered) == {"in use": 3}


# As a whole


async def test_the_daemon_forgets_and_tells_clients_to_start_afresh(
    start_daemon: Callable[..., Daemon],
) -> None:
    daemon = start_daemon(
        CLAUDE_DAEMON_STORAGE_RETENTION_S="0.1", CLAUDE_DAEMON_STORAGE_KEEP_DAYS=str(0.5 / 86_400)
    )
    async with peer(daemon.url, daemon.token()) as client:
        for _ in range(3):
            await client.call("chat_message", sessionId="s", content="soon forgotten")
        for _ in range(100):
            if not (await client.call("chat_history", sessionId="s"))["messages"]:
                break
            await asyncio.sleep(0.1)

        assert (await client.call("join_session", sessionId="s", afterSeq=1))["seq"] == 3
        assert await client.receive("session_history") == {"sessionId": "s", "messages": [], "seq": 3}
        assert await client.receive("session_joined") == {"sessionId": "s", "seq": 3, "reset": True}
        assert (await client.call("chat_message", sessionId="s", content="new"))["seq"] == 4
