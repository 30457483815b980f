"""What every test may use.  The large counts that the project promises are taken with `--full`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from daemon import Daemon, running

hypothesis.settings.register_profile("small", max_examples=100, deadline=None, derandomize=True)
hypothesis.settings.register_profile("full", max_examples=5_000, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="take the large counts, which can last an hour")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "small")


@pytest.fixture(scope="session")
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`count(20, 200)` is 20, and 200 with `--full`."""
    full = bool(request.config.getoption("--full"))
    return lambda small, large: large if full else small


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """`start_daemon(RATE_LIMIT_POINTS="5")`: a real daemon with these settings, for one test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tmp_path / "home", **settings))


@pytest.fixture
def daemon(start_daemon: Callable[..., Daemon]) -> Daemon:
    """A real daemon with default settings, for one test."""
    return start_daemon()
