"""Adding, removing, pausing and finding projects again; and what their clients hear of the disk."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_daemon.protocol.model import project_stream
from desk import Desk, desk, heard, in_step
from fakes import Socket, until
from following import move
from like import TIME, UUID, Like


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "My App"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("print(1)\n")
    return folder


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path / "home") as opened:
        yield opened


ADMIN = Socket("tray")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_an_added_folder_is_watched_and_its_clients_hear_of_a_save(here: Desk, root: Path) -> None:
    added = await here.done(ADMIN, "project_add", path=str(root))
    assert added == {"ok": True, "projectId": "my-app", "path": str(root)}
    client = await here.joined("phone", "my-app")

    (root / "src" / "main.py").write_text("print(2)\n")

    assert await heard(client, "src/main.py") == [
        {
            "id": Like(UUID),
            "seq": 1,
            "filePath": "src/main.py",
            "content": "print(2)\n",
            "encoding": "utf8",
            "size": 9,
            "sha256": sha256("print(2)\n"),
            "projectId": "my-app",
            "action": "update",
            "truncated": False,
            "origin": {"kind": "disk"},
            "userId": "ada",
            "versionId": Like(str),
            "timestamp": Like(TIME),
        }
    ]


async def test_status_says_how_each_project_is_watched(here: Desk, root: Path) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")

    listed = await here.done(Socket(), "list_projects")

    assert listed["projects"] == [{"projectId": "app", "path": str(root), "state": "watching", "files": 1}]
    assert here.projects.problems() == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("relative", "invalid"),
        ("/", "invalid"),
        ("~", "invalid"),
        ("{home}", "invalid"),
        ("{tmp}", "invalid"),
        ("{tmp}/nothing", "not_found"),
        ("{root}/src/main.py", "invalid"),
        ("a\0b", "invalid"),
    ],
)
async def test_what_cannot_be_a_project_is_refused(
    here: Desk, root: Path, tmp_path: Path, path: str, code: str
) -> None:
    path = path.format(home=Path.home(), tmp=tmp_path, root=root)

    error = await here.refused(ADMIN, "project_add", path=path)

    assert error["code"] == code
    assert (await here.done(ADMIN, "list_projects"))["projects"] == []


async def test_a_folder_or_id_that_is_taken_is_a_conflict(here: Desk, root: Path, tmp_path: Path) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "other").mkdir()

    assert (await here.refused(ADMIN, "project_add", path=f"{root}/"))["code"] == "conflict"
    assert (await here.refused(ADMIN, "project_add", path=str(tmp_path / "link")))["code"] == "conflict"
    error = await here.refused(ADMIN, "project_add", path=str(tmp_path / "other"), projectId="app")
    assert error["code"] == "conflict"
    assert str(root) in error["message"]


async def test_an_unknown_project_names_the_command_that_adds_it(here: Desk) -> None:
    for event in ("project_remove", "project_pause", "file_list", "join_project"):
        error = await here.refused(ADMIN, event, projectId="nope")
        assert error["code"] == "not_found"
        assert "claude-daemon projects add PATH --id nope" in error["message"]


async def test_a_removed_project_is_forgotten_and_its_files_stay(here: Desk, root: Path) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")
    client = await here.joined("phone", "app")
    await here.done(ADMIN, "project_remove", projectId="app")
    (root / "src" / "main.py").write_text("unheard")
    await asyncio.sleep(0.1)

    assert client.heard("file_update") == []
    assert (await here.done(ADMIN, "list_projects"))["projects"] == []
    assert (root / "src" / "main.py").exists()
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")


async def test_a_paused_project_is_silent_and_tells_what_changed_when_it_is_resumed(
    here: Desk, root: Path
) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")
    client = await here.joined("phone", "app")
    await here.done(ADMIN, "project_pause", projectId="app")
    await here.done(ADMIN, "project_pause", projectId="app")
    assert (await here.done(ADMIN, "list_projects"))["projects"][0]["state"] == "paused"
    (root / "src" / "main.py").write_text("meanwhile")
    (root / "new").write_text("new")
    await asyncio.sleep(0.1)
    assert client.heard("file_update") == []

    await here.done(ADMIN, "project_resume", projectId="app")
    await here.done(ADMIN, "project_resume", projectId="app")

    assert (await heard(client, "src/main.py"))[0]["content"] == "meanwhile"
    assert (await heard(client, "new"))[0]["action"] == "create"
    await in_step(client, root)
    assert len(client.heard("file_update")) == 2


async def test_projects_are_there_again_after_a_restart_and_say_what_changed(
    tmp_path: Path, root: Path
) -> None:
    (root / "gone").write_text("1")
    (root / "unspoken").write_text("1")
    async with desk(tmp_path / "home") as first:
        await first.done(ADMIN, "project_add", path=str(root), projectId="app")
        client = await first.joined("phone", "app")
        for name in ("gone", "same", "other"):
            (root / name).write_text("told")
            await heard(client, name)
        last = max(each["seq"] for each in client.heard("file_update"))
    (root / "gone").unlink()
    (root / "other").write_text("changed while nobody looked")
    (root / "unspoken").write_text("nobody was told of the old one either")

    async with desk(tmp_path / "home") as second:
        client = await second.joined("phone", "app", afterSeq=last)
        await heard(client, "gone")
        await heard(client, "other")
        await in_step(client, root)

        told = {(each["action"], each["filePath"]) for each in client.heard("file_update")}
        assert told == {("delete", "gone"), ("update", "other")}


async def test_a_paused_project_stays_paused_over_a_restart(tmp_path: Path, root: Path) -> None:
    async with desk(tmp_path / "home") as first:
        await first.done(ADMIN, "project_add", path=str(root), projectId="app")
        await first.done(ADMIN, "project_pause", projectId="app")

    async with desk(tmp_path / "home") as second:
        assert (await second.done(ADMIN, "list_projects"))["projects"][0]["state"] == "paused"


async def test_a_project_whose_folder_is_gone_says_so_and_refuses_writes(here: Desk, root: Path) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")
    move(root, root.parent / "away")
    await until(lambda: here.projects.status()[0].state == "unavailable")

    [problem] = here.projects.problems()
    assert "app" in problem and str(root) in problem
    write = {"projectId": "app", "filePath": "x", "action": "create", "content": ""}
    for event, more in (("file_update", write), ("file_list", {"projectId": "app"})):
        assert (await here.refused(Socket(), event, **more))["code"] == "not_found"


async def test_a_nested_project_has_its_files_for_itself(here: Desk, root: Path) -> None:
    inner = root / "packages" / "part"
    inner.mkdir(parents=True)
    (inner / "x").write_text("1")
    await here.done(ADMIN, "project_add", path=str(root), projectId="outer")
    await here.done(ADMIN, "project_add", path=str(inner), projectId="inner")
    outer_client, inner_client = await here.joined("a", "outer"), await here.joined("b", "inner")

    (inner / "x").write_text("2")
    await heard(inner_client, "x")
    await in_step(outer_client, root)

    assert outer_client.heard("file_update") == []
    assert here.projects.project_of(inner / "deep" / "y") == "inner"
    assert here.projects.project_of(root / "packages") == "outer"
    assert here.projects.project_of(root.parent) is None
    assert here.projects.folder("inner") == inner
    error = await here.refused(
        Socket(), "file_update", projectId="outer", filePath="packages/part/x", action="update", content="3"
    )
    assert error["code"] == "outside_project"

    await here.done(ADMIN, "project_remove", projectId="inner")
    await heard(outer_client, "packages/part/x")


async def test_a_rename_reaches_clients_as_a_deletion_and_a_creation(here: Desk, root: Path) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")
    client = await here.joined("phone", "app")

    (root / "src" / "main.py").rename(root / "src" / "app.py")
    await heard(client, "src/app.py")

    deleted, created = client.heard("file_update")
    assert (deleted["action"], deleted["filePath"], deleted["content"], deleted["truncated"]) == (
        "delete", "src/main.py", None, True
    )  # fmt: skip
    assert (created["action"], created["renamedFrom"], created["content"]) == (
        "create", "src/main.py", "print(1)\n"
    )  # fmt: skip
    assert deleted["seq"] + 1 == created["seq"]


async def test_content_travels_as_the_contract_says(here: Desk, root: Path) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")
    client = await here.joined("phone", "app")
    (root / "binary").write_bytes(b"\xff\xfe")
    (root / "large-binary").write_bytes(b"\xff" * 65_537)
    (root / "large").write_text("x" * 524_289)
    (root / "huge").write_text("x" * (1 << 20) + "y")
    (root / ".env").write_text("TOKEN=1")
    brief = {}
    for name in ("binary", "large-binary", "large", "huge", ".env"):
        [event] = await heard(client, name)
        shown = event["content"], event["encoding"], event["truncated"]
        brief[name] = (*shown, event.get("sensitive"), "versionId" in event)

    assert brief == {
        "binary": ("//4=", "base64", False, None, True),
        "large-binary": (None, "base64", True, None, True),
        "large": (None, "utf8", True, None, True),
        "huge": (None, "utf8", True, None, False),
        ".env": (None, "utf8", True, True, False),
    }


async def test_a_replayed_event_has_its_content_again_as_long_as_it_is_kept(
    here: Desk, root: Path, tmp_path: Path
) -> None:
    await here.done(ADMIN, "project_add", path=str(root), projectId="app")
    client = await here.joined("phone", "app")
    for number in range(3):
        (root / "note.txt").write_text(f"version {number}")
        await heard(client, "note.txt", times=number + 1)
    (root / ".env").write_text("TOKEN=1")
    await heard(client, ".env")
    (root / "note.txt").unlink()
    await heard(client, "note.txt", times=4)
    live = client.heard("file_update")

    again = await here.joined("other", "app", afterSeq=0)
    assert again.heard("file_update") == [{**each, "replayed": True} for each in live]

    for blob in (tmp_path / "home" / "state" / "history").rglob("*"):
        if blob.is_file():
            blob.unlink()
    later = await here.joined("third", "app", afterSeq=0)
    assert all(each["content"] is None and each["truncated"] for each in later.heard("file_update"))
    stored = await here.hub.log.read(project_stream("app"), after=0, limit=100)
    assert not any(b"version 1" in each.body for each in stored)


async def test_old_versions_go_by_age_and_room_and_their_contents_with_them(
    tmp_path: Path, root: Path
) -> None:
    async with desk(tmp_path / "home", version_bytes=2_500) as here:
        await here.done(ADMIN, "project_add", path=str(root), projectId="app")
        client = await here.joined("phone", "app")
        for number in range(4):
            (root / "note.txt").write_text(f"{number}" * 1_000)
            await heard(client, "note.txt", times=number + 1)

        await here.projects.recorder.prune(["app"])

        versions = (await here.done(client, "file_history", projectId="app", filePath="note.txt"))["versions"]
        assert [each["sha256"] for each in versions] == [sha256("3" * 1_000), sha256("2" * 1_000)]
    async with desk(tmp_path / "home", version_days=0.000_000_1) as here:
        await until(lambda: here.projects.status()[0].state == "watching")
        await here.projects.recorder.prune(["app"])
        assert (await here.done(client, "file_history", projectId="app", filePath="note.txt"))[
            "versions"
        ] == []


async def test_closing_ends_every_thread_and_task(tmp_path: Path, root: Path) -> None:
    before = set(threading.enumerate())
    async with desk(tmp_path / "home") as here:
        await here.done(ADMIN, "project_add", path=str(root), projectId="app")

    left = {thread.name for thread in threading.enumerate() if thread not in before}
    assert not {name for name in left if name.startswith(("projects", "inotify"))}
