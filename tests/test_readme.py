"""What the README shows is run as it stands there; only the port is the test's."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import running

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
NODE = ROOT / "tests" / "e2e" / "node"


def block(language: str, containing: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (text,) = [each for each in found if containing in each]
    return str(text)


def test_the_example_in_python_runs(tmp_path: Path) -> None:
    with running(tmp_path / "home") as daemon:
        program = block("python", "socketio.Client").replace("http://127.0.0.1:3001", daemon.url)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"TOKEN": daemon.token(), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

        assert done.stderr == ""
        assert done.stdout.count("'ok': True") == 2


def test_the_example_in_javascript_runs(tmp_path: Path) -> None:
    if not (NODE / "node_modules").is_dir():
        pytest.skip("the Node packages are not installed; ./packaging/dev test does it")
    node = shutil.which("node")
    assert node is not None
    program = NODE / f"readme-{os.getpid()}.mjs"
    with running(tmp_path / "home") as daemon:
        program.write_text(block("js", "emitWithAck").replace("http://127.0.0.1:3001", daemon.url), "utf-8")
        try:
            done = subprocess.run(
                [node, str(program)],
                cwd=NODE,
                env={"TOKEN": daemon.token(), "PATH": os.environ["PATH"]},
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
            )
        finally:
            program.unlink()

        assert done.stderr == ""
        assert "it works\n" in done.stdout
        assert re.search(r"^true (bwrap|none)$", done.stdout, re.MULTILINE)


def test_the_first_commands_run(tmp_path: Path) -> None:
    folder = tmp_path / "code" / "app"
    folder.mkdir(parents=True)
    with running(tmp_path / "home") as daemon:
        lines = block("sh", "projects add").splitlines()
        assert len(lines) == 4
        for line in lines:
            words = shlex.split(line.replace("~/code/app", str(folder)))
            assert words[:2] == ["./packaging/dev", "cli"]
            done = daemon.cli(*words[2:])

            assert (done.returncode, done.stderr) == (0, ""), line
