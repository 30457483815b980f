"""The load generator, a process of its own: `python -m bench.load URL CPU CLIENT_IDS < TOKEN`.

It prints `begin` and `end` around the time that counts, for whoever watches the daemon meanwhile, then
one JSON object: acks, refusals, seconds, its own CPU seconds, and latencies in ms.
"""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

from bench.figures import percentile
from bench.frames import Peer, peer
from bench.pinning import pin

CLIENTS = 20
IN_FLIGHT = 8
WARM_UP_S = 1.0
COUNTED_S = 5.0
CONTENT = "How far is it from here to the next place where one could stay overnight? " * 2


class Sender:
    """One client in its own session that answers each ack with its next message."""

    def __init__(self, connected: Peer, session: str, *, client_ids: bool) -> None:
        self._peer = connected
        self._session = session
        self._client_ids = client_ids
        self._sent: dict[str, float] = {}
        self._number = 0
        self.latencies_ms: list[float] = []
        self.refused = 0

    def forget(self) -> None:
        self.latencies_ms.clear()
        self.refused = 0

    async def run(self, until: float) -> None:
        for _ in range(IN_FLIGHT):
            await self._send()
        while self._sent:
            frame = await self._peer.frame()
            if not frame.startswith("43"):
                continue
            now = time.perf_counter()
            number, _, reply = frame.partition("[")
            sent = self._sent.pop(number)
            if now < until:
                self.latencies_ms.append((now - sent) * 1_000)
                self.refused += not reply.startswith('{"ok":true')
                await self._send()

    async def _send(self) -> None:
        self._number += 1
        client_id = f',"clientId":"{self._session}-{self._number}"' if self._client_ids else ""
        self._sent[f"43{self._number}"] = time.perf_counter()
        await self._peer.socket.send_str(
            f'42{self._number}["chat_message",{{"content":"{CONTENT}","sessionId":"{self._session}"{client_id}}}]'
        )


async def load(url: str, token: str, *, client_ids: bool) -> dict[str, Any]:
    run = f"load-{time.time_ns()}"  # a session of an earlier round has a history to send
    async with AsyncExitStack() as stack:
        senders = [
            Sender(await stack.enter_async_context(peer(url, token)), f"{run}-{index}", client_ids=client_ids)
            for index in range(CLIENTS)
        ]
        cpu_s: list[float] = []

        async def count() -> None:
            await asyncio.sleep(WARM_UP_S)
            for sender in senders:
                sender.forget()
            _say("begin")
            cpu_s.append(time.process_time())
            await asyncio.sleep(COUNTED_S)
            cpu_s.append(time.process_time())
            _say("end")

        until = time.perf_counter() + WARM_UP_S + COUNTED_S
        async with asyncio.TaskGroup() as group:
            group.create_task(count())
            for sender in senders:
                group.create_task(sender.run(until))
    latencies = [each for sender in senders for each in sender.latencies_ms]
    refused = sum(sender.refused for sender in senders)
    return {
        "acks": len(latencies) - refused,
        "refused": refused,
        "seconds": COUNTED_S,
        "cpu_s": cpu_s[1] - cpu_s[0],
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
    }


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    url, cpu, client_ids = sys.argv[1:]
    pin(int(cpu))
    found = asyncio.run(load(url, sys.stdin.readline().strip(), client_ids=client_ids == "yes"))
    _say(json.dumps(found))


if __name__ == "__main__":
    main()
