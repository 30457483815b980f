"""The real bubblewrap, tried out once for each test that needs it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from claude_daemon.config import TerminalSettings
from claude_daemon.terminal.process import find_capability
from claude_daemon.terminal.sandbox.bwrap import Bubblewrap
from confined import Confine, Confined


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "secret.txt").write_text("a private letter")
    return folder


@pytest.fixture
def project(home: Path) -> Path:
    """Where projects usually are: below the home folder."""
    folder = home / "code" / "app"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def confine(state: Path, home: Path) -> Confine:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed; ./packaging/dev setup says how to get it")

    async def confine(*, hidden: tuple[Path, ...] = (), **settings: Any) -> Confined:
        given = TerminalSettings(**settings)
        sandbox = Bubblewrap(given, state=state, home=home, hidden=(state, *hidden))
        return Confined(sandbox, given, await find_capability(sandbox, given))

    return confine


@pytest.fixture
async def confined(confine: Confine) -> Confined:
    return await confine()
