"""What a command in the sandbox can see and do, tried from inside."""

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_daemon.config import TerminalSettings
from claude_daemon.errors import ProtectedPathError, SandboxUnavailableError
from claude_daemon.terminal.process import find_capability
from claude_daemon.terminal.sandbox import bwrap
from claude_daemon.terminal.sandbox.bwrap import Bubblewrap
from claude_daemon.terminal.sandbox.protected import NAMES
from confined import Confine, Confined
from fakes import files_in, gone

if sys.platform != "linux":
    pytest.skip("bubblewrap runs on Linux only", allow_module_level=True)

pytestmark = pytest.mark.user

# Each line it prints is something that should not have been possible.
ESCAPES = """
for name in .git .claude .mcp.json .envrc .vscode .husky; do
  echo evil > $name && echo "wrote $name"
  mkdir -p $name/hooks && echo evil > $name/hooks/pre-commit && echo "wrote into $name"
  mv $name away && echo "moved $name"
  mkdir other && mv -T other $name && echo "moved onto $name"
  rm -rf $name && echo "removed $name"
  ln -sfn /tmp $name && echo "linked $name"
  mount -t tmpfs none $name && echo "mounted over $name"
  umount $name && echo "unmounted $name"
done 2>/dev/null
"""


@contextlib.contextmanager
def listening(path: Path) -> Iterator[Path]:
    """A Unix socket somebody serves."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


def make_repository(folder: Path) -> None:
    me = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *me, *arguments], cwd=folder, check=True)


def replace_by_link(folder: Path, target: Path) -> None:
    folder.rmdir()
    folder.symlink_to(target)


def tree(folder: Path) -> dict[str, str]:
    """All paths below a folder with their content, or what else they are."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


# What it sees.


async def test_the_project_is_there_to_read_and_write(confined: Confined, project: Path) -> None:
    (project / "in.txt").write_text("from outside")

    ran = await confined.run("pwd; cat in.txt; echo from inside > out.txt", project)

    assert ran.stdout == f"{project}\nfrom outside"
    assert (project / "out.txt").read_text() == "from inside\n"


async def test_a_command_starts_in_the_folder_it_was_given(confined: Confined, project: Path) -> None:
    (project / "src").mkdir()

    ran = await confined.run("pwd", project, cwd=project / "src")

    assert ran.lines == [str(project / "src")]


async def test_the_home_folder_is_empty_but_for_the_way_to_the_project(
    confined: Confined, project: Path, home: Path
) -> None:
    ran = await confined.run(f"echo $HOME; find {home} -mindepth 1 -not -path '{project}/*'", project)

    assert ran.lines == [str(home), f"{home}/code", str(project)]


async def test_without_a_project_a_command_is_in_an_empty_folder_that_nobody_keeps(
    confined: Confined, home: Path
) -> None:
    ran = await confined.run("pwd; echo draft > note; ls -A")
    again = await confined.run("ls -A")

    assert (ran.lines, again.stdout) == ([str(home), "note"], "")
    assert tree(home) == {"secret.txt": "a private letter"}


async def test_other_peoples_files_are_not_there(confined: Confined, project: Path) -> None:
    places = "/root /var /run /sys /boot /mnt /media /srv /opt /etc/shadow /etc/ssh /etc/sudoers"

    ran = await confined.run(f"ls -d {places} 2>/dev/null; ls -A /tmp", project)

    shown = [line for line in ran.lines if not project.is_relative_to(line) and line != "pytest-of-root"]
    assert [line for line in shown if not str(project).startswith(f"/tmp/{line}")] == []


async def test_the_system_cannot_be_written(confined: Confined) -> None:
    folders = "/ /usr /usr/bin /bin /lib /etc /dev /proc/sys/kernel"

    ran = await confined.run(
        f"for each in {folders}; do touch $each/planted && echo $each; done 2>/dev/null;"
        "for each in /etc/passwd /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do"
        "  ( exec 9>>$each ) 2>/dev/null && echo $each; done"
    )

    assert ran.stdout == ""


async def test_there_is_no_network(confined: Confined) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ran = await confined.run(
            f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null && echo connected;"
            "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"
        )

    assert ran.lines == ["lo"]


async def test_loopback_of_its_own_is_there_under_its_name(confined: Confined) -> None:
    ran = await confined.run("getent hosts localhost | wc -l")

    assert ran.stdout == "1\n"


async def test_no_process_of_the_host_is_visible(confined: Confined) -> None:
    ran = await confined.run(f"ls -d /proc/[0-9]* | wc -l; kill -0 {os.getpid()} 2>/dev/null && echo seen")

    assert int(ran.lines[0]) < 10
    assert "seen" not in ran.lines


@pytest.mark.parametrize("pid", ["self", "1", "2"])
async def test_nothing_of_the_daemons_environment_is_inside(
    confined: Confined, monkeypatch: pytest.MonkeyPatch, pid: str
) -> None:
    monkeypatch.setenv("CLAUDE_API_KEY", "sk-very-secret")
    os.environ["LANG"] = "xx_XX"

    ran = await confined.run(f"tr '\\0' '\\n' < /proc/{pid}/environ; echo; env")

    names = {line.partition("=")[0] for line in ran.lines if line}
    assert names - {"_", "SHLVL", "OLDPWD"} <= {"PATH", "HOME", "LANG", "TERM", "TMPDIR", "PWD"}
    assert "secret" not in ran.stdout


async def test_no_descriptor_of_the_daemon_is_inside(confine: Confine, home: Path) -> None:
    leak = os.open(home, os.O_RDONLY)
    try:
        os.set_inheritable(leak, True)  # as one that the daemon was born with
        confined = await confine()
        ran = await confined.run(
            "for each in /proc/[0-9]*/fd/*; do readlink $each; done 2>/dev/null | sort -u"
        )
    finally:
        os.close(leak)

    kinds = {line.partition(":")[0] for line in ran.lines}
    assert kinds <= {"/dev/null", "pipe", "socket", "anon_inode"}


async def test_it_has_no_capability_and_cannot_make_a_namespace(confined: Confined) -> None:
    ran = await confined.run(
        "grep -h ^Cap /proc/self/status | cut -f2; grep NoNewPrivs /proc/self/status | cut -f2;"
        "unshare -U echo escaped 2>/dev/null"
    )

    assert ran.lines == ["0" * 16] * 5 + ["1"]


async def test_what_it_writes_to_memory_is_bounded(confine: Confine) -> None:
    confined = await confine(scratch_bytes=1 << 20)

    ran = await confined.run(
        "for each in /tmp /dev/shm $HOME; do"
        "  head -c 2000000 /dev/zero > $each/big 2>/dev/null; stat -c %s $each/big; done"
    )

    assert ran.lines == ["1048576"] * 3


@pytest.mark.parametrize("home", ["/", "/tmp", "/proc/self", "/var"])
async def test_a_user_whose_home_is_no_folder_of_its_own_gets_another(state: Path, home: str) -> None:
    settings = TerminalSettings()
    sandbox = Bubblewrap(settings, state=state, home=Path(home))
    capability = await find_capability(sandbox, settings)

    ran = await Confined(sandbox, settings, capability).run("echo $HOME; pwd; ls -A")

    assert ran.lines == ["/home/user", "/home/user"]


# The daemon's own.


async def test_the_daemons_folders_are_hidden_even_within_a_project(confine: Confine, project: Path) -> None:
    run_folder = project / "run"
    run_folder.mkdir()
    (run_folder / "token").write_text("secret")
    confined = await confine(hidden=(run_folder,))

    with listening(run_folder / "s"):
        ran = await confined.run("ls -A run; touch run/planted; ls run", project)

    assert ran.stdout == "planted\n"
    assert files_in(run_folder) == ["s", "token"]


async def test_a_project_within_the_daemons_folders_is_refused(confined: Confined, state: Path) -> None:
    (state / "inside").mkdir()

    with pytest.raises(SandboxUnavailableError, match="the daemon's own"):
        await confined.run("true", state / "inside")


async def test_a_project_that_holds_the_home_folder_is_refused(confined: Confined, home: Path) -> None:
    for folder in (home, home.parent, Path("/")):
        with pytest.raises(SandboxUnavailableError, match="lies in it"):
            await confined.run("true", folder)


# Protected paths.


async def test_protected_paths_that_are_missing_cannot_be_made(confined: Confined, project: Path) -> None:
    ran = await confined.run(ESCAPES, project)

    assert ran.stdout == ""
    assert {name for name in tree(project) if name.startswith(".")} == set()


async def test_protected_paths_that_are_there_cannot_be_changed(confined: Confined, project: Path) -> None:
    (project / ".git" / "hooks").mkdir(parents=True)
    (project / ".git" / "config").write_text("[core]\n")
    (project / ".claude").mkdir()
    (project / ".claude" / "settings.json").write_text("{}")
    (project / ".envrc").write_text("export A=1\n")
    (project / ".mcp.json").write_text("{}")
    before = tree(project)

    ran = await confined.run(ESCAPES + "ln .envrc alias 2>/dev/null; rm -rf other; cat .envrc", project)

    assert ran.lines == ["export A=1"]
    assert tree(project) == before


async def test_git_reads_its_history_and_cannot_be_redirected(confined: Confined, project: Path) -> None:
    make_repository(project)

    ran = await confined.run(
        "git log --format=%s; git status --short;"
        "for each in commondir config.worktree hooks/post-checkout rebase-merge; do"
        "  echo evil > .git/$each && echo $each; done 2>/dev/null",
        project,
    )

    assert ran.lines == ["first"]


async def test_no_stand_in_is_left_behind(confined: Confined, project: Path, state: Path) -> None:
    seen = await confined.run("ls -A", project)

    assert set(NAMES) <= set(seen.lines)
    assert files_in(project) == []
    assert files_in(state / "stand-ins") == []


async def test_the_end_of_one_command_does_not_uncover_another(confined: Confined, project: Path) -> None:
    plant = "while [ ! -e go ]; do sleep 0.01; done; mkdir .envrc && echo planted; echo end"
    async with confined.process(plant, project) as longer:
        await confined.run("true", project)
        (project / "go").touch()
        said = [chunk.text async for chunk in longer.output() if chunk.stream == "stdout"]

    assert "".join(said) == "end\n"
    assert files_in(project) == ["go"]


async def test_what_somebody_puts_into_a_stand_in_stays(confined: Confined, project: Path) -> None:
    async with confined.process("sleep 9", project):
        (project / ".claude" / "settings.json").write_text("{}")

    assert tree(project) == {".claude": "folder", ".claude/settings.json": "{}"}


async def test_stand_ins_of_a_crashed_daemon_go_with_the_next_start(
    confined: Confined, project: Path, state: Path
) -> None:
    async with confined.process("sleep 9", project):
        note = next((state / "stand-ins").iterdir())
        kept = note.read_bytes()
    (project / ".envrc").mkdir()
    (project / ".claude").mkdir()
    (project / ".claude" / "mine").touch()
    note.write_bytes(kept)

    confined.sandbox.sweep()

    assert files_in(project) == [".claude"]
    assert files_in(state / "stand-ins") == []


@pytest.mark.parametrize("mark", ["ours", "another's"])
async def test_a_bwrap_that_was_left_halfway_goes_with_the_next_start(
    confined: Confined, state: Path, mark: str
) -> None:
    """As after a `kill -9` between its first two steps, which cannot be hit on purpose and so is played."""
    hosts = (state if mark == "ours" else state.parent) / "sandbox-hosts"
    arguments = (
        "-c",
        "import time; print(flush=True); time.sleep(30)",
        "--ro-bind",
        str(hosts),
        "/etc/hosts",
    )
    left = await asyncio.create_subprocess_exec(
        "/usr/bin/bwrap", *arguments, executable=sys.executable, stdout=asyncio.subprocess.PIPE
    )
    assert left.stdout
    await left.stdout.readline()

    confined.sandbox.sweep()

    ended = gone(left.pid)
    with contextlib.suppress(ProcessLookupError):
        left.kill()
    await left.wait()
    assert ended == (mark == "ours")


async def test_a_link_in_place_of_a_protected_path_is_refused(confined: Confined, project: Path) -> None:
    (project / "elsewhere").mkdir()
    (project / ".claude").symlink_to("elsewhere")

    with pytest.raises(ProtectedPathError, match=r"\.claude is a symbolic link"):
        await confined.run("true", project)
    assert files_in(project) == [".claude", "elsewhere"]


async def test_a_second_name_of_a_protected_file_is_refused(confined: Confined, project: Path) -> None:
    (project / "alias").write_text("{}")
    (project / ".mcp.json").hardlink_to(project / "alias")

    with pytest.raises(ProtectedPathError, match=r"\.mcp\.json is a hard link"):
        await confined.run("true", project)


async def test_a_project_within_the_project_is_held_too(confined: Confined, project: Path) -> None:
    inner = project / "packages" / "inner"
    (inner / ".git").mkdir(parents=True)
    (inner / ".git" / "config").write_text("[core]\n")

    ran = await confined.run(
        "(echo evil >> packages/inner/.git/config && echo wrote;"
        "mv packages/inner elsewhere && echo moved; mv packages elsewhere && echo moved above) 2>/dev/null;"
        "touch packages/inner/file packages/file",
        project,
        inner=(inner, project / "gone"),
    )

    assert ran.stdout == ""
    assert (inner / ".git" / "config").read_text() == "[core]\n"
    assert (inner / "file").exists()


# Links.


async def test_a_link_out_of_the_project_leads_nowhere(confined: Confined, project: Path, home: Path) -> None:
    (project / "letter").symlink_to(home / "secret.txt")

    ran = await confined.run("cat letter 2>/dev/null || echo nothing", project)

    assert ran.lines == ["nothing"]


async def test_a_project_that_became_a_link_is_refused(confined: Confined, project: Path, home: Path) -> None:
    replace_by_link(project, home)

    with pytest.raises(SandboxUnavailableError):
        await confined.run("ls", project)
    with pytest.raises(SandboxUnavailableError):
        await confined.run("ls", project / "code")


async def test_a_project_that_is_gone_is_named(confined: Confined, project: Path) -> None:
    shutil.rmtree(project)

    with pytest.raises(SandboxUnavailableError, match="bring the folder back"):
        await confined.run("true", project)


async def test_set_user_id_programs_have_no_effect(confined: Confined, project: Path) -> None:
    shutil.copy("/usr/bin/id", project / "id")
    (project / "id").chmod(stat.S_ISUID | 0o755)

    ran = await confined.run("./id -u", project)

    assert ran.lines == [str(os.getuid())]


# Trying it out.


async def test_what_holds_is_named_as_tried(confined: Confined) -> None:
    capability = confined.capability

    assert (capability.mechanism, capability.network) == ("bwrap", "off")
    assert {"time", "cpu", "output", "file_size"} < set(capability.limits)
    assert len({"memory", "process_memory"} & set(capability.limits)) == 1


async def test_where_root_could_change_the_kernel_nothing_is_run(
    state: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bwrap, "_PROBE", bwrap._PROBE.replace(bwrap._KERNEL_SETTING, "/tmp"))
    settings = TerminalSettings()

    with pytest.raises(SandboxUnavailableError, match="run the daemon as an ordinary user"):
        await find_capability(Bubblewrap(settings, state=state, home=home), settings)


async def test_without_bubblewrap_nothing_is_run(state: Path, home: Path) -> None:
    settings = TerminalSettings()
    sandbox = Bubblewrap(settings, state=state, home=home, program="no-such-bwrap")

    with pytest.raises(SandboxUnavailableError, match="apt-get install bubblewrap"):
        await find_capability(sandbox, settings)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            'echo "$*" | grep -q help && exec bwrap --help; echo "bwrap: setting up uid map" >&2; exit 1',
            "uid map",
        ),
        ('echo "$*" | grep -q help && exec bwrap --help; exit 0', "without a word"),
        ('echo "$*" | grep -q help && { echo "--bind"; exit; }', "older than 0.5"),
        ('echo "$*" | grep -q help && exec bwrap --help; shift $(($# - 6)); exec "$@"', "without a word"),
    ],
)
async def test_where_it_is_barred_the_sentence_says_why(
    state: Path, home: Path, tmp_path: Path, script: str, sentence: str
) -> None:
    """The last one runs the command without confining it, but for the word of the sandbox's first process."""
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    settings = TerminalSettings()
    sandbox = Bubblewrap(settings, state=state, home=home, program=str(program))

    with pytest.raises(SandboxUnavailableError, match=sentence):
        await find_capability(sandbox, settings)
