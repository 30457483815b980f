"""Who is let in: tokens, Host and Origin, on websocket, long-polling and plain HTTP alike."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import pytest

from daemon import Daemon, running
from peer import peer
from raw import attacker, request

LEGACY_SECRET = "of-the-older-server-0123456789abcdef"
ALLOWED_PAGE = "http://localhost:3000"
INVALID = "Invalid authentication token"
POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
PUBLIC = ("/health", "/live", "/ready", "/asyncapi.json", "/docs")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("doors") / "home"
    with running(home, RATE_LIMIT_POINTS="100000", JWT_SECRET=LEGACY_SECRET) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def token(daemon: Daemon) -> str:
    return daemon.token()


# Tokens


@dataclass
class Forger:
    """Knows the installation's secret, to be wrong in one thing only."""

    token: str
    secret: str

    @property
    def claims(self) -> dict[str, Any]:
        decoded: dict[str, Any] = jwt.decode(self.token, options={"verify_signature": False})
        return decoded

    def sign(self, algorithm: str = "HS256", secret: str = "", without: str = "", **claims: Any) -> str:
        all_claims = {name: value for name, value in (self.claims | claims).items() if name != without}
        return jwt.encode(all_claims, secret or self.secret, algorithm=algorithm)

    def unsigned(self) -> str:
        header, claims = ({"alg": "none", "typ": "JWT"}, self.claims)
        return ".".join(_base64(json.dumps(part).encode()) for part in (header, claims)) + "."

    def tampered(self) -> str:
        header, _, signature = self.token.split(".")
        return f"{header}.{_base64(json.dumps(self.claims | {'scopes': ['admin']}).encode())}.{signature}"


def _base64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def forger(daemon: Daemon, token: str) -> Forger:
    """Finds the secret in the file vault of this installation."""
    for file in daemon.home.rglob("secrets.json"):
        for secret in json.loads(file.read_text()).values():
            try:
                jwt.decode(token, secret, algorithms=["HS256"], options={"verify_aud": False})
            except jwt.InvalidSignatureError:
                continue
            return Forger(token, secret)
    raise AssertionError("no secret of the file vault has signed the token")


BAD_TOKENS: dict[str, tuple[Callable[[Forger], str], str]] = {
    "rubbish": (lambda _: "rubbish", "token_invalid"),
    "three parts of rubbish": (lambda _: "a.b.c", "token_invalid"),
    "7 kB of rubbish": (lambda _: "x" * 7_000, "token_invalid"),
    "other claims beneath the signature": (lambda forger: forger.tampered(), "token_invalid"),
    "another secret": (
        lambda forger: forger.sign(secret="another secret of 32 characters!"),
        "token_invalid",
    ),
    "no signature": (lambda forger: forger.unsigned(), "token_invalid"),
    "another algorithm": (lambda forger: forger.sign("HS512"), "token_invalid"),
    "another audience": (lambda forger: forger.sign(aud="another-service"), "token_invalid"),
    "no audience": (lambda forger: forger.sign(without="aud"), "token_invalid"),
    "another issuer": (lambda forger: forger.sign(iss="another-installation"), "token_invalid"),
    "no end": (lambda forger: forger.sign(without="exp"), "token_invalid"),
    "another use": (lambda forger: forger.sign(typ="refresh"), "token_invalid"),
    "an unknown device": (lambda forger: forger.sign(deviceId="stranger"), "token_invalid"),
    "a time to come": (lambda forger: forger.sign(nbf=int(time.time()) + 60), "token_invalid"),
    "an end that is past": (lambda forger: forger.sign(exp=int(time.time()) - 1), "token_expired"),
}


async def connect_error(
    daemon: Daemon, transport: str, auth: Any, headers: dict[str, str] | None = None
) -> Any:
    """What a CONNECT with this `auth` is refused with."""
    async with attacker(daemon.url, transport, headers=headers) as client:
        await client.send("40" if auth is None else "40" + json.dumps(auth))
        packet = await client.receive()
    assert packet.startswith("44"), packet
    return json.loads(packet[2:])


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("bad", BAD_TOKENS)
async def test_a_bad_token_is_refused_at_connect(
    daemon: Daemon, forger: Forger, transport: str, bad: str
) -> None:
    forge, code = BAD_TOKENS[bad]
    refusal = {"message": INVALID, "data": {"code": code}}

    assert await connect_error(daemon, transport, {"token": forge(forger)}) == refusal
    assert await connect_error(daemon, transport, {"token": f"Bearer {forge(forger)}"}) == refusal
    header = {"Authorization": f"Bearer {forge(forger)}"}
    assert await connect_error(daemon, transport, None, header) == refusal


@pytest.mark.parametrize("bad", BAD_TOKENS)
async def test_a_bad_token_is_refused_over_http(daemon: Daemon, forger: Forger, bad: str) -> None:
    forge, code = BAD_TOKENS[bad]
    host = f"Host: 127.0.0.1:{daemon.port}"

    answer = await request(
        daemon.port, f"GET /metrics HTTP/1.1\n{host}\nAuthorization: Bearer {forge(forger)}"
    )

    assert answer.status == 401
    assert answer.error == {"message": INVALID, "code": code}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("auth", [None, {}, {"token": ""}, {"token": None}, {"Token": "x"}])
async def test_no_token_is_refused_at_connect(daemon: Daemon, transport: str, auth: Any) -> None:
    assert await connect_error(daemon, transport, auth) == {
        "message": "Authentication required",
        "data": {"code": "unauthenticated"},
    }


async def test_no_token_is_refused_over_http(daemon: Daemon) -> None:
    answer = await request(daemon.port, f"GET /metrics HTTP/1.1\nHost: 127.0.0.1:{daemon.port}")

    assert answer.status == 401
    assert answer.error == {"message": "Authentication required", "code": "unauthenticated"}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_revoked_token_is_refused(daemon: Daemon, transport: str) -> None:
    token = daemon.token()
    device = jwt.decode(token, options={"verify_signature": False})["deviceId"]
    revoked = daemon.cli("devices", "revoke", device)
    assert revoked.returncode == 0, revoked.stderr

    refusal = await connect_error(daemon, transport, {"token": token})

    assert refusal == {"message": INVALID, "data": {"code": "device_revoked"}}


@pytest.mark.parametrize("name", ["token", "access_token", "auth", "jwt", "Authorization"])
async def test_a_token_in_the_address_counts_for_nothing(daemon: Daemon, token: str, name: str) -> None:
    local = f"Host: 127.0.0.1:{daemon.port}"
    assert (await request(daemon.port, f"GET /metrics?{name}={token} HTTP/1.1\n{local}")).status == 401

    address = f"{daemon.url}{WEBSOCKET}&{name}={token}"
    async with aiohttp.ClientSession() as http, http.ws_connect(address) as socket:
        await socket.receive_str()
        await socket.send_str("40")
        packet = await socket.receive_str()

    assert json.loads(packet.removeprefix("44"))["data"] == {"code": "unauthenticated"}


async def test_a_route_asks_for_its_scope(daemon: Daemon) -> None:
    head = f"GET /metrics HTTP/1.1\nHost: 127.0.0.1:{daemon.port}\nAuthorization: Bearer "

    assert (await request(daemon.port, head + daemon.token(scopes="chat"))).status == 403
    assert (await request(daemon.port, head + daemon.token(scopes="view"))).status == 200


@pytest.mark.parametrize("path", PUBLIC)
async def test_a_public_route_asks_for_no_token(daemon: Daemon, path: str) -> None:
    answer = await request(daemon.port, f"GET {path} HTTP/1.1\nHost: 127.0.0.1:{daemon.port}")

    assert answer.status == 200


def legacy(*, secret: str = LEGACY_SECRET, lasts_s: int | None = 60, **claims: Any) -> str:
    end = {} if lasts_s is None else {"exp": int(time.time()) + lasts_s}
    return jwt.encode({"userId": "ada", **end, **claims}, secret)


async def test_a_token_of_the_older_server_is_let_in(daemon: Daemon) -> None:
    async with peer(daemon.url, legacy(email="ada@example.org")) as client:
        connected = await client.receive("connected")

    assert connected["userId"] == "ada"
    assert sorted(connected["scopes"]) == ["chat", "files", "terminal", "view"]


BAD_LEGACY: dict[str, tuple[dict[str, Any], str]] = {
    "another secret": ({"secret": "x" * 40}, "token_invalid"),
    "an end that is past": ({"lasts_s": -1}, "token_expired"),
    "no end": ({"lasts_s": None}, "token_invalid"),
    "scopes of its own": ({"scopes": ["admin"]}, "token_invalid"),
    "a device of its own": ({"deviceId": "tray"}, "token_invalid"),
    "another audience": ({"aud": "another-service"}, "token_invalid"),
    "a number for a user": ({"userId": 7}, "token_invalid"),
    "nobody": ({"userId": ""}, "token_invalid"),
}


@pytest.mark.parametrize("bad", BAD_LEGACY)
async def test_not_every_token_of_the_older_secret_is_let_in(daemon: Daemon, bad: str) -> None:
    claims, code = BAD_LEGACY[bad]

    refusal = await connect_error(daemon, "websocket", {"token": legacy(**claims)})

    assert refusal == {"message": INVALID, "data": {"code": code}}


async def test_who_guesses_is_slowed_down_and_who_knows_is_not(
    start_daemon: Callable[..., Daemon],
) -> None:
    daemon = start_daemon(RATE_LIMIT_POINTS="5")
    token = daemon.token()

    refusals = [await connect_error(daemon, "websocket", {"token": "guess"}) for _ in range(6)]

    assert [each["data"]["code"] for each in refusals] == ["token_invalid"] * 5 + ["rate_limited"]
    assert refusals[5]["message"] == "Rate limit exceeded"
    assert 0 < refusals[5]["data"]["retryAfterMs"] <= 60_000
    async with peer(daemon.url, token) as client:
        assert await client.receive("connected")


# Host and Origin

KNOCKS = {
    "long-polling": f"GET {POLLING} HTTP/1.1",
    "a packet": f"POST {POLLING}&sid=x HTTP/1.1",
    "websocket": (
        f"GET {WEBSOCKET} HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\n"
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    ),
    "health": "GET /health HTTP/1.1",
    "metrics": "GET /metrics HTTP/1.1",
    "the contract": "GET /asyncapi.json HTTP/1.1",
    "nothing": "GET /nothing HTTP/1.1",
    "preflight": f"OPTIONS {POLLING} HTTP/1.1\nAccess-Control-Request-Method: POST",
}
FOREIGN_PAGES = (
    "http://evil.example",
    "null",
    "*",
    "file://",
    "https://localhost:3000",
    "http://localhost:30000",
    "http://localhost:3000.evil.example",
    "http://evil.example#http://localhost:3000",
    "http://localhost:3000, http://evil.example",
    "http://192.168.1.10:3000",
)
FOREIGN_NAMES = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.nip.io:{port}",
    "localhost.evil.example:{port}",
    "127.0.0.1",
    "127.0.0.1:1",
    "0.0.0.0:{port}",
    "127.1:{port}",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.example",
    "",
)


@pytest.mark.parametrize("knock", KNOCKS)
@pytest.mark.parametrize("origin", FOREIGN_PAGES)
async def test_a_foreign_page_is_refused_everywhere(daemon: Daemon, knock: str, origin: str) -> None:
    answer = await request(daemon.port, f"{KNOCKS[knock]}\nHost: 127.0.0.1:{daemon.port}\nOrigin: {origin}")

    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("knock", KNOCKS)
@pytest.mark.parametrize("host", FOREIGN_NAMES)
async def test_a_rebound_name_is_refused_everywhere(daemon: Daemon, knock: str, host: str) -> None:
    answer = await request(daemon.port, f"{KNOCKS[knock]}\nHost: {host.format(port=daemon.port)}")

    assert answer.status in {400, 403}


@pytest.mark.parametrize("knock", KNOCKS)
async def test_a_rebound_page_of_its_own_origin_is_refused(daemon: Daemon, knock: str) -> None:
    """What Engine.IO's own check lets pass: it takes its allow-list from the Host header."""
    name = f"evil.example:{daemon.port}"
    answer = await request(daemon.port, f"{KNOCKS[knock]}\nHost: {name}\nOrigin: http://{name}")

    assert answer.status == 403


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-Host: 127.0.0.1:{port}", "Forwarded: host=127.0.0.1:{port}", "Host: 127.0.0.1:{port}"],
)
async def test_another_header_does_not_mend_the_host(daemon: Daemon, header: str) -> None:
    head = f"GET /health HTTP/1.1\nHost: evil.example\n{header.format(port=daemon.port)}"

    assert (await request(daemon.port, head)).status in {400, 403}


async def test_a_request_without_a_host_is_refused(daemon: Daemon) -> None:
    assert (await request(daemon.port, "GET /health HTTP/1.1")).status in {400, 403}
    assert (await request(daemon.port, "GET /health HTTP/1.0")).status in {400, 403}


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}"])
async def test_the_daemons_own_names_are_let_in(daemon: Daemon, host: str) -> None:
    answer = await request(daemon.port, f"GET /health HTTP/1.1\nHost: {host.format(port=daemon.port)}")

    assert answer.status == 200


@pytest.mark.parametrize("origin", [ALLOWED_PAGE, "http://127.0.0.1:{port}", "http://localhost:{port}"])
async def test_an_allowed_page_reads_the_answer(daemon: Daemon, origin: str) -> None:
    origin = origin.format(port=daemon.port)
    head = f"GET {POLLING} HTTP/1.1\nHost: 127.0.0.1:{daemon.port}\nOrigin: {origin}"

    answer = await request(daemon.port, head)

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "origin" in answer.headers["vary"].lower()


async def test_an_allowed_page_may_send_its_token(daemon: Daemon) -> None:
    head = (
        f"OPTIONS {POLLING} HTTP/1.1\nHost: localhost:{daemon.port}\nOrigin: {ALLOWED_PAGE}\n"
        "Access-Control-Request-Method: POST\nAccess-Control-Request-Headers: authorization,content-type"
    )

    answer = await request(daemon.port, head)

    assert answer.status in {200, 204}
    assert answer.headers["access-control-allow-origin"] == ALLOWED_PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"authorization", "content-type"} <= {each.strip() for each in allowed.split(",")}


async def test_a_preflight_is_no_way_in(daemon: Daemon) -> None:
    head = (
        f"OPTIONS /metrics HTTP/1.1\nHost: localhost:{daemon.port}\nOrigin: {ALLOWED_PAGE}\n"
        "Access-Control-Request-Method: GET"
    )

    assert b"websocket_connections_total" not in (await request(daemon.port, head)).body


@pytest.mark.parametrize("knock", ["health", "long-polling", "nothing"])
async def test_an_answer_says_how_browsers_should_treat_it(daemon: Daemon, knock: str) -> None:
    answer = await request(daemon.port, f"{KNOCKS[knock]}\nHost: 127.0.0.1:{daemon.port}")

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_page_and_a_token_together_open_the_door(daemon: Daemon, token: str, transport: str) -> None:
    async with attacker(daemon.url, transport, token=token, headers={"Origin": ALLOWED_PAGE}) as client:
        assert (await client.receive()).startswith('42["connected",')
