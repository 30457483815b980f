import os
import shutil
import stat
from pathlib import Path

import pytest

from claude_daemon.lib.files import private_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    path = private_folder(tmp_path / "a" / "b")

    assert path.is_dir() and mode(path) == 0o700


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    private_folder(tmp_path)

    assert mode(tmp_path) == 0o700


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PermissionError, match="is a link or belongs to another user"):
        private_folder(tmp_path / "link")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    shutil.chown(tmp_path / "theirs", 12_345)

    with pytest.raises(PermissionError, match="belongs to another user"):
        private_folder(tmp_path / "theirs")


def test_a_private_file_is_nobody_elses_from_the_beginning(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        write_private(tmp_path / "secret", b"1")
    finally:
        os.umask(umask)

    assert mode(tmp_path / "secret") == 0o600


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a much longer old content")
    reader = path.open("rb")

    write_private(path, b"new")

    assert path.read_bytes() == b"new"
    with reader:
        assert reader.read() == b"a much longer old content"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()  # a file cannot take a folder's place

    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "file", b"new")

    assert [each.name for each in tmp_path.iterdir()] == ["file"]
