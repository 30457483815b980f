"""Writing into a project: whole or not at all, below its folder only, and never what is protected."""

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_daemon.errors import (
    DaemonError,
    FileChangedError,
    InvalidError,
    NotFoundError,
    OutsideProjectError,
    ProtectedPathError,
    ReadOnlyError,
    StorageFullError,
)
from claude_daemon.projects.snapshot import Snapshot
from claude_daemon.projects.writer import Edit, Written
from following import make_fifo, make_socket, move, on_disk


@pytest.fixture(params=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On a kernel with `openat2` and on one without."""
    if request.param == "walk":
        monkeypatch.setattr("claude_daemon.projects.root.has_openat2", lambda: False)
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("old")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return folder


@pytest.fixture
def snapshot() -> Snapshot:
    return Snapshot(max_entries=1_000)


@pytest.fixture
def write(root: Path, snapshot: Snapshot) -> Callable[..., Written]:
    def write(path: str, content: bytes | None, **more: object) -> Written:
        edit = Edit(root, path, content, keep_bytes=1_000)
        try:
            edit.prepare()
            return edit.commit(snapshot, **more)  # type: ignore[arg-type]  # what each test passes is right
        finally:
            edit.close()

    return write


Write = Callable[..., Written]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def nothing_left_behind(root: Path) -> Iterator[None]:
    """However a write ends, it leaves no temporary file and no open descriptor."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert [path for path in root.rglob("*") if path.name.startswith(".claude-daemon-")] == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(root: Path, write: Write) -> None:
    target = root / "src" / "main.py"
    target.chmod(0o750)
    inode = target.stat().st_ino

    written = write("src/main.py", b"new")

    assert written == Written("update", sha256(b"new"), b"old")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o7777 == 0o750
    assert target.stat().st_ino != inode


def test_set_uid_is_not_handed_on(root: Path, write: Write) -> None:
    (root / "src" / "main.py").chmod(0o4755)
    write("src/main.py", b"new")

    assert (root / "src" / "main.py").stat().st_mode & 0o7777 == 0o755


def test_a_new_file_comes_with_the_folders_above_it(root: Path, write: Write) -> None:
    written = write("a/b/c.txt", b"hello")

    assert written == Written("create", sha256(b"hello"), None)
    assert (root / "a" / "b" / "c.txt").read_bytes() == b"hello"


def test_a_file_is_deleted(root: Path, write: Write) -> None:
    assert write("src/main.py", None) == Written("delete", None, b"old")
    assert on_disk(root) == {}


def test_what_does_not_exist_cannot_be_deleted_but_a_repeated_request_is_done(write: Write) -> None:
    with pytest.raises(NotFoundError):
        write("src/none.py", None)

    assert write("src/none.py", None, repeated=True).action == "delete"


def test_the_snapshot_knows_exactly_what_was_written(root: Path, snapshot: Snapshot, write: Write) -> None:
    write("src/main.py", b"new")
    status = (root / "src" / "main.py").stat()

    known = snapshot.get("src/main.py")
    assert known is not None
    assert (known.size, known.mtime_ns, known.inode) == (3, status.st_mtime_ns, status.st_ino)
    assert known.sha256 == sha256(b"new")
    write("src/main.py", None)
    assert snapshot.get("src/main.py") is None


def test_a_change_by_another_is_a_conflict_that_names_the_current_hash(root: Path, write: Write) -> None:
    with pytest.raises(FileChangedError) as conflict:
        write("src/main.py", b"new", base_sha256=sha256(b"older"))
    assert conflict.value.sha256 == sha256(b"old")
    with pytest.raises(FileChangedError) as missing:
        write("src/none.py", b"new", base_sha256=sha256(b"older"))
    assert missing.value.sha256 is None

    assert on_disk(root) == {"src/main.py": b"old"}
    assert write("src/main.py", b"new", base_sha256=sha256(b"old")).action == "update"


def test_a_repeated_write_that_was_done_already_is_done(write: Write) -> None:
    assert write("src/main.py", b"old", base_sha256=sha256(b"x"), repeated=True).sha256 == sha256(b"old")


def test_the_same_content_leaves_the_file_alone(root: Path, write: Write) -> None:
    before = (root / "src" / "main.py").stat()

    assert write("src/main.py", b"old") == Written("update", sha256(b"old"), None)
    assert (root / "src" / "main.py").stat() == before


def test_replaced_content_that_is_too_large_is_not_kept(root: Path, write: Write) -> None:
    (root / "large").write_bytes(b"x" * 1_001)

    assert write("large", b"small").replaced is None


@pytest.mark.parametrize(
    "path", [".git/config", ".GIT/hooks/x", ".claude/settings.json", ".envrc", "a/.mcp.json"]
)
def test_a_protected_path_is_refused_even_where_it_does_not_exist(
    root: Path, write: Write, path: str
) -> None:
    with pytest.raises(ProtectedPathError):
        write(path, b"evil")

    assert on_disk(root) == {"src/main.py": b"old"}


@pytest.mark.parametrize("place", ["link", "src/link", "src"])
def test_a_link_in_any_component_is_refused(root: Path, write: Write, place: str) -> None:
    if place == "src":
        move(root / "src", root / "moved")
    (root / place).symlink_to(root.parent / "outside")

    for path in (f"{place}/secret", f"{place}/new", f"{place}/deep/new"):
        with pytest.raises(OutsideProjectError):
            write(path, b"evil")
        with pytest.raises(OutsideProjectError):
            write(path, None)

    assert on_disk(root.parent / "outside") == {"secret": b"secret"}


def test_a_file_that_is_a_link_is_refused_wherever_it_leads(root: Path, write: Write) -> None:
    (root / "out").symlink_to(root.parent / "outside" / "secret")
    (root / "in").symlink_to("src/main.py")
    (root / "magic").symlink_to("/proc/self/exe")

    for path in ("out", "in", "magic"):
        with pytest.raises(OutsideProjectError):
            write(path, b"evil")
        assert (root / path).is_symlink()


@pytest.mark.parametrize("make", [make_fifo, make_socket, Path.mkdir])
def test_what_is_no_regular_file_is_invalid(root: Path, write: Write, make: Callable[[Path], None]) -> None:
    make(root / "thing")

    for content in (b"x", None):
        with pytest.raises(InvalidError) as refused:
            write("thing", content)
        assert refused.value.details[0]["path"] == ["filePath"]


def test_a_device_is_invalid(root: Path, write: Write) -> None:
    try:
        subprocess.run(["mknod", str(root / "null"), "c", "1", "3"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("only root makes devices")

    with pytest.raises(InvalidError):
        write("null", b"x")


def test_a_file_on_the_way_is_invalid(write: Write) -> None:
    with pytest.raises(InvalidError):
        write("src/main.py/x", b"x")


def test_a_hard_link_is_protected(root: Path, write: Write) -> None:
    os.link(root.parent / "outside" / "secret", root / "twin")

    for content in (b"evil", None):
        with pytest.raises(ProtectedPathError):
            write("twin", content)


def test_a_read_only_file_or_folder_is_refused(root: Path, write: Write) -> None:
    (root / "src" / "main.py").chmod(0o444)
    with pytest.raises(ReadOnlyError):
        write("src/main.py", b"x")
    (root / "locked").mkdir(mode=0o555)
    with pytest.raises(ReadOnlyError):
        write("locked/new", b"x")
    (root / "locked").chmod(0o755)

    assert on_disk(root) == {"src/main.py": b"old"}


@pytest.mark.parametrize("flag", ["i", "a"])
def test_an_immutable_file_is_read_only(root: Path, write: Write, flag: str) -> None:
    target = root / "src" / "main.py"
    if subprocess.run(["chattr", f"+{flag}", str(target)], check=False, capture_output=True).returncode:
        pytest.skip("needs root and a file system with attributes")
    try:
        for content in (b"x", None):
            with pytest.raises(ReadOnlyError):
                write("src/main.py", content)
    finally:
        subprocess.run(["chattr", f"-{flag}", str(target)], check=True)


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_whole(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        with pytest.raises(StorageFullError):
            write("src/main.py", b"new")

    assert on_disk(root) == {"src/main.py": b"old"}


def test_folders_made_for_a_file_that_did_not_come_are_removed(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFullError):
        write("a/b/c", b"new")

    assert not (root / "a").exists()


def test_a_really_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root mounts")
    try:
        (mount / "file").write_text("old")
        edit = Edit(mount, "file", b"x" * 200_000, keep_bytes=0)
        with pytest.raises(StorageFullError):
            edit.prepare()
        edit.close()

        assert on_disk(mount) == {"file": b"old"}
        assert len(list(mount.iterdir())) == 1
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_folder_moved_out_between_the_steps_is_not_written_to(root: Path, snapshot: Snapshot) -> None:
    edit = Edit(root, "src/main.py", b"evil", keep_bytes=0)
    edit.prepare()
    move(root / "src", root.parent / "outside" / "src")
    (root / "src").symlink_to(root.parent / "outside" / "src")
    with pytest.raises(OutsideProjectError):
        edit.commit(snapshot)
    edit.close()

    assert (root.parent / "outside" / "src" / "main.py").read_text() == "old"
    assert len(list((root.parent / "outside" / "src").iterdir())) == 1


def test_a_project_replaced_between_the_steps_is_not_written_to(root: Path, snapshot: Snapshot) -> None:
    edit = Edit(root, "src/main.py", b"evil", keep_bytes=0)
    edit.prepare()
    move(root, root.parent / "was")
    root.mkdir()
    with pytest.raises(NotFoundError):
        edit.commit(snapshot)
    edit.close()

    assert (root.parent / "was" / "src" / "main.py").read_text() == "old"


SWAPPER = """
import os
while True:
    os.rename("src", "spare"); os.rename("bad", "src"); os.rename("src", "bad"); os.rename("spare", "src")
"""


def test_a_folder_swapped_for_a_link_again_and_again_never_leads_a_write_out(
    root: Path, write: Write, count: Callable[[int, int], int]
) -> None:
    (root / "bad").symlink_to(root.parent / "outside")
    done = 0
    with subprocess.Popen([sys.executable, "-c", SWAPPER], cwd=root) as swapper:
        try:
            for number in range(count(400, 20_000)):
                try:
                    write("src/secret", str(number).encode())
                    done += 1
                except DaemonError:
                    continue
        finally:
            swapper.kill()

    assert done > 0
    assert on_disk(root.parent / "outside") == {"secret": b"secret"}


@pytest.mark.parametrize("name", ["line\nbreak", "ü" * 127, "x" * 255, " ", "-rf", "a\tb", "…"])
def test_strange_names_are_written(root: Path, write: Write, name: str) -> None:
    write(name, b"x")

    assert (root / name).read_bytes() == b"x"


def test_another_file_systems_limit_is_a_refusal(root: Path, write: Write) -> None:
    with pytest.raises(InvalidError):
        write("x" * 300, b"x")


def test_content_and_name_are_on_disk_before_it_returns(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        steps.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "fsync file")  # noqa: PTH112
        fsync(fd)

    def noted_rename(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        steps.append("rename")
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    write("src/main.py", b"new")

    assert steps == ["fsync file", "rename", "fsync folder"]
