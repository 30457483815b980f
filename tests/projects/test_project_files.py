"""Clients write, list and read files, and look at what they were."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from claude_daemon.core.log import OnceKey
from claude_daemon.errors import StorageFullError
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.requests import FileUpdate
from claude_daemon.storage.once import Remembered
from desk import Desk, desk, heard, in_step
from fakes import Socket, files_in
from following import make_fifo
from like import TIME, UUID, Like

FORMAT = "Invalid file update format"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("old")
    return folder


@pytest.fixture
async def here(tmp_path: Path, root: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path / "home") as opened:
        await opened.done(Socket("tray"), "project_add", path=str(root), projectId="app")
        yield opened


def sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def write(path: str = "src/main.py", content: str | None = "new", **more: Any) -> dict[str, Any]:
    return {"projectId": "app", "filePath": path, "action": "update", "content": content, **more}


async def test_a_write_is_on_disk_acknowledged_and_heard_by_all_others_once(here: Desk, root: Path) -> None:
    writer, other = await here.joined("laptop", "app"), await here.joined("phone", "app")

    ack = await here.done(writer, "file_update", **write(), clientId="c1")

    assert (root / "src" / "main.py").read_text() == "new"
    assert ack == {"ok": True, "id": Like(UUID), "seq": 1, "sha256": sha256("new"), "versionId": Like(str)}
    await in_step(other, root)
    assert other.heard("file_update") == [
        {
            "id": ack["id"],
            "seq": 1,
            "filePath": "src/main.py",
            "content": "new",
            "encoding": "utf8",
            "size": 3,
            "sha256": sha256("new"),
            "projectId": "app",
            "action": "update",
            "truncated": False,
            "origin": {"kind": "client", "deviceId": "laptop"},
            "userId": "ada",
            "versionId": ack["versionId"],
            "timestamp": Like(TIME),
        }
    ]
    await in_step(writer, root)
    assert writer.heard("file_update") == []


async def test_a_second_socket_of_the_same_device_hears_the_write(here: Desk) -> None:
    writer, twin = await here.joined("laptop", "app"), await here.joined("laptop", "app")

    await here.done(writer, "file_update", **write(), clientId="c1")

    assert [each["clientId"] for each in twin.heard("file_update")] == ["c1"]


async def test_hundreds_of_writes_are_never_echoed(here: Desk, root: Path) -> None:
    writer, other = await here.joined("laptop", "app"), await here.joined("phone", "app")

    for number in range(150):
        await here.done(writer, "file_update", **write(f"src/{number % 7}.txt", f"{number}"))
        if number % 10 == 9:
            await here.done(writer, "file_update", **write(f"src/{number % 7}.txt", None, action="delete"))
    await in_step(other, root)
    await asyncio.sleep(0.4)  # longer than any path waits

    assert len(other.heard("file_update")) == 165
    assert {each["origin"]["kind"] for each in other.heard("file_update")} == {"client"}
    assert [each for each in writer.heard("file_update") if each["filePath"] != "fence"] == []


async def test_an_editors_save_right_after_a_write_is_heard_by_the_writer_too(here: Desk, root: Path) -> None:
    writer = await here.joined("laptop", "app")
    for number in range(20):
        await here.done(writer, "file_update", **write(content=f"client {number}"))
        (root / "src" / "main.py").write_text(f"editor {number}")
        await heard(writer, "src/main.py", times=number + 1)

    contents = [each["content"] for each in writer.heard("file_update")]
    assert contents == [f"editor {number}" for number in range(20)]


async def test_create_and_delete_say_what_happened(here: Desk, root: Path) -> None:
    writer, other = Socket("laptop"), await here.joined("phone", "app")
    await here.done(writer, "file_update", **write("a/b/new.txt", "", action="create"))
    await here.done(writer, "file_update", **write("a/b/new.txt", "x", action="create"))
    ack = await here.done(writer, "file_update", **write("a/b/new.txt", None, action="delete"))

    assert (ack["sha256"], ack["versionId"]) == (None, None)
    assert [(each["action"], each["content"], each["size"]) for each in other.heard("file_update")] == [
        ("create", "", 0),
        ("update", "x", 1),
        ("delete", None, 0),
    ]
    assert not (root / "a" / "b" / "new.txt").exists()


async def test_bytes_travel_in_base64(here: Desk, root: Path) -> None:
    content = bytes(range(256))

    ack = await here.done(
        Socket(), "file_update", **write("x.bin", base64.b64encode(content).decode(), encoding="base64")
    )

    assert ack["sha256"] == sha256(content)
    assert (root / "x.bin").read_bytes() == content


async def test_a_stale_base_is_a_conflict_with_the_current_hash(here: Desk, root: Path) -> None:
    error = await here.refused(Socket(), "file_update", **write(baseSha256=sha256("older")))

    assert (error["code"], error["sha256"]) == ("conflict", sha256("old"))
    assert (root / "src" / "main.py").read_text() == "old"
    await here.done(Socket(), "file_update", **write(baseSha256=sha256("old")))


async def test_of_many_writers_with_one_base_one_wins(here: Desk, root: Path) -> None:
    acks = await asyncio.gather(
        *(
            here.call(
                Socket(f"d{number}"), "file_update", **write(content=f"{number}", baseSha256=sha256("old"))
            )
            for number in range(20)
        )
    )

    [winner] = [number for number, ack in enumerate(acks) if ack["ok"]]
    assert (root / "src" / "main.py").read_text() == str(winner)
    assert {ack["error"]["sha256"] for ack in acks if not ack["ok"]} == {sha256(str(winner))}


async def test_a_hundred_clients_at_once_end_with_one_content_and_all_others_are_versions(
    here: Desk, root: Path
) -> None:
    clients = [await here.joined(f"d{number}", "app") for number in range(100)]

    acks = await asyncio.gather(
        *(
            here.done(client, "file_update", **write("shared.txt", f"content {number}"))
            for number, client in enumerate(clients)
        )
    )
    await in_step(clients[0], root)

    last = max(acks, key=lambda ack: ack["seq"])
    assert sha256((root / "shared.txt").read_bytes()) == last["sha256"]
    history = await here.done(Socket(), "file_history", projectId="app", filePath="shared.txt")
    assert [each["versionId"] for each in history["versions"]] == [
        ack["versionId"] for ack in sorted(acks, key=lambda ack: -ack["seq"])
    ]
    for number, ack in enumerate(acks):
        old = await here.done(
            Socket(), "file_read", projectId="app", filePath="shared.txt", versionId=ack["versionId"]
        )
        assert old["content"] == f"content {number}"
    for number, client in enumerate(clients):
        mine = f"content {number}"
        others = [each["content"] for each in client.heard("file_update") if each["filePath"] == "shared.txt"]
        assert len(others) == 99
        assert mine not in others


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../x", "outside_project"),
        ("/etc/passwd", "outside_project"),
        ("src/../../x", "outside_project"),
        ("out/secret", "outside_project"),
        ("out", "outside_project"),
        (".git/config", "protected_path"),
        (".GIT/config", "protected_path"),
        (".envrc", "protected_path"),
        ("twin", "protected_path"),
        ("src", "invalid"),
        ("fifo", "invalid"),
        ("a//b", "invalid"),
        ("a\\b", "invalid"),
        ("a\0b", "invalid"),
        ("x" * 256, "too_large"),
        ("locked", "read_only"),
    ],
)
async def test_what_may_not_be_written_is_refused_by_its_code(
    here: Desk, root: Path, path: str, code: str
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "out").symlink_to(outside)
    os.link(outside / "secret", root / "twin")
    make_fifo(root / "fifo")
    (root / "locked").write_text("locked")
    (root / "locked").chmod(0o444)

    error = await here.refused(Socket(), "file_update", **write(path))

    assert error["code"] == code
    if code in {"invalid", "too_large"}:
        assert error["details"][0]["path"] == ["filePath"]
    assert (outside / "secret").read_text() == "secret"
    assert not (root / ".git").exists()


@pytest.mark.parametrize(
    ("more", "path", "kind"),
    [
        ({"content": None}, ["content"], "any.required"),
        ({"content": "no base64!", "encoding": "base64"}, ["content"], "string.base"),
        ({"content": "x" * (512 * 1024 + 1)}, ["content"], "string.max"),
        ({"filePath": "a//b"}, ["filePath"], "string.base"),
    ],
)
async def test_a_malformed_write_has_the_contracts_message(
    here: Desk, more: dict[str, Any], path: list[str], kind: str
) -> None:
    error = await here.refused(Socket(), "file_update", **{**write(), **more})

    assert error["message"] == FORMAT
    assert (error["details"][0]["path"], error["details"][0]["type"]) == (path, kind)


async def test_a_sensitive_file_is_written_but_never_shown_or_kept(
    here: Desk, root: Path, tmp_path: Path
) -> None:
    other = await here.joined("phone", "app")
    (root / ".env").write_text("TOKEN=old")
    await heard(other, ".env")

    ack = await here.done(Socket("laptop"), "file_update", **write(".env", "TOKEN=new"))

    assert (root / ".env").read_text() == "TOKEN=new"
    assert ack["versionId"] is None
    event = (await heard(other, ".env", times=2))[1]
    assert (event["content"], event["truncated"], event["sensitive"]) == (None, True, True)
    assert "versionId" not in event
    assert (await here.refused(Socket(), "file_read", projectId="app", filePath=".env"))[
        "code"
    ] == "forbidden"
    history = await here.done(Socket(), "file_history", projectId="app", filePath=".env")
    assert history["versions"] == []
    kept = [path for path in (tmp_path / "home" / "state" / "history").rglob("*") if path.is_file()]
    assert kept == []


async def test_a_repeated_write_is_done_once(here: Desk, root: Path) -> None:
    writer, other = Socket("laptop"), await here.joined("phone", "app")
    first = await here.done(writer, "file_update", **write(), clientId="c1")
    (root / "src" / "main.py").write_text("changed since")
    await heard(other, "src/main.py", times=2)

    again = await here.done(writer, "file_update", **write(), clientId="c1")

    assert again == first
    assert (root / "src" / "main.py").read_text() == "changed since"
    other_payload = await here.refused(writer, "file_update", **write(content="x"), clientId="c1")
    assert other_payload["code"] == "conflict"


async def begun(here: Desk, writer: Socket, **payload: Any) -> None:
    """What a daemon leaves that was killed after it wrote the key and before it noted the answer."""
    request = FileUpdate(
        file_path=payload["filePath"],
        project_id="app",
        action=payload["action"],
        content=payload["content"],
        base_sha256=payload.get("baseSha256"),
        client_id=payload["clientId"],
    )
    fingerprint = hashlib.blake2b(encode(request), digest_size=16).digest()
    key = OnceKey(writer.device_id, "file_update", payload["clientId"], fingerprint)
    assert await Remembered(here.store).claim(key) is None


async def test_a_write_interrupted_before_its_effect_is_done_by_its_repetition(
    here: Desk, root: Path
) -> None:
    writer = Socket("laptop")
    payload = write(baseSha256=sha256("old"), clientId="c1")
    await begun(here, writer, **payload)

    ack = await here.done(writer, "file_update", **payload)

    assert ack["sha256"] == sha256("new")
    assert (root / "src" / "main.py").read_text() == "new"


async def test_a_write_interrupted_after_its_rename_is_told_by_its_repetition(here: Desk, root: Path) -> None:
    writer, other = Socket("laptop"), await here.joined("phone", "app")
    payload = write(baseSha256=sha256("old"), clientId="c1")
    await begun(here, writer, **payload)
    (root / "src" / "main.py").write_text("new")
    await heard(other, "src/main.py")

    ack = await here.done(writer, "file_update", **payload)

    assert ack["sha256"] == sha256("new")
    assert (await heard(other, "src/main.py", times=2))[1]["id"] == ack["id"]


async def test_a_write_interrupted_after_it_was_told_is_answered_by_what_was_told(here: Desk) -> None:
    writer = Socket("laptop")
    payload = write(clientId="c1")
    first = await here.done(writer, "file_update", **payload)
    await here.store.write(lambda connection: connection.exec_driver_sql("UPDATE once SET reply = NULL"))

    assert await here.done(writer, "file_update", **payload) == first


async def test_what_a_client_replaces_unseen_is_kept_as_a_version(here: Desk) -> None:
    await here.done(Socket("laptop"), "file_update", **write())

    history = await here.done(Socket(), "file_history", projectId="app", filePath="src/main.py")

    assert [
        (each["action"], each["size"], each["sha256"], each["origin"]) for each in history["versions"]
    ] == [
        ("update", 3, sha256("new"), {"kind": "client", "deviceId": "laptop"}),
        ("update", 3, sha256("old"), {"kind": "disk"}),
    ]
    old = await here.done(
        Socket(), "file_read", projectId="app", filePath="src/main.py",
        versionId=history["versions"][1]["versionId"],
    )  # fmt: skip
    assert old["content"] == "old"


async def test_history_has_the_deletion_and_what_was_before(here: Desk, root: Path) -> None:
    other = await here.joined("phone", "app")
    (root / "src" / "main.py").write_text("newer")
    await heard(other, "src/main.py")
    (root / "src" / "main.py").unlink()
    await heard(other, "src/main.py", times=2)

    versions = (await here.done(other, "file_history", projectId="app", filePath="src/main.py"))["versions"]

    assert [(each["action"], each["sha256"]) for each in versions] == [
        ("delete", None),
        ("update", sha256("newer")),
    ]
    assert versions[0]["timestamp"] == Like(TIME)
    gone = {"projectId": "app", "filePath": "src/main.py"}
    assert (await here.refused(other, "file_read", **gone, versionId=versions[0]["versionId"]))[
        "code"
    ] == "not_found"
    assert (await here.refused(other, "file_read", **gone))["code"] == "not_found"


async def test_a_version_is_only_that_files(here: Desk) -> None:
    ack = await here.done(Socket(), "file_update", **write())

    error = await here.refused(
        Socket(), "file_read", projectId="app", filePath="other.py", versionId=ack["versionId"]
    )

    assert error["code"] == "not_found"


async def test_a_file_is_read_as_it_is(here: Desk, root: Path) -> None:
    (root / "big").write_text("x" * 600_000)

    assert await here.done(Socket(), "file_read", projectId="app", filePath="src/main.py") == {
        "ok": True,
        "filePath": "src/main.py",
        "content": "old",
        "encoding": "utf8",
        "size": 3,
        "sha256": sha256("old"),
        "truncated": False,
    }
    big = await here.done(Socket(), "file_read", projectId="app", filePath="big")
    assert (big["content"], big["truncated"], big["size"]) == (None, True, 600_000)
    assert big["sha256"] == sha256("x" * 600_000)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../x", "outside_project"),
        ("out/secret", "outside_project"),
        ("nothing", "not_found"),
        ("src", "invalid"),
        ("fifo", "invalid"),
        ("id_rsa", "forbidden"),
        ("a\0b", "invalid"),
    ],
)
async def test_what_may_not_be_read_is_refused_by_its_code(
    here: Desk, root: Path, path: str, code: str
) -> None:
    (root / "out").symlink_to(root.parent)
    make_fifo(root / "fifo")

    error = await here.refused(Socket(), "file_read", projectId="app", filePath=path)

    assert error["code"] == code


async def test_folders_are_listed_in_pages(tmp_path: Path, root: Path) -> None:
    for number in range(5):
        (root / "src" / f"f{number}").touch()
    async with desk(tmp_path / "home", list_page=4) as here:
        await here.done(Socket("tray"), "project_add", path=str(root), projectId="app")
        first = await here.done(Socket(), "file_list", projectId="app", path="src")
        second = await here.done(Socket(), "file_list", projectId="app", path="src", cursor=first["cursor"])

        assert [each["name"] for each in first["entries"]] == ["f0", "f1", "f2", "f3"]
        assert first["entries"][0] == {
            "name": "f0", "type": "file", "size": 0, "modified": Like(TIME), "ignored": False
        }  # fmt: skip
        assert [each["name"] for each in second["entries"]] == ["f4", "main.py"]
        assert "cursor" not in second
        top = await here.done(Socket(), "file_list", projectId="app")
        assert (top["path"], [each["name"] for each in top["entries"]]) == ("", ["src"])
        for path, code in (("..", "outside_project"), ("no", "not_found"), ("src/main.py", "invalid")):
            assert (await here.refused(Socket(), "file_list", projectId="app", path=path))["code"] == code


async def test_a_write_that_could_not_be_told_is_refused_and_told_later(
    here: Desk, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_daemon.projects.project.RETRY_S", 0.1)
    writer = await here.joined("laptop", "app")

    def full(*_: object) -> None:
        raise StorageFullError("no room is left for the log")

    with monkeypatch.context() as patched:
        patched.setattr(here.store, "submit", full)
        error = await here.refused(writer, "file_update", **write())
        assert error["code"] == "storage_full"
    [event] = await heard(writer, "src/main.py")

    assert (event["content"], event["origin"]) == ("new", {"kind": "disk"})


async def test_what_cannot_be_kept_is_not_replaced(
    here: Desk, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("claude_daemon.projects.history._sync", full)
    error = await here.refused(Socket(), "file_update", **write())

    assert error["code"] == "storage_full"
    assert (root / "src" / "main.py").read_text() == "old"


async def test_an_empty_version_is_kept_like_any_other(here: Desk) -> None:
    ack = await here.done(Socket(), "file_update", **write(content=""))

    old = {"projectId": "app", "filePath": "src/main.py", "versionId": ack["versionId"]}
    assert (await here.done(Socket(), "file_read", **old))["content"] == ""


async def test_a_write_whose_client_goes_away_is_done_and_told(here: Desk, root: Path) -> None:
    other = await here.joined("phone", "app")
    for number in range(30):
        task = asyncio.get_running_loop().create_task(
            here.call(Socket("laptop"), "file_update", **write("cut.txt", f"{number}"))
        )
        for _ in range(number % 6):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await here.done(Socket("laptop"), "file_update", **write("cut.txt", "end"))
    await in_step(other, root)

    events = [each for each in other.heard("file_update") if each["filePath"] == "cut.txt"]
    assert events[-1]["sha256"] == sha256((root / "cut.txt").read_bytes())
    assert [name for name in files_in(root) if name.startswith(".claude-daemon-")] == []
