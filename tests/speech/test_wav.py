import struct
from pathlib import Path

import pytest

from claude_daemon.speech import wav
from claude_daemon.speech.child import SpeechError


def test_the_silence_of_a_probe_is_a_sound_file_of_its_length(tmp_path: Path) -> None:
    wav.write_silence(tmp_path / "s.wav")

    assert wav.duration_s(tmp_path / "s.wav") == pytest.approx(wav.SILENCE_S, abs=0.001)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all, just text", b"RIFF\x24\0\0\0WAVEfmt "])
def test_what_is_no_sound_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.wav").write_bytes(content)

    with pytest.raises(SpeechError, match="wrote no sound file"):
        wav.duration_s(tmp_path / "s.wav")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="wrote no sound file"):
        wav.duration_s(tmp_path / "s.wav")


def test_a_sound_file_without_sound_is_refused(tmp_path: Path) -> None:
    wav.write_silence(tmp_path / "s.wav")
    whole = (tmp_path / "s.wav").read_bytes()
    (tmp_path / "s.wav").write_bytes(whole[:40] + bytes(4))

    with pytest.raises(SpeechError, match="without sound"):
        wav.duration_s(tmp_path / "s.wav")


def test_the_duration_of_what_macos_writes_is_never_too_short(tmp_path: Path) -> None:
    second = bytes(2 * 22_050)
    common = b"COMM" + struct.pack(">ihIh", 18, 1, 22_050, 16) + b"\x40\x0d\xac\x44" + bytes(6)
    sound = b"SSND" + struct.pack(">iII", len(second) + 8, 0, 0) + second
    body = b"AIFF" + common + sound
    (tmp_path / "s.wav").write_bytes(b"FORM" + struct.pack(">I", len(body)) + body)

    assert 1 <= wav.duration_s(tmp_path / "s.wav") < 10
