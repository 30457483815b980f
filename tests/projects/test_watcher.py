"""What the watcher tells, with real files, editors' ways of saving, and Git."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_daemon.projects.snapshot import File, Snapshot
from following import applied, following, make_fifo, make_socket, on_disk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("print(1)\n")
    (folder / "readme.md").write_text("hello")
    return folder


async def test_a_created_changed_and_deleted_file_is_told_with_its_content(root: Path) -> None:
    async with following(root) as project:
        (root / "src" / "new.py").write_text("x = 1")
        assert (await project.told.about("src/new.py")).content == b"x = 1"
        project.told.clear()
        (root / "src" / "new.py").write_text("x = 2")
        change = await project.told.about("src/new.py")
        assert (change.action, change.content, change.size) == ("update", b"x = 2", 5)
        project.told.clear()
        (root / "src" / "new.py").unlink()
        change = await project.told.about("src/new.py")
        assert (change.action, change.content, change.sha256) == ("delete", None, None)


async def test_a_touched_or_rewritten_file_with_the_same_content_is_not_told(root: Path) -> None:
    async with following(root) as project:
        await asyncio.sleep(0.1)  # for what was there at the start to be read
        (root / "readme.md").touch()
        (root / "src" / "main.py").write_text("print(1)\n")
        await project.in_step()

        assert project.told.brief() == []


async def test_what_is_there_at_the_start_is_not_told(root: Path) -> None:
    async with following(root) as project:
        await project.in_step()

        assert project.told.brief() == []
        assert project.snapshot.files == 2
        assert project.state() == "watching"
        assert project.watcher.problem is None


async def test_what_clients_were_told_before_a_restart_is_compared(root: Path) -> None:
    snapshot = Snapshot(max_entries=100)
    for path in ("readme.md", "gone.txt"):
        snapshot.put(path, File(-1, 0, 0, "0" * 64, sure=False))

    async with following(root, snapshot=snapshot) as project:
        await project.told.until(lambda: len(project.told.changes) == 2)

        assert sorted(project.told.brief()) == [("delete", "gone.txt"), ("update", "readme.md")]


async def test_many_quick_writes_end_with_the_last_content(root: Path) -> None:
    async with following(root) as project:
        for number in range(1_000):
            (root / "count.txt").write_text(str(number))
        await project.in_step()

        contents = [change.content for change in project.told.changes]
        assert contents[-1] == b"999"
        assert b"" not in contents
        assert len(contents) < 100


async def test_an_empty_state_in_between_is_never_told(root: Path) -> None:
    async with following(root) as project:
        with (root / "readme.md").open("w") as file:
            file.flush()
            await asyncio.sleep(0.1)  # longer than a path has to be quiet, shorter than a writer may take
            file.write("first half, ")
            file.flush()
            await asyncio.sleep(0.05)
            file.write("second half")
        await project.in_step()

        assert [change.content for change in project.told.changes] == [b"first half, second half"]


async def test_a_new_file_written_slowly_is_told_whole(root: Path) -> None:
    async with following(root) as project:
        with (root / "fresh.txt").open("w") as file:
            await asyncio.sleep(0.05)
            file.write("all of it")
        await project.in_step()

        assert [(each.action, each.content) for each in project.told.changes] == [("create", b"all of it")]


async def test_a_file_that_is_written_for_ever_is_told_now_and_then(root: Path) -> None:
    async with following(root, settle_max_ms=100) as project:
        with (root / "app.log.txt").open("w") as file:
            for number in range(60):
                file.write(f"{number}\n")
                file.flush()
                await asyncio.sleep(0.01)
            assert 2 <= len(project.told.changes) <= 12
        await project.in_step()

        assert project.told.changes[-1].content == (root / "app.log.txt").read_bytes()


def by_rename(target: Path, content: str) -> None:
    """As most editors do: a temporary file renamed over the real one."""
    temporary = target.with_name(f"{target.name}.tmp.1234")
    temporary.write_text(content)
    temporary.rename(target)


def like_vim(target: Path, content: str) -> None:
    """backup, write anew, remove the backup; and its probe file."""
    (target.parent / "4913").touch()
    (target.parent / "4913").unlink()
    backup = target.with_name(f"{target.name}~")
    target.rename(backup)
    with target.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    backup.unlink()


def like_jetbrains(target: Path, content: str) -> None:
    """write beside, move the old one away, move the new one in, remove the old one."""
    new, old = target.with_name(f"{target.name}___jb_tmp___"), target.with_name(f"{target.name}___jb_old___")
    new.write_text(content)
    target.rename(old)
    new.rename(target)
    old.unlink()


def like_vscode(target: Path, content: str) -> None:
    """truncate in place, then write."""
    with target.open("r+") as file:
        file.truncate(0)
        file.flush()
        file.write(content)


def like_emacs(target: Path, content: str) -> None:
    """a lock link, a copy as backup, then in place."""
    lock = target.parent / f".#{target.name}"
    lock.symlink_to("user@host.1:2")
    target.with_name(f"{target.name}~").write_bytes(target.read_bytes())
    target.write_text(content)
    lock.unlink()


@pytest.mark.parametrize("save", [by_rename, like_vim, like_jetbrains, like_vscode, like_emacs])
async def test_an_editors_save_is_one_update_of_the_real_file(
    root: Path, save: Callable[[Path, str], None]
) -> None:
    async with following(root) as project:
        save(root / "readme.md", "saved")
        await project.in_step()

        assert [(each.action, each.path, each.content) for each in project.told.changes] == [
            ("update", "readme.md", b"saved")
        ]


async def test_vim_itself_saves_as_one_update(root: Path) -> None:
    async with following(root) as project:
        process = await asyncio.create_subprocess_exec(
            "vim", "-u", "NONE", "-es", "-c", "%s/hello/changed/", "-c", "wq", "readme.md",
            cwd=root, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await process.wait()
        await project.in_step()

        assert [(each.action, each.path, each.content) for each in project.told.changes] == [
            ("update", "readme.md", (root / "readme.md").read_bytes())
        ]


async def test_a_rename_is_a_deletion_and_a_creation_that_names_it(root: Path) -> None:
    async with following(root) as project:
        (root / "readme.md").rename(root / "src" / "README.md")
        await project.in_step()

        assert [(each.action, each.path, each.renamed_from) for each in project.told.changes] == [
            ("delete", "readme.md", None),
            ("create", "src/README.md", "readme.md"),
        ]


async def test_a_renamed_folder_takes_its_files_along_and_is_watched_under_its_new_name(root: Path) -> None:
    (root / "src" / "deep").mkdir()
    (root / "src" / "deep" / "x").write_text("x")
    async with following(root) as project:
        (root / "src").rename(root / "lib")
        await project.told.until(lambda: len(project.told.changes) == 4)
        told = {(each.action, each.path, each.renamed_from) for each in project.told.changes}
        assert told == {
            ("delete", "src/main.py", None),
            ("delete", "src/deep/x", None),
            ("create", "lib/main.py", "src/main.py"),
            ("create", "lib/deep/x", "src/deep/x"),
        }
        project.told.clear()

        (root / "lib" / "deep" / "x").write_text("after")
        await project.in_step()

        assert project.told.brief() == [("update", "lib/deep/x")]


async def test_a_folder_moved_in_is_told_and_one_moved_out_is_gone(root: Path) -> None:
    outside = root.parent / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub" / "f").write_text("f")
    async with following(root) as project:
        outside.rename(root / "inside")
        await project.told.about("inside/sub/f")
        project.told.clear()
        (root / "inside").rename(outside)
        await project.in_step()
        assert project.told.brief() == [("delete", "inside/sub/f")]
        project.told.clear()

        (outside / "sub" / "f").write_text("no longer ours")
        await project.in_step()

        assert project.told.brief() == []


async def test_files_in_a_folder_made_a_moment_ago_are_not_missed(root: Path) -> None:
    async with following(root) as project:
        for number in range(50):
            folder = root / "made" / str(number) / "deep"
            folder.mkdir(parents=True)
            (folder / "file").write_text(str(number))
        await project.told.until(lambda: len(project.told.changes) == 50)

        assert applied({}, project.told.changes) == {
            path: content for path, content in on_disk(root).items() if path.startswith("made/")
        }


async def test_a_file_replaced_by_a_folder_and_back(root: Path) -> None:
    async with following(root) as project:
        (root / "readme.md").unlink()
        (root / "readme.md").mkdir()
        (root / "readme.md" / "inner").write_text("inner")
        await project.told.about("readme.md/inner")
        assert project.told.brief() == [("delete", "readme.md"), ("create", "readme.md/inner")]
        project.told.clear()

        (root / "readme.md" / "inner").unlink()
        (root / "readme.md").rmdir()
        (root / "readme.md").write_text("file again")
        await project.in_step()

        assert project.told.brief() == [("delete", "readme.md/inner"), ("create", "readme.md")]


async def test_links_fifos_and_sockets_are_not_files(root: Path) -> None:
    (root.parent / "secret").write_text("secret")
    async with following(root) as project:
        (root / "link").symlink_to(root.parent / "secret")
        (root / "folder-link").symlink_to("/etc")
        make_fifo(root / "fifo")
        make_socket(root / "socket")
        (root / "readme.md").unlink()
        (root / "readme.md").symlink_to(root.parent / "secret")
        await project.told.about("readme.md")
        await project.in_step()

        assert project.told.brief() == [("delete", "readme.md")]


async def test_strange_names_are_told_and_names_without_a_form_on_the_wire_are_counted(root: Path) -> None:
    async with following(root) as project:
        for name in ("line\nbreak", "back\\slash", "ünï", "x" * 255, " ", "-rf"):
            (root / name).write_text(name)
        (root / os.fsdecode(b"bad-\xff")).write_text("bad")
        await project.in_step()
        assert {each.path for each in project.told.changes} == {
            "line\nbreak", "back\\slash", "ünï", "x" * 255, " ", "-rf"
        }  # fmt: skip

    async with following(root) as project:
        assert project.watcher.problem is not None
        assert "1 names are not UTF-8" in project.watcher.problem


async def test_what_is_ignored_is_not_told_and_not_watched(root: Path) -> None:
    (root / ".gitignore").write_text("*.log\nout/\n")
    (root / "node_modules" / "left-pad").mkdir(parents=True)
    async with following(root) as project:
        (root / "a.log").write_text("x")
        (root / "out").mkdir()
        (root / "out" / "x").write_text("x")
        (root / "node_modules" / "left-pad" / "index.js").write_text("x")
        (root / ".git").mkdir()
        (root / ".git" / "HEAD").write_text("x")
        await project.in_step()

        assert project.told.brief() == []


async def test_other_rules_show_and_hide_files_without_calling_them_deleted(root: Path) -> None:
    (root / "a.log").write_text("log")
    (root / ".gitignore").write_text("*.log\n")
    async with following(root) as project:
        (root / ".gitignore").write_text("*.md\n")
        await project.told.about("a.log")
        assert sorted(project.told.brief()) == [("create", "a.log"), ("update", ".gitignore")]
        project.told.clear()
        (root / "readme.md").write_text("now ignored")
        await project.in_step()
        assert project.told.brief() == []

        (root / ".gitignore").unlink()
        await project.told.about("readme.md")

        assert project.told.brief() == [("delete", ".gitignore"), ("create", "readme.md")]


async def test_a_large_file_is_told_without_its_content_and_a_sensitive_one_too(root: Path) -> None:
    async with following(root, inline_bytes=100, version_file_bytes=200) as project:
        (root / "large.bin").write_bytes(b"x" * 201)
        (root / ".env").write_text("TOKEN=1")
        large, env = await project.told.about("large.bin"), await project.told.about(".env")

        assert (large.size, large.content) == (201, None)
        assert large.sha256 == hashlib.sha256(b"x" * 201).hexdigest()
        assert (env.size, env.content) == (7, None)


async def test_git_switches_branches_and_every_file_is_told_as_it_is(root: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", *arguments],
            cwd=root, check=True, capture_output=True,
        )  # fmt: skip

    git("init")
    for number in range(300):
        (root / "src" / f"m{number}.py").write_text(f"one {number}")
    git("add", ".")
    git("commit", "-m", "one")
    git("checkout", "-b", "other")
    for number in range(200):
        (root / "src" / f"m{number}.py").write_text(f"two {number}")
    (root / "src" / "pkg").mkdir()
    for number in range(200, 300):
        (root / "src" / f"m{number}.py").rename(root / "src" / "pkg" / f"m{number}.py")
    git("add", "-A", ".")
    git("commit", "-m", "two")
    (root / ".git").rename(root.parent / "kept.git")
    before = on_disk(root)
    (root.parent / "kept.git").rename(root / ".git")

    async with following(root) as project:
        await asyncio.to_thread(git, "checkout", "main")
        await project.told.until(lambda: len({each.path for each in project.told.changes}) >= 400)
        await project.in_step()

        mirror = applied(before, project.told.changes)
    (root / ".git").rename(root.parent / "kept.git")
    assert mirror == on_disk(root)


async def test_a_burst_of_files_is_told_file_by_file(root: Path) -> None:
    async with following(root) as project:
        await asyncio.to_thread(lambda: [(root / "src" / f"f{n}").write_text(str(n)) for n in range(2_000)])
        await project.told.until(lambda: len(project.told.changes) >= 2_000, within_s=10)
        await project.in_step()

        assert sorted(project.told.brief()) == sorted(("create", f"src/f{n}") for n in range(2_000))
        assert applied({}, project.told.changes) == {f"src/f{n}": str(n).encode() for n in range(2_000)}


async def test_nothing_is_told_twice_and_nothing_while_idle(root: Path) -> None:
    async with following(root, rescan_s=0.2) as project:
        (root / "readme.md").write_text("once")
        await project.in_step()
        await asyncio.sleep(0.7)  # a few rescans

        assert project.told.brief() == [("update", "readme.md")]
        assert project.told.rescans == []


async def test_what_could_not_be_told_is_told_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_daemon.projects.watcher.RETRY_S", 0.1)
    async with following(root) as project:
        project.told.full = True
        (root / "readme.md").write_text("waits")
        (root / "src" / "main.py").unlink()
        await asyncio.sleep(0.2)
        assert project.told.brief() == []

        project.told.full = False
        await project.told.until(lambda: len(project.told.changes) == 2)

        assert sorted(project.told.brief()) == [("delete", "src/main.py"), ("update", "readme.md")]


async def test_a_successor_tells_what_changed_in_between(root: Path) -> None:
    async with following(root) as first:
        snapshot = first.snapshot
    (root / "readme.md").write_text("meanwhile")
    (root / "src" / "main.py").rename(root / "main.py")
    (root / "new").write_text("new")

    async with following(root, snapshot=snapshot) as second:
        await second.told.until(lambda: len(second.told.changes) == 4)

        assert sorted(second.told.brief()) == [
            ("create", "main.py"),
            ("create", "new"),
            ("delete", "src/main.py"),
            ("update", "readme.md"),
        ]


async def test_looking_again_does_not_cut_a_writer_short(root: Path) -> None:
    async with following(root) as project:
        with (root / "readme.md").open("w") as file:
            project.watcher.compare_again(["src"])
            await asyncio.sleep(0.03)
            project.watcher._await_writers(["readme.md"])
            await asyncio.sleep(0.05)
            file.write("whole")
        await project.in_step()

        assert [each.content for each in project.told.changes] == [b"whole"]


async def test_a_file_being_written_in_a_folder_that_comes_along_is_told_whole(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    async with following(root) as project:
        with (outside / "slow").open("w") as file:
            file.write("half, ")
            file.flush()
            (root.parent / "outside").rename(root / "inside")
            await asyncio.sleep(0.1)
            file.write("whole")
        await project.told.about("inside/slow")
        await project.in_step()

        assert [each.content for each in project.told.changes] == [b"half, whole"]
