"""When a touched path is due: a rule on given times."""

from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.projects.settle import Settle, Wait


def settle() -> Settle:
    return Settle(quiet_s=0.015, longest_s=0.25)


def test_a_path_is_due_once_it_was_quiet() -> None:
    paths = settle()
    paths.touch("a", 1.0)
    paths.touch("a", 1.010)

    assert paths.next_due() == 1.025
    assert paths.due(1.020) == []
    assert paths.due(1.026) == ["a"]
    assert paths.due(9.0) == []
    assert paths.next_due() is None


def test_a_path_that_never_rests_is_due_all_the_same() -> None:
    paths = settle()
    for tick in range(30):
        paths.touch("a", tick / 100)

    assert paths.due(0.251) == ["a"]


def test_a_path_being_written_waits_for_its_writer() -> None:
    paths = settle()
    paths.touch("a", 1.0, Wait.CLOSE)
    assert paths.due(1.1) == []

    paths.touch("a", 1.1, Wait.QUIET)

    assert paths.due(1.116) == ["a"]


def test_a_writer_that_never_closes_is_not_waited_for_for_ever() -> None:
    paths = settle()
    paths.touch("a", 1.0, Wait.CLOSE)

    assert paths.due(1.251) == ["a"]


def test_a_folder_that_came_is_due_at_once_and_before_the_rest() -> None:
    paths = settle()
    paths.touch("file", 1.0)
    paths.touch("folder", 1.0, Wait.NONE)
    paths.touch("folder", 1.0, Wait.QUIET)

    assert paths.next_due() == 0.0
    assert paths.due(1.0) == ["folder"]
    assert paths.due(1.1) == ["file"]


def test_the_old_name_of_a_rename_is_due_no_later_than_the_new_one() -> None:
    paths = settle()
    paths.touch("old", 1.0, Wait.CLOSE)
    paths.touch("old", 1.1)
    paths.touch("new", 1.1)

    assert paths.due(1.116) == ["old", "new"]


TOUCHES = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 0.1), st.sampled_from(Wait)), min_size=1, max_size=40
)


@given(TOUCHES)
def test_every_touched_path_comes_out_once_and_never_later_than_promised(
    touches: list[tuple[str, float, Wait]],
) -> None:
    paths, now = settle(), 0.0
    first: dict[str, float] = {}
    for path, pause, wait in touches:
        now += pause
        for due in paths.due(now):
            del first[due]
        assert all(now - since <= 0.25 for since in first.values())
        first.setdefault(path, now)
        paths.touch(path, now, wait)

    assert sorted(paths.due(now + 0.26)) == sorted(first)
    assert len(paths) == 0
