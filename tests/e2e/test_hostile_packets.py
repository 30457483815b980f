"""What no client library sends.  The daemon stays up, others notice nothing, and nothing is left behind."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import psutil
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from daemon import Daemon, running
from fakes import until
from peer import Peer, peer
from raw import CLOSED, ENGINE, answers_or_closed, attacker

TRANSPORTS = ("websocket", "polling")
ECHO_WITHIN_S = 2.0
CONNECT_WITHIN_S = 1.0
MAX_PACKET = 1_000_000
MEMORY_GROWTH = 32_000_000  # caches that fill once; a leak of 5,000 attacks would be more

BEFORE_CONNECT: dict[str, list[str | bytes]] = {
    "an event before CONNECT": ['42["chat_message",{"content":"x","sessionId":"s"}]'],
    "an ack before CONNECT": ["431[]"],
    "a DISCONNECT before CONNECT": ["41"],
    "CONNECT with a list": ["40[1]"],
    "CONNECT with a text": ['40"token"'],
    "CONNECT with a number": ["40123"],
    "CONNECT with half an object": ['40{"token":'],
    "CONNECT with a token that is a list": ['40{"token":[1,2]}'],
    "CONNECT with a token of 100 kB": ['40{"token":"' + "x" * 100_000 + '"}'],
    "CONNECT with a token of lone surrogates": [r'40{"token":"\ud800.\udfff.\ud800"}'],
    "CONNECT to another namespace": ['40/admin,{"token":"x"}'],
    "CONNECT to a namespace of 100 kB": ["40/" + "x" * 100_000 + ","],
    "an event in another namespace": ['42/admin,["chat_message",{}]'],
    "CONNECT_ERROR from the client": ['44{"message":"no"}'],
    "an upgrade that nobody asked for": ["5"],
    "a probe": ["2probe"],
    "an OPEN": ['0{"sid":"x"}'],
    "a hundred CONNECTs": ["40"] * 100,
}

AFTER_CONNECT: dict[str, list[str | bytes]] = {
    "half a list": ["42["],
    "half an event": ['42["chat_message",'],
    "an object for an event": ['42{"chat_message":{}}'],
    "an event without a name": ["42[]"],
    "a number for a name": ["42[1]"],
    "null for a name": ["42[null,{}]"],
    "a list for a name": ['42[["chat_message"],{}]'],
    "an object for a name": ['42[{"a":1},{}]'],
    "a name of 100 kB": ['42["' + "x" * 100_000 + '",{}]'],
    "a name that the protocol keeps": ['42["connect"]', '42["disconnect"]', '42["connect_error",{}]'],
    "a name that Python keeps": ['42["__init__",{}]', '42["__class__",{}]', '42["*",{}]'],
    "no payload": ['42["chat_message"]'],
    "four payloads": ['42["chat_message",1,{"content":"x","sessionId":"s"},[],null]'],
    "a text for a payload": ['42["chat_message","x"]', '42["file_update","x"]', '42["typing",false]'],
    "a list for a payload": ['42["chat_message",[[]]]'],
    "wrong types throughout": ['42["terminal_command",{"command":{},"sessionId":[],"timeoutSeconds":"x"}]'],
    "nesting of 100,000": ['42["chat_message",' + "[" * 100_000 + "]" * 100_000 + "]"],
    "nesting of 100,000 in a field": [
        '42["chat_message",{"content":"x","sessionId":"s","metadata":'
        + '{"a":' * 100_000
        + "1"
        + "}" * 100_001
        + "]"
    ],
    "nesting below the parser's limit": [
        '42["chat_message",{"content":"x","sessionId":"s","metadata":' + '{"a":' * 500 + "1" + "}" * 501 + "]"
    ],
    "NULs": ['42["chat_message",{"content":"a\\u0000b","sessionId":"\\u0000"}]'],
    "raw NULs": ['42["chat_message",{"content":"a\0b","sessionId":"s"}]', "\0", "4\0", "42\0"],
    "lone surrogates": [r'42["chat_message",{"content":"\ud800","sessionId":"\udfff"}]'],
    "NaN and Infinity": [
        '42["typing",{"sessionId":"s","isTyping":NaN}]',
        '42["x",Infinity]',
        '42["x",-1e999]',
    ],
    "a number of 10,000 digits": ['42["join_session",{"sessionId":"s","afterSeq":' + "9" * 10_000 + "}]"],
    "a number beyond 64 bits": ['42["join_session",{"sessionId":"s","afterSeq":' + "9" * 30 + "}]"],
    "the same key many times": [
        '42["typing",{' + ",".join(['"sessionId":"s"'] * 1_000) + ',"isTyping":true}]'
    ],
    "an ack id of 100 digits": ["42" + "9" * 100 + '["system_status",{}]'],
    "an ack id of 10,000 digits": ["42" + "9" * 10_000 + '["system_status",{}]'],
    "a negative ack id": ['42-1["system_status",{}]'],
    "an ack id in Arabic digits": ['42\u0661\u0662["system_status",{}]'],
    "an ack that nobody waits for": ["431[]", '4399999999999999999999["x"]'],
    "an ack that is no list": ['431{"a":1}', "431", "43"],
    "a second CONNECT": ["40", '40{"token":"x"}'],
    "a DISCONNECT": ["41"],
    "a DISCONNECT, then an event": ["41", '42["system_status",{}]'],
    "CONNECT_ERROR from the client": ['44{"message":"no"}'],
    "another namespace": ['42/admin,["chat_message",{}]', '40/admin,{"token":"x"}', "41/admin,"],
    "a namespace without an end": ["42/" + "x" * 10_000],
    "an unknown Socket.IO packet": ['47["x"]', '49["x"]', "4x", "4"],
    "an unknown Engine.IO packet": ["7", "9", "x", "\x7f", "é"],
    "an Engine.IO CLOSE": ["1"],
    "an Engine.IO CLOSE, then an event": ["100", '42["typing",{}]'],
    "an Engine.IO OPEN": ['0{"sid":"x"}'],
    "a ping from the client": ["2", "2probe"],
    "pongs that nobody asked for": ["3"] * 50,
    "an upgrade that nobody asked for": ["5"],
    "NOOPs": ["6"] * 50,
    "an empty packet": [""],
    "a billion attachments": ['45999999999-["chat_message",{"_placeholder":true,"num":0}]'],
    "a hundred attachments": ['45100-["chat_message",{}]', *[b"x"] * 100],
    "attachments that never come": ['451-["chat_message",{"_placeholder":true,"num":0}]', '42["typing",{}]'],
    "attachments that nobody announced": [b"x", b"", b"\0" * 1_000],
    "a negative number of attachments": ['45-1-["chat_message",{}]', '45-["chat_message",{}]'],
    "attachments in no number": ['45x-["chat_message",{}]', "45"],
    "no attachments at all": ['450-["chat_message",{}]'],
    "a placeholder beyond the attachments": ['451-["chat_message",{"_placeholder":true,"num":7}]', b"x"],
    "a negative placeholder": ['451-["chat_message",{"_placeholder":true,"num":-1}]', b"x"],
    "a placeholder that is no number": ['451-["chat_message",{"_placeholder":true,"num":"a"}]', b"x"],
    "placeholders without a binary event": ['42["chat_message",{"_placeholder":true,"num":0}]'],
    "an attachment where a text belongs": [
        '451-["chat_message",{"sessionId":"s","content":{"_placeholder":true,"num":0}}]',
        b"x" * 1_000,
    ],
    "an attachment for a name": ['451-[{"_placeholder":true,"num":0},{}]', b"chat_message"],
    "a binary ack": ['461-1[{"_placeholder":true,"num":0}]', b"x"],
    "a thousand events at once": ['42["typing",{"sessionId":"s","isTyping":true}]'] * 1_000,
}

PACKETS = [(name, False, packets) for name, packets in BEFORE_CONNECT.items()] + [
    (name, True, packets) for name, packets in AFTER_CONNECT.items()
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("hostile") / "home"
    unlimited = {"RATE_LIMIT_POINTS": "1000000000", "CLAUDE_DAEMON_LOG_SAME_PER_MINUTE": "1000000"}
    with running(home, CLAUDE_DAEMON_SERVER_CONNECT_TIMEOUT_S=f"{CONNECT_WITHIN_S:g}", **unlimited) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def token(daemon: Daemon) -> str:
    return daemon.token()


@pytest.fixture
async def neighbour(daemon: Daemon, token: str) -> AsyncIterator[Peer]:
    """Somebody else's connection, which is to notice nothing; afterwards nothing is held for the attacker."""
    async with peer(daemon.url, token) as neighbour:
        await works(neighbour)
        files = daemon.open_files()
        yield neighbour
        await works(neighbour)
        await until(lambda: daemon.open_files() <= files)


async def works(neighbour: Peer) -> None:
    async with asyncio.timeout(ECHO_WITHIN_S):
        sent = await neighbour.call("chat_message", content="echo", sessionId="neighbours")
    assert sent["ok"], sent


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "connected", "packets"), PACKETS, ids=[name for name, _, _ in PACKETS])
async def test_nobody_else_notices(
    daemon: Daemon,
    token: str,
    neighbour: Peer,
    transport: str,
    name: str,
    *,
    connected: bool,
    packets: list[str | bytes],
) -> None:
    async with attacker(daemon.url, transport, token=token if connected else None) as hostile:
        for packet in packets:
            await hostile.send(packet)
        await works(neighbour)
        if connected:
            await answers_or_closed(hostile)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_whoever_does_not_connect_in_time_is_closed(
    daemon: Daemon, neighbour: Peer, transport: str
) -> None:
    async with attacker(daemon.url, transport) as silent:
        assert await silent.receive(CONNECT_WITHIN_S + 2) == CLOSED


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_whoever_pings_without_connecting_is_closed_all_the_same(
    daemon: Daemon, neighbour: Peer, transport: str
) -> None:
    async with attacker(daemon.url, transport) as busy, asyncio.timeout(CONNECT_WITHIN_S + 2):
        while await busy.receive() != CLOSED:
            await busy.send("3")


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_packet_over_the_limit_ends_only_its_connection(
    daemon: Daemon, token: str, neighbour: Peer, transport: str, *, connected: bool
) -> None:
    async with attacker(daemon.url, transport, token=token if connected else None) as hostile:
        await hostile.send('42["chat_message",{"content":"' + "x" * MAX_PACKET + '"}]')
        await answers_or_closed(hostile)
        # 1006: the connection was cut before the close code could be read, for more was on its way.
        assert hostile.ended in {"websocket": {"1009", "1006"}, "polling": {"413"}}[transport]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_packet_just_below_the_limit_arrives_whole(
    daemon: Daemon, token: str, neighbour: Peer, transport: str
) -> None:
    padding = "x" * (MAX_PACKET - 100)
    async with attacker(daemon.url, transport, token=token) as client:
        await client.send(f'427["typing",{{"sessionId":"s","isTyping":true,"x":"{padding}"}}]')
        while not (packet := await client.receive()).startswith("437"):
            pass
        assert packet == '437[{"ok":true}]'


async def endless() -> AsyncIterator[bytes]:
    for _ in range(2_000):
        yield b"x" * 100_000


def compressed() -> bytes:
    return gzip.compress(b"4" + b"x" * 200_000_000, compresslevel=1)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(endless, {}), (compressed, {"Content-Encoding": "gzip"})],
    ids=["endless", "compressed"],
)
async def test_a_body_that_grows_is_not_kept(
    daemon: Daemon, token: str, neighbour: Peer, body: Callable[[], Any], headers: dict[str, str]
) -> None:
    before = psutil.Process(daemon.pid).memory_info().rss
    async with attacker(daemon.url, "polling", token=token) as hostile:
        with suppress(aiohttp.ClientError):  # cut off in the middle is as good as refused
            async with hostile.http.post(hostile.address, data=body(), headers=headers) as answer:
                assert answer.status in {200, 400, 413}
        assert psutil.Process(daemon.pid).memory_info().rss - before < MEMORY_GROWTH


async def test_text_that_is_not_utf_8_ends_the_websocket(daemon: Daemon, token: str, neighbour: Peer) -> None:
    async with attacker(daemon.url, "websocket", token=token) as hostile:
        await hostile.socket._writer.send_frame(b'42["chat_message","\xff\xfe"]', aiohttp.WSMsgType.TEXT)
        assert await answers_or_closed(hostile) == CLOSED
        assert hostile.ended == "1007"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'42["chat_message","\xff\xfe"]', id="no UTF-8"),
        pytest.param(b"b!!!!not base64", id="no base64"),
        pytest.param(b"b", id="an empty attachment"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x1e\x1e\x1e", id="separators only"),
        pytest.param(b"\x1e".join([b"6"] * 50_000), id="50,000 packets"),
        pytest.param(b"d=42[]", id="JSONP"),
    ],
)
async def test_a_body_that_is_no_payload_is_refused(
    daemon: Daemon, token: str, neighbour: Peer, body: bytes
) -> None:
    async with attacker(daemon.url, "polling", token=token) as hostile:
        assert await hostile.post(body) in {200, 400}
        await answers_or_closed(hostile)


@pytest.mark.parametrize(
    "query",
    [
        "EIO=4&transport=polling&sid=nobody",
        "EIO=4&transport=websocket&sid=nobody",
        "EIO=4&transport=pigeon",
        "EIO=3&transport=polling",
        "EIO=x&transport=polling",
        "transport=polling",
        "",
        "EIO=4&transport=polling&j=alert(1)",
        "EIO=4&transport=polling&sid=" + "x" * 5_000,
        "EIO=4&EIO=3&transport=polling&transport=websocket",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_handshake_of_another_kind_is_refused(
    daemon: Daemon, neighbour: Peer, method: str, query: str
) -> None:
    address = f"{daemon.url}/socket.io/?{query}"
    async with aiohttp.ClientSession() as http, http.request(method, address, data=b"4") as answer:
        assert answer.status in {400, 405}
        assert b"<" not in await answer.read()


async def test_a_sid_is_of_no_use_to_upgrade_it_twice(daemon: Daemon, token: str, neighbour: Peer) -> None:
    async with attacker(daemon.url, "polling", token=token) as hostile:
        address = hostile.address.replace("transport=polling", "transport=websocket")
        async with hostile.http.ws_connect(address) as first:
            await first.send_str("2probe")
            assert await first.receive_str() == "3probe"
            try:
                async with hostile.http.ws_connect(address) as second:
                    await second.send_str("2probe")
                    await second.receive()
            except aiohttp.ClientError:
                pass
        await works(neighbour)


async def test_two_polls_at_once_do_not_hang(daemon: Daemon, token: str, neighbour: Peer) -> None:
    async with attacker(daemon.url, "polling", token=token) as hostile:

        async def poll() -> int:
            async with asyncio.timeout(5), hostile.http.get(hostile.address) as answer:
                return int(answer.status)

        both = asyncio.gather(poll(), poll(), return_exceptions=True)
        await hostile.send('4277["list_sessions",{}]')
        await hostile.send('4278["list_sessions",{}]')
        assert not any(isinstance(each, TimeoutError) for each in await both)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_hundred_connections_cut_off_in_the_middle_leave_nothing(
    daemon: Daemon, token: str, neighbour: Peer, transport: str
) -> None:
    for _ in range(100):
        async with aiohttp.ClientSession() as http:
            if transport == "websocket":
                socket = await http.ws_connect(daemon.url + ENGINE + transport)
                await socket.send_str('40{"token":"' + token + '"}')
                await socket.send_str('451-["chat_message",{"_placeholder":true,"num":0}]')
                assert socket._response.connection is not None
                assert socket._response.connection.transport is not None
                socket._response.connection.transport.abort()
            else:
                await http.get(daemon.url + ENGINE + transport)


# Fuzzing: packets near enough to real ones to come far.

NAMES = st.sampled_from(
    [
        "chat_message",
        "join_session",
        "join_project",
        "typing",
        "file_update",
        "terminal_cancel",
        "list_sessions",
    ]
)
KEYS = st.sampled_from(
    ["sessionId", "projectId", "content", "afterSeq", "clientId", "filePath", "metadata", "limit"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
EVENTS = st.builds(
    lambda ack, name, payload: f"42{ack}{json.dumps([name, *payload])}",
    st.sampled_from(["", "0", "1", "00", "18446744073709551616"]),
    NAMES | st.text(max_size=10),
    st.lists(st.dictionaries(KEYS, JSON) | JSON, max_size=3),
)
BINARY_EVENTS = st.builds(
    lambda count, name, number: f'45{count}-["{name}",{{"_placeholder":true,"num":{number}}}]',
    st.integers(-2, 20) | st.integers(),
    NAMES,
    st.integers(-3, 20),
)
BENT = st.builds(
    lambda packet, at, length, other: (
        packet[: at % len(packet)] + other + packet[at % len(packet) + length :]
    ),
    EVENTS,
    st.integers(0, 1_000),
    st.integers(0, 5),
    st.text(max_size=3),
)
PREFIXED = st.builds(
    str.__add__, st.sampled_from([*"0123456789b", "40", "41", "43", "44", "46", "42/"]), st.text(max_size=30)
)
HOSTILE = st.lists(
    EVENTS | BINARY_EVENTS | BENT | PREFIXED | st.text(max_size=50) | st.binary(max_size=50), max_size=5
)


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_thousands_of_bent_packets_do_no_harm(
    daemon: Daemon, token: str, count: Callable[[int, int], int], transport: str
) -> None:
    process = psutil.Process(daemon.pid)

    async def attack(neighbour: Peer, packets: list[str | bytes], *, connected: bool) -> None:
        async with attacker(daemon.url, transport, token=token if connected else None) as hostile:
            for packet in packets:
                await hostile.send(packet)
            if connected:
                await answers_or_closed(hostile)
        await works(neighbour)

    with asyncio.Runner() as runner:
        neighbourhood = peer(daemon.url, token)
        neighbour = runner.run(neighbourhood.__aenter__())
        files, memory = daemon.open_files(), process.memory_info().rss

        @settings(max_examples=count(150, 5_000), phases=[Phase.generate])  # a hang shrinks for hours
        @given(packets=HOSTILE, connected=st.booleans())
        def fuzz(packets: list[str | bytes], *, connected: bool) -> None:
            runner.run(attack(neighbour, packets, connected=connected))

        fuzz()
        runner.run(until(lambda: daemon.open_files() <= files))
        assert process.memory_info().rss - memory < MEMORY_GROWTH
        runner.run(neighbourhood.__aexit__(None, None, None))
