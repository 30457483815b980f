"""What every test may use.  The large counts that the project promises are taken with `--full`."""

from collections.abc import Callable

import hypothesis
import pytest

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
