"""One daemon a module, for commands that leave nothing behind for each other."""

from collections.abc import Iterator

import pytest

from daemon import Daemon, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Its tests share no session and no project."""
    with running(tmp_path_factory.mktemp("cli") / "home") as daemon:
        yield daemon
