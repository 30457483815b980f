import asyncio
import shlex
from pathlib import Path

import pytest

from claude_daemon.config import SpeechSettings
from claude_daemon.speech import wav
from claude_daemon.speech.child import SpeechError
from claude_daemon.speech.player import PLAYERS, Player
from fakes import Loudspeaker, files_in

FAILING = ("sh", "-c", "echo 'audio open error: No such device' >&2; exit 1")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    wav.write_silence(path)
    return path


async def test_a_file_reaches_the_player(tmp_path: Path, sound: Path) -> None:
    speaker = Loudspeaker(tmp_path / "played")
    player = Player(SpeechSettings(player=speaker.command))

    await player.play(sound, wav.SILENCE_S)

    assert [wav.duration_s(path) for path in speaker.played()] == [wav.duration_s(sound)]


async def test_the_real_alsa_player_plays_to_its_null_device(tmp_path: Path) -> None:
    player = Player(SpeechSettings(player="aplay -q -D null"))

    await player.probe(tmp_path)

    assert player.name == "aplay"
    assert files_in(tmp_path) == []


async def test_a_probe_takes_the_first_player_that_can_play(tmp_path: Path) -> None:
    player = Player(SpeechSettings(), known=[("not-installed-here",), FAILING, ("true",)])

    await player.probe(tmp_path)

    assert player.name == "true"


async def test_without_a_sound_device_the_sentence_says_what_the_player_said(tmp_path: Path) -> None:
    player = Player(SpeechSettings(), known=[FAILING, ("false",)])

    with pytest.raises(SpeechError, match=r"sh cannot play here.*audio open error: No such device"):
        await player.probe(tmp_path)

    assert player.name is None


async def test_the_real_player_without_a_device_is_no_success(tmp_path: Path) -> None:
    player = Player(SpeechSettings(player="aplay -q -D no-such-device"))

    with pytest.raises(SpeechError, match="aplay cannot play here"):
        await player.probe(tmp_path)


async def test_without_any_player_the_sentence_names_them(tmp_path: Path, sound: Path) -> None:
    player = Player(SpeechSettings(), known=[("no-player-1",), ("no-player-2", "-q")])

    with pytest.raises(SpeechError, match=r"no sound player is found \(no-player-1, no-player-2\); install"):
        await player.probe(tmp_path)
    with pytest.raises(SpeechError, match="no sound player is found"):
        await player.play(sound, 0.05)


async def test_a_hung_device_costs_the_sounds_length_and_the_deadline(sound: Path) -> None:
    player = Player(SpeechSettings(player=shlex.join(["sh", "-c", "sleep 60"]), play_timeout_s=0.2))

    async with asyncio.timeout(1.5):
        with pytest.raises(SpeechError, match=r"sh did not finish within 0.3 s"):
            await player.play(sound, 0.1)


def test_every_platform_has_a_player() -> None:
    assert set(PLAYERS) == {"linux", "darwin", "win32"}
    assert all(PLAYERS.values())
