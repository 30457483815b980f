import array
import asyncio
import math
import sys
import wave
from pathlib import Path

import pytest

from claude_daemon.config import SpeechSettings
from claude_daemon.speech.child import SpeechError
from claude_daemon.speech.voice import WORKER, WorkerVoice
from fakes import files_in

WITHOUT_ESPEAK = (
    "import ctypes, runpy\n"
    "def missing(self, name): raise OSError(name)\n"
    "ctypes.LibraryLoader.LoadLibrary = missing\n"
    f"runpy.run_path({WORKER[-1]!r}, run_name='__main__')\n"
)


def rms(path: Path) -> float:
    """Loudness from 0 to 1."""
    with wave.open(str(path), "rb") as sound:
        samples = array.array("h", sound.readframes(sound.getnframes()))
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples)) / 32_768


async def test_text_becomes_audible_sound_of_a_plausible_length(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings())

    duration_s = await voice.synthesize("The build of the daemon has finished.", tmp_path / "a.wav")

    assert 1 < duration_s < 5
    assert rms(tmp_path / "a.wav") > 0.01
    assert voice.engine == "espeak"


async def test_a_thousand_characters_are_said_to_their_end(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings())

    short_s = await voice.synthesize("word " * 20, tmp_path / "short.wav")
    long_s = await voice.synthesize("word " * 200, tmp_path / "long.wav")

    assert long_s == pytest.approx(10 * short_s, rel=0.2)
    assert rms(tmp_path / "long.wav") > 0.01


async def test_many_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings())

    async with asyncio.TaskGroup() as group:
        made = [group.create_task(voice.synthesize(f"number {n}", tmp_path / f"{n}.wav")) for n in range(8)]

    assert all(task.result() > 0.3 for task in made)


async def test_the_rate_is_the_settings(tmp_path: Path) -> None:
    slow = await WorkerVoice(SpeechSettings(rate=100)).synthesize("one two three", tmp_path / "slow.wav")
    fast = await WorkerVoice(SpeechSettings(rate=300)).synthesize("one two three", tmp_path / "fast.wav")

    assert slow > 1.8 * fast


@pytest.mark.parametrize("text", ["...", "-", "👍", "你好", "Grüße", "'; rm -rf / #", '"\\"'])
async def test_any_text_is_bearable(tmp_path: Path, text: str) -> None:
    assert await WorkerVoice(SpeechSettings()).synthesize(text, tmp_path / "a.wav") > 0


async def test_the_text_never_stands_on_a_command_line(tmp_path: Path) -> None:
    peek = "import sys, json; r = json.loads(input()); print(json.dumps({'error': repr(sys.argv)}))"
    voice = WorkerVoice(SpeechSettings(), worker=(sys.executable, "-c", peek))

    with pytest.raises(SpeechError) as caught:
        await voice.synthesize("hush", tmp_path / "a.wav")

    assert "hush" not in str(caught.value)


async def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    await WorkerVoice(SpeechSettings()).probe(tmp_path)

    assert files_in(tmp_path) == []


async def test_a_hung_engine_costs_its_deadline(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings(utterance_timeout_s=0.3), worker=("sleep", "60"))

    async with asyncio.timeout(1.5):
        with pytest.raises(SpeechError, match=r"hung or missing: sleep did not finish within 0.3 s"):
            await voice.synthesize("a", tmp_path / "a.wav")


async def test_a_crashing_engine_is_a_sentence(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings(), worker=("sh", "-c", "kill -SEGV $$"))

    with pytest.raises(SpeechError, match=r"^the speech engine crashed \(Segmentation fault\)$"):
        await voice.synthesize("a", tmp_path / "a.wav")


async def test_an_engine_that_reports_success_without_sound_is_found_out(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings(), worker=("sh", "-c", """echo '{"engine": "espeak"}'"""))

    with pytest.raises(SpeechError, match="wrote no sound file"):
        await voice.synthesize("a", tmp_path / "a.wav")


async def test_without_espeak_the_sentence_names_the_remedy(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings(), worker=(sys.executable, "-P", "-c", WITHOUT_ESPEAK))

    with pytest.raises(SpeechError, match=r"cannot be used.*apt install espeak-ng"):
        await voice.synthesize("a", tmp_path / "a.wav")

    assert voice.engine is None


async def test_without_pyttsx3_the_sentence_names_the_remedy(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings(), worker=(sys.executable, "-I", "-S", WORKER[-1]))

    with pytest.raises(SpeechError, match="pyttsx3 is not installed; install it with: pip install pyttsx3"):
        await voice.synthesize("a", tmp_path / "a.wav")


async def test_a_file_that_cannot_be_written_costs_the_deadline(tmp_path: Path) -> None:
    voice = WorkerVoice(SpeechSettings(utterance_timeout_s=1))

    async with asyncio.timeout(3):
        with pytest.raises(SpeechError):
            await voice.synthesize("a", tmp_path / "missing" / "a.wav")


async def test_a_worker_outlives_a_killed_daemon_by_little(tmp_path: Path) -> None:
    """The child ends itself: nobody is left to do it."""
    hung = (
        "import runpy, sys, types, time\n"
        "sys.modules['pyttsx3'] = types.SimpleNamespace(init=lambda: time.sleep(60))\n"
        f"runpy.run_path({WORKER[-1]!r}, run_name='__main__')\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", hung, stdin=asyncio.subprocess.PIPE
    )

    async with asyncio.timeout(4):
        await process.communicate(b'{"text": "a", "path": "x", "rate": 0, "deadlineSeconds": 0.2}\n')

    assert process.returncode == -14
