"""Whatever is done to a tree, the changes told, applied to the old tree, give the new one."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import until
from following import applied, following, make_fifo, on_disk

Step = tuple[Any, ...]

FOLDERS = ["", "a", "a/b", "c"]
NAMES = ["x", "y", "z.txt"]
FILES = st.builds(
    lambda folder, name: f"{folder}/{name}".strip("/"), st.sampled_from(FOLDERS), st.sampled_from(NAMES)
)
STEPS = st.one_of(
    st.tuples(st.just("write"), FILES, st.binary(max_size=8)),
    st.tuples(st.just("save"), FILES, st.binary(max_size=8)),
    st.tuples(st.just("delete"), FILES),
    st.tuples(st.just("move"), FILES, FILES),
    st.tuples(st.just("link"), FILES, FILES),
    st.tuples(st.just("move folder"), st.sampled_from(FOLDERS[1:]), st.sampled_from(["a", "c", "d", "c/e"])),
    st.tuples(st.just("delete folder"), st.sampled_from(FOLDERS[1:])),
    st.tuples(st.just("touch"), FILES),
    st.tuples(st.just("fifo"), FILES),
    st.tuples(st.just("pause"), st.sampled_from([0.0, 0.004, 0.02])),
)


def do(root: Path, step: Step) -> None:  # noqa: C901  a table of steps
    match step:
        case ("write", path, content):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if (root / path).is_fifo():
                (root / path).unlink()  # opening it would wait for a reader
            (root / path).write_bytes(content)
        case ("save", path, content):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            temporary = root / f"{path}.tmp"
            temporary.write_bytes(content)
            temporary.rename(root / path)
        case ("delete", path):
            (root / path).unlink()
        case ("move", old, new):
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            (root / old).rename(root / new)
        case ("link", old, new):
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            os.link(root / old, root / new)
        case ("move folder", old, new):
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            (root / old).rename(root / new)
        case ("delete folder", path):
            shutil.rmtree(root / path)
        case ("touch", path):
            os.utime(root / path)
        case ("fifo", path):
            make_fifo(root / path)


async def converge(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path in ("x", "a/x", "a/b/x", "c/y"):
            do(root, ("write", path, path.encode()))
        before = on_disk(root)
        async with following(root, settle_ms=3, settle_max_ms=20) as project:
            for step in steps:
                if step[0] == "pause":
                    await asyncio.sleep(step[1])
                    continue
                try:
                    do(root, step)
                except OSError:
                    continue  # not possible in this tree
            await project.in_step("zz-fence")
            # What a writer had not closed, or looked young, comes within the longest wait.
            await until(lambda: applied(before, project.told.changes) == on_disk(root))


@settings(max_examples=60)
@given(st.lists(STEPS, min_size=1, max_size=12))
def test_the_told_changes_lead_from_the_old_tree_to_the_new_one(steps: list[Step]) -> None:
    asyncio.run(converge(steps))
