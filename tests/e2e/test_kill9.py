"""`kill -9` under load: what was acknowledged is there, once, at its place; what wasn't can be sent again."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_daemon.client import Client, NotRunningError, RefusedError
from daemon import Daemon, running

SESSIONS = 3
IN_FLIGHT = 4

Acks = dict[str, tuple[int, str]]


async def talk(
    daemon: Daemon, token: str, session: str, *, again: list[str], round_: int, acks: Acks
) -> set[str]:
    """Send until the daemon dies, `again` first; returns what was sent and not acknowledged."""
    numbers = iter(range(100_000))
    open_: set[str] = set()

    async def one(client: Client) -> None:
        while True:
            name = again.pop() if again else f"{session}-{round_}-{next(numbers)}"
            open_.add(name)
            ack = await client.call("chat_message", sessionId=session, content=name, clientId=name)
            acks[name] = (ack["seq"], ack["id"])
            open_.discard(name)

    try:
        async with Client(daemon.url, token=token) as client:
            await asyncio.gather(*(one(client) for _ in range(IN_FLIGHT)), return_exceptions=True)
    except (NotRunningError, RefusedError, OSError):
        pass
    return open_


async def replay(daemon: Daemon, token: str, session: str, head: int) -> list[dict[str, Any]]:
    async with Client(daemon.url, token=token) as client:
        await client.call("join_session", sessionId=session, afterSeq=0)
        return [await client.receive("chat_message") for _ in range(head)]


async def test_nothing_acknowledged_is_lost_or_doubled(
    tmp_path: Path, count: Callable[[int, int], int]
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201  pytest shows it with a failure
    dice = random.Random(seed)
    acks: dict[str, Acks] = {f"s{n}": {} for n in range(SESSIONS)}
    unknown: dict[str, list[str]] = {session: [] for session in acks}
    with running(tmp_path / "home", RATE_LIMIT_POINTS="1000000") as daemon:
        token = await asyncio.to_thread(daemon.token)
        for round_ in range(count(3, 100)):
            talks = asyncio.gather(
                *(
                    talk(daemon, token, each, again=unknown[each], round_=round_, acks=acks[each])
                    for each in acks
                )
            )
            before = sum(map(len, acks.values()))
            enough = before + dice.randrange(20, 120)
            async with asyncio.timeout(20):
                while sum(map(len, acks.values())) < enough:  # noqa: ASYNC110  likewise
                    await asyncio.sleep(0.005)  # the talks report to nobody but the dictionaries
            await asyncio.to_thread(daemon.kill)
            for session, open_ in zip(acks, await talks, strict=True):
                unknown[session] += sorted(open_)
            await asyncio.to_thread(daemon.start)
        assert sum(map(len, acks.values())) >= 3 * 20
        for session, known in acks.items():
            async with Client(daemon.url, token=token) as client:
                for name in unknown[session]:
                    ack = await client.call("chat_message", sessionId=session, content=name, clientId=name)
                    known[name] = (ack["seq"], ack["id"])
            head = max(seq for seq, _ in known.values())
            events = await replay(daemon, token, session, head)

            assert [event["seq"] for event in events] == list(range(1, head + 1))
            assert {event["content"]: (event["seq"], event["id"]) for event in events} == known
