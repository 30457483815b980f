import asyncio
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from claude_daemon.config import SpeechSettings
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.speech.player import Player
from claude_daemon.speech.speaker import Speaker
from claude_daemon.speech.voice import WORKER, WorkerVoice
from fakes import Loudspeaker, files_in, gone, until

# An engine whose sound is the text itself, and which behaves as the file `mode` says.
WORKER_THAT_TELLS = """\
import json, os, pathlib, signal, sys, time, wave
folder = pathlib.Path(sys.argv[1])
request = json.loads(sys.stdin.readline())
with (folder / "tries").open("a") as tries:
    tries.write(".")
mode = (folder / "mode").read_text() if (folder / "mode").exists() else ""
if mode == "hang" or request["text"] == "hang":
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(60)
if mode == "crash" or request["text"] == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
with wave.open(request["path"], "wb") as sound:
    sound.setparams((1, 2, 22_050, 0, "NONE", ""))
    text = request["text"].encode()
    sound.writeframes(text + b" " * (len(text) % 2))
print(json.dumps({"engine": "telling"}))
"""


class Studio:
    """A speaker with that engine, and a loudspeaker that records."""

    def __init__(self, folder: Path, settings: SpeechSettings, player: str | None = None) -> None:
        self.folder = folder
        self.clock = 0.0
        self.loudspeaker = Loudspeaker(folder / "played")
        (folder / "worker.py").write_text(WORKER_THAT_TELLS, "utf-8")
        worker = (sys.executable, "-S", str(folder / "worker.py"), str(folder))
        self.voice = WorkerVoice(settings, worker=worker)
        settings = SpeechSettings(
            queue=settings.queue,
            retry_s=settings.retry_s,
            player=player or self.loudspeaker.command,
            play_timeout_s=settings.play_timeout_s,
        )
        self.speaker = Speaker(
            self.voice, Player(settings), settings, folder=folder / "sound", clock=lambda: self.clock
        )

    def mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode, "utf-8")

    def said(self) -> list[str]:
        return [said(path) for path in self.loudspeaker.played()]

    def state(self) -> str:
        return self.speaker.status().state

    def leftovers(self) -> list[str]:
        return files_in(self.folder / "sound")


def said(path: Path) -> str:
    with wave.open(str(path), "rb") as sound:
        return sound.readframes(sound.getnframes()).decode().strip()


@asynccontextmanager
async def studio(
    folder: Path, settings: SpeechSettings | None = None, *, mode: str = "", player: str | None = None
) -> AsyncIterator[Studio]:
    made = Studio(folder, settings or SpeechSettings(), player)
    made.mode(mode)
    async with Supervisor() as supervisor:
        supervisor.loop("speech", made.speaker.serve)
        yield made


async def test_an_utterance_is_heard_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with studio(tmp_path) as it:
        assert it.speaker.say("hello\x07 there") == "queued"

        await until(lambda: it.said() == ["hello there"])
        await until(lambda: it.state() == "ready")
        assert it.leftovers() == []
        assert it.speaker.status().engine == "telling"


async def test_the_real_engine_is_heard(tmp_path: Path) -> None:
    loudspeaker = Loudspeaker(tmp_path / "played")
    settings = SpeechSettings(player=loudspeaker.command)
    speaker = Speaker(
        WorkerVoice(settings, worker=WORKER), Player(settings), settings, folder=tmp_path / "sound"
    )
    async with Supervisor() as supervisor:
        supervisor.loop("speech", speaker.serve)
        speaker.say("The build has finished.")

        await until(loudspeaker.played)

    with wave.open(str(loudspeaker.played()[0]), "rb") as sound:
        assert sound.getnframes() / sound.getframerate() > 0.8


async def test_before_anything_is_known_it_says_that_it_is_starting(tmp_path: Path) -> None:
    it = Studio(tmp_path, SpeechSettings())

    assert it.state() == "starting"


async def test_urgent_ones_are_said_first_and_the_others_in_order(tmp_path: Path) -> None:
    async with studio(tmp_path) as it:
        it.speaker.say("one")
        it.speaker.say("two")
        it.speaker.say("fire", urgent=True)

        await until(lambda: len(it.said()) == 3)

    assert it.said() == ["fire", "one", "two"]


async def test_a_long_text_is_said_in_pieces_and_in_order(tmp_path: Path) -> None:
    async with studio(tmp_path) as it:
        it.speaker.say("a" * 900 + " " + "b" * 900)

        await until(lambda: len(it.said()) == 2)

    assert it.said() == ["a" * 900, "b" * 900]


async def test_a_text_of_controls_only_is_no_trouble(tmp_path: Path) -> None:
    async with studio(tmp_path) as it:
        it.speaker.say("\x00\x1b")
        it.speaker.say("next")

        await until(lambda: it.said() == ["next"])


async def test_a_full_queue_says_how_many_it_dropped(tmp_path: Path) -> None:
    it = Studio(tmp_path, SpeechSettings(queue=2))
    for text in ("one", "two", "three"):
        assert it.speaker.say(text) == "queued"

    assert it.speaker.status().queued == 2
    assert it.speaker.status().dropped == 1


async def test_muted_it_answers_so_and_says_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path) as it:
        await until(lambda: it.state() == "ready")
        it.speaker.mute(muted=True)

        assert it.speaker.say("hush") == "muted"
        assert it.state() == "muted"
        it.speaker.mute(muted=False)
        it.speaker.say("again")

        await until(lambda: it.said() == ["again"])


async def test_without_an_engine_it_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    async with studio(tmp_path, mode="crash") as it:
        await until(lambda: it.state() == "unavailable")

        assert it.speaker.say("hello") == "unavailable"
        assert it.speaker.status().reason == "the speech engine crashed (Segmentation fault)"


async def test_without_a_sound_device_it_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    async with studio(tmp_path, player="aplay -q -D no-such-device") as it:
        await until(lambda: it.state() == "unavailable")

        assert it.speaker.say("hello") == "unavailable"
        assert "aplay cannot play here" in (it.speaker.status().reason or "")


async def test_what_waited_for_a_failed_probe_is_dropped_and_counted(tmp_path: Path) -> None:
    async with studio(tmp_path, mode="crash") as it:
        assert it.speaker.say("too early") == "queued"
        await until(lambda: it.state() == "unavailable")

        assert it.speaker.status().queued == 0
        assert it.speaker.status().dropped == 1


async def test_a_hung_engine_costs_its_deadline_and_leaves_no_process(tmp_path: Path) -> None:
    async with studio(tmp_path, SpeechSettings(utterance_timeout_s=0.4)) as it:
        await until(lambda: it.state() == "ready")
        it.mode("hang")
        began = asyncio.get_running_loop().time()

        it.speaker.say("hello")
        await until(lambda: it.state() == "unavailable", within_s=1.5)

        assert asyncio.get_running_loop().time() - began >= 0.4
        assert it.speaker.say("next") == "unavailable"
        assert "did not finish within 0.4 s" in (it.speaker.status().reason or "")
        pid = (tmp_path / "pid").read_text()
    assert gone(int(pid))


async def test_a_text_that_the_engine_cannot_bear_harms_no_other(tmp_path: Path) -> None:
    async with studio(tmp_path) as it:
        it.speaker.say("one")
        it.speaker.say("crash")
        it.speaker.say("two")

        await until(lambda: it.said() == ["one", "two"])
        assert it.speaker.status().dropped == 1
        await until(lambda: it.state() == "ready")
        assert it.speaker.status().reason is None


async def test_an_utterance_after_the_retry_time_is_tried_and_said(tmp_path: Path) -> None:
    async with studio(tmp_path, mode="crash") as it:
        await until(lambda: it.state() == "unavailable")
        it.mode("")

        it.clock = 29.0
        assert it.speaker.say("too early") == "unavailable"
        it.clock = 30.0
        assert it.speaker.say("now") == "queued"

        await until(lambda: it.said() == ["now"])
        await until(lambda: it.state() == "ready")


async def test_it_comes_back_without_being_asked(tmp_path: Path) -> None:
    async with studio(tmp_path, SpeechSettings(retry_s=0.2), mode="crash") as it:
        await until(lambda: it.state() == "unavailable")
        it.mode("")

        await until(lambda: it.state() == "ready")


async def test_a_hung_device_costs_its_deadline(tmp_path: Path) -> None:
    settings = SpeechSettings(play_timeout_s=0.3)
    async with studio(tmp_path, settings, player="sh -c 'sleep 60'") as it:
        await until(lambda: it.state() == "unavailable", within_s=1.5)

        assert "sh did not finish within" in (it.speaker.status().reason or "")


async def test_stopping_in_the_midst_of_speech_leaves_no_process(tmp_path: Path) -> None:
    async with studio(tmp_path) as it:
        it.speaker.say("hang")
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        assert it.state() == "speaking"
        pid = (tmp_path / "pid").read_text()

    assert gone(int(pid))
    assert it.leftovers() == []


async def test_sound_left_by_a_crash_is_deleted(tmp_path: Path) -> None:
    leftover = tmp_path / "sound" / "old.wav"
    leftover.parent.mkdir()
    leftover.write_bytes(b"RIFF")

    async with studio(tmp_path) as it:
        await until(lambda: it.state() == "ready")

        assert it.leftovers() == []


async def test_a_folder_that_cannot_be_used_is_a_reason_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "sound").write_text("in the way", "utf-8")

    async with studio(tmp_path) as it:
        await until(lambda: it.state() == "unavailable")

        assert "File exists" in (it.speaker.status().reason or "")


async def test_the_same_reason_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with studio(tmp_path, SpeechSettings(retry_s=0.05), mode="crash") as it:
        await until(lambda: it.state() == "unavailable")
        await until(lambda: (tmp_path / "tries").stat().st_size >= 3)
        it.mode("")
        await until(lambda: it.state() == "ready")

    logged = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert logged == ["speech is unavailable"]
